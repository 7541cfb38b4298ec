#!/usr/bin/env python3
"""The demonstration: classification, then detection with the classifier's backbone, on real handwritten digits.

It lists the zoo, trains a small FBNet body to classify digits, starts the backbone of a Faster R-CNN C4 from it,
trains and evaluates that detector on digits over photographs, and draws its predictions on held-out images. Each step
is a command that can be run by itself; it is printed first. Minutes on two CPU cores; nothing is downloaded.
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
from typing import Dict

TOOLS = Path(__file__).resolve().parent
CLASSIFIER = "Digits/fbnet_v3_a_dsmask_tiny_digits.yaml"
DETECTOR = "Digits/faster_rcnn_fbnet_v3_a_dsmask_tiny_C4_digits.yaml"


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
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values for both trainings")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    started = time.time()
    output: Path = args.output
    classifier, detector, picture = output / "classifier", output / "detector", output / "predictions.png"
    for old in (classifier, detector):
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
    print_summary(classifier, detector, picture, time.time() - started)


def print_summary(classifier: Path, detector: Path, picture: Path, seconds: float) -> None:
    """Both tables, and where everything is."""
    print("\nTop-1 and top-5 accuracy (%) on held-out digits, average precision (%) on held-out images")
    for folder, task, keys in (
        (classifier, "classification", ("top1", "top5")),
        (detector, "bbox", ("AP", "AP50", "AP75")),
    ):
        figures = results(folder, task)
        print(f"\n| {task:<15}| " + " | ".join(f"{key:>6}" for key in keys) + " |")
        print(f"|:{'-' * 15}|" + "|".join("-" * 7 + ":" for _ in keys) + "|")
        print(f"| {folder.name:<15}| " + " | ".join(f"{figures[key]:6.2f}" for key in keys) + " |")
    print(f"\nPredictions: {picture}\nOutput folder: {picture.parent}\nTook {seconds / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
