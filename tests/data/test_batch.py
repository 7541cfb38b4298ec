"""Batches that come from worker processes are those that a process makes for itself."""

from __future__ import annotations

from itertools import islice
from typing import Any, List

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode

from fbnet_plugin.data import build_test_loader, build_train_loader

COUNT = 8


def sizes_differ(entry: dict) -> dict:
    return {**entry, "image": torch.full((3, 4 + entry["label"] % 2, 4), entry["label"], dtype=torch.uint8)}


def types_differ(entry: dict) -> dict:
    dtype = torch.float32 if entry["label"] % 2 else torch.uint8
    return {**entry, "image": torch.full((3, 4, 4), entry["label"], dtype=dtype)}


def no_images(entry: dict) -> dict:
    return {"label": entry["label"], "image": None, "random": float(torch.rand(()))}


def no_dicts(entry: dict) -> tuple:
    return entry["label"], float(torch.rand(()))


@pytest.fixture
def cfg(cfg: CfgNode) -> CfgNode:
    keys = cfg.INPUT.CLASSIFICATION
    keys.TRAIN_SIZE = keys.TEST_SIZE = keys.TEST_RESIZE = 12
    keys.AUTO_AUGMENT = "randaugment"
    cfg.DATASETS.TRAIN = ("digits_train",)
    cfg.SOLVER.IMS_PER_BATCH = COUNT
    return cfg


def train_batches(cfg: CfgNode, workers: int, mapper: Any = None) -> List[List[Any]]:
    images = np.random.default_rng(0).integers(0, 256, (12, 20, 24, 3), dtype=np.uint8)
    dicts = [{"file_name": str(i), "label": i, "image_id": i, "image": image} for i, image in enumerate(images)]
    cfg.DATALOADER.NUM_WORKERS = workers
    return list(islice(build_train_loader(cfg, dataset=dicts, mapper=mapper, seed=3), 3))


def assert_same(batches: List[List[Any]], others: List[List[Any]]) -> None:
    assert [len(batch) for batch in batches] == [len(batch) for batch in others]
    for one, other in ((one, other) for pair in zip(batches, others) for one, other in zip(*pair)):
        if not isinstance(one, dict) or one["image"] is None:
            assert one == other
            continue
        assert isinstance(one["image"], torch.Tensor) and one["image"].dtype == other["image"].dtype
        assert one["image"].is_contiguous() and torch.equal(one["image"], other["image"])
        assert {**one, "image": None} == {**other, "image": None}


def places(batch: List[dict]) -> int:
    """Number of pieces of memory that the images of a batch are in."""
    return len({one["image"].untyped_storage().data_ptr() for one in batch})


@pytest.mark.parametrize("workers", [1, 2])
def test_training_images_are_the_same_with_workers_and_in_one_piece(cfg: CfgNode, workers: int) -> None:
    alone, sent = train_batches(cfg, 0), train_batches(cfg, workers)
    assert_same(sent, alone)
    assert [places(batch) for batch in sent] == [1, 1, 1] and [places(batch) for batch in alone] == [COUNT] * 3
    sent[0][0]["image"].zero_()  # an image is a consumer's own, also where it shares memory
    assert_same([sent[0][1:]], [alone[0][1:]])


@pytest.mark.parametrize("mapper", [sizes_differ, types_differ, no_images, no_dicts])
def test_what_cannot_be_one_tensor_arrives_as_it_is(cfg: CfgNode, mapper: Any) -> None:
    assert_same(train_batches(cfg, 1, mapper), train_batches(cfg, 0, mapper))


def test_test_images_are_the_same_with_workers_and_in_one_piece(cfg: CfgNode) -> None:
    cfg.SOLVER.IMS_PER_BATCH = 100
    alone = list(build_test_loader(cfg, "digits_test"))
    cfg.DATALOADER.NUM_WORKERS = 2
    sent = list(build_test_loader(cfg, "digits_test"))
    assert_same(sent, alone)
    assert [places(batch) for batch in sent] == [1, 1, 1, 1] and [len(batch) for batch in sent] == [100, 100, 100, 59]
