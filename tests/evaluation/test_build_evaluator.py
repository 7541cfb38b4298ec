from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import detectron2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, DatasetEvaluators, SemSegEvaluator
from detectron2.structures import Boxes, Instances

from fbnet_plugin.data.digits_detection import DigitsDetSettings, register_digits_det
from fbnet_plugin.evaluation import ClassificationEvaluator, build_evaluator, has_fast_coco_eval


@pytest.fixture
def digits(cfg: CfgNode, tmp_path: Path) -> str:
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    settings = DigitsDetSettings(train_images=1, test_images=25)
    register_digits_det("few_digits", str(tmp_path), "test", settings)
    return "few_digits"


def detections(entry: Dict[str, Any], shift: float = 0.0, keep: bool = True) -> Dict[str, Instances]:
    """The ground truth of an image as detections, moved to the right by a share of the boxes' width."""
    annotations = entry["annotations"] if keep else []
    boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 0] += shift * boxes[:, 2]
    boxes[:, 2:] += boxes[:, :2]  # (x, y, width, height) -> (x0, y0, x1, y1)
    instances = Instances((128, 128))
    instances.pred_boxes = Boxes(boxes)
    instances.pred_classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)
    instances.scores = torch.ones(len(annotations))
    return {"instances": instances}


def run(evaluator: Any, dicts: List[Dict[str, Any]], **options: Any) -> Dict[str, float]:
    evaluator.reset()
    evaluator.process(dicts, [detections(entry, **options) for entry in dicts])
    return evaluator.evaluate()["bbox"]


def test_ground_truth_as_detections_is_perfect(cfg: CfgNode, digits: str) -> None:
    evaluator = build_evaluator(cfg, digits)  # before anything has loaded the dataset
    dicts = DatasetCatalog.get(digits)
    assert run(evaluator, dicts)["AP"] == pytest.approx(100)
    shifted = run(evaluator, dicts, shift=0.2)  # IoU 0.8 / 1.2
    assert shifted["AP50"] == pytest.approx(100) and shifted["AP75"] == 0
    assert (Path(cfg.OUTPUT_DIR) / "inference" / "coco_instances_results.json").is_file()


def test_no_detection_at_all(cfg: CfgNode, digits: str) -> None:
    evaluator = build_evaluator(cfg, digits)
    assert np.isnan(run(evaluator, DatasetCatalog.get(digits), keep=False)["AP"])
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_files_made_before_but_not_loaded_yet(cfg: CfgNode, digits: str) -> None:
    dicts = DatasetCatalog.get(digits)
    del MetadataCatalog.get(digits).thing_dataset_id_to_contiguous_id
    assert run(build_evaluator(cfg, digits), dicts)["AP"] == pytest.approx(100)


def test_fast_evaluation_needs_all_of_its_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("COCOevalEvaluateImages", "COCOevalAccumulate", "InstanceAnnotation")
    monkeypatch.setattr(detectron2, "_C", SimpleNamespace(**dict.fromkeys(names, print)), raising=False)
    assert has_fast_coco_eval()
    monkeypatch.setattr(detectron2, "_C", SimpleNamespace(**dict.fromkeys(names[:2], print)))
    assert not has_fast_coco_eval()
    monkeypatch.delattr(detectron2, "_C")
    monkeypatch.setitem(sys.modules, "detectron2._C", None)
    assert not has_fast_coco_eval()


def test_classification_set(cfg: CfgNode) -> None:
    assert isinstance(build_evaluator(cfg, "digits_test"), ClassificationEvaluator)


def test_panoptic_set_gets_three(cfg: CfgNode, digits: str) -> None:
    entries = [{"file_name": "0.png", "image_id": 1, "sem_seg_file_name": "0_mask.png"}]
    DatasetCatalog.get(digits)
    known = MetadataCatalog.get(digits).as_dict()
    DatasetCatalog.register("panoptic", lambda: entries)
    MetadataCatalog.get("panoptic").set(
        json_file=known["json_file"],
        thing_dataset_id_to_contiguous_id=known["thing_dataset_id_to_contiguous_id"],
        stuff_classes=["sky"],
        stuff_dataset_id_to_contiguous_id={11: 10},
        ignore_label=255,
        evaluator_type="coco_panoptic_seg",
    )
    evaluator = build_evaluator(cfg, "panoptic")
    assert isinstance(evaluator, DatasetEvaluators)
    assert [type(one) for one in evaluator._evaluators] == [SemSegEvaluator, COCOEvaluator, COCOPanopticEvaluator]


def test_unknown_type_and_unknown_set(cfg: CfgNode) -> None:
    DatasetCatalog.register("odd", list)
    MetadataCatalog.get("odd").evaluator_type = "odd_kind"
    with pytest.raises(ValueError, match="'odd' has evaluator_type 'odd_kind', expected one of image_class"):
        build_evaluator(cfg, "odd")
    with pytest.raises(KeyError, match="'nowhere' is not registered; registered are "):
        build_evaluator(cfg, "nowhere")
    assert "nowhere" not in MetadataCatalog
