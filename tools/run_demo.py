#!/usr/bin/env python3
"""The demonstration: classification, detection with the classifier's backbone, and a search, on handwritten digits.

It lists the zoo, trains a small FBNet body to classify digits, starts the backbone of a Faster R-CNN C4 from it,
trains and evaluates that detector on digits over photographs, and draws its predictions on held-out images. Then it
measures the blocks of a small search space on this machine, searches an architecture for a latency budget, trains it
from scratch, and draws it. Each step is a command that can be run by itself; it is printed first. Minutes on two CPU
cores; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import numpy as np

from fbnet_plugin.arch import load_space
from fbnet_plugin.latency import load_table

TOOLS = Path(__file__).resolve().parent
CLASSIFIER = "Digits/fbnet_v3_a_dsmask_tiny_digits.yaml"
DETECTOR = "Digits/faster_rcnn_fbnet_v3_a_dsmask_tiny_C4_digits.yaml"
SPACE, SEARCH = "fbnet_digits", "Digits/dnas_digits.yaml"
BUDGET = 0.7  # of the mean latency of the space's architectures
# How the searched architecture is trained besides the classifier's config: on the space's image size, half as long.
OWN = ["SOLVER.MAX_ITER", "300", "TEST.EVAL_PERIOD", "0"]
OWN += [part for key in ("TRAIN_SIZE", "TEST_SIZE", "TEST_RESIZE") for part in (f"INPUT.CLASSIFICATION.{key}", "32")]


def tool(name: str, *args: str) -> None:
    """Runs one of the tools beside this file, after printing its command line."""
    print(f"\n$ python {shlex.join([f'tools/{name}', *args])}", flush=True)
    code = subprocess.run([sys.executable, "-W", "ignore", str(TOOLS / name), *args]).returncode
    if code != 0:
        raise SystemExit(f"demo: tools/{name} ended with exit code {code if code > 0 else 128 - code}")


def results(folder: Path, task: str) -> Dict[str, float]:
    """The last figures of a task, such as "bbox", in a run's metrics.json."""
    found: Dict[str, float] = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        for key, value in json.loads(line).items():
            if key.startswith(f"{task}/"):
                found[key.split("/", 1)[1]] = value
    return found


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("output/demo"), help="folder to write to; an earlier demo in it is replaced"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values for all trainings")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    started = time.time()
    output: Path = args.output
    classifier, detector, picture = output / "classifier", output / "detector", output / "predictions.png"
    for old in (classifier, detector, output / "search", output / "searched"):
        shutil.rmtree(old, ignore_errors=True)
    os.environ.setdefault("DETECTRON2_DATASETS", str(output / "datasets"))
    # Waiting threads that spin would take the cores from whatever else runs on the machine, and from the demo.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    tool("list_archs.py")
    tool("train_net.py", "--config-file", CLASSIFIER, *args.opts, "OUTPUT_DIR", str(classifier))
    weights = ["MODEL.WEIGHTS", str(classifier / "model_final.pth")]
    tool("train_net.py", "--config-file", DETECTOR, *args.opts, *weights, "OUTPUT_DIR", str(detector))
    weights = ["MODEL.WEIGHTS", str(detector / "model_final.pth")]
    tool("draw_predictions.py", "--config-file", DETECTOR, "--output", str(picture), *args.opts, *weights)
    searched = search(output, args.opts)
    print_summary([classifier, searched], [detector])
    print(f"\nPredictions: {picture}\nFound by the search: {output}/search/search/archs/archs.png")
    print(f"Output folder: {output}\nTook {(time.time() - started) / 60:.1f} minutes.")


def search(output: Path, opts: List[str]) -> Path:
    """Measures, searches, samples, trains the most probable architecture; returns the folder of that training."""
    table, run, trained = output / "latency.json", output / "search", output / "searched"
    tool("benchmark_latency.py", "--space", SPACE, "--times", "1", "--output", str(table))
    matrix = load_table(str(table)).matrix(load_space(SPACE))
    budget = BUDGET * (matrix.fixed_us + float(np.nanmean(matrix.us, 1).sum()))
    goal = ["LATENCY.TABLE", str(table), "LATENCY.TARGET_US", f"{budget:.0f}"]
    tool("train_net.py", "--config-file", SEARCH, *opts, *goal, "OUTPUT_DIR", str(run))
    tool("sample_archs.py", str(run), "--num", "3")
    arch = ["MODEL.FBNET.ARCH", str(run / "search" / "archs" / f"{SPACE}_argmax.yaml")]
    tool("train_net.py", "--config-file", CLASSIFIER, *OWN, *opts, *arch, "OUTPUT_DIR", str(trained))
    return trained


def print_summary(classifiers: List[Path], detectors: List[Path]) -> None:
    """A table for each task, a line per training."""
    print("\nTop-1 and top-5 accuracy (%) on held-out digits, average precision (%) on held-out images")
    for folders, task, keys in (
        (classifiers, "classification", ("top1", "top5")),
        (detectors, "bbox", ("AP", "AP50", "AP75")),
    ):
        print(f"\n| {task:<15}| " + " | ".join(f"{key:>6}" for key in keys) + " |")
        print(f"|:{'-' * 15}|" + "|".join("-" * 7 + ":" for _ in keys) + "|")
        for folder in folders:
            figures = results(folder, task)
            print(f"| {folder.name:<15}| " + " | ".join(f"{figures[key]:6.2f}" for key in keys) + " |")


if __name__ == "__main__":
    main()
