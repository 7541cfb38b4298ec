"""The inverted residual, the block that the searches choose, and its fused form for GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .block_base import ACTIVATIONS, MAX_CHANNELS, MAX_KERNEL, BlockSpec, SESpec, depthwise_pad
from .checks import assign, check_bool, check_choice, check_float, check_int, check_odd
from .cost import ZERO, Cost, Shape, conv, conv_size, norm, round_channels, squeeze_excite
from .errors import ArchError, value_error


def check_expansion(value: Any) -> float:
    """A block's expansion, from 0.01 to 64."""
    return check_float("expansion", value, 0.01, 64.0)


def check_rounding(divisor: Any, floor_ratio: Any) -> dict[str, Any]:
    """The two parameters of ``round_channels``, as fields to assign."""
    return {
        "divisor": check_int("divisor", divisor, 1, 1024),
        "floor_ratio": check_float("floor_ratio", floor_ratio, 0.0, 1.0),
    }


def _check_se(se: Any) -> None:
    if se is not None and not isinstance(se, SESpec):
        raise value_error("se", se, "null, or a mapping with gate, width, ratio")


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
        pad: padding in px of the (first) depthwise conv; None means ``kernel // 2``.
        bias: all convs of the block have a bias.
        dw_norm_act: norm and activation follow the depthwise conv (False: int8-friendly form).
        expand_always: keep the 1x1 expand conv where it does not expand (expanded == in).
        cascade: number of stacked depthwise convs, the first with the stride; 2 with kernel 3 is the
            published "k3_sep".
        dw_group_width: the k x k conv has ``expanded // dw_group_width`` groups; 1 is a depthwise conv.
        divisor, floor_ratio: of ``round_channels`` for expanded and squeeze channels.
        zero_init: the last norm's scale starts at 0 in blocks with a residual.
    """

    op: ClassVar[str] = "mb"

    kernel: int = 3
    expansion: float = 1.0
    groups: int = 1
    act: str = "relu"
    se: SESpec | None = None
    pad: int | None = None
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
        _check_se(self.se)
        assign(
            self,
            kernel=check_odd("kernel", self.kernel, MAX_KERNEL),
            expansion=check_expansion(self.expansion),
            groups=check_int("groups", self.groups, 1, MAX_CHANNELS),
            act=check_choice("act", self.act, ACTIVATIONS),
            pad=None if self.pad is None else check_int("pad", self.pad, 0, MAX_KERNEL),
            bias=check_bool("bias", self.bias),
            dw_norm_act=check_bool("dw_norm_act", self.dw_norm_act),
            expand_always=check_bool("expand_always", self.expand_always),
            cascade=check_int("cascade", self.cascade, 1, 8),
            dw_group_width=check_int("dw_group_width", self.dw_group_width, 1, MAX_CHANNELS),
            zero_init=check_bool("zero_init", self.zero_init),
            **check_rounding(self.divisor, self.floor_ratio),
        )

    def expanded(self, c_in: int) -> int:
        """Channels of the depthwise conv for ``c_in`` input channels."""
        return int(round_channels(c_in * self.expansion, self.divisor, self.floor_ratio))

    def squeezed(self, c_in: int) -> int:
        """Hidden channels of the squeeze-and-excite; needs ``se``."""
        return _squeezed(self, self.expanded(c_in))

    def depthwise_groups(self, c_in: int) -> int:
        """Groups of the k x k conv for ``c_in`` input channels."""
        return self.expanded(c_in) // self.dw_group_width

    def has_expand(self, c_in: int) -> bool:
        """Whether the block starts with its 1x1 conv."""
        return self.expand_always or self.expanded(c_in) != c_in

    def has_residual(self, c_in: int) -> bool:
        """Whether the input is added to the output."""
        keeps_size = self.pad is None or self.pad == self.kernel // 2
        return self.stride == 1 and c_in == self.out and keeps_size

    def check_input(self, shape: Shape) -> None:
        mid = self.expanded(int(shape.channels))
        for what, channels in (("input", shape.channels), ("expanded", mid), ("output", self.out)):
            if channels % self.groups:
                raise ArchError(f"got {self.groups}, expected a divisor of the {channels} {what} channels", "groups")
        groups = self.depthwise_groups(int(shape.channels))
        if groups < 1 or mid % groups:
            problem = f"got {self.dw_group_width}, expected a divisor of the {mid} expanded channels"
            raise ArchError(problem, "dw_group_width")

    @staticmethod
    def _fits(b: Any, channels: Any) -> Any:
        mid = round_channels(channels * b.expansion, b.divisor, b.floor_ratio)
        dw_groups = mid // b.dw_group_width
        whole = (channels % b.groups == 0) & (mid % b.groups == 0) & (b.out % b.groups == 0)
        return whole & (dw_groups >= 1) & (mid % np.maximum(dw_groups, 1) == 0)

    @staticmethod
    def _count(b: Any, shape: Shape) -> tuple[Cost, Shape]:
        c_in = shape.channels
        mid = round_channels(c_in * b.expansion, b.divisor, b.floor_ratio)
        has_expand = np.where((mid != c_in) | np.asarray(b.expand_always, bool), 1, 0)
        expand = conv(c_in, Shape(mid, shape.height, shape.width), 1, b.groups, b.bias) + norm(mid)

        pad = depthwise_pad(b.kernel, b.pad)
        dw_shape = Shape(
            mid,
            conv_size(shape.height, b.kernel, b.stride, pad),
            conv_size(shape.width, b.kernel, b.stride, pad),
        )
        dw_groups = np.maximum(mid // b.dw_group_width, 1)
        depthwise = (conv(mid, dw_shape, b.kernel, dw_groups, b.bias) + norm(mid) * b.dw_norm_act) * b.cascade

        se_cost = _se_cost(b, dw_shape)
        out = Shape(b.out, dw_shape.height, dw_shape.width)
        project = conv(mid, out, 1, b.groups, b.bias) + norm(b.out)
        return expand * has_expand + depthwise + se_cost + project, out


@dataclass(frozen=True)
class FusedSpec(BlockSpec):
    """Fused inverted residual of the published GPU models: dense k x k conv, [SE], [1x1 project].

    Attributes:
        kernel: of the dense conv, which carries the stride, odd.
        expansion: the dense conv's channels are ``round_channels(in * expansion)``, or ``out`` where
            there is no projection.
        project: a 1x1 conv and norm follow; else the dense conv gives the output channels.
        act, se, bias, divisor, floor_ratio, zero_init: as in InvertedResidualSpec.
    """

    op: ClassVar[str] = "fused"

    kernel: int = 3
    expansion: float = 1.0
    project: bool = True
    act: str = "relu"
    se: SESpec | None = None
    bias: bool = False
    divisor: int = 8
    floor_ratio: float = 0.95
    zero_init: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_se(self.se)
        assign(
            self,
            kernel=check_odd("kernel", self.kernel, MAX_KERNEL),
            expansion=check_expansion(self.expansion),
            project=check_bool("project", self.project),
            act=check_choice("act", self.act, ACTIVATIONS),
            bias=check_bool("bias", self.bias),
            zero_init=check_bool("zero_init", self.zero_init),
            **check_rounding(self.divisor, self.floor_ratio),
        )

    def expanded(self, c_in: int) -> int:
        """Channels of the dense conv for ``c_in`` input channels."""
        if not self.project:
            return self.out
        return int(round_channels(c_in * self.expansion, self.divisor, self.floor_ratio))

    def squeezed(self, c_in: int) -> int:
        """Hidden channels of the squeeze-and-excite; needs ``se``."""
        return _squeezed(self, self.expanded(c_in))

    def has_residual(self, c_in: int) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and c_in == self.out

    @staticmethod
    def _count(b: Any, shape: Shape) -> tuple[Cost, Shape]:
        c_in, pad = shape.channels, b.kernel // 2
        mid = np.where(b.project, round_channels(c_in * b.expansion, b.divisor, b.floor_ratio), b.out)
        height = conv_size(shape.height, b.kernel, b.stride, pad)
        dense = Shape(mid, height, conv_size(shape.width, b.kernel, b.stride, pad))
        out = Shape(b.out, dense.height, dense.width)
        cost = conv(c_in, dense, b.kernel, bias=b.bias) + norm(mid) + _se_cost(b, dense)
        return cost + (conv(mid, out, 1, bias=b.bias) + norm(b.out)) * b.project, out


def _squeezed(block: InvertedResidualSpec | FusedSpec, expanded: int) -> int:
    """Hidden channels of a block's squeeze-and-excite on ``expanded`` channels."""
    assert block.se is not None
    per = block.expansion if block.se.width == "input" else 1
    hidden = int(expanded * block.se.ratio / per)
    return int(round_channels(hidden, block.divisor, block.floor_ratio))


def _se_cost(b: Any, shape: Shape) -> Cost:
    """Cost of a block's squeeze-and-excite on its expanded map; ZERO where it has none.

    In arrays the fields are ``se_ratio`` (0: none) and ``se_width`` (1: of the input channels).
    """
    if isinstance(b, (InvertedResidualSpec, FusedSpec)):
        if b.se is None:
            return ZERO
        ratio, of_input = b.se.ratio, int(b.se.width == "input")
    else:
        ratio, of_input = b.se_ratio, b.se_width
    per = np.where(of_input, b.expansion, 1)
    hidden = round_channels(np.floor(shape.channels * ratio / per), b.divisor, b.floor_ratio)
    return squeeze_excite(shape, hidden) * np.where(np.asarray(ratio) > 0, 1, 0)
