from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import InferenceSampler
from PIL import Image

from fbnet_plugin.data import (
    DatasetError,
    TrainLoader,
    build_test_loader,
    build_train_loader,
    is_classification,
    register_image_folder,
)
from fbnet_plugin.data.digits_detection import DigitsDetSettings, register_digits_det


@pytest.fixture
def cfg(cfg: CfgNode) -> CfgNode:
    keys = cfg.INPUT.CLASSIFICATION
    keys.TRAIN_SIZE = keys.TEST_SIZE = keys.TEST_RESIZE = 8
    cfg.DATASETS.TRAIN = ("digits_train",)
    cfg.SOLVER.IMS_PER_BATCH = 16
    return cfg


def folder_set(name: str, root: Path, classes: str) -> None:
    for label in classes:
        (root / label).mkdir(parents=True)
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / label / "0.png")
    register_image_folder(name, str(root))


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches(cfg: CfgNode, workers: int) -> None:
    cfg.DATALOADER.NUM_WORKERS = workers
    batches = list(islice(build_train_loader(cfg), 3))
    assert [len(batch) for batch in batches] == [16, 16, 16]
    for entry in (entry for batch in batches for entry in batch):
        assert entry["image"].shape == (3, 8, 8) and entry["image"].dtype == torch.uint8
        assert 0 <= entry["label"] <= 9


def test_training_takes_a_given_dataset_and_sampler(cfg: CfgNode) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    dicts = [{"file_name": str(i), "label": i, "image_id": i, "image": image} for i in range(32)]
    loader = build_train_loader(cfg, dataset=dicts, sampler=InferenceSampler(32))
    assert [entry["image_id"] for batch in loader for entry in batch] == list(range(32))


def test_an_iterable_dataset_gets_detectron2s_loader(cfg: CfgNode) -> None:
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from ({"label": number, "image": np.zeros((8, 8, 3), np.uint8)} for number in range(10**6))

    loader = build_train_loader(cfg, dataset=Endless())
    assert not isinstance(loader, TrainLoader) and isinstance(build_train_loader(cfg), TrainLoader)
    assert [entry["label"] for entry in next(iter(loader))] == list(range(16))


def test_testing_gives_each_image_once_in_order(cfg: CfgNode) -> None:
    loader = build_test_loader(cfg, "digits_test")
    batches = list(loader)
    assert len(loader) == len(batches) == 23 and [len(batch) for batch in batches] == [16] * 22 + [7]
    ids = [entry["image_id"] for batch in batches for entry in batch]
    assert len(set(ids)) == 359 and ids == sorted(ids)


def test_detection_set_gives_images_with_boxes(cfg: CfgNode, tmp_path: Path) -> None:
    register_digits_det("few_digits", str(tmp_path), "train", DigitsDetSettings(train_images=6, test_images=1))
    cfg.DATASETS.TRAIN = ("few_digits",)
    cfg.SOLVER.IMS_PER_BATCH = 2
    assert not is_classification(cfg.DATASETS.TRAIN)
    batch = next(build_train_loader(cfg))
    assert len(batch) == 2 and len(batch[0]["instances"]) >= 1
    assert len(list(build_test_loader(cfg, "few_digits"))) == 6


def test_mixed_kinds_are_refused(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = ("digits_train", "digits_det_train")
    with pytest.raises(DatasetError, match="cannot be mixed: digits_train, digits_det_train"):
        build_train_loader(cfg)


def test_classes_must_agree_between_training_sets(cfg: CfgNode, tmp_path: Path) -> None:
    folder_set("one", tmp_path / "one", "abc")
    folder_set("two", tmp_path / "two", "abd")
    cfg.DATASETS.TRAIN = ("one", "two")
    with pytest.raises(DatasetError, match=r"'one' \(3 classes\) and 'two' \(3 classes\).*'c', 'd'"):
        build_train_loader(cfg)


def test_classes_must_agree_with_a_training_set_that_was_not_loaded(cfg: CfgNode, tmp_path: Path) -> None:
    folder_set("one", tmp_path / "one", "abc")
    folder_set("two", tmp_path / "two", "ab")
    cfg.DATASETS.TRAIN = ("one",)
    with pytest.raises(DatasetError, match="'one' .* and 'two' .*'c'"):
        build_test_loader(cfg, "two")


def test_testing_needs_no_training_files(cfg: CfgNode, tmp_path: Path) -> None:
    folder_set("two", tmp_path / "two", "ab")
    register_image_folder("one", str(tmp_path / "missing"))
    cfg.DATASETS.TRAIN = ("one",)
    assert [entry["label"] for batch in build_test_loader(cfg, "two") for entry in batch] == [0, 1]


def test_sampler_that_counts_boxes_is_refused(cfg: CfgNode) -> None:
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    with pytest.raises(ValueError, match="DATALOADER.SAMPLER_TRAIN: got 'RepeatFactorTrainingSampler'"):
        build_train_loader(cfg)
