"""The operators of the FBNet family as data: one frozen dataclass per kind of block.

Each kind knows its output shape and its cost in closed form; its module in ``fbnet_plugin/layers``
is its only twin. A row of an architecture file is one of these; ``repeat`` copies stand for blocks
of which only the first has the ``stride``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Dict, Optional, Sequence, Tuple, Type

import numpy as np

from .cost import ZERO, Cost, Count, Shape, conv, conv_size, norm, round_channels, squeeze_excite
from .errors import ArchError, short_repr, value_error

ACTIVATIONS = ("relu", "relu6", "hswish", "swish")
GATES = ("sigmoid", "hsigmoid")
SE_WIDTHS = ("expanded", "input")
MAX_CHANNELS = 65536
MAX_REPEAT = 1024
MAX_KERNEL = 31


def _check_int(key: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise value_error(key, value, f"an integer from {low} to {high}")


def _check_float(key: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low < value <= high:
        raise value_error(key, value, f"a number above {low:g}, at most {high:g}")


def _check_choice(key: str, value: Any, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise value_error(key, value, "one of " + ", ".join(choices))


def _check_bool(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise value_error(key, value, "true or false")


def _check_odd(key: str, value: Any) -> None:
    _check_int(key, value, 1, MAX_KERNEL)
    if value % 2 == 0:
        raise value_error(key, value, f"an odd integer from 1 to {MAX_KERNEL}")


@dataclass(frozen=True)
class SESpec:
    """Squeeze-and-excite: global pool, 1x1 conv, the block's activation, 1x1 conv, gate.

    Attributes:
        gate: "sigmoid" or "hsigmoid" (``relu6(x + 3) / 6``).
        width: what the squeeze is a fraction of: the "expanded" channels (FBNetV2 and the detection
            bodies), or the expanded channels divided by the expansion, about the block's "input"
            channels (FBNetV3).
        ratio: that fraction.
    """

    gate: str = "hsigmoid"
    width: str = "input"
    ratio: float = 0.25

    def __post_init__(self) -> None:
        _check_choice("gate", self.gate, GATES)
        _check_choice("width", self.width, SE_WIDTHS)
        _check_float("ratio", self.ratio, 0.0, 16.0)


@dataclass(frozen=True)
class BlockSpec:
    """What all blocks share: output channels, stride of the first copy, number of copies.

    Attributes:
        out: output channels.
        stride: of the first copy; the others have stride 1.
        repeat: number of copies.
    """

    op: ClassVar[str] = ""

    out: int
    stride: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        _check_int("out", self.out, 1, MAX_CHANNELS)
        _check_int("stride", self.stride, 1, 8)
        _check_int("repeat", self.repeat, 1, MAX_REPEAT)

    def copies(self) -> Tuple["BlockSpec", ...]:
        """The ``repeat`` single blocks that this row stands for."""
        first = dataclasses.replace(self, repeat=1)
        rest = dataclasses.replace(first, stride=1)
        return (first,) + (rest,) * (self.repeat - 1)

    def count(self, shape: Shape) -> Tuple[Cost, Shape]:
        """Cost and output shape of one copy (the first) on an input of ``shape``.

        Raises:
            ArchError: channels do not divide into the groups, or the map would vanish.
        """
        self.check_input(shape)
        cost, out = self._count(self, shape)
        if min(out.height, out.width) < 1:
            size = f"{shape.height}x{shape.width}"
            raise ArchError(f"the {size} px input leaves no output pixel; use a larger resolution or padding")
        return cost.to_int(), Shape(*(int(value) for value in out))

    def check_input(self, shape: Shape) -> None:
        """Raises ArchError if the block cannot take ``shape``; kinds with groups override this."""

    @staticmethod
    def _count(b: Any, shape: Shape) -> Tuple[Cost, Shape]:
        """The closed form. ``b`` holds the fields as numbers, or as arrays beside array shapes."""
        raise NotImplementedError


def _pad(kernel: Count, pad: Any) -> Count:
    """Explicit padding, or ``kernel // 2`` where it is None (-1 in arrays)."""
    if pad is None:
        return kernel // 2
    return np.where(np.asarray(pad) < 0, kernel // 2, pad)


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
        _check_odd("kernel", self.kernel)
        _check_choice("act", self.act, ACTIVATIONS)
        _check_bool("bias", self.bias)

    @staticmethod
    def _count(b: Any, shape: Shape) -> Tuple[Cost, Shape]:
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
    def _count(b: Any, shape: Shape) -> Tuple[Cost, Shape]:
        height = conv_size(shape.height, 1, b.stride, 0)
        out = Shape(b.out, height, conv_size(shape.width, 1, b.stride, 0))
        changes = np.where((np.asarray(b.stride) != 1) | (np.asarray(shape.channels) != b.out), 1, 0)
        return (conv(shape.channels, out, 1) + norm(b.out)) * changes, out

    def is_identity(self, c_in: int) -> bool:
        return self.stride == 1 and c_in == self.out


@dataclass(frozen=True)
class InvertedResidualSpec(BlockSpec):
    """Inverted residual (FBNet Figure 3): 1x1 expand, k x k depthwise, [SE], 1x1 project.

    Norm and activation follow the first two, norm alone the last; the input is added where the
    stride is 1 and the shapes agree.

    Attributes:
        kernel: depthwise kernel size in px, odd.
        expansion: expanded channels are ``round_channels(in * expansion)``.
        groups: groups of both 1x1 convs; above 1 a channel shuffle runs before the depthwise conv.
        act: activation.
        se: squeeze-and-excite after the depthwise conv, or None.
        pad: depthwise padding in px; None means ``kernel // 2``.
        bias: all convs of the block have a bias.
        dw_norm_act: norm and activation follow the depthwise conv (False: int8-friendly form).
        expand_always: keep the 1x1 expand conv where it does not expand (expanded == in).
        cascade: number of stacked depthwise convs; 2 with kernel 3 is the published "k3_sep".
        dw_group_width: the k x k conv has ``expanded // dw_group_width`` groups; 1 is a depthwise conv.
        divisor, floor_ratio: of ``round_channels`` for expanded and squeeze channels.
        zero_init: the last norm's scale starts at 0 in blocks with a residual.
    """

    op: ClassVar[str] = "mb"

    kernel: int = 3
    expansion: float = 1.0
    groups: int = 1
    act: str = "relu"
    se: Optional[SESpec] = None
    pad: Optional[int] = None
    bias: bool = False
    dw_norm_act: bool = True
    expand_always: bool = False
    cascade: int = 1
    dw_group_width: int = 1
    divisor: int = 8
    floor_ratio: float = 0.95
    zero_init: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_odd("kernel", self.kernel)
        _check_float("expansion", self.expansion, 0.0, 64.0)
        _check_int("groups", self.groups, 1, MAX_CHANNELS)
        _check_choice("act", self.act, ACTIVATIONS)
        _check_se(self.se)
        if self.pad is not None:
            _check_int("pad", self.pad, 0, MAX_KERNEL)
        _check_int("cascade", self.cascade, 1, 8)
        _check_int("dw_group_width", self.dw_group_width, 1, MAX_CHANNELS)
        _check_int("divisor", self.divisor, 1, 1024)
        _check_float("floor_ratio", self.floor_ratio, 0.0, 1.0)
        for key in ("bias", "dw_norm_act", "expand_always", "zero_init"):
            _check_bool(key, getattr(self, key))

    def expanded(self, c_in: int) -> int:
        """Channels of the depthwise conv for ``c_in`` input channels."""
        return int(round_channels(c_in * self.expansion, self.divisor, self.floor_ratio))

    def squeezed(self, c_in: int) -> int:
        """Hidden channels of the squeeze-and-excite; needs ``se``."""
        assert self.se is not None
        mid = self.expanded(c_in)
        per = self.expansion if self.se.width == "input" else 1
        return int(round_channels(int(mid * self.se.ratio / per), self.divisor, self.floor_ratio))

    def depthwise_groups(self, c_in: int) -> int:
        """Groups of the k x k conv for ``c_in`` input channels."""
        return self.expanded(c_in) // self.dw_group_width

    def has_expand(self, c_in: int) -> bool:
        return self.expand_always or self.expanded(c_in) != c_in

    def has_residual(self, c_in: int) -> bool:
        keeps_size = self.pad is None or self.pad == self.kernel // 2
        return self.stride == 1 and c_in == self.out and keeps_size

    def check_input(self, shape: Shape) -> None:
        mid = self.expanded(int(shape.channels))
        for what, channels in (("input", shape.channels), ("expanded", mid), ("output", self.out)):
            if channels % self.groups:
                raise ArchError(f"got {self.groups}, expected a divisor of the {channels} {what} channels", "groups")
        groups = self.depthwise_groups(int(shape.channels))
        if groups < 1 or mid % groups:
            problem = f"got {self.dw_group_width}, which cuts the {mid} expanded channels into {groups} unequal groups"
            raise ArchError(problem + "; expected a divisor", "dw_group_width")

    @staticmethod
    def _count(b: Any, shape: Shape) -> Tuple[Cost, Shape]:
        c_in = shape.channels
        mid = round_channels(c_in * b.expansion, b.divisor, b.floor_ratio)
        has_expand = np.where((mid != c_in) | np.asarray(b.expand_always, bool), 1, 0)
        expand = conv(c_in, Shape(mid, shape.height, shape.width), 1, b.groups, b.bias) + norm(mid)

        pad = _pad(b.kernel, b.pad)
        dw_shape = Shape(
            mid,
            conv_size(shape.height, b.kernel, b.stride, pad),
            conv_size(shape.width, b.kernel, b.stride, pad),
        )
        dw_groups = mid // b.dw_group_width
        depthwise = (conv(mid, dw_shape, b.kernel, dw_groups, b.bias) + norm(mid) * b.dw_norm_act) * b.cascade

        se_cost = _se_cost(b, dw_shape)
        out = Shape(b.out, dw_shape.height, dw_shape.width)
        project = conv(mid, out, 1, b.groups, b.bias) + norm(b.out)
        return expand * has_expand + depthwise + se_cost + project, out


def _check_se(se: Any) -> None:
    if se is not None and not isinstance(se, SESpec):
        raise value_error("se", se, "null, or a mapping with gate, width, ratio")


def _se_cost(b: Any, shape: Shape) -> Cost:
    """Cost of a block's squeeze-and-excite on its expanded map; ZERO where it has none.

    In arrays the fields are ``se_ratio`` (0: none) and ``se_width`` (1: of the input channels).
    """
    if isinstance(b, BlockSpec):
        se = getattr(b, "se")
        if se is None:
            return ZERO
        ratio, of_input = se.ratio, int(se.width == "input")
    else:
        ratio, of_input = b.se_ratio, b.se_width
    per = np.where(of_input, b.expansion, 1)
    hidden = round_channels(np.floor(shape.channels * ratio / per), b.divisor, b.floor_ratio)
    return squeeze_excite(shape, hidden) * np.where(np.asarray(ratio) > 0, 1, 0)


@dataclass(frozen=True)
class FusedSpec(BlockSpec):
    """Fused inverted residual of the published GPU models: dense k x k conv, [SE], [1x1 project].

    Attributes:
        kernel: of the dense conv, which carries the stride, odd.
        expansion: the dense conv's channels are ``round_channels(base * expansion)``, where base is
            the input's channels, or ``out`` where there is no projection.
        project: a 1x1 conv and norm follow; else the dense conv gives the output channels.
        act, se, bias, divisor, floor_ratio, zero_init: as in InvertedResidualSpec.
    """

    op: ClassVar[str] = "fused"

    kernel: int = 3
    expansion: float = 1.0
    project: bool = True
    act: str = "relu"
    se: Optional[SESpec] = None
    bias: bool = False
    divisor: int = 8
    floor_ratio: float = 0.95
    zero_init: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_odd("kernel", self.kernel)
        _check_float("expansion", self.expansion, 0.0, 64.0)
        _check_choice("act", self.act, ACTIVATIONS)
        _check_se(self.se)
        _check_int("divisor", self.divisor, 1, 1024)
        _check_float("floor_ratio", self.floor_ratio, 0.0, 1.0)
        for key in ("project", "bias", "zero_init"):
            _check_bool(key, getattr(self, key))

    def expanded(self, c_in: int) -> int:
        """Channels of the dense conv for ``c_in`` input channels."""
        if not self.project:
            return self.out
        return int(round_channels(c_in * self.expansion, self.divisor, self.floor_ratio))

    def squeezed(self, c_in: int) -> int:
        """Hidden channels of the squeeze-and-excite; needs ``se``."""
        assert self.se is not None
        per = self.expansion if self.se.width == "input" else 1
        hidden = int(self.expanded(c_in) * self.se.ratio / per)
        return int(round_channels(hidden, self.divisor, self.floor_ratio))

    def has_residual(self, c_in: int) -> bool:
        return self.stride == 1 and c_in == self.out

    @staticmethod
    def _count(b: Any, shape: Shape) -> Tuple[Cost, Shape]:
        c_in, pad = shape.channels, b.kernel // 2
        mid = np.where(b.project, round_channels(c_in * b.expansion, b.divisor, b.floor_ratio), b.out)
        height = conv_size(shape.height, b.kernel, b.stride, pad)
        dense = Shape(mid, height, conv_size(shape.width, b.kernel, b.stride, pad))
        out = Shape(b.out, dense.height, dense.width)
        cost = conv(c_in, dense, b.kernel, bias=b.bias) + norm(mid) + _se_cost(b, dense)
        return cost + (conv(mid, out, 1, bias=b.bias) + norm(b.out)) * b.project, out


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
        _check_int("stride", self.stride, 1, 1)
        _check_int("repeat", self.repeat, 1, 1)
        _check_float("expansion", self.expansion, 0.0, 64.0)
        _check_choice("act", self.act, ACTIVATIONS)
        _check_bool("bias", self.bias)
        _check_int("divisor", self.divisor, 1, 1024)
        _check_float("floor_ratio", self.floor_ratio, 0.0, 1.0)

    def expanded(self, c_in: int) -> int:
        """Channels that are pooled, for ``c_in`` input channels."""
        return int(round_channels(c_in * self.expansion, self.divisor, self.floor_ratio))

    @staticmethod
    def _count(b: Any, shape: Shape) -> Tuple[Cost, Shape]:
        mid = round_channels(shape.channels * b.expansion, b.divisor, b.floor_ratio)
        expand = conv(shape.channels, Shape(mid, shape.height, shape.width), 1, bias=b.bias) + norm(mid)
        pooled = Cost(0, 0, 0, mid * shape.height * shape.width)
        one = np.ones_like(shape.height)
        out = Shape(b.out, one, one)
        return expand + pooled + conv(mid, out, 1, bias=b.bias), out


# A new operator is a class here, a module in fbnet_plugin/layers, and a line in both tables.
BLOCK_KINDS: Dict[str, Type[BlockSpec]] = {
    kind.op: kind for kind in (ConvSpec, InvertedResidualSpec, SkipSpec, FusedSpec, PoolSpec)
}


def columns(blocks: Sequence[BlockSpec]) -> SimpleNamespace:
    """Fields of blocks of one kind as arrays, for ``_count`` (pad None is -1, no SE is ratio 0)."""
    unique: Dict[int, int] = {}
    index = np.array([unique.setdefault(id(block), len(unique)) for block in blocks])
    first = {position: block for block, position in zip(reversed(blocks), index[::-1])}
    rows = [first[position] for position in range(len(unique))]
    fields = SimpleNamespace()
    for field in dataclasses.fields(rows[0]):
        values = [getattr(row, field.name) for row in rows]
        if field.name == "se":
            fields.se_ratio = np.array([se.ratio if se else 0.0 for se in values])[index]
            fields.se_width = np.array([bool(se) and se.width == "input" for se in values])[index]
        elif field.name == "pad":
            fields.pad = np.array([-1 if pad is None else pad for pad in values])[index]
        elif not isinstance(values[0], str):
            array = np.array(values)
            setattr(fields, field.name, (array.astype(np.int64) if array.dtype == bool else array)[index])
    return fields


def block_from_dict(data: Any, defaults: Optional[Dict[str, Dict[str, Any]]] = None) -> BlockSpec:
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


def block_from_fields(kind: Type[BlockSpec], fields: Dict[str, Any]) -> BlockSpec:
    """A block of a known kind; the errors are those of ``block_from_dict``."""
    known = [field.name for field in dataclasses.fields(kind)]
    for key in fields:
        if key not in known:
            raise ArchError(f"unknown key in a block of op {kind.op}, expected one of {', '.join(known)}", short_key(key))
    if "out" not in fields:
        raise ArchError("is missing, expected the number of output channels", "out")
    if isinstance(fields.get("se"), dict):
        fields["se"] = _se_from_dict(fields["se"])
    for key in ("expansion", "floor_ratio"):
        if isinstance(fields.get(key), int) and not isinstance(fields[key], bool) and abs(fields[key]) < 1e6:
            fields[key] = float(fields[key])
    return kind(**fields)


def _se_from_dict(data: Dict[str, Any]) -> SESpec:
    known = [field.name for field in dataclasses.fields(SESpec)]
    for key in data:
        if key not in known:
            raise ArchError(f"unknown key, expected one of {', '.join(known)}", f"se.{short_key(key)}")
    try:
        ratio = data.get("ratio")
        if isinstance(ratio, int) and not isinstance(ratio, bool) and abs(ratio) < 1e6:
            data = {**data, "ratio": float(ratio)}
        return SESpec(**data)
    except ArchError as error:
        raise error.inside("se") from None


def short_key(key: Any) -> str:
    """A mapping's key for an error message; only text keys are printed bare."""
    return key if isinstance(key, str) and len(key) <= 60 else short_repr(key)
