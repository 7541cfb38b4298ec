"""The 1x1 convolution of a strided skip, whose gradient ends the process in some builds of oneDNN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fbnet_plugin.arch import SkipSpec
from fbnet_plugin.layers import build_block


@pytest.mark.parametrize("size", [64, 33])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_are_those_of_the_plain_convolution(size, layout):
    torch.manual_seed(0)
    conv = build_block(SkipSpec(16, stride=2), 8, norm=lambda channels: nn.Identity()).conv.conv
    conv.to(memory_format=layout)
    x = torch.randn(2, 8, size, size).contiguous(memory_format=layout).requires_grad_()
    y = conv(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    wide, weight = x.detach().double().requires_grad_(), conv.weight.detach().double().requires_grad_()
    expected = nn.functional.conv2d(wide[:, :, ::2, ::2], weight)
    expected.backward(grad.double())
    assert y.shape == expected.shape and y.is_contiguous(memory_format=layout)
    for found, wanted in ((y, expected), (x.grad, wide.grad), (conv.weight.grad, weight.grad)):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
