"""A dataset of a few images, a config that a network of a few weights learns it with, and plans over it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, List

import numpy as np
from PIL import Image

from fbnet_plugin.ablation.plan import Plan
from fbnet_plugin.ablation.techniques import techniques_plan
from fbnet_plugin.engine import load_config

METRIC = "classification/top1"
FAKE = Path(__file__).with_name("fake_training.py")


def image_folders(root: Path) -> None:
    """8 dark and 8 light images of 32 px, as training and test set."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 100, (32, 32, 3)) + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def small_config(root: Path, **sections: str) -> Path:
    """A config file that trains 6 iterations on the images in ``root``, with an evaluation after each second."""
    path = root / "small.yaml"
    if not (root / "train").is_dir():
        image_folders(root)
    text = f"""
MODEL:
  DEVICE: cpu
  META_ARCHITECTURE: ImageClassifier
  BACKBONE: {{NAME: build_fbnet_backbone, FREEZE_AT: 0}}
  FBNET: {{ARCH: fbnet_v3_a_dsmask_tiny_det, WIDTH_MULT: 0.25, DROP_PATH: 0.2}}
  CLASSIFIER: {{NUM_CLASSES: 2, DROPOUT: 0.2}}
DATASETS:
  IMAGE_FOLDERS: ["small_train={root}/train", "small_test={root}/test"]
  TRAIN: ("small_train",)
  TEST: ("small_test",)
INPUT:
  CLASSIFICATION: {{TRAIN_SIZE: 32, TEST_SIZE: 32, TEST_RESIZE: 32}}
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 4, BASE_LR: 0.05, MAX_ITER: 6, STEPS: (), WARMUP_ITERS: 1, CHECKPOINT_PERIOD: 2}}
TEST: {{EVAL_PERIOD: 2}}
SEED: 3
VERSION: 2
"""
    path.write_text(text)
    return path


def small_plan(root: Path, seeds: int = 2, *opts: Any) -> Plan:
    """Table 8's plan of the small config."""
    cfg = load_config(str(small_config(root)), list(opts))
    return techniques_plan(cfg, list(range(3, 3 + seeds)), METRIC, cfg)


def fake_command(config: str, num_gpus: int) -> List[str]:
    """The command of a training that takes no time; see ``fake_training``."""
    return [sys.executable, "-S", "-E", str(FAKE), config, str(num_gpus)]
