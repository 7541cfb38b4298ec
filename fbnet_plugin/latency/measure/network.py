"""A whole architecture as a chain of modules, one per operator, ready for inference."""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

import torch
from torch import nn

from ...arch import ArchSpec
from ...arch.spec import Resolution, image_size
from ...layers import build_block
from ..operators import Operator, classifier_of, layer_operator
from .options import Options


class Network(NamedTuple):
    """A network to be timed.

    Attributes:
        name: of the architecture.
        operators: one per layer.
        layers: their modules, in eval mode, on the device, in the dtype and memory format of the options.
        input: an image batch of shape (N, C, H, W).
    """

    name: str
    operators: Tuple[Operator, ...]
    layers: nn.ModuleList
    input: torch.Tensor


class Classifier(nn.Module):
    """Global average pool and linear layer."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, num_classes)"""
        return self.fc(x.mean((2, 3)))


def build_network(arch: ArchSpec, options: Options, resolution: "Resolution | None" = None) -> Network:
    """Stages, head and classifier of an architecture with random weights; the per-RoI box head is left out.

    Args:
        arch: the architecture.
        options: device, dtype, memory format and batch size.
        resolution: image px; default: the architecture's own.

    Raises:
        ArchError: the architecture does not fit the resolution.
    """
    layers, operators = nn.ModuleList(), []
    layer = None
    for layer in arch.layers(resolution):
        layers.append(build_block(layer.block, int(layer.input.channels)))
        operators.append(layer_operator(layer))
    if arch.head is not None and layer is not None:
        layers.append(Classifier(int(layer.output.channels), arch.head.num_classes))
        operators.append(classifier_of(arch.head.num_classes, layer.output))
    size = image_size(arch.resolution if resolution is None else resolution)
    image = torch.randn(options.batch_size, arch.in_channels, *size)
    return _finish(arch.name, operators, layers, image, options)


def single_layers(network: Network, options: Options) -> List[Network]:
    """Each layer as a network of its own, with an input of the right shape."""
    return [
        _finish(
            str(operator), [operator], nn.ModuleList([layer]), torch.randn(options.batch_size, *operator.input), options
        )
        for operator, layer in zip(network.operators, network.layers)
    ]


def _finish(
    name: str, operators: List[Operator], layers: nn.ModuleList, image: torch.Tensor, options: Options
) -> Network:
    layers.apply(_like_trained)
    where, dtype, memory_format = options.device, options.torch_dtype, options.memory_format
    layers = layers.eval().requires_grad_(False).to(where, dtype).to(memory_format=memory_format)
    return Network(name, tuple(operators), layers, image.to(where, dtype).contiguous(memory_format=memory_format))


def _like_trained(module: nn.Module) -> None:
    """Gives a new layer the scales and shifts of a trained one.

    Zeros and ones would let exporters merge what a trained network has apart, and quantisers see no range.
    """
    if isinstance(module, nn.BatchNorm2d):
        module.weight.data[module.weight.data == 0] = 0.2
    if isinstance(module, (nn.BatchNorm2d, nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.normal_(module.bias, std=0.1)
