"""Convolutions that train faster on CPUs.

In training mode on a CPU they come to the same numbers, up to rounding, in other ways where oneDNN is slow. In
evaluation mode (measuring, export) and on other devices they are ``nn.Conv2d``.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple, Type

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

Pair = Tuple[int, int]

# A convolution of fewer multiply-adds takes longer to be set up than to be computed.
_FEW_MACS = 1 << 22


def conv_class(c_in: int, c_out: int, kernel: int, groups: int) -> Type[nn.Conv2d]:
    """The class that trains fastest."""
    if groups == c_in == c_out:
        return DepthwiseConv2d
    return PointwiseConv2d if kernel == groups == 1 else nn.Conv2d


class PointwiseConv2d(nn.Conv2d):
    """Dense 1x1 convolution: on small maps a matrix product, 1.1 to 8 times as fast."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H', W')"""
        if not self.training or not x.is_cpu or self.padding != (0, 0):
            return super().forward(x)
        if self.stride != (1, 1):  # oneDNN's gradient of a strided one ends the process for 8 channels in channels_last
            last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
            x = x[:, :, :: self.stride[0], :: self.stride[1]]
            x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        few = len(x) * x.shape[2] * x.shape[3] * self.weight.numel() <= _FEW_MACS
        if not few or not x.is_contiguous(memory_format=torch.channels_last):
            return F.conv2d(x, self.weight, self.bias)
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """One channel per group: 5x5 kernels with a faster gradient, and kernels cut to what a tiny map can fill."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H', W')"""
        if not self.training or not x.is_cpu or self.dilation != (1, 1) or self.bias is not None:
            return super().forward(x)
        if self._reaches_beyond(x):
            return self._on_tiny_map(x)
        if self._has_slow_gradient(x):
            return _Depthwise5x5.apply(x, self.weight, self.stride)
        return super().forward(x)

    def _reaches_beyond(self, x: torch.Tensor) -> bool:
        """Whether there are taps on every side that see nothing but padding."""
        (h, w), (top, left) = x.shape[2:], self.padding
        return top >= h and left >= w and self.stride == (1, 1) and self.kernel_size == (2 * top + 1, 2 * left + 1)

    def _on_tiny_map(self, x: torch.Tensor) -> torch.Tensor:
        """Leaves those taps out: kernels beyond the map are slow, 20 times on 1x1 px."""
        (h, w), (top, left) = x.shape[2:], self.padding
        if h == w == 1:
            return x * self.weight[:, :, top, left].reshape(1, -1, 1, 1)
        weight = self.weight[:, :, top - h + 1 : top + h, left - w + 1 : left + w]  # (C, 1, 2h - 1, 2w - 1)
        return F.conv2d(x, weight, None, 1, (h - 1, w - 1), 1, self.groups)

    def _has_slow_gradient(self, x: torch.Tensor) -> bool:
        return (
            self.weight.requires_grad
            and self.kernel_size == (5, 5)
            and self.padding == (2, 2)
            and self.stride in ((1, 1), (2, 2))
            and min(x.shape[2:]) >= 6
            and x.dtype == self.weight.dtype
        )


class _Depthwise5x5(torch.autograd.Function):
    """The plain convolution with ``weight_gradient_5x5`` in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: Pair) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 2, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = grad.to(x.dtype)  # differs under autocast
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _backward(grad, x, weight, ctx.stride, (2, 2), want_weight=False)
        return grad_x, weight_gradient_5x5(x, grad, ctx.stride[0]), None


def weight_gradient_5x5(x: torch.Tensor, grad: torch.Tensor, stride: int) -> torch.Tensor:
    """Gradient of the kernel of a depthwise 5x5 convolution with padding 2, from two gradients of 5x3 kernels.

    oneDNN's fast code for it ends at kernels of three columns; beyond, it is 5 to 20 times slower. The columns -1, 0, 1
    are a 5x3 kernel, and the columns -2, 0, 2 are one for an image of every second column.

    Args:
        x: (N, C, H, W), the input.
        grad: (N, C, H', W'), the gradient of the output.
        stride: 1 or 2.

    Returns:
        (C, 1, 5, 5)
    """
    x = x.contiguous(memory_format=torch.channels_last)
    grad = grad.contiguous(memory_format=torch.channels_last)
    channels = x.shape[1]
    weight = x.new_empty(channels, 1, 5, 5)
    weight[..., 1:4] = _gradient_5x3(x, grad, (stride, stride))
    if stride == 1:
        outer = _gradient_5x3(_columns_to_channels(x), _columns_to_channels(grad), (1, 1))
        outer = outer[:channels] + outer[channels:]  # even columns, odd columns
    else:
        outer = _gradient_5x3(x[..., ::2], grad, (2, 1))
    weight[..., 0::4] = outer[..., 0::2]
    return weight


def _columns_to_channels(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, 2C, H, W / 2): even columns, then odd ones; a view where W is even."""
    n, c, h, w = x.shape
    if w % 2:
        return _columns_to_channels(F.pad(x, (0, 1)))
    return x.permute(0, 2, 3, 1).reshape(n, h, w // 2, 2 * c).permute(0, 3, 1, 2)


def _gradient_5x3(x: torch.Tensor, grad: torch.Tensor, stride: Pair) -> torch.Tensor:
    return _backward(grad, x, x.new_empty(x.shape[1], 1, 5, 3), stride, (2, 1), want_weight=True)


def _backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: Pair, pad: Pair, want_weight: bool
) -> torch.Tensor:
    """Gradient of a depthwise convolution: of its weight, or of its input."""
    wanted = [not want_weight, want_weight, False]
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, pad, (1, 1), False, (0, 0), len(weight), wanted
    )
    return gradients[1 if want_weight else 0]
