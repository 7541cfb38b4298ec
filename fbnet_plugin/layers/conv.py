"""Convolution with its norm and activation, and the initialisation that all blocks share."""

from __future__ import annotations

import math
from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import nn

from .fast_conv import conv_class

# Makes the norm layer for a number of channels, or None for no norm.
Norm = Callable[[int], Optional[nn.Module]]

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish, "swish": nn.SiLU}
GATES = {"sigmoid": nn.Sigmoid, "hsigmoid": nn.Hardsigmoid}


def init_conv(conv: nn.Conv2d) -> None:
    """Kaiming-normal weights with the fan-out of one group (ReLU gain); zero bias.

    The published models use the fan-out of all groups together; that is the same for dense convs, and
    for depthwise convs without a norm behind them it would all but switch the signal off.
    """
    fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1] // conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2.0 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class ConvNormAct(nn.Module):
    """Convolution, then norm, then activation; the last two may be absent.

    Args:
        c_in, c_out: channels.
        kernel: kernel size, px.
        stride: stride, px.
        pad: zero padding, px; None is ``kernel // 2``.
        groups: groups of the convolution.
        bias: whether the convolution has a bias. It always has one where ``norm`` gives no layer.
        norm: makes the norm layer; None for none, and then ``bias`` decides alone.
        act: name of the activation, or None.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        pad: Optional[int] = None,
        groups: int = 1,
        bias: bool = False,
        norm: Optional[Norm] = nn.BatchNorm2d,
        act: Optional[str] = None,
    ):
        super().__init__()
        norm_layer = norm(c_out) if norm is not None else None
        bias = bias or (norm is not None and norm_layer is None)
        pad = kernel // 2 if pad is None else pad
        conv = conv_class(c_in, c_out, kernel, groups)
        self.conv = conv(c_in, c_out, kernel, stride, pad, groups=groups, bias=bias)
        self.norm = norm_layer
        self.act = ACTIVATIONS[act](inplace=True) if act else None
        init_conv(self.conv)

    def forward(self, x: torch.Tensor, gate: Optional[torch.Tensor] = None) -> torch.Tensor:
        """(N, c_in, H, W) -> (N, c_out, H', W'), multiplied by ``gate`` (see ``weigh``) where there is one."""
        x = self.conv(x)
        if gate is not None and gate.dim() == 0 and self.act is None and type(self.norm) is nn.BatchNorm2d:
            return _weighed_batch_norm(self.norm, x, gate)
        if self.norm is not None:
            x = self.norm(x)
        if self.act is not None:
            x = self.act(x)
        return x if gate is None else weigh(x, gate)


def weigh(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """``gate * x``, of the dtype of ``x``.

    Args:
        x: (N, C, H, W).
        gate: a scalar, or (N,) for one per image.
    """
    return x * (gate if gate.dim() == 0 else gate.to(x.dtype).reshape(-1, 1, 1, 1))


def _weighed_batch_norm(norm: nn.BatchNorm2d, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """``gate * norm(x)`` with the gate in the affine map: no pass over the images in either direction, nothing kept."""
    if not norm.affine:
        return weigh(norm(x), gate)
    batch_statistics = norm.training or norm.running_mean is None
    running = norm.track_running_stats or not norm.training
    momentum = norm.momentum
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:  # the mean over all batches
            momentum = 1.0 / float(norm.num_batches_tracked)
    return F.batch_norm(
        x,
        norm.running_mean if running else None,
        norm.running_var if running else None,
        norm.weight * gate,
        norm.bias * gate,
        batch_statistics,
        0.0 if momentum is None else momentum,
        norm.eps,
    )
