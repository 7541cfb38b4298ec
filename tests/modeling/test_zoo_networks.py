"""Every architecture of the zoo as a network: shapes, gradients, and weights that survive a file."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import nn

from fbnet_plugin.arch import ArchSpec, get_arch, list_archs
from fbnet_plugin.modeling import ClassifierHead, FBNetBackbone, FBNetRoIBoxHead
from fbnet_plugin.modeling.arch import box_head_rows

HEAVY = 1e10  # MACs at the architecture's own resolution above which a smaller image is used


class Network(nn.Module):
    """Backbone with all features, classifier and, for detection bodies, the per-RoI head."""

    def __init__(self, arch: ArchSpec):
        super().__init__()
        arch = arch.with_padding("same")
        last = arch.stages[-1].out
        self.backbone = FBNetBackbone(arch, out_features=[f"trunk{i}" for i in range(len(arch.stages))])
        self.head = ClassifierHead(arch.head.blocks if arch.head else (), last, num_classes=5)
        self.box_head = None
        if arch.box_head:
            self.box_head = FBNetRoIBoxHead(box_head_rows(arch, "trunk3"), in_channels=arch.stages[3].out)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.backbone(images)
        outputs["logits"] = self.head(list(outputs.values())[-1])
        if self.box_head is not None:
            outputs["rois"] = self.box_head(outputs["trunk3"])
        return outputs


def open_branches(network: nn.Module) -> None:
    """Sets scales that start at zero to one, so that gradients pass the branches behind them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)


@pytest.mark.parametrize("name", list_archs())
def test_network(name: str) -> None:
    arch = get_arch(name)
    size = 32 if arch.cost().macs > HEAVY else 64
    network = Network(arch)
    open_branches(network)
    images = torch.randn(2, arch.in_channels, size - 1, size)  # odd sizes round up
    outputs = network(images)
    shapes = network.backbone.output_shape()
    assert list(shapes) == [f"trunk{i}" for i in range(len(arch.stages))]
    for feature, shape in shapes.items():
        expected = (2, shape.channels, math.ceil((size - 1) / shape.stride), math.ceil(size / shape.stride))
        assert tuple(outputs[feature].shape) == expected, feature
    assert outputs["logits"].shape == (2, 5)

    sum((output * torch.randn_like(output)).sum() for output in outputs.values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key

    check_save_and_load(network, arch, images)


def check_save_and_load(network: nn.Module, arch: ArchSpec, images: torch.Tensor) -> None:
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    with torch.device("meta"):
        loaded = Network(arch)
    loaded.to_empty(device="cpu").load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        before, after = network.eval()(images), loaded.eval()(images)
    for key in before:
        assert torch.equal(before[key], after[key]), key
