"""Convolutions that train faster, against nn.Conv2d."""

from __future__ import annotations

import copy
from typing import Tuple

import pytest
import torch
from torch import nn

from fbnet_plugin.layers.fast_conv import DepthwiseConv2d, PointwiseConv2d, _Depthwise5x5, conv_class


def both(ours: nn.Conv2d, x: torch.Tensor) -> Tuple[list, list]:
    """[output, gradients] of ours and of torch's."""
    torchs = copy.deepcopy(ours)
    torchs.__class__ = nn.Conv2d
    found = []
    for conv in (ours, torchs):
        given = x.detach().requires_grad_()
        y = conv(given)
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
        found.append([y.detach(), given.grad, *(parameter.grad for parameter in conv.parameters())])
    return found[0], found[1]


def depthwise(kernel: int, stride: int) -> DepthwiseConv2d:
    return DepthwiseConv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)


def image(channels: int, size: Tuple[int, int], channels_last: bool, dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(3, channels, *size, dtype=dtype)
    return x.to(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (7, 9), (10, 7), (12, 8), (5, 8), (1, 1), (2, 2), (1, 2), (2, 9), (3, 3)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_equals_torch_s(kernel: int, size: Tuple[int, int], stride: int, channels_last: bool) -> None:
    x = image(6, size, channels_last, torch.float64)
    for ours, torchs in zip(*both(depthwise(kernel, stride).double(), x)):
        torch.testing.assert_close(ours, torchs)
        assert ours.stride() == torchs.stride() or 1 in size


@pytest.mark.parametrize("stride", [1, 2])
def test_float32_on_a_real_map(stride: int) -> None:
    ours, torchs = both(depthwise(5, stride), image(6, (28, 28), True, torch.float32))
    assert torch.equal(ours[0], torchs[0])  # the output has the same bits
    torch.testing.assert_close(ours[2], torchs[2], rtol=1e-4, atol=1e-3 * torchs[2].abs().max().item())


def test_the_fast_gradient_is_taken_only_where_a_gradient_is_wanted() -> None:
    conv, x = DepthwiseConv2d(4, 4, 5, 1, 2, groups=4, bias=False), torch.randn(1, 4, 8, 8, requires_grad=True)
    assert type(conv(x).grad_fn).__name__ == f"{_Depthwise5x5.__name__}Backward"
    assert type(conv.eval()(x).grad_fn).__name__ == "ConvolutionBackward0"
    conv.train().weight.requires_grad_(False)
    assert type(conv(x).grad_fn).__name__ == "ConvolutionBackward0"


def test_autocast() -> None:
    conv, x = DepthwiseConv2d(4, 4, 5, 1, 2, groups=4, bias=False), torch.randn(2, 4, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16 and conv.weight.grad.dtype == x.grad.dtype == torch.float32
    exact = torch.autograd.grad(nn.functional.conv2d(x, conv.weight, None, 1, 2, 1, 4).square().sum(), conv.weight)[0]
    torch.testing.assert_close(conv.weight.grad, exact, rtol=0.1, atol=0.02 * exact.abs().max().item())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8)])
def test_pointwise(size: Tuple[int, int], channels_last: bool, bias: bool) -> None:
    x = image(5, size, channels_last, torch.float64)
    for ours, torchs in zip(*both(PointwiseConv2d(5, 9, 1, bias=bias).double(), x)):
        torch.testing.assert_close(ours, torchs)
        assert ours.stride() == torchs.stride() or 1 in size


def test_small_pointwise_convolutions_are_products_in_training_alone() -> None:
    conv, small = PointwiseConv2d(64, 32, 1), torch.randn(2, 64, 4, 4).to(memory_format=torch.channels_last)
    large = torch.randn(2, 64, 40, 40).to(memory_format=torch.channels_last)
    assert type(conv(small).grad_fn).__name__ == "PermuteBackward0"
    assert type(conv(large).grad_fn).__name__ == "ConvolutionBackward0"
    assert type(conv.eval()(small).grad_fn).__name__ == "ConvolutionBackward0"


def test_strided_pointwise() -> None:
    ours, torchs = both(PointwiseConv2d(5, 9, 1, 2), image(5, (6, 6), True, torch.float32))
    torch.testing.assert_close(ours[0], torchs[0])


@pytest.mark.parametrize(
    "c_in, c_out, kernel, groups, expected",
    [(8, 8, 3, 8, DepthwiseConv2d), (8, 4, 1, 1, PointwiseConv2d), (8, 8, 1, 2, nn.Conv2d), (8, 8, 3, 1, nn.Conv2d)],
)
def test_conv_class(c_in: int, c_out: int, kernel: int, groups: int, expected: type) -> None:
    assert conv_class(c_in, c_out, kernel, groups) is expected
