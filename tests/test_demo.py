"""The demonstration's commands, shortened, and its classifier in one and in two processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIER = "Digits/fbnet_v3_a_dsmask_tiny_digits.yaml"


def run_tool(name: str, *args: str, **env: str) -> str:
    """What a tool prints; it must succeed."""
    command = [sys.executable, "-W", "ignore", f"tools/{name}", *args]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    result = subprocess.run(command, cwd=ROOT, env=environment, **pipe)
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


def test_demo_in_two_iterations(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    said = run_tool(
        "run_demo.py", "--output", str(output), "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "32",
        "DNAS.EPOCHS", "1", "DNAS.THETA_START", "0", DETECTRON2_DATASETS=str(tmp_path / "datasets"),
    )  # fmt: skip
    assert "fbnet_v3_g" in said  # the zoo
    assert re.search(r"tensors by name", said)  # the detector starts from the classifier
    assert re.search(r"\| classifier +\| +\d+\.\d\d \| +\d+\.\d\d \|", said)
    assert re.search(r"\| searched +\| +\d+\.\d\d \| +\d+\.\d\d \|", said)
    assert re.search(r"\| detector +\| +\d+\.\d\d \| +\d+\.\d\d \| +\d+\.\d\d \|", said)
    assert f"Predictions: {output}/predictions.png" in said and f"Output folder: {output}" in said
    assert Image.open(output / "predictions.png").size[0] > 4 * 256
    assert Image.open(output / "search" / "search" / "archs" / "archs.png").size[0] > 400
    found = json.loads((output / "search" / "search" / "archs" / "archs.json").read_text())
    target = float(re.search(r"LATENCY.TARGET_US (\d+)", said).group(1))
    assert all(0.95 * target <= one["latency_us"] <= 1.05 * target for one in found) and len(found) == 4


def last_figures(folder: Path) -> Dict[str, float]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {key: value for line in lines for key, value in line.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> List[Dict[str, float]]:
    """Last figures of the demonstration's classifier after 100 iterations, in one process and in two."""
    figures = []
    for processes in ("1", "2"):
        folder = tmp_path_factory.mktemp("classifier")
        run_tool(
            "train_net.py", "--config-file", CLASSIFIER, "--num-gpus", "0", "--num-processes", processes,
            "SOLVER.MAX_ITER", "100", "TEST.EVAL_PERIOD", "0", "OUTPUT_DIR", str(folder),
        )  # fmt: skip
        figures.append(last_figures(folder))
    return figures


def test_two_processes_learn_what_one_learns(trained: List[Dict[str, float]]) -> None:
    one, two = trained
    # Three seeds in one process gave 95.0 to 97.2 and three in two processes 94.2 to 95.3; a guess is 10.
    assert one["classification/top1"] > 90 and two["classification/top1"] > 90
    assert abs(one["classification/top1"] - two["classification/top1"]) < 5
    assert two["total_loss"] == pytest.approx(one["total_loss"], rel=0.15)
