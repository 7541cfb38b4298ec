"""A classifier of a few parameters and a dataset of a few images, for tests of the engine."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from fbnet_plugin.engine import load_config

CLASSES = ["dark", "light", "red"]


def images() -> list:
    """24 dataset dicts with 8x8 px images whose brightness or colour gives the class."""
    rng = np.random.default_rng(0)
    dicts = []
    for number in range(24):
        label = number % 3
        image = rng.integers(0, 60, (8, 8, 3)).astype(np.uint8)
        image[..., 0] += np.uint8(150 * (label > 0))
        image[..., 1:] += np.uint8(150 * (label == 1))
        dicts.append({"file_name": f"tiny[{number}]", "label": label, "image_id": number, "image": image})
    return dicts


for _name in ("tiny_train", "tiny_test"):
    DatasetCatalog.register(_name, images)
    MetadataCatalog.get(_name).set(evaluator_type="image_classification", thing_classes=CLASSES)


@META_ARCH_REGISTRY.register()
class TinyClassifier(nn.Module):
    """Conv, norm, linear; ``on_step`` is called with the number of each training step before its loss is returned."""

    on_step = None

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.ModuleDict({"fc": nn.Linear(4, cfg.MODEL.CLASSIFIER.NUM_CLASSES)})
        self.steps = 0
        self.to(cfg.MODEL.DEVICE)

    def forward(self, batch: list):
        images = torch.stack([one["image"] for one in batch]).float() / 255
        logits = self.head["fc"](self.body(images).mean((2, 3)))
        if not self.training:
            return [{"scores": scores} for scores in logits.softmax(1)]
        loss = nn.functional.cross_entropy(logits, torch.tensor([one["label"] for one in batch]))
        losses = {"loss_cls": loss, "loss_extra": 0 * loss}
        if TinyClassifier.on_step is not None:
            losses = TinyClassifier.on_step(self.steps, losses) or losses
        self.steps += 1
        return losses


def tiny_cfg(output, *opts) -> CfgNode:
    """A config that trains the tiny classifier for 6 iterations with a checkpoint after each 2."""
    cfg = load_config(
        opts=[
            *("MODEL.META_ARCHITECTURE", "TinyClassifier", "MODEL.DEVICE", "cpu", "MODEL.CLASSIFIER.NUM_CLASSES", 3),
            *("DATASETS.TRAIN", ("tiny_train",), "DATASETS.TEST", ("tiny_test",), "DATALOADER.NUM_WORKERS", 0),
            *("INPUT.CLASSIFICATION.TRAIN_SIZE", 8, "INPUT.CLASSIFICATION.TEST_SIZE", 8),
            *("INPUT.CLASSIFICATION.TEST_RESIZE", 8, "INPUT.RANDOM_FLIP", "none"),
            *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.STEPS", ()),
            *("SOLVER.BASE_LR", 0.1, "SOLVER.WARMUP_ITERS", 4, "OUTPUT_DIR", str(output), "SEED", 1, *opts),
        ]
    )
    cfg.freeze()
    return cfg
