"""One module per operator; constructor arguments come from the operator's spec."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from ..arch.blocks import FusedSpec, InvertedResidualSpec, PoolSpec, SkipSpec
from .conv import ACTIVATIONS, GATES, ConvNormAct, Norm, weigh


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(N, C, H, W) -> the same with channel ``g * C / groups + i`` moved to ``i * groups + g``."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return F.channel_shuffle(x, groups)  # stays channels_last
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means.

    Args:
        channels: input and output channels.
        hidden: channels of the squeeze.
        act: activation between the two 1x1 convs.
        gate: "sigmoid" or "hsigmoid".
    """

    def __init__(self, channels: int, hidden: int, act: str, gate: str):
        super().__init__()
        self.reduce = ConvNormAct(channels, hidden, bias=True, norm=None, act=act)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = GATES[gate]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W)"""
        scale = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        return x * self.gate(self.expand(self.reduce(scale)))


def _squeeze_excite(spec, c_in: int) -> Optional[SqueezeExcite]:  # type: ignore[no-untyped-def]
    if spec.se is None:
        return None
    return SqueezeExcite(spec.expanded(c_in), spec.squeezed(c_in), spec.act, spec.se.gate)


def _start_at_zero(norm: Optional[nn.Module]) -> None:
    """Makes a residual branch start as zero: the scale of its last norm, if that can be learned.

    A frozen scale has to stay 1, or the branch would be off forever.
    """
    weight = getattr(norm, "weight", None)
    if isinstance(weight, nn.Parameter):
        nn.init.zeros_(weight)


class _Residual(nn.Module):
    """Adds the input to the branch where the block has a residual."""

    def __init__(self, residual: bool, drop_path: float):
        super().__init__()
        self.residual = residual
        self.drop_path = StochasticDepth(drop_path, "row") if residual and drop_path > 0 else None

    @property
    def adds_input(self) -> bool:
        """Whether the output is the input and something."""
        return self.residual

    def branch(self, x: torch.Tensor, gate: Optional[torch.Tensor] = None) -> torch.Tensor:
        """What is computed, multiplied by ``gate`` (a scalar, or (N,)) where there is one."""
        raise NotImplementedError

    def weighed(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """``gate`` times the block's output, less ``gate * x`` where the block adds its input."""
        y = self.branch(x, gate)
        return y if self.drop_path is None else self.drop_path(y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, c_in, H, W) -> (N, out, H / stride, W / stride)"""
        y = self.branch(x)
        if not self.residual:
            return y
        return x + (y if self.drop_path is None else self.drop_path(y))


class InvertedResidual(_Residual):
    """Inverted residual (FBNet Figure 3): expand, depthwise, squeeze-and-excite, project.

    Args:
        spec: the block, ``repeat`` 1.
        c_in: input channels.
        norm: makes norm layers.
        drop_path: probability of dropping the branch in training, per image.
    """

    def __init__(self, spec: InvertedResidualSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0):
        super().__init__(spec.has_residual(c_in), drop_path)
        mid = spec.expanded(c_in)
        self.groups = spec.groups
        self.expand = None
        if spec.has_expand(c_in):
            self.expand = ConvNormAct(c_in, mid, groups=spec.groups, bias=spec.bias, norm=norm, act=spec.act)
        depthwise = []
        for position in range(spec.cascade):
            depthwise.append(
                ConvNormAct(
                    mid,
                    mid,
                    spec.kernel,
                    stride=spec.stride if position == 0 else 1,
                    pad=spec.pad if position == 0 else None,
                    groups=spec.depthwise_groups(c_in),
                    bias=spec.bias,
                    norm=norm if spec.dw_norm_act else None,
                    act=spec.act if spec.dw_norm_act else None,
                )
            )
        self.depthwise = nn.Sequential(*depthwise) if spec.cascade > 1 else depthwise[0]
        self.se = _squeeze_excite(spec, c_in)
        self.project = ConvNormAct(mid, spec.out, groups=spec.groups, bias=spec.bias, norm=norm)
        if spec.zero_init and self.residual:
            _start_at_zero(self.project.norm)

    def branch(self, x: torch.Tensor, gate: Optional[torch.Tensor] = None) -> torch.Tensor:
        if self.expand is not None:
            x = self.expand(x)
        if self.groups > 1:
            x = channel_shuffle(x, self.groups)
        x = self.depthwise(x)
        if self.se is not None:
            x = self.se(x)
        return self.project(x, gate)


class FusedBlock(_Residual):
    """Fused inverted residual: dense convolution, squeeze-and-excite, projection if the spec has one.

    Args: as in InvertedResidual.
    """

    def __init__(self, spec: FusedSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0):
        super().__init__(spec.has_residual(c_in), drop_path)
        mid = spec.expanded(c_in)
        conv = ConvNormAct(c_in, mid, spec.kernel, stride=spec.stride, bias=spec.bias, norm=norm, act=spec.act)
        self.conv = conv
        self.se = _squeeze_excite(spec, c_in)
        self.project = ConvNormAct(mid, spec.out, bias=spec.bias, norm=norm) if spec.project else None
        if spec.zero_init and self.residual:
            _start_at_zero((self.project or self.conv).norm)

    def branch(self, x: torch.Tensor, gate: Optional[torch.Tensor] = None) -> torch.Tensor:
        x = self.conv(x)
        if self.se is not None:
            x = self.se(x)
        if self.project is not None:
            return self.project(x, gate)
        return x if gate is None else weigh(x, gate)


class Skip(nn.Module):
    """FBNet's "skip" (Table 2): identity, or 1x1 conv, norm and ReLU where the shape changes.

    Args: as in InvertedResidual; there is no branch to drop.
    """

    def __init__(self, spec: SkipSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0):
        super().__init__()
        self.conv = None
        if not spec.is_identity(c_in):
            self.conv = ConvNormAct(c_in, spec.out, stride=spec.stride, norm=norm, act="relu")

    @property
    def adds_input(self) -> bool:
        """Whether this is the identity."""
        return self.conv is None

    def weighed(self, x: torch.Tensor, gate: torch.Tensor) -> Optional[torch.Tensor]:
        """``gate`` times the block's output, less ``gate * x`` where the block adds its input: None, if that is all.

        ``gate`` stays behind the ReLU: it commutes with it, but its gradient would be lost at 0.
        """
        return None if self.conv is None else self.conv(x, gate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, c_in, H, W) -> (N, out, H / stride, W / stride)"""
        return x if self.conv is None else self.conv(x)


class PoolBlock(nn.Module):
    """Efficient last stage (FBNetV3 Table 2, "MBPool"): expand, global average pool, 1x1 conv.

    Args: as in InvertedResidual; there is no branch to drop.
    """

    def __init__(self, spec: PoolSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0):
        super().__init__()
        mid = spec.expanded(c_in)
        self.expand = ConvNormAct(c_in, mid, bias=spec.bias, norm=norm, act=spec.act)
        self.project = ConvNormAct(mid, spec.out, bias=spec.bias, norm=None)
        self.act = ACTIVATIONS[spec.act](inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, c_in, H, W) -> (N, out, 1, 1)"""
        x = self.expand(x).mean((2, 3), keepdim=True)  # (N, mid, 1, 1)
        return self.act(self.project(x))
