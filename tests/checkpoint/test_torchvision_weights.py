"""torchvision's own files in classifiers and detectors with its networks."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.modeling import build_model
from foreign_files import randomize
from torchvision.models import get_model

from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer


@pytest.fixture
def classifier(cfg):
    def build(name, classes=10):
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "ImageClassifier", "build_torchvision_backbone"
        cfg.MODEL.TORCHVISION.NAME, cfg.MODEL.CLASSIFIER.NUM_CLASSES, cfg.MODEL.DEVICE = name, classes, "cpu"
        return build_model(cfg).eval()

    return build


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize("envelope", ["bare", "training"])
def test_logits_are_those_of_torchvision(name, envelope, classifier, tmp_path, caplog):
    """Of its training script the average, which counts its updates among its tensors."""
    theirs = randomize(get_model(name, weights=None, num_classes=10)).eval()
    state = theirs.state_dict()
    average = {"n_averaged": torch.tensor(3), **{f"module.{key}": value for key, value in state.items()}}
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    content = state if envelope == "bare" else {"model": zeros, "model_ema": average, "epoch": 3}
    torch.save(content, tmp_path / "theirs.pth")
    ours = classifier(name)
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(ours, strict=True).load(str(tmp_path / "theirs.pth"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        found = ours.head(ours.backbone(images)[ours.feature])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert f"torchvision's names{', averaged weights' if envelope == 'training' else ''}, {len(state)} t" in caplog.text


def test_our_own_files_of_such_a_model_are_left_alone(classifier, tmp_path, caplog):
    source, model = randomize(classifier("resnet18")), classifier("resnet18")
    FBNetCheckpointer(source, str(tmp_path)).save("model_final")
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(model, strict=True).load(str(tmp_path / "model_final.pth"))
    assert torch.equal(model.head.fc.weight, source.head.fc.weight) and "torchvision's names" not in caplog.text


def test_another_network_is_one_error(classifier, tmp_path):
    torch.save(get_model("resnet18", weights=None, num_classes=10).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match="lacks|is of another model|none of its tensors"):
        FBNetCheckpointer(classifier("shufflenet_v2_x0_5"), strict=True).load(str(tmp_path / "theirs.pth"))
