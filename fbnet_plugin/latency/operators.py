"""The unit of a latency table: one block on one input shape, free of what does not change its runtime."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..arch import ArchSpec, BlockSpec, Layer, Shape
from ..arch.block_base import ACTIVATIONS, GATES
from ..arch.blocks import BLOCK_KINDS
from ..arch.errors import short_key, short_repr
from ..arch.spec import Resolution
from .errors import LatencyError

CLASSIFIER = "classifier"  # global average pool and linear layer
OPS = (*BLOCK_KINDS, CLASSIFIER)

# Fields of blocks that do not change what is computed at inference, or that are told by other keys.
_LEFT_OUT = ("repeat", "bias", "zero_init", "divisor", "floor_ratio", "expansion", "expand_always", "se", "pad")
# Keys that stand for them, and the methods of blocks that tell the value.
_METHODS = (("mid", "expanded"), ("expand", "has_expand"))
# Values that a row of a table does not spell out.
_USUAL: dict[str, Any] = {
    "stride": 1, "groups": 1, "cascade": 1, "dw_group_width": 1, "dw_norm_act": True, "expand": True, "project": True,
}  # fmt: skip
_WORDS = {"act": ACTIVATIONS, "gate": GATES}
_SWITCHES = ("dw_norm_act", "expand", "project")
_KEYS = ("kernel", "stride", "mid", "out", "groups", "expand", "project", "cascade", "dw_group_width", "dw_norm_act",
         "pad", "se", "gate", "act")  # fmt: skip


class Operator(NamedTuple):
    """One block on one input shape; two blocks that run the same computation are the same operator.

    Attributes:
        op: as in architecture files, or "classifier".
        input: channels, height and width (px) of one image's map.
        fields: (key, value) pairs in a fixed order, usual values left out: ``out`` channels, ``kernel``
            and ``pad`` px, ``stride``, ``mid`` (expanded) and ``se`` (squeezed) channels, ``groups``, ...
    """

    op: str
    input: tuple[int, int, int]
    fields: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        """Such as ``mb kernel=5 stride=2 mid=96 out=24 act=relu on 16x112x112``."""
        fields = " ".join(f"{key}={value}" for key, value in self.fields)
        return f"{self.op} {fields} on {'x'.join(map(str, self.input))}"

    @property
    def is_identity(self) -> bool:
        """Whether it computes nothing: a skip that changes neither channels nor size."""
        fields = dict(self.fields)
        return self.op == "skip" and fields.get("stride", 1) == 1 and fields["out"] == self.input[0]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a row of a table: ``op``, ``input`` and the fields."""
        return {"op": self.op, "input": list(self.input), **dict(self.fields)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Operator:
        """The inverse of ``to_dict``; order and usual values do not matter.

        Raises:
            LatencyError: unknown op, a key that is missing or that this op does not have, or a value out of range.
        """
        op, shape = row.get("op"), row.get("input")
        if op not in OPS:
            raise LatencyError(f"op: got {short_repr(op)}, expected one of {', '.join(OPS)}")
        if not isinstance(shape, (list, tuple)) or len(shape) != 3 or not all(_is_int(side, 1) for side in shape):
            raise LatencyError(f"input: got {short_repr(shape)}, expected [channels, height, width]")
        known = _keys_of(op)
        for key, value in row.items():
            if key in ("op", "input"):
                continue
            if key not in known:
                raise LatencyError(f"{short_key(key)}: unknown key of {op}, expected one of {', '.join(known)}")
            _check(key, value)
        needed = [key for key in known if key not in _USUAL and key not in ("pad", "se", "gate")]
        for key in needed + ["gate"] * ("se" in row):
            if key not in row:
                raise LatencyError(f"{key}: is missing, an operator {op} needs {', '.join(needed)}")
        return _make(op, tuple(shape), row)


def _is_int(value: Any, low: int) -> bool:
    return type(value) is int and value >= low


def _check(key: str, value: Any) -> None:
    """Raises LatencyError: an operator's field ``key`` cannot hold ``value``."""
    low = 0 if key == "pad" else 1
    if key in _WORDS:
        good, accepted = value in _WORDS[key], f"one of {', '.join(_WORDS[key])}"
    elif key in _SWITCHES:
        good, accepted = type(value) is bool, "true or false"
    else:
        good, accepted = _is_int(value, low), f"an integer of at least {low}"
    if not good:
        raise LatencyError(f"{key}: got {short_repr(value)}, expected {accepted}")


@functools.cache
def _keys_of(op: str) -> tuple[str, ...]:
    """The fields that an operator of one kind can have."""
    if op == CLASSIFIER:
        return ("out",)
    kind = BLOCK_KINDS[op]
    names = {one.name for one in dataclasses.fields(kind)}
    keys = names - set(_LEFT_OUT)
    keys |= {key for key, method in _METHODS if hasattr(kind, method)}
    keys |= {"pad"} & names
    keys |= {"se", "gate"} if "se" in names else set()
    return tuple(key for key in _KEYS if key in keys)


def _make(op: str, shape: tuple[int, int, int], fields: Mapping[str, Any]) -> Operator:
    kept = {key: fields[key] for key in _KEYS if key in fields and fields[key] != _USUAL.get(key)}
    if kept.get("pad") == kept.get("kernel", 1) // 2:
        del kept["pad"]
    return Operator(op, shape, tuple(kept.items()))


def operator_of(block: BlockSpec, shape: Shape) -> Operator:
    """The operator that one copy of ``block`` is on an input of ``shape``.

    Expanded and squeezed channels stand for the expansion and rounding that gave them, so that the same
    computation in two architectures is found as one.
    """
    c_in = int(shape.channels)
    fields: dict[str, Any] = {
        field.name: getattr(block, field.name) for field in dataclasses.fields(block) if field.name not in _LEFT_OUT
    }
    for key, method in _METHODS:
        if hasattr(block, method):
            fields[key] = getattr(block, method)(c_in)
    if getattr(block, "pad", None) is not None:
        fields["pad"] = block.pad  # type: ignore[attr-defined]
    if getattr(block, "se", None) is not None:
        fields.update(se=block.squeezed(c_in), gate=block.se.gate)  # type: ignore[attr-defined]
    return _make(block.op, (c_in, int(shape.height), int(shape.width)), fields)


def classifier_of(num_classes: int, shape: Shape) -> Operator:
    """Global average pool of a map of ``shape`` and the linear layer."""
    return _make(CLASSIFIER, (int(shape.channels), int(shape.height), int(shape.width)), {"out": num_classes})


def layer_operator(layer: Layer) -> Operator:
    """The operator of a network's layer."""
    return operator_of(layer.block, layer.input)


def arch_operators(arch: ArchSpec, resolution: Resolution | None = None) -> Iterator[tuple[str, Operator]]:
    """(place, operator) of every layer of a network in order of execution, stem and classifier included.

    Args:
        arch: the network; its per-RoI box head is left out.
        resolution: image px, one side or (height, width); default: the network's own.

    Raises:
        ArchError: the network does not fit the resolution.
    """
    layer = None
    for layer in arch.layers(resolution):
        yield f"{layer.part}.{layer.index}", layer_operator(layer)
    if arch.head is not None and layer is not None:
        yield "head.fc", classifier_of(arch.head.num_classes, layer.output)
