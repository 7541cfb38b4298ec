"""What candidates are trained on, and single candidates: one that diverges, and a detector's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from small_nars import nars_cfg

from fbnet_plugin.engine import load_config
from fbnet_plugin.nars.candidate import training_config
from fbnet_plugin.nars.check import check_search
from fbnet_plugin.nars.data import register_search_data, search_parts
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.run import SearchRun
from fbnet_plugin.nars.space import load_joint_space
from fbnet_plugin.nars.store import Store
from fbnet_plugin.recipe import recipe_from_dict


def test_withheld_images_are_not_trained_on(tmp_path):
    parts = search_parts(nars_cfg(tmp_path, "NARS.VALIDATION_IMAGES", 300))
    train, withheld = ({one["image_id"] for one in part} for part in (parts.train, parts.validation))
    assert (len(train), len(withheld)) == (1138, 300) and not train & withheld
    again = search_parts(nars_cfg(tmp_path, "NARS.VALIDATION_IMAGES", 300, "SEED", 9))
    assert [one["image_id"] for one in again.validation] == [one["image_id"] for one in parts.validation]
    other = search_parts(nars_cfg(tmp_path, "NARS.VALIDATION_IMAGES", 300, "NARS.SPLIT_SEED", 1))
    assert [one["image_id"] for one in other.validation] != [one["image_id"] for one in parts.validation]


def test_some_classes_are_renumbered(tmp_path):
    cfg = nars_cfg(tmp_path, "NARS.CLASSES", 4, "NARS.VALIDATION_IMAGES", 100)
    train, validation = register_search_data(cfg)
    parts = search_parts(cfg)
    assert len(parts.classes) == 4
    names = MetadataCatalog.get(validation).thing_classes
    assert names == [str(label) for label in parts.classes] == MetadataCatalog.get(train).thing_classes
    assert {one["label"] for one in DatasetCatalog.get(train)} == {0, 1, 2, 3}
    assert len(DatasetCatalog.get(validation)) == 100
    assert register_search_data(cfg) == (train, validation)


def test_a_candidate_that_diverges_is_a_failure(tmp_path):
    cfg = nars_cfg(tmp_path, "NARS.EVALUATION.EXECUTOR", "InProcessExecutor", "NARS.VALIDATION_IMAGES", 300)
    with Store(tmp_path / "nars.sqlite") as store, SearchRun(cfg, store, 1) as run:
        pair = run.pairs(np.zeros((1, len(run.space.variables)), np.int64), ["wild"])[0]
        wild = pair._replace(recipe=replace(pair.recipe, lr=100.0, optimizer="sgd", weight_decay=1.0))
        run.evaluate(run.add([wild, pair._replace(name="tame")], "search", 1, epochs=1))
        first, second = store.candidates()
        assert (first.state, store.kind(first.id), second.state) == ("failed", "diverged", "done")
        assert "loss" in first.reason and first.accuracy is None


def space_with(folder, **recipe):
    """The file of the digits' space with more in its recipes."""
    data = load_joint_space("digits").to_dict()
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({**data, "recipe": {**data["recipe"], **recipe}}))
    return str(path)


def test_what_a_space_s_recipes_say_goes_before_the_config(tmp_path):
    """The search has the recipe's own length, a winner's training that of NARS.WINNERS; the rest holds in both."""
    recipe = {"epochs": 2, "label_smoothing": {"choices": [0.1, 0.2]}, "batch_size": 64, "auto_augment": "randaugment"}
    cfg = nars_cfg(tmp_path, "NARS.SPACE", space_with(tmp_path, **recipe), "NARS.WINNERS.EPOCHS", 9)
    assert isinstance(check_search(cfg), list) and cfg.SOLVER.EPOCHS == 4
    with Store(tmp_path / "nars.sqlite") as store, SearchRun(cfg, store, 1) as run:
        assert (run.epochs, run.final_epochs) == (2, 9)
        points = np.zeros((2, len(run.space.variables)), np.int64)
        points[1, [one.name for one in run.space.variables].index("label_smoothing")] = 1
        pairs = run.pairs(points, ["first", "second"])
        for final, epochs in ((False, 2), (True, 9)):
            found = [training_config(cfg, "fbnet_v3_a", pair.recipe, final) for pair in pairs]
            assert [one.SOLVER.EPOCHS for one in found] == [epochs] * 2
            assert [one.MODEL.CLASSIFIER.LABEL_SMOOTHING for one in found] == [0.1, 0.2]
            assert {one.SOLVER.IMS_PER_BATCH for one in found} == {64}
            assert {one.INPUT.CLASSIFICATION.AUTO_AUGMENT for one in found} == {"randaugment"}
        assert [recipe_from_dict(pair.recipe.to_dict()) for pair in pairs] == [pair.recipe for pair in pairs]


def test_a_candidate_with_a_length_of_its_own_is_trained_so_long(tmp_path):
    opts = ("NARS.EVALUATION.EXECUTOR", "InProcessExecutor", "NARS.VALIDATION_IMAGES", 1000)
    cfg = nars_cfg(tmp_path, "NARS.SPACE", space_with(tmp_path, epochs=2, batch_size=64), *opts)
    with Store(tmp_path / "nars.sqlite") as store, SearchRun(cfg, store, 1) as run:
        pairs = run.pairs(np.zeros((1, len(run.space.variables)), np.int64), ["one"])
        run.evaluate(run.add(pairs, "search", 1, run.epochs))
        (one,) = store.candidates()
        assert one.state == "done" and [epoch for epoch, _ in one.curve] == [1, 2], one.reason
        assert one.recipe["epochs"] == 2 and one.recipe["batch_size"] == 64


def test_recipes_that_a_search_cannot_have(tmp_path):
    with pytest.raises(NARSError, match="recipe.epochs of NARS.SPACE is 0, expected the number of epochs"):
        check_search(nars_cfg(tmp_path, "NARS.SPACE", space_with(tmp_path, epochs=0)))
    with pytest.raises(NARSError, match="MODEL.CLASSIFIER.DROPOUT: got 2.0, expected a number from 0 to 1"):
        check_search(nars_cfg(tmp_path, "NARS.MODE", "architecture", "MODEL.CLASSIFIER.DROPOUT", 2.0))


@pytest.mark.parametrize("metric", ["bbox/AP", "bbox/nothing"])
def test_a_detector_is_a_candidate_too(tmp_path, metric):
    """Recipes for the digits' Faster R-CNN C4, compared on images that were withheld."""
    cfg = load_config("Digits/faster_rcnn_fbnet_v3_a_dsmask_tiny_C4_digits.yaml")
    cfg.merge_from_list(
        ["TRAINER", "NARSTrainer", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "SOLVER.IMS_PER_BATCH", 4,
         "SOLVER.EPOCHS", 1, "SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.WARMUP_EPOCHS", 0.5,
         "INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "NARS.SPACE", "digits", "NARS.MODE", "recipe",
         "NARS.METRIC", metric, "NARS.VALIDATION_IMAGES", 8, "NARS.EVALUATION.EXECUTOR", "InProcessExecutor"]
    )  # fmt: skip
    scenes = DatasetCatalog.get("digits_det_train")[:20]
    DatasetCatalog.register("few_scenes", lambda: scenes)
    MetadataCatalog.get("few_scenes").set(evaluator_type="coco", thing_classes=[str(digit) for digit in range(10)])
    cfg.DATASETS.TRAIN = ("few_scenes",)
    cfg.freeze()
    with Store(tmp_path / "nars.sqlite") as store, SearchRun(cfg, store, 1) as run:
        assert run.constraints == () and run.targets == [()]
        pairs = run.pairs(np.zeros((1, len(run.space.variables)), np.int64), ["first"])
        run.evaluate(run.add(pairs, "search", 1, epochs=1))
        (one,) = store.candidates()
        if metric == "bbox/AP":
            assert one.state == "done" and one.accuracy >= 0, one.reason
        else:
            assert one.state == "failed" and "NARS.METRIC is 'bbox/nothing'" in one.reason


def test_too_few_images(tmp_path):
    with pytest.raises(NARSError, match="a batch of 32 must be left"):
        search_parts(nars_cfg(tmp_path, "NARS.VALIDATION_IMAGES", 1410))
