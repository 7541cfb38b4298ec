"""That the search searches: it finds what is truly better, and trades accuracy for latency as it is told to."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from detectron2.utils.env import seed_all_rng
from tiny_search import search_cfg, table_of, tiny_space

from fbnet_plugin.arch import load_arch, load_space, save_arch
from fbnet_plugin.dnas import DNASTrainer
from fbnet_plugin.engine import FBNetTrainer

# A stem and a head of 1x1 convolutions: without a 3x3 block a network sees the pixels one by one. The better choice is
# planted as the second in one layer and as the first in the other.
PLANTED = """
name: planted
variables:
  layer1: {choices: [{op: skip}, {op: mb, kernel: 3, expansion: 3}]}
  layer2: {choices: [{op: mb, kernel: 3, expansion: 3}, {op: skip}]}
architecture:
  name: planted
  resolution: 16
  defaults:
    mb: {expand_always: true, divisor: 1}
  stages:
  - - {op: conv, kernel: 1, out: 12}
  - - {use: $layer1, out: 16, stride: 2}
  - - {use: $layer2, out: 24, stride: 2}
  head:
    num_classes: 10
"""
BEST = [1, 0]
DIGITS = [
    "DATASETS.TRAIN",
    ("digits_train",),
    "DNAS.THETA_START",
    2,
    "DNAS.THETA_LR",
    0.2,
    "DNAS.TEMPERATURE_DECAY",
    0.3,
]


def search(cfg) -> DNASTrainer:
    seed_all_rng(cfg.SEED)
    trainer = DNASTrainer(cfg)
    trainer.train()
    return trainer


def accuracy(folder: Path, arch, opts: list) -> float:
    """Top-1 (%) on held-out digits of a network that was trained from scratch."""
    path = folder / "alone.yaml"
    save_arch(arch, path)
    alone = ["TRAINER", "FBNetTrainer", "MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.FBNET.ARCH", str(path)]
    cfg = search_cfg(folder, *opts, *alone, "DATASETS.TEST", ("digits_test",), "SOLVER.MAX_ITER", 300, output="alone")
    seed_all_rng(cfg.SEED)
    trainer = FBNetTrainer(cfg)
    trainer.train()
    return trainer._last_eval_results["classification"]["top1"]


def test_candidates_that_are_truly_better_become_probable(tmp_path):
    (tmp_path / "planted.yaml").write_text(PLANTED)
    space = load_space(tmp_path / "planted.yaml")
    opts = [*DIGITS, "MODEL.SUPERNET.SPACE", str(tmp_path / "planted.yaml"), "LATENCY.TABLE", "", "SEED", 1]
    points = [[1, 0], [0, 0], [1, 1], [0, 1]]
    alone = [accuracy(tmp_path, space.arch(point), opts) for point in points]
    assert min(alone[0] - other for other in alone[1:]) > 10  # points of accuracy; BEST is the best by itself
    net = search(search_cfg(tmp_path, *opts, "DNAS.EPOCHS", 10)).model
    p = net.probabilities()
    assert all(float(p[layer, choice]) > 0.8 for layer, choice in enumerate(BEST))
    found = load_arch(str(tmp_path / "run" / "search" / "arch.yaml"))
    assert found.stages == space.arch(BEST).stages


@pytest.fixture(scope="module")
def by_weight(tmp_path_factory):
    """Folder, table and, per beta of eq. 2, a finished search; alpha such that the factor is 1 at 300 µs."""
    folder = tmp_path_factory.mktemp("weights")
    table = table_of(tiny_space(folder), folder / "table.json", seed=2)
    found = {}
    for beta in (0.0, 2.0, 8.0):
        opts = ["LATENCY.BETA", beta, "LATENCY.ALPHA", math.log(300.0) ** -beta, "DNAS.EPOCHS", 6]
        search(search_cfg(folder, *DIGITS, *opts, output=f"beta_{beta}"))
        text = (folder / f"beta_{beta}" / "search" / "history.jsonl").read_text()
        arch = load_arch(str(folder / f"beta_{beta}" / "search" / "arch.yaml"))
        found[beta] = json.loads(text.splitlines()[-1]), arch, table.latency(arch).total_us
    return found


def test_a_stronger_weight_gives_less_expected_latency(by_weight):
    """Promise 8, which a penalty without a gradient fails."""
    expected = [line["expected_latency_us"] for line, *_ in by_weight.values()]
    assert expected[0] > 1.05 * expected[1] > 1.1 * expected[2]


def test_a_stronger_weight_gives_a_faster_network(by_weight):
    latencies = [latency for *_, latency in by_weight.values()]
    assert latencies[0] > latencies[1] >= latencies[2] and latencies[0] > 1.2 * latencies[2]
    assert [line["argmax_latency_us"] for line, *_ in by_weight.values()] == pytest.approx(latencies)


def test_a_lower_weight_gives_a_larger_network(by_weight):
    macs = [arch.cost().macs for _, arch, _ in by_weight.values()]
    assert macs[0] > macs[-1]
