#!/usr/bin/env python3
"""Does the search find better networks than chance? Accuracy of found and of random networks of equal latency.

    dnas_quality.py [--datasets digits] [--data FOLDER] [--random 20] [--seeds 3] [--output FOLDER]

For each dataset: the operators of a space are measured on this machine; DNASTrainer searches for the median latency of
the space's random networks (LATENCY.TARGET_US); then these networks are trained from scratch with one recipe and the
same seeds, and tested on images that neither search nor training has seen:

    found       the search's arch.yaml, one per --searches
    sampled     drawn from the searches' P_theta, within 5 % of the target
    random      drawn uniformly from the space's networks within 5 % of the first found network's latency
    other       drawn uniformly at other latencies, one seed each, for the picture

Datasets: digits (comes with scikit-learn), and signdigits, photographs in FOLDER/train/<class> and FOLDER/val/<class>
(cls_signdigits: 1,400 of github.com/ardamavi/Sign-Language-Digits-Dataset). Interrupted, the same command goes on where
it was. OUTPUT/<dataset>/pareto.png is accuracy over latency; the last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng
from matplotlib.figure import Figure
from PIL import Image
from tabulate import tabulate

from fbnet_plugin.arch import SearchSpace, load_space, save_arch, scale_space
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.data import register_from_config
from fbnet_plugin.dnas import DNASTrainer, SearchError, load_distribution
from fbnet_plugin.dnas.candidates import candidate_names
from fbnet_plugin.dnas.distribution import Distribution
from fbnet_plugin.dnas.record import best_point
from fbnet_plugin.dnas.sampling import sample_architectures
from fbnet_plugin.engine import FBNetTrainer, exit_codes, load_config
from fbnet_plugin.latency import LatencyTable, load_table
from fbnet_plugin.latency.measure import Options, Request, Schedule, measure, open_table
from fbnet_plugin.plotting.picture import save_picture

Point = Tuple[int, ...]
TOLERANCE = 0.05  # of equal latency
PHOTO_SIDE = 40  # px of the photographs' copies, from which crops are taken
COMMON = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_fbnet_backbone",
    "MODEL.CLASSIFIER.NUM_CLASSES": 10,
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "INPUT.FORMAT": "RGB",
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 32,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.CHECKPOINT_PERIOD": 200,
    "TEST.EVAL_PERIOD": 0,
}
TRAINING = {"MODEL.META_ARCHITECTURE": "ImageClassifier", "SOLVER.BASE_LR": 0.1, "SOLVER.WARMUP_ITERS": 10}
# Chosen on training images that were left out, before any test. Unlike in FBNet's appendix A half of the few images
# train theta, and as it has fewer steps, they are longer.
SEARCH = {
    "SOLVER.WARMUP_ITERS": 20,
    "DNAS.WEIGHT_SHARE": 0.5,
    "DNAS.THETA_LR": 0.1,
}


@dataclass(frozen=True)
class Task:
    """A dataset with the recipes for it.

    Attributes:
        name: of the dataset.
        resolution: px of the images that the networks see.
        iterations: of the training of one network, so few that networks differ by more than seeds do.
        data: config keys of the data.
        search: config keys of the search.
    """

    name: str
    resolution: int
    iterations: int
    data: Mapping[str, Any]
    search: Mapping[str, Any] = field(default_factory=dict)

    def config(self, base: str, *parts: Mapping[str, Any]) -> CfgNode:
        """Frozen config of a run on this data."""
        sizes = {f"INPUT.CLASSIFICATION.{key}": self.resolution for key in ("TRAIN_SIZE", "TEST_SIZE", "TEST_RESIZE")}
        keys: Dict[str, Any] = {**COMMON, **sizes, **self.data}
        for part in parts:
            keys.update(part)
        cfg = load_config(base, [one for pair in keys.items() for one in pair])
        register_from_config(cfg)
        cfg.freeze()
        return cfg


def digits_task() -> Task:
    """Scikit-learn's 8x8 digits at 24 px."""
    data = {
        "DATASETS.TRAIN": ("digits_train",),
        "DATASETS.TEST": ("digits_test",),
        "INPUT.RANDOM_FLIP": "none",
        "INPUT.CLASSIFICATION.CROP_AREA": [0.8, 1.0],
        "INPUT.CLASSIFICATION.CROP_ASPECT": [0.75, 1.33],
    }
    search = {"DNAS.EPOCHS": 20, "DNAS.THETA_START": 4, "DNAS.TEMPERATURE_DECAY": 0.2}
    return Task("digits", 24, 100, data, search)


def signdigits_task(source: Path, folder: Path) -> Task:
    """Photographs at 32 px, from copies of 40 px as reading those of 100 px takes longer than training on them."""
    for split in ("train", "val"):
        shrink(source / split, folder / split)
    data = {
        "DATASETS.IMAGE_FOLDERS": [f"signdigits_{split}={folder.resolve() / split}" for split in ("train", "val")],
        "DATASETS.TRAIN": ("signdigits_train",),
        "DATASETS.TEST": ("signdigits_val",),
        "INPUT.RANDOM_FLIP": "horizontal",
        "INPUT.CLASSIFICATION.CROP_AREA": [0.6, 1.0],
        "INPUT.CLASSIFICATION.CROP_ASPECT": [0.75, 1.33],
    }
    search = {"DNAS.EPOCHS": 60, "DNAS.THETA_START": 10, "DNAS.TEMPERATURE_DECAY": 0.07}
    return Task("signdigits", 32, 250, data, search)


def shrink(source: Path, target: Path) -> None:
    """Copies class folders of images, each PHOTO_SIDE px wide and high; what is there already stays.

    Raises:
        SystemExit: there are no images.
    """
    files = sorted(path for path in source.glob("*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise SystemExit(f"--data: no images in {source}/<class>")
    for path in files:
        copy = target / path.parent.name / f"{path.stem}.png"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path).convert("RGB").resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC)
            with atomic_write(copy) as file:
                image.save(file, "PNG")


class Progress(HookBase):
    """A line per tenth of a run."""

    def __init__(self, name: str):
        self._name = name

    def before_train(self) -> None:
        self._begin = time.monotonic()

    def after_step(self) -> None:
        done, total = self.trainer.iter + 1, self.trainer.max_iter
        if done * 10 // total > (done - 1) * 10 // total:
            seconds = (time.monotonic() - self._begin) / (done - self.trainer.start_iter) * (total - done)
            print(f"{self._name}: {done}/{total} iterations, {seconds:.0f} s left", flush=True)


def search(
    args: argparse.Namespace, task: Task, table: LatencyTable, target_us: float, seed: int, folder: Path
) -> Distribution:
    """P_theta at the end of a search, which goes on where it was interrupted."""
    own = {
        "MODEL.SUPERNET.SPACE": args.space,
        "MODEL.SUPERNET.RESOLUTION": task.resolution,
        "MODEL.FBNET.WIDTH_MULT": args.width,
        "LATENCY.TABLE": table.file,
        "LATENCY.TARGET_US": target_us,
        "DATASETS.TEST": (),
        "SEED": seed,
    }
    keys = {**SEARCH, **task.search, **own}
    run = folder / f"search_{digest(keys)}"
    cfg = task.config("DNAS/Base-FBNet-DNAS.yaml", keys, {"OUTPUT_DIR": str(run)})
    if not (run / "model_final.pth").exists():
        seed_all_rng(seed)
        trainer = DNASTrainer(cfg)
        trainer.register_hooks([Progress(f"{task.name}: search {seed}")])
        trainer.resume_or_load(resume=True)
        trainer.train()
    return load_distribution(run / "search" / "distribution.json")


@dataclass(frozen=True)
class Network:
    """A network to be trained: its kind (see the top), its place in the space, its latency by the table."""

    kind: str
    point: Point
    latency_us: float
    seeds: int


class Trainings:
    """Trains networks of a space with one recipe; each result is a file that a later run finds."""

    def __init__(self, task: Task, space: SearchSpace, folder: Path):
        self._task, self._space, self._folder = task, space, folder
        self._recipe = {**TRAINING, "SOLVER.MAX_ITER": task.iterations}
        self._digest = digest({**COMMON, **task.data, **self._recipe, "space": space.to_dict()})

    def run(self, networks: Sequence[Network]) -> Dict[Point, List[float]]:
        """Top-1 test accuracy in % of each network, one per seed."""
        jobs = [(one, seed) for one in networks for seed in range(1, one.seeds + 1)]
        accuracy: Dict[Point, Dict[int, float]] = {one.point: {} for one in networks}
        spent: List[float] = []
        for number, (one, seed) in enumerate(jobs):
            if seed in accuracy[one.point]:
                continue
            file = self._folder / f"{'-'.join(map(str, one.point))}_seed{seed}_{self._digest}.json"
            known = file.exists()
            if not known:
                begin = time.monotonic()
                self._train(one, seed, file)
                spent.append(time.monotonic() - begin)
            accuracy[one.point][seed] = json.loads(file.read_text())["top1"]
            if not known:
                left = (len(jobs) - number - 1) * sum(spent) / len(spent)
                text = f"{one.kind}, {one.latency_us:.0f} µs, seed {seed}: {accuracy[one.point][seed]:.1f} %"
                print(f"{self._task.name}: {number + 1}/{len(jobs)} {text}; {left / 60:.1f} min left", flush=True)
        return {point: list(by_seed.values()) for point, by_seed in accuracy.items()}

    def _train(self, network: Network, seed: int, file: Path) -> None:
        with tempfile.TemporaryDirectory() as run:
            save_arch(self._space.arch(network.point), os.path.join(run, "arch.yaml"))
            keys = {"MODEL.FBNET.ARCH": os.path.join(run, "arch.yaml"), "OUTPUT_DIR": run, "SEED": seed}
            keys["SOLVER.CHECKPOINT_PERIOD"] = self._task.iterations
            seed_all_rng(seed)
            trainer = FBNetTrainer(self._task.config("", self._recipe, keys, {"DATASETS.TEST": ()}))
            trainer.train()
            found = FBNetTrainer.test(self._task.config("", self._recipe, keys), trainer.model)["classification"]
        file.parent.mkdir(parents=True, exist_ok=True)
        figures = {"point": network.point, "seed": seed, **found, "latency_us": network.latency_us}
        with atomic_write(file) as stream:
            stream.write(json.dumps(figures).encode())


def digest(keys: Mapping[str, Any]) -> str:
    """Eight letters that change with the keys."""
    return hashlib.sha256(json.dumps(keys, sort_keys=True, default=str).encode()).hexdigest()[:8]


def measured(space: SearchSpace, path: Path) -> LatencyTable:
    """Latencies of the space's operators on one thread of this machine; a table that is there is completed."""
    options = Options(threads=1)
    options.prepare_process()
    measure(Request([space]), open_table(str(path), options), options, Schedule(), progress=sys.stderr.isatty())
    return load_table(path)  # with the digits that a later run finds


def uniform(space: SearchSpace, table: LatencyTable) -> Distribution:
    """All networks of the space with equal probability."""
    theta = tuple((0.0,) * len(variable.choices) for variable in space.variables)
    return Distribution(space, theta).with_table(table)


def drawn(
    source: Distribution, kind: str, count: int, seeds: int, rng: np.random.Generator, bounds: Sequence[Optional[float]]
) -> List[Network]:
    """Distinct networks by eq. 6, given that their latency is within the bounds (exact, not by rejection)."""
    if not count:
        return []
    low, high = bounds
    found = sample_architectures(source, count, rng, low, high)[1:]  # the first is not random, but the most probable
    return [Network(kind, tuple(one.point), float(one.latency_us or 0), seeds) for one in found]


def networks_of(
    args: argparse.Namespace, found: Sequence[Distribution], everything: Distribution, target_us: float
) -> List[Network]:
    """What is to be trained; a network that is of several kinds is trained once."""
    networks = []
    for one in found:
        point = tuple(best_point(one)[0])
        networks.append(Network("found", point, one.latency_us_of(point), args.seeds))
    near = (target_us * (1 - TOLERANCE), target_us * (1 + TOLERANCE))
    for seed, one in enumerate(found):
        networks += drawn(one, "sampled", args.sampled, args.seeds, np.random.default_rng([1, seed]), near)
    equal = [networks[0].latency_us * (1 + sign * TOLERANCE) for sign in (-1, 1)]
    networks += drawn(everything, "random", args.random, args.seeds, np.random.default_rng(2), equal)
    slowest, fastest = (sum(best(row) for row in everything.latencies()[0]) for best in (max, min))
    edges = np.linspace(fastest, slowest, args.others + 1) + everything.latencies()[1]
    for number, bounds in enumerate(zip(edges[:-1], edges[1:])):
        with contextlib.suppress(SearchError):  # there may be none between two latencies
            networks += drawn(everything, "other", 1, 1, np.random.default_rng([3, number]), bounds)
    return networks


def benchmark(args: argparse.Namespace, task: Task) -> Dict[str, Any]:
    """Figures of one dataset."""
    begin = time.monotonic()
    folder = Path(args.output) / task.name
    folder.mkdir(parents=True, exist_ok=True)
    space = scale_space(load_space(args.space), args.width, task.resolution)
    table = measured(space, folder / f"{space.name}.json")
    everything = uniform(space, table)
    points = everything.sample(10_000, np.random.default_rng(0))
    target_us = round(float(np.quantile([everything.latency_us_of(point) for point in points], args.target)), 1)
    print(f"{task.name}: {len(table.entries)} operators measured; the target is {target_us:.0f} µs", flush=True)
    searched = time.monotonic()
    found = [search(args, task, table, target_us, seed, folder) for seed in range(1, args.searches + 1)]
    searched = time.monotonic() - searched
    networks = networks_of(args, found, everything, target_us)
    accuracy = Trainings(task, space, folder / "trained").run(networks)
    figures = {
        "target_us": target_us,
        "expected_us": [one.expected_latency_us() for one in found],
        "entropy": [float(one.entropy().mean()) for one in found],
        **compare(networks, accuracy),
        "search_seconds": searched,
        "seconds": time.monotonic() - begin,
        "resolution": task.resolution,
        "iterations": task.iterations,
        "search": {**SEARCH, **task.search},
    }
    report(task, space, networks, accuracy, figures)
    plot(networks, accuracy, figures, task, folder / "pareto.png")
    return figures


def compare(networks: Sequence[Network], accuracy: Mapping[Point, Sequence[float]]) -> Dict[str, Any]:
    """Where the found networks stand among the random ones, and how far chance alone spreads accuracies.

    Percentile: share of the random networks whose mean accuracy is lower, those of equal accuracy counted by half.
    Rank: 1 is better than every random network.
    """
    by_kind: Dict[str, List[Network]] = {}
    for one in networks:
        by_kind.setdefault(one.kind, []).append(one)
    random = np.array([np.mean(accuracy[one.point]) for one in by_kind["random"]])
    every = np.array([accuracy[one.point] for one in by_kind["random"]])  # (networks, seeds)
    noise = float(np.sqrt(every.var(axis=1, ddof=1).mean())) if every.shape[1] > 1 else None

    def place(one: Network) -> Dict[str, Any]:
        mean = float(np.mean(accuracy[one.point]))
        below, equal = int((random < mean - 1e-9).sum()), int((np.abs(random - mean) <= 1e-9).sum())
        return {
            "point": one.point,
            "latency_us": one.latency_us,
            "accuracy": mean,
            "accuracies": list(accuracy[one.point]),
            "percentile": 100 * (below + equal / 2) / len(random),
            "rank": 1 + len(random) - below - equal,
        }

    return {
        "found": [place(one) for one in by_kind["found"]],
        "sampled": [place(one) for one in by_kind.get("sampled", [])],
        "random": {
            "networks": len(random),
            "mean": float(random.mean()),
            "standard_deviation": float(random.std(ddof=1)),
            "worst": float(random.min()),
            "best": float(random.max()),
        },
        "seed_noise": noise,
        "seed_noise_of_mean": None if noise is None else noise / every.shape[1] ** 0.5,
    }


def report(
    task: Task,
    space: SearchSpace,
    networks: Sequence[Network],
    accuracy: Mapping[Point, Sequence[float]],
    figures: Mapping[str, Any],
) -> None:
    """The table of one dataset, best network first."""
    rows = []
    for one in sorted(networks, key=lambda one: -float(np.mean(accuracy[one.point]))):
        if one.kind != "other":
            macs = space.arch(one.point).cost().macs / 1e6
            blocks = " ".join(row[i] for row, i in zip(candidate_names(space), one.point))
            rows.append([one.kind, np.mean(accuracy[one.point]), one.latency_us, macs, blocks])
    print(f"\n{task.name}, accuracy in % (mean over seeds):")
    print(tabulate(rows, ["kind", "accuracy", "µs", "M MACs", "network"], floatfmt=("", ".2f", ".0f", ".2f", "")))
    random = figures["random"]
    print(
        f"{random['networks']} random networks: {random['mean']:.2f} ± {random['standard_deviation']:.2f} %, best "
        f"{random['best']:.2f} %; seeds alone: ± {figures['seed_noise_of_mean'] or float('nan'):.2f} %"
    )
    for kind in ("found", "sampled"):
        for one in figures[kind]:
            print(f"{kind}: {one['accuracy']:.2f} %, rank {one['rank']}, percentile {one['percentile']:.0f}")


STYLES = {  # kind -> colour, marker, size, label
    "other": ("#BBBBBB", "o", 16, "random, other latencies (one seed)"),
    "random": ("#0072B2", "o", 26, "random, equal latency"),
    "sampled": ("#E69F00", "D", 30, "sampled from P_theta"),
    "found": ("#D55E00", "*", 130, "found"),
}


def plot(
    networks: Sequence[Network],
    accuracy: Mapping[Point, Sequence[float]],
    figures: Mapping[str, Any],
    task: Task,
    path: Path,
) -> None:
    """Accuracy over latency, and the Pareto front of all networks."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for kind, (colour, marker, size, label) in STYLES.items():
        mine = [one for one in networks if one.kind == kind]
        if mine:
            xs, ys = [one.latency_us for one in mine], [float(np.mean(accuracy[one.point])) for one in mine]
            axes.scatter(xs, ys, s=size, c=colour, marker=marker, linewidths=0, label=label, zorder=3)
    front: List[Tuple[float, float]] = []
    for one in sorted(networks, key=lambda one: one.latency_us):
        mean = float(np.mean(accuracy[one.point]))
        if not front or mean > front[-1][1]:
            front.append((one.latency_us, mean))
    axes.step(*zip(*front), "--", where="post", color="#777777", linewidth=0.8, label="Pareto front", zorder=1)
    axes.set_xlabel("latency by the table (µs)")
    axes.set_ylabel("top-1 test accuracy (%)")
    percentiles = ", ".join(f"{one['percentile']:.0f}" for one in figures["found"])
    count = figures["random"]["networks"]
    axes.set_title(f"{task.name}: found at percentile {percentiles} of {count} random networks", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save_picture(figure, path)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ("digits", "signdigits")
    parser.add_argument("--datasets", nargs="+", choices=known, default=["digits"], help="default: digits")
    parser.add_argument("--data", metavar="FOLDER", help="train/ and val/ of signdigits")
    parser.add_argument("--space", default="fbnet_digits", help="name or file; default: %(default)s")
    parser.add_argument("--width", type=float, default=0.33, metavar="W", help="of its channels; default: %(default)s")
    text = "the target as a quantile of the random networks' latencies; default: %(default)s"
    parser.add_argument("--target", type=float, default=0.5, metavar="Q", help=text)
    parser.add_argument("--random", type=int, default=20, metavar="N", help="random networks; default: %(default)s")
    parser.add_argument("--others", type=int, default=12, metavar="N", help="of other latencies; default: %(default)s")
    parser.add_argument("--sampled", type=int, default=3, metavar="N", help="per search; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings per network; default: %(default)s")
    parser.add_argument("--searches", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, metavar="N", help="of the search, instead of the dataset's")
    parser.add_argument("--iterations", type=int, metavar="N", help="of a training, instead of the dataset's")
    parser.add_argument("--output", default="output/dnas_quality", metavar="FOLDER", help="default: %(default)s")
    args = parser.parse_args(argv)
    if "signdigits" in args.datasets and not args.data:
        parser.error("--datasets signdigits needs --data")
    if args.random < 2 or args.seeds < 1 or args.searches < 1:
        parser.error("expected at least 2 random networks, 1 seed and 1 search")
    return args


def task_of(args: argparse.Namespace, name: str) -> Task:
    """A dataset with what the command line changes."""
    photos = Path(args.output) / "signdigits" / "photos"
    task = digits_task() if name == "digits" else signdigits_task(Path(args.data), photos)
    if args.epochs:
        task = replace(task, search={**task.search, "DNAS.EPOCHS": args.epochs})
    return replace(task, iterations=args.iterations or task.iterations)


def main() -> None:
    args = parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    with exit_codes():
        try:
            figures = {name: benchmark(args, task_of(args, name)) for name in args.datasets}
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on where it was", file=sys.stderr)
            raise SystemExit(130) from None
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
