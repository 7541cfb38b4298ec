from __future__ import annotations

import logging
import os

import pytest
import torch
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer


class Classifier(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.backbone = nn.Linear(3, width)
        self.head = nn.ModuleDict({"fc": nn.Linear(width, classes)})


class Detector(nn.Module):
    def __init__(self, classes):
        super().__init__()
        predictor = {"cls_score": nn.Linear(4, classes + 1), "bbox_pred": nn.Linear(4, 4 * classes)}
        self.roi_heads = nn.ModuleDict({"box_predictor": nn.ModuleDict(predictor)})
        self.backbone = nn.Linear(3, 4)


@pytest.fixture
def saved(tmp_path):
    def save(model):
        FBNetCheckpointer(model, str(tmp_path)).save("model_final")
        return str(tmp_path / "model_final.pth")

    return save


def test_evaluating_with_another_number_of_classes_names_the_key(saved):
    path = saved(Classifier(10))
    with pytest.raises(CheckpointError) as error:
        FBNetCheckpointer(Classifier(5), strict=True).resume_or_load(path, resume=False)
    message = str(error.value)
    assert path in message
    assert "head.fc.weight: (10, 4) in the file, (5, 4) in the model" in message
    assert "MODEL.CLASSIFIER.NUM_CLASSES 10" in message


def test_detectors_name_their_own_key(saved):
    path = saved(Detector(80))
    with pytest.raises(CheckpointError) as error:
        FBNetCheckpointer(Detector(20), strict=True).load(path)
    message = str(error.value)
    assert "roi_heads.box_predictor.cls_score.weight: (81, 4) in the file, (21, 4) in the model" in message
    assert message.count("MODEL.ROI_HEADS.NUM_CLASSES 80") == 4 and "CLASSIFIER" not in message


def test_another_architecture_is_not_blamed_on_the_classes(saved):
    with pytest.raises(CheckpointError) as error:
        FBNetCheckpointer(Classifier(10), strict=True).load(saved(Classifier(10, width=6)))
    assert "MODEL.FBNET.ARCH or MODEL.FBNET.WIDTH_MULT" in str(error.value)
    assert "NUM_CLASSES" not in str(error.value)


def test_resuming_with_another_number_of_classes_is_an_error(saved, tmp_path):
    path = saved(Classifier(10))
    state = torch.load(path, weights_only=True)
    torch.save({**state, "trainer": {}, "iteration": 3}, path)
    with pytest.raises(CheckpointError, match="MODEL.CLASSIFIER.NUM_CLASSES 10"):
        FBNetCheckpointer(Classifier(5), str(tmp_path)).resume_or_load("", resume=True)


def test_fine_tuning_warns_once_and_keeps_the_rest(saved, caplog):
    source, model = Classifier(10), Classifier(5)
    fresh = model.head["fc"].weight.detach().clone()
    with caplog.at_level(logging.WARNING):
        FBNetCheckpointer(model).resume_or_load(saved(source), resume=False)
    assert torch.equal(model.backbone.weight, source.backbone.weight)
    assert torch.equal(model.head["fc"].weight, fresh)
    (warning,) = [record.message for record in caplog.records if "initialized afresh" in record.message]
    assert "head.fc.weight: (10, 4) in the file, (5, 4) in the model" in warning
    assert "head.fc.bias" in warning and "backbone" not in warning
    assert "incompatible shapes" not in caplog.text


def test_evaluating_with_missing_tensors_is_an_error(saved, tmp_path):
    path = saved(Classifier(10))
    state = torch.load(path, weights_only=True)
    del state["model"]["head.fc.bias"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="lacks 1 tensors of the model: head.fc.bias"):
        FBNetCheckpointer(Classifier(10), strict=True).load(path)
    FBNetCheckpointer(Classifier(10)).resume_or_load(path, resume=False)


def test_weights_of_which_nothing_fits_are_an_error_even_for_fine_tuning(saved):
    path = saved(nn.ModuleDict({"other": nn.Linear(2, 2)}))
    with pytest.raises(CheckpointError, match="none of its tensors fits the model"):
        FBNetCheckpointer(Classifier(10)).resume_or_load(path, resume=False)


def test_missing_weights_are_named(tmp_path):
    path = os.path.join(tmp_path, "nowhere.pth")
    with pytest.raises(CheckpointError, match=f"{path}: no such file"):
        FBNetCheckpointer(Classifier(10)).resume_or_load(path, resume=False)


def test_no_weights_at_all_is_a_model_from_scratch():
    FBNetCheckpointer(Classifier(10)).resume_or_load("", resume=False)
