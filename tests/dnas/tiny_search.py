"""A space of three layers, a latency table for it, and a search that takes seconds, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from fbnet_plugin.arch import SearchSpace, load_space
from fbnet_plugin.engine import load_config
from fbnet_plugin.latency import Entry, LatencyTable, Setting, save_table
from fbnet_plugin.latency.layerwise import layerwise

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "DNAS" / "Base-FBNet-DNAS.yaml"
SPACE = """
name: tiny
variables:
  layer1:
    choices:
    - {op: skip}
    - {op: mb, kernel: 3, expansion: 1}
    - {op: mb, kernel: 5, expansion: 3}
  layer2: {choices: [{op: mb, kernel: 3, expansion: 1, groups: 2}, {op: skip}]}
  layer3:
    choices:
    - {op: mb, kernel: 3, expansion: 1}
    - {op: mb, kernel: 3, expansion: 3}
    - {op: mb, kernel: 5, expansion: 6}
    - {op: skip}
architecture:
  name: tiny
  resolution: 16
  defaults:
    mb: {expand_always: true, divisor: 1}
  stages:
  - - {op: conv, kernel: 3, out: 8, stride: 2}
  - - {use: $layer1, out: 8}
    - {use: $layer2, out: 8}
  - - {use: $layer3, out: 16, stride: 2}
  head:
    num_classes: 10
    blocks:
    - {op: conv, kernel: 1, out: 32}
"""


def tiny_space(folder: Path) -> SearchSpace:
    """The space above; its file is ``tiny.yaml`` in the folder."""
    path = folder / "tiny.yaml"
    path.write_text(SPACE)
    return load_space(path)


def table_of(space: SearchSpace, path: Path, seed: int = 0) -> LatencyTable:
    """A table with random latencies of 20 to 200 µs for all operators of a space, skips of identity 0."""
    rng = np.random.default_rng(seed)
    entries = {}
    for operator in layerwise(space).operators():
        us = 0.0 if operator.is_identity else float(rng.uniform(20, 200))
        entries.setdefault(operator, Entry(us))
    table = LatencyTable(Setting("cpu", "a processor", "eager"), entries, file=str(path))
    save_table(table, path)
    return table


def search_cfg(folder: Path, *opts: object, output: str = "run") -> CfgNode:
    """A search of 4 epochs on the digits at 16 px, theta from the second; writes to ``folder/output``."""
    space = tiny_space(folder)
    table = folder / "table.json"
    if not table.exists():
        table_of(space, table)
    shrink = {
        "MODEL.DEVICE": "cpu",
        "MODEL.SUPERNET.SPACE": str(folder / "tiny.yaml"),
        "MODEL.CLASSIFIER.NUM_CLASSES": 10,
        "LATENCY.TABLE": str(table),
        "DATASETS.TRAIN": ("digits_test",),  # the smaller half: 359 images
        "INPUT.RANDOM_FLIP": "none",
        "INPUT.CLASSIFICATION.CROP_AREA": (0.7, 1.0),
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 32,
        "SOLVER.CHECKPOINT_PERIOD": 7,
        "DNAS.EPOCHS": 4,
        "DNAS.THETA_START": 1,
        "DNAS.THETA_LR": 0.1,
        "OUTPUT_DIR": str(folder / output),
        "SEED": 3,
    }
    cfg = load_config(str(CONFIG), [part for pair in shrink.items() for part in pair] + list(opts))
    cfg.freeze()
    return cfg
