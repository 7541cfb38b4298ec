"""Convolution with its norm and activation, and the initialisation that all blocks share."""

from __future__ import annotations

import math
from typing import Callable, Optional

import torch
from torch import nn

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
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, pad, groups=groups, bias=bias)
        self.norm = norm_layer
        self.act = ACTIVATIONS[act](inplace=True) if act else None
        init_conv(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, c_in, H, W) -> (N, c_out, H', W')"""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.act is None else self.act(x)
