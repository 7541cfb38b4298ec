"""A small network with hard swishes and squeeze-and-excite, trained on the digits for some seconds."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from torch import nn

from fbnet_plugin.data import ClassificationMapper
from fbnet_plugin.engine import load_config
from fbnet_plugin.export.classifier import classifier_exportable
from fbnet_plugin.export.exportable import Exportable
from fbnet_plugin.export.onnx_file import onnx_bytes

ARCH = """
name: small_digits
resolution: 32
defaults:
  mb: {act: hswish, se: {gate: hsigmoid, width: input, ratio: 0.25}}
stages:
- - {op: conv, kernel: 3, out: 16, stride: 2, act: hswish}
- - {op: mb, kernel: 3, expansion: 3, out: 24, stride: 2}
  - {op: mb, kernel: 5, expansion: 2, out: 24}
- - {op: mb, kernel: 3, expansion: 3, out: 32, stride: 2}
head:
  num_classes: 10
  blocks:
  - {op: pool, expansion: 2, out: 64}
"""
CONFIG = """
MODEL:
  META_ARCHITECTURE: ImageClassifier
  DEVICE: cpu
  WEIGHTS: {folder}/model.pth
  PIXEL_MEAN: [123.675, 116.28, 103.53]
  PIXEL_STD: [58.395, 57.12, 57.375]
  BACKBONE: {{NAME: build_fbnet_backbone}}
  FBNET: {{ARCH: {folder}/small_digits.yaml}}
  CLASSIFIER: {{NUM_CLASSES: 10}}
DATASETS:
  TRAIN: ("digits_train",)
  TEST: ("digits_test",)
INPUT:
  FORMAT: RGB
  CLASSIFICATION: {{TRAIN_SIZE: 32, TEST_SIZE: 32, TEST_RESIZE: 32}}
DATALOADER: {{NUM_WORKERS: 0}}
VERSION: 2
"""


class Digits(NamedTuple):
    """Images (N, 3, 32, 32) uint8 and their classes (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


class Trained(NamedTuple):
    """A classifier of the digits, its config, and both halves of the set."""

    config_file: str
    cfg: CfgNode
    model: nn.Module
    train: Digits
    test: Digits


def read(cfg: CfgNode, name: str) -> Digits:
    mapper = ClassificationMapper(cfg, False)
    entries = [mapper(dict(entry)) for entry in DatasetCatalog.get(name)]
    labels = torch.tensor([entry["label"] for entry in entries])
    return Digits(torch.stack([entry["image"] for entry in entries]), labels)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("digits")
    (folder / "small_digits.yaml").write_text(ARCH)
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    cfg = load_config(str(folder / "config.yaml"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(cfg)
        train, test = read(cfg, "digits_train"), read(cfg, "digits_test")
        fit(model, train)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    return Trained(str(folder / "config.yaml"), cfg, model.eval().requires_grad_(False), train, test)


@pytest.fixture(scope="session")
def exportable(trained: Trained) -> Exportable:
    """The classifier, for any number of images."""
    return classifier_exportable(trained.cfg, trained.model)


@pytest.fixture(scope="session")
def content(exportable: Exportable) -> bytes:
    """The classifier as a serialized ONNX model."""
    return onnx_bytes(exportable)


def fit(model: nn.Module, data: Digits, epochs: int = 4, batch: int = 64) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(data.labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data.labels)).split(batch):
            loss = F.cross_entropy(model.predict(data.images[rows]), data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
