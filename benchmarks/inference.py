#!/usr/bin/env python3
"""Inference time of our networks beside timm's same networks, and of our detectors beside others.

    inference.py [--networks NAME ...] [--variants NAME ...] [--batches 1 32] [--no-detectors] [--data FOLDER] [--quick]
                 [--rounds 5] [--seconds 1] [--threads 1] [--output FILE]

Classifiers: FBNetV3-B, D, G and FBNet-C as timm has them, with the same (random) weights in both libraries, on images
of the size that timm tests at. Before anything is timed, all logits are compared. Variants:

eager, channels_last    both as they are built
folded                  ours with batch norms folded (fbnet_plugin.export.fold) beside timm's as it is built
both folded             the same folding on both
folded channels_last    both, folded, in channels_last
compile                 both by torch.compile, static shapes; takes minutes to compile (leave it out with --variants)
onnxruntime             both exported by the same call of torch.onnx.export

Detectors, with random weights, one photograph at a time, from its decoded px to boxes in its px: FBNetV3-A and E C4 at
their test size, as built and folded, beside torchvision's fasterrcnn_mobilenet_v3_large_320_fpn at its own size and at
ours, and Detectron2's R50-C4 at its own and at ours. The cost of a detector depends on its proposals: once each has as
many as its config asks for, once all have 75. Proposals lie on the anchors; how many were left by NMS is measured and
printed. All classes are equally likely, too little to be detected, so NMS of detections is left out for all.
Photographs are those that come with scikit-image and scikit-learn, or the first ten images of --data; R50-C4, which may
take half a minute, gets one of them in two rounds.

In each round each pair is built afresh (except compiled ones and detectors), since where weights lie in memory makes
some percent, and runs in three turns each, in an order that turns. Times are processor time with one thread, which
other programs on the machine change little, and wall time with more. Ratios (ours / the other's, below 1 we are faster)
are of the medians within a round; beside the median over the rounds stand the least and the largest. --networks with
nothing behind it leaves the classifiers out. The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import torch
from inference_contestants import (
    NETWORKS,
    VARIANTS,
    Detector,
    Fresh,
    detectron2_detector,
    pair_of,
    runners,
    torchvision_detector,
)
from tabulate import tabulate

from fbnet_plugin.data.digit_scenes import load_photos
from fbnet_plugin.data.image_folder import IMAGE_SUFFIXES
from fbnet_plugin.layers.cpu_memory import keep_freed_memory
from fbnet_plugin.plotting.demo_files import read_rgb

TURNS = 3  # of each contestant in a round
PHOTOGRAPHS = 10
SLOW_ROUNDS = 2
OURS = {letter: f"COCO-Detection/faster_rcnn_fbnet_v3_{letter}_C4_3x.yaml" for letter in "ae"}
R50_C4 = "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml"
OWN_SIZE = (320, 640)  # of torchvision's, px
PROPOSALS = 75

Run = Callable[[], Any]


class Timing(NamedTuple):
    """Of a pair.

    Attributes:
        ours_ms, other_ms: medians over the rounds, per run.
        ratios: ours / other's, one per round.
    """

    ours_ms: float
    other_ms: float
    ratios: List[float]

    def figures(self) -> Dict[str, Any]:
        return {
            "ours_ms": round(self.ours_ms, 3),
            "other_ms": round(self.other_ms, 3),
            "ratio": round(statistics.median(self.ratios), 4),
            "ratio_range": [round(min(self.ratios), 4), round(max(self.ratios), 4)],
        }


def compared(ours: Fresh, other: Fresh, rounds: int, args: argparse.Namespace) -> Timing:
    """Times two contestants in turn, after a run of each in each round that is not counted."""
    clock = time.process_time if args.threads == 1 else time.perf_counter
    medians = []
    for number in range(rounds):
        runs = [ours(), other()]
        with torch.no_grad():
            for run in runs:
                run()
            times: List[List[float]] = [[], []]
            for turn in range(TURNS):
                for who in (0, 1) if (number + turn) % 2 == 0 else (1, 0):
                    times[who] += burst(runs[who], args.seconds / TURNS, clock)
        medians.append([1e3 * statistics.median(one) for one in times])
    mine, others = zip(*medians)
    ratios = [one / another for one, another in medians]
    return Timing(statistics.median(mine), statistics.median(others), ratios)


def burst(run: Run, seconds: float, clock: Callable[[], float]) -> List[float]:
    """Times of runs in a row, in seconds; at least one."""
    times: List[float] = []
    while not times or sum(times) < seconds:
        begin = clock()
        run()
        times.append(clock() - begin)
    return times


def classifier_cells(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    for name in args.networks:
        pair = pair_of(name)
        for variant in args.variants:
            for batch in args.batches:
                torch._dynamo.reset()
                ours, timms = runners(pair, variant, batch, args.threads)
                timing = compared(ours, timms, args.rounds, args)
                what = {"network": name, "px": pair.px, "batch": batch, "variant": variant}
                yield {**what, **timing.figures()}


def detector_cells(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    photographs = load_photographs(args.data)
    names = ["a"] if args.quick else list(OURS)
    for proposals in (None, PROPOSALS):
        for name in names:
            plain = detectron2_detector(OURS[name], photographs, proposals=proposals)
            others = [torchvision_detector(size, photographs, proposals=proposals) for size in (OWN_SIZE, plain.size)]
            yield detector_cell(plain, others[0], photographs, args)
            yield detector_cell(plain, others[1], photographs, args)
            folded = detectron2_detector(OURS[name], photographs, proposals=proposals, folded=True)
            yield detector_cell(folded, others[1], photographs, args)
            if args.quick:
                return
            for size in (None, plain.size):
                other = detectron2_detector(R50_C4, photographs, proposals=proposals, size=size)
                yield detector_cell(plain, other, photographs[:1], args, rounds=min(args.rounds, SLOW_ROUNDS))


def detector_cell(
    ours: Detector,
    other: Detector,
    photographs: List[np.ndarray],
    args: argparse.Namespace,
    *,
    rounds: Optional[int] = None,
) -> Dict[str, Any]:
    """Two detectors on the same photographs, each run taking all of them; times are per photograph."""

    def fresh(detector: Detector) -> Fresh:
        return lambda: lambda: [detector.detect(photograph) for photograph in photographs]

    timing = compared(fresh(ours), fresh(other), rounds or args.rounds, args)
    count = len(photographs)
    timing = timing._replace(ours_ms=timing.ours_ms / count, other_ms=timing.other_ms / count)
    figures: Dict[str, Any] = {"photographs": count}
    for who, detector in (("ours", ours), ("other", other)):
        figures[who] = detector.name
        figures[f"{who}_px"] = list(detector.size)
        figures[f"{who}_proposals"] = round(statistics.mean(detector.counts[-count:]), 1)
    return {**figures, **timing.figures()}


def load_photographs(folder: Optional[Path]) -> List[np.ndarray]:
    """(H, W, 3) uint8 RGB each."""
    if folder is None:
        photos = [np.asarray(photo) for split in ("train", "test") for photo in load_photos(split)]
        return [photo for photo in photos if min(photo.shape[:2]) >= 240][:PHOTOGRAPHS]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return [read_rgb(str(path)) for path in files[:PHOTOGRAPHS]]


def print_tables(classifiers: List[Dict[str, Any]], detectors: List[Dict[str, Any]]) -> None:
    def last(cell: Dict[str, Any]) -> List[Any]:
        low, high = cell["ratio_range"]
        return [f"{cell['ours_ms']:.1f}", f"{cell['other_ms']:.1f}", f"{cell['ratio']:.2f}", f"{low:.2f} to {high:.2f}"]

    if classifiers:
        rows = [[*(cell[key] for key in ("network", "px", "batch", "variant")), *last(cell)] for cell in classifiers]
        headers = ["network", "px", "batch", "variant", "ours ms", "timm ms", "ratio", "rounds"]
        print(tabulate(rows, headers, disable_numparse=True, tablefmt="pipe"), end="\n\n")
    if detectors:
        rows = []
        for cell in detectors:
            who = [cell["ours"], cell["other"]]
            sizes = ["{}/{}".format(*cell[f"{one}_px"]) for one in ("ours", "other")]
            proposals = [f"{cell[f'{one}_proposals']:.0f}" for one in ("ours", "other")]
            rows.append([who[0], sizes[0], proposals[0], who[1], sizes[1], proposals[1], *last(cell)])
        headers = ["ours", "px", "proposals", "other", "px", "proposals", "ours ms", "other ms", "ratio", "rounds"]
        print(tabulate(rows, headers, disable_numparse=True, tablefmt="pipe"), end="\n\n")


def told(cells: Iterator[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The cells, each said on stderr when it is done."""
    found = []
    for cell in cells:
        found.append(cell)
        what = cell.get("network", cell.get("ours")), cell.get("variant", cell.get("other")), cell.get("batch", 1)
        low, high = cell["ratio_range"]
        print(
            f"{' '.join(map(str, what))}: {cell['ours_ms']:.1f} / {cell['other_ms']:.1f} ms, "
            f"{cell['ratio']:.3f} ({low:.3f} to {high:.3f})",
            file=sys.stderr,
            flush=True,
        )
    return found


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="see above"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], metavar="N", help="default: 1 32")
    parser.add_argument("--no-detectors", action="store_true", help="classifiers alone")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of photographs, for the detectors")
    parser.add_argument("--quick", action="store_true", help="some cells, 2 short rounds; shows that it works")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1, help="per contestant and round; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON object goes there too")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.seconds, args.batches = 2, 0.2, args.batches[:1]
        args.networks = args.networks if len(args.networks) < len(NETWORKS) else ["fbnet_v3_b_timm", "fbnet_c_timm"]
        args.variants = [variant for variant in args.variants if variant != "compile"]
    return args


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    classifiers = told(classifier_cells(args))
    detectors = [] if args.no_detectors else told(detector_cells(args))
    print_tables(classifiers, detectors)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    settings = {"threads": args.threads, "rounds": args.rounds, "seconds": args.seconds}
    text = json.dumps({**machine, **settings, "classifiers": classifiers, "detectors": detectors})
    if args.output:
        args.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
