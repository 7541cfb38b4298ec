"""The operators of the FBNet family as data: one frozen dataclass per kind of block.

Each kind knows its output shape and its cost in closed form; its module in ``fbnet_plugin/layers``
is its only twin. A row of an architecture file is one of these; ``repeat`` copies stand for blocks
of which only the first has the ``stride``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .block_base import ACTIVATIONS, MAX_KERNEL, BlockSpec, SESpec
from .checks import assign, check_bool, check_choice, check_int, check_odd
from .cost import Cost, Shape, conv, conv_size, global_pool, norm, round_channels
from .errors import ArchError, short_key, short_repr, value_error
from .inverted_residual import FusedSpec, InvertedResidualSpec, check_expansion, check_rounding
from .mixed import MixedSpec


@dataclass(frozen=True)
class ConvSpec(BlockSpec):
    """Convolution, norm, activation (the stem, and FBNet's last 1x1).

    Attributes:
        kernel: odd kernel size in px; padding is ``kernel // 2``.
        act: activation.
        bias: the convolution has a bias although a norm follows, as in all published models.
    """

    op: ClassVar[str] = "conv"

    kernel: int = 3
    act: str = "relu"
    bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        assign(
            self,
            kernel=check_odd("kernel", self.kernel, MAX_KERNEL),
            act=check_choice("act", self.act, ACTIVATIONS),
            bias=check_bool("bias", self.bias),
        )

    @staticmethod
    def _count(b: Any, shape: Shape) -> tuple[Cost, Shape]:
        pad = b.kernel // 2
        height = conv_size(shape.height, b.kernel, b.stride, pad)
        out = Shape(b.out, height, conv_size(shape.width, b.kernel, b.stride, pad))
        return conv(shape.channels, out, b.kernel, bias=b.bias) + norm(b.out), out


@dataclass(frozen=True)
class SkipSpec(BlockSpec):
    """Identity (FBNet Table 2, "skip"); where the shape changes a 1x1 conv without bias, norm, ReLU.

    The ReLU is fixed: the published networks have it inside h-swish nets too.
    """

    op: ClassVar[str] = "skip"

    @staticmethod
    def _count(b: Any, shape: Shape) -> tuple[Cost, Shape]:
        height = conv_size(shape.height, 1, b.stride, 0)
        out = Shape(b.out, height, conv_size(shape.width, 1, b.stride, 0))
        changes = np.where((np.asarray(b.stride) != 1) | (np.asarray(shape.channels) != b.out), 1, 0)
        return (conv(shape.channels, out, 1) + norm(b.out)) * changes, out

    def is_identity(self, c_in: int) -> bool:
        """Whether the block has no layer at all on ``c_in`` input channels."""
        return self.stride == 1 and c_in == self.out


@dataclass(frozen=True)
class PoolSpec(BlockSpec):
    """Efficient last stage ("MBPool", FBNetV3 Table 2): 1x1 expand, global average pool, 1x1 conv.

    Norm and activation follow the first conv, only the activation the second.

    Attributes:
        expansion: expanded channels are ``round_channels(in * expansion)``.
        act, bias, divisor, floor_ratio: as in InvertedResidualSpec.
    """

    op: ClassVar[str] = "pool"

    expansion: float = 6.0
    act: str = "hswish"
    bias: bool = False
    divisor: int = 8
    floor_ratio: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        assign(
            self,
            stride=check_int("stride", self.stride, 1, 1),
            repeat=check_int("repeat", self.repeat, 1, 1),
            expansion=check_expansion(self.expansion),
            act=check_choice("act", self.act, ACTIVATIONS),
            bias=check_bool("bias", self.bias),
            **check_rounding(self.divisor, self.floor_ratio),
        )

    def expanded(self, c_in: int) -> int:
        """Channels that are pooled, for ``c_in`` input channels."""
        return int(round_channels(c_in * self.expansion, self.divisor, self.floor_ratio))

    @staticmethod
    def _count(b: Any, shape: Shape) -> tuple[Cost, Shape]:
        wide = Shape(round_channels(shape.channels * b.expansion, b.divisor, b.floor_ratio), shape.height, shape.width)
        one = np.ones_like(shape.height)
        out = Shape(b.out, one, one)
        expand = conv(shape.channels, wide, 1, bias=b.bias) + norm(wide.channels)
        return expand + global_pool(wide) + conv(wide.channels, out, 1, bias=b.bias), out


# A new operator is a class here, a module in fbnet_plugin/layers, and a line in both tables.
BLOCK_KINDS: dict[str, type[BlockSpec]] = {
    kind.op: kind for kind in (ConvSpec, InvertedResidualSpec, SkipSpec, FusedSpec, PoolSpec)
}


def check_blocks(key: str, blocks: Any) -> tuple[BlockSpec, ...]:
    """A list or tuple of blocks as a tuple.

    Raises:
        ArchError: it is something else, or holds something else.
    """
    if not isinstance(blocks, (list, tuple)):
        raise value_error(key, blocks, "a list of blocks")
    for number, block in enumerate(blocks):
        if type(block) is not MixedSpec and type(block) is not BLOCK_KINDS.get(getattr(block, "op", "")):
            raise value_error(f"{key}[{number}]", block, "a block such as InvertedResidualSpec(out=24)")
    return tuple(blocks)


def block_from_dict(data: Any, defaults: Mapping[str, Mapping[str, Any]] | None = None) -> BlockSpec:
    """A block from one mapping of an architecture file.

    Args:
        data: ``op`` and the fields of that kind.
        defaults: per op, the values of fields that ``data`` does not give.

    Raises:
        ArchError: unknown op or key, missing key, or value out of range.
    """
    if not isinstance(data, dict):
        raise ArchError(f"got {short_repr(data)}, expected a mapping such as {{op: mb, kernel: 3, out: 24}}")
    fields = dict(data)
    op = fields.pop("op", None)
    kind = BLOCK_KINDS.get(op) if isinstance(op, str) else None
    if kind is None:
        raise value_error("op", op, "one of " + ", ".join(BLOCK_KINDS))
    return block_from_fields(kind, {**(defaults or {}).get(kind.op, {}), **fields})


def block_from_fields(kind: type[BlockSpec], fields: Mapping[str, Any]) -> BlockSpec:
    """A block of a known kind; the errors are those of ``block_from_dict``."""
    known = [field.name for field in dataclasses.fields(kind)]
    for key in fields:
        if key not in known:
            problem = f"unknown key in a block of op {kind.op}, expected one of {', '.join(known)}"
            raise ArchError(problem, short_key(key))
    if "out" not in fields:
        raise ArchError("is missing, expected the number of output channels", "out")
    if isinstance(fields.get("se"), dict):
        fields = {**fields, "se": _se_from_dict(fields["se"])}
    return kind(**fields)


def _se_from_dict(data: dict[Any, Any]) -> SESpec:
    known = [field.name for field in dataclasses.fields(SESpec)]
    for key in data:
        if key not in known:
            raise ArchError(f"unknown key, expected one of {', '.join(known)}", f"se.{short_key(key)}")
    try:
        return SESpec(**data)
    except ArchError as error:
        raise error.inside("se") from None
