"""Batch norms in convolutions: the same results, in float64 to the last digits, and no norm left."""

from __future__ import annotations

from typing import Any, Tuple

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from fbnet_plugin.engine import load_config
from fbnet_plugin.export.classifier import classifier_exportable
from fbnet_plugin.export.fold import batch_norms, fold_batch_norms
from fbnet_plugin.layers import ConvNormAct

FPN = "COCO-Detection/faster_rcnn_fbnet_v3_a_FPN_3x.yaml"
RESNET = "ImageNet-Classification/resnet50_plain_90e.yaml"
A = "ImageNet-Classification/fbnet_v3_a_400e.yaml"
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


class Backbone(nn.Module):
    def __init__(self, config_file: str, *opts: Any):
        super().__init__()
        opts = (*opts, "MODEL.DEVICE", "cpu", "MODEL.FBNET.WIDTH_MULT", 0.25)
        self.backbone = build_backbone(load_config(config_file, opts)).eval()
        randomize_norms(self)

    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        return tuple(self.backbone(x).values())


def randomize_norms(model: nn.Module) -> None:
    """Statistics near those of the data, as trained ones are, and scales and shifts that are not 1 and 0."""
    for norm in model.modules():
        if isinstance(norm, NORMS):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.2)


def largest_difference(model: nn.Module, folded: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        pairs = list(zip(model(x), folded(x)))
    assert pairs
    return max(((one - other).abs().max() / one.abs().max()).item() for one, other in pairs)


@pytest.mark.parametrize(
    "config_file, opts",
    [
        (A, ["MODEL.FBNET.NORM", "BN"]),
        ("ImageNet-Classification/fbnet_c_360e.yaml", ["MODEL.FBNET.NORM", "nnSyncBN"]),
        (FPN, ["MODEL.FBNET.NORM", "FrozenBN", "MODEL.FPN.NORM", "BN"]),
        (FPN, ["MODEL.FBNET.NORM", "BN", "MODEL.FBNET.FREEZE_AT", 2, "MODEL.FPN.NORM", "FrozenBN"]),
        (RESNET, ["MODEL.TORCHVISION.NAME", "resnet18"]),
        (FPN, ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.NORM", "FrozenBN"]),
    ],
)
def test_gives_the_same_without_norms(config_file, opts):
    model = Backbone(config_file, *opts).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    folded = fold_batch_norms(model, x)
    assert not [layer for layer in folded.modules() if isinstance(layer, NORMS)]
    assert largest_difference(model, folded, x) < 1e-9
    assert [layer for layer in model.modules() if isinstance(layer, NORMS)], "the model itself was changed"


def test_synchronized_norms_on_a_cpu():
    """Detectron2's naive form, which this project runs in float32 whatever the input."""
    model = Backbone(A, "MODEL.FBNET.NORM", "SyncBN")
    x = torch.randn(2, 3, 64, 64)
    folded = fold_batch_norms(model, x)
    assert not batch_norms(folded)
    assert largest_difference(model, folded, x) < 1e-4


def test_a_trained_classifier(trained):
    """A scale and a shift per channel become a bias, where the convolution has none yet."""
    network = classifier_exportable(trained.cfg, trained.model).module
    x = trained.test.images[:16].float()
    folded = fold_batch_norms(network, x)
    assert largest_difference(network, folded, x) < 1e-5
    layers = [layer for layer in network.modules() if isinstance(layer, ConvNormAct) and layer.norm is not None]
    removed = sum(layer.norm.num_features * (1 if layer.conv.bias is None else 2) for layer in layers)
    counts = [sum(parameter.numel() for parameter in one.parameters()) for one in (network, folded)]
    assert len(layers) == len(batch_norms(network)) > 0 and not batch_norms(folded)
    assert counts[0] - counts[1] == removed


def test_norms_before_convolutions_stay():
    """DenseNet's order is norm, ReLU, convolution; half of its norms follow a convolution."""
    model = Backbone(RESNET, "MODEL.TORCHVISION.NAME", "densenet121").double()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    folded = fold_batch_norms(model, x)
    assert 0 < len(batch_norms(folded)) < len(batch_norms(model))
    assert largest_difference(model, folded, x) < 1e-9


class UsedTwice(nn.Module):
    """A convolution whose output is used in three ways; ``way`` says which."""

    def __init__(self, way: str):
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        y = self.conv(x)
        if self.way == "residual":
            return (self.norm(y) + y,)
        if self.way == "result":
            return self.norm(y), y
        if self.way == "two norms":
            return (self.norm(y), self.other(self.conv(x + 1)))
        if self.way == "norm of two":
            return (self.norm(y), self.norm(x[:, [0, 1, 2, 0]]))
        return (self.norm(self.conv(x)), self.norm(y))  # the same pair twice


@pytest.mark.parametrize("way", ["residual", "result", "two norms", "norm of two", "the same pair"])
def test_folds_only_where_nothing_else_sees_the_output(way):
    model = UsedTwice(way).eval()
    randomize_norms(model)
    x = torch.randn(2, 3, 8, 8)
    folded = fold_batch_norms(model, x)
    assert largest_difference(model, folded, x) < 1e-5
    assert isinstance(folded.norm, nn.Identity) == (way == "the same pair")


def test_a_norm_that_does_more_stays() -> None:
    """timm's apply an activation too."""
    timm = pytest.importorskip("timm")
    model = timm.create_model("fbnetc_100").eval()
    randomize_norms(model)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fold_batch_norms(model, x)(x), model(x))
