#!/usr/bin/env python3
"""The same search for two devices gives two networks, each faster on its own device (FBNet section 4.3, Table 5).

    dnas_devices.py --data FOLDER [--images FOLDER] [--output FOLDER] [--share 0.6] [--search-seeds 1 2] ...

--data has latency_ms.csv: 4,000 networks of FBNet's space at 32 px with their milliseconds on several devices, from
HELP (github.com/HayeonLee/HELP, data/fbnet); its columns raspi4 and pixel3 come from HW-NAS-Bench. --images has
train/CLASS/IMAGE and val/CLASS/IMAGE; without it scikit-learn's digits are taken.

Tables: fit_table solves each device's sums for the operators of the space fbnet_cifar (with 80 % of the networks; the
others say how exact it is). Both columns are sums over that space's operators, equal operators at equal costs, so that
the tables are LATENCY.TABLEs like any other.

Width: the supernet has half the channels (--width), which is cheaper to train. A layer's candidate costs what it costs
at the same place of the full network; what is found is a network of full width, and it is this that is trained,
counted and looked up.

Budgets: to be comparable, those of the two searches have to be equally hard. The search is first done for no device in
particular: the table is the mean of both, each relative to its device's mean network, and the target --share of the
mean network. What the networks of its P_theta take on a device on average is the target (LATENCY.TARGET_US) of all
searches for that device; the network taken from a search is the most probable one that takes 99 to 100 % of the target.
Space, images, configuration, seeds, and the weights of the epochs before theta is trained, are the same; only table and
target differ.

Figures: the networks are trained from scratch with one recipe and several seeds, printed as Table 5 and drawn as Figure
4. A single network may be lucky on a device, so that the mean latency of all networks of each P_theta is compared too.
Latencies are the tables'.

Runs are those of tools/train_net.py. What is finished stays in --output and is not done again, what was stopped goes
on. The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from tabulate import tabulate

from fbnet_plugin.arch import ArchSpec, load_space, save_arch
from fbnet_plugin.arch.space_scaling import scale_space
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.dnas import Distribution, load_distribution, most_probable
from fbnet_plugin.engine import ConfigError, exit_codes
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Operator, Setting, load_table, save_table
from fbnet_plugin.latency.csv_networks import read_networks
from fbnet_plugin.latency.fit import fit_table
from fbnet_plugin.latency.layerwise import layerwise
from fbnet_plugin.plotting.architectures import arch_label, draw_architectures

TOOL = Path(__file__).resolve().parent.parent / "tools" / "train_net.py"
SPACE, BOTH = "fbnet_cifar", "both"
SEARCH_CONFIG, TRAIN_CONFIG = "DNAS/Base-FBNet-DNAS.yaml", "Digits/fbnet_v3_a_dsmask_tiny_digits.yaml"
TRAIN = 0.8  # share of the networks that tables are fitted to
UNUSED = 0.01  # most of a budget that a network may leave unused
NETWORK = "network.yaml"
SAME_US = 1.0  # µs by which fitted costs of one operator may differ
NARROW = "_narrow"
MEAN_US = 10_000.0  # of the mean network in the table of both devices
Options = Dict[str, Any]


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="with latency_ms.csv")
    parser.add_argument("--images", metavar="FOLDER", help="with train and val; default: scikit-learn's digits")
    parser.add_argument("--output", default="output/dnas_devices", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--devices", nargs=2, default=["raspi4", "pixel3"], metavar="NAME", help="default: %(default)s")
    parser.add_argument("--share", type=float, default=0.6, help="of the mean network's latency; default: %(default)s")
    parser.add_argument("--search-seeds", nargs="+", type=int, default=[1, 2], metavar="N", help="default: %(default)s")
    parser.add_argument("--train-seeds", nargs="+", type=int, default=[1, 2], metavar="N", help="default: %(default)s")
    parser.add_argument("--width", type=float, default=0.5, help="of the supernet; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="of a search; default: %(default)s")
    parser.add_argument("--warmup-epochs", type=int, default=6, metavar="N", help="before it; default: %(default)s")
    parser.add_argument("--train-epochs", type=int, default=12, metavar="N", help="default: %(default)s")
    return parser.parse_args(argv)


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------


def device_table(args: argparse.Namespace, device: str) -> "tuple[LatencyTable, Dict[str, float]]":
    """A device's table and its errors on networks that it was not fitted to."""
    space = load_space(SPACE)
    points, us = read_networks(os.path.join(args.data, "latency_ms.csv"), space, device, "ms")
    order = np.random.default_rng(0).permutation(len(points))
    fitted, others = order[: int(TRAIN * len(order))], order[int(TRAIN * len(order)) :]
    setting = Setting(device=device, processor=device, runtime="unknown")
    fit = fit_table(space, points[fitted], us[fitted], setting=setting)
    error = np.abs(fit.predict(points[others])[0] - us[others])
    score = fit.score(points[others], us[others])
    return fit.table, {"networks": len(others), "r2": score.r2, "largest_error_us": float(error.max())}


def mean_table(tables: Sequence[LatencyTable]) -> LatencyTable:
    """The mean of tables, each in units of its mean network, which has ``MEAN_US`` in the new one."""
    space, parts = load_space(SPACE), []
    for table in tables:
        matrix = table.matrix(space)
        parts.append((table, MEAN_US / (matrix.fixed_us + float(matrix.us.mean(1).sum())) / len(tables)))
    entries = {
        operator: Entry(sum(part.entries[operator].us * unit for part, unit in parts), in_constant=entry.in_constant)
        for operator, entry in tables[0].entries.items()
    }
    setting = Setting(device=BOTH, processor=BOTH, runtime="unknown", method="fit")
    notes = f"Mean of {' and '.join(table.name for table in tables)}; the mean network has {MEAN_US:g}."
    return LatencyTable(setting, entries, constant_us=sum(one.constant_us * unit for one, unit in parts), notes=notes)


def narrow_table(table: LatencyTable, width: float) -> LatencyTable:
    """The same costs for the operators that stand at the same places of the narrower space.

    Raises:
        LatencyError: an operator of the narrower space stands for two with different costs.
    """
    wide, narrow = layerwise(load_space(SPACE)), layerwise(scale_space(load_space(SPACE), width))
    entries: Dict[Operator, Entry] = {}
    for operator, place in zip([*narrow.fixed, *narrow.searched()], [*wide.fixed, *wide.searched()]):
        entry = table.entries[place]
        if abs(entries.setdefault(operator, entry).us - entry.us) > SAME_US:
            raise LatencyError(f"{operator} of {SPACE} at width {width:g} stands for operators with different costs")
    return replace(table, entries=entries, file="", notes=f"{table.notes} Costs at width 1, operators at {width:g}.")


def make_tables(args: argparse.Namespace) -> "tuple[Dict[str, LatencyTable], Dict[str, Any]]":
    """Tables by name, of the devices and of both, also at ``--width``, as files in ``--output``; devices' errors."""
    folder = os.path.join(args.output, "tables")
    os.makedirs(folder, exist_ok=True)
    made, errors = {}, {}
    for device in args.devices:
        made[device], errors[device] = device_table(args, device)
    made[BOTH] = mean_table(list(made.values()))
    tables = {}
    for name, table in made.items():
        for kind, one in ((name, table), (f"{name}{NARROW}", narrow_table(table, args.width))):
            path = os.path.join(folder, f"{kind}.json")
            save_table(one, path)
            tables[kind] = load_table(path)
    return tables, errors


# ---------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A run of tools/train_net.py, and the folder that its options and its table or network alone determine."""

    kind: str
    name: str
    config: str
    options: Options
    folder: Path

    @classmethod
    def of(cls, args: argparse.Namespace, kind: str, name: str, config: str, options: Options, content: str) -> "Run":
        """``content``: what stands in the file that the options name."""
        digest = hashlib.sha256(json.dumps([config, options, content]).encode()).hexdigest()[:8]
        return cls(kind, name, config, options, Path(args.output) / kind / f"{name}_{digest}")

    def result(self) -> Optional[Dict[str, float]]:
        """What the finished run left."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None


class Runner:
    """Does runs one after another, unless they are done already; says how far it is."""

    def __init__(self, counts: Dict[str, int]):
        """
        Args:
            counts: number of runs of each kind, for the time that is left.
        """
        self._left, self._seconds = dict(counts), {kind: [] for kind in counts}
        self._number, self._total = 0, sum(counts.values())
        self.processor_seconds: Dict[str, List[float]] = {kind: [] for kind in counts}

    def do(self, run: Run) -> Dict[str, float]:
        """The result of a run: its figures and "seconds" of processor time."""
        self._number += 1
        result = run.result()
        if result is None:
            place = f"run {self._number} of {self._total}: {run.kind} {run.name}"
            print(f"{place}{self._eta()}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            result = execute(run)
            self._seconds[run.kind].append(time.perf_counter() - start)
        self._left[run.kind] -= 1
        self.processor_seconds[run.kind].append(result["seconds"])
        return result

    def times(self) -> str:
        """Processor time, in words."""
        means = ", ".join(f"{np.mean(values):.0f} s per {kind}" for kind, values in self.processor_seconds.items())
        return f"{means}, {sum(map(sum, self.processor_seconds.values())) / 60:.0f} min in all"

    def _eta(self) -> str:
        means = {kind: np.mean(seconds) for kind, seconds in self._seconds.items() if seconds}
        if not means:
            return ""
        left = sum(count * means.get(kind, np.mean(list(means.values()))) for kind, count in self._left.items())
        return f", about {left / 60:.0f} min left"


def execute(run: Run) -> Dict[str, float]:
    """Starts, or goes on with, a run; its log is in its folder, its checkpoints are removed at the end."""
    run.folder.mkdir(parents=True, exist_ok=True)
    options = {**run.options, "OUTPUT_DIR": str(run.folder)}
    command = [sys.executable, str(TOOL), "--num-gpus", "0", "--resume", "--config-file", run.config]
    command += [str(part) for pair in options.items() for part in pair]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(run.folder / "output.txt", "ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            process.wait()
        except KeyboardInterrupt:  # which the run has received too, and writes a checkpoint
            process.wait()
            raise
    if process.returncode:
        raise ConfigError(f"{run.kind} {run.name} ended with {process.returncode}; see {run.folder}/output.txt")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {"seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    if run.kind == "train":
        key, lines = "classification/top1", (run.folder / "metrics.json").read_text().splitlines()
        result["top1"] = [json.loads(line)[key] for line in lines if key in line][-1]
    with atomic_write(run.folder / "result.json") as file:
        file.write(json.dumps(result).encode())
    for checkpoint in run.folder.glob("*.pth"):
        if run.kind != "warmup" or checkpoint.name != "model_final.pth":
            checkpoint.unlink()
    shutil.rmtree(run.folder / "inference", ignore_errors=True)
    return result


def data_options(args: argparse.Namespace) -> Options:
    """Images at 32 px, no flips: a mirrored 2 is no digit, and signs are made with one hand."""
    names = ("digits_train", "digits_test")
    options: Options = {}
    if args.images:
        names = ("images_train", "images_val")
        folders = [f"{name}={Path(args.images).resolve() / part}" for name, part in zip(names, ("train", "val"))]
        options["DATASETS.IMAGE_FOLDERS"] = folders
        classes = sum(entry.is_dir() for entry in os.scandir(Path(args.images) / "train"))
    return {
        **options,
        "DATASETS.TRAIN": (names[0],),
        "MODEL.DEVICE": "cpu",
        "MODEL.CLASSIFIER.NUM_CLASSES": classes if args.images else 10,
        "INPUT.RANDOM_FLIP": "none",
        "INPUT.CLASSIFICATION.TRAIN_SIZE": 32,
        "INPUT.CLASSIFICATION.TEST_SIZE": 32,
        "INPUT.CLASSIFICATION.TEST_RESIZE": 32,
        "INPUT.CLASSIFICATION.CROP_AREA": (0.6, 1.0),
        "DATALOADER.NUM_WORKERS": 0,
    }


def supernet_options(args: argparse.Namespace, seed: int) -> Options:
    """What the warm-up and the searches of a seed have in common."""
    return {
        **data_options(args),
        "MODEL.SUPERNET.SPACE": SPACE,
        "MODEL.FBNET.WIDTH_MULT": args.width,
        "DNAS.WEIGHT_SHARE": 0.5,
        "DNAS.SNAPSHOT_PERIOD": 0,
        "SOLVER.IMS_PER_BATCH": 16,
        "SEED": seed,
    }


def warmup_run(args: argparse.Namespace, seed: int) -> Run:
    """The epochs of a search that train the weights alone, and one more in which theta stays where it is."""
    options = {
        **supernet_options(args, seed),
        "DNAS.EPOCHS": args.warmup_epochs + 1,
        "DNAS.THETA_START": args.warmup_epochs,
        "DNAS.THETA_LR": 0.0,
        "SOLVER.BASE_LR": 0.05,
    }
    return Run.of(args, "warmup", str(seed), SEARCH_CONFIG, options, "")


def search_run(args: argparse.Namespace, table: LatencyTable, target_us: float, seed: int) -> Run:
    """The epochs of a search that train weights and theta, with one table."""
    options = {
        **supernet_options(args, seed),
        "MODEL.WEIGHTS": str(warmup_run(args, seed).folder / "model_final.pth"),
        "LATENCY.TABLE": table.file,
        "LATENCY.TARGET_US": round(target_us, 1),
        "DNAS.EPOCHS": args.epochs,
        "DNAS.THETA_START": 0,
        "DNAS.THETA_LR": 0.1,
        "SOLVER.BASE_LR": 0.02,
    }
    name = f"{table.setting.device}_{seed}"
    return Run.of(args, "search", name, SEARCH_CONFIG, options, table.digest())


def training_run(args: argparse.Namespace, name: str, arch: str, images: int, seed: int) -> Run:
    """A network from scratch: the same recipe for all."""
    batch = 16
    options = {
        **data_options(args),
        "DATASETS.TEST": ("images_val" if args.images else "digits_test",),
        "MODEL.FBNET.ARCH": arch,
        "SOLVER.IMS_PER_BATCH": batch,
        "SOLVER.BASE_LR": 0.03,
        "SOLVER.MAX_ITER": args.train_epochs * images // batch,
        "TEST.EVAL_PERIOD": 0,
        "SEED": seed,
    }
    return Run.of(args, "train", f"{name}_{seed}", TRAIN_CONFIG, options, Path(arch).read_text())


# ---------------------------------------------------------------------------------------------
# The benchmark
# ---------------------------------------------------------------------------------------------


def image_count(args: argparse.Namespace) -> int:
    """Number of training images."""
    if not args.images:
        return 1438  # digits_train
    return sum(1 for path in (Path(args.images) / "train").glob("*/*") if path.is_file())


def result_of(run: Run) -> Distribution:
    """P_theta at the end of a search."""
    return load_distribution(run.folder / "search" / "distribution.json")


def expected_us(run: Run, table: LatencyTable) -> float:
    """Mean latency of the networks that P_theta draws, by a table at the supernet's width."""
    return result_of(run).with_table(table).expected_latency_us()


def found_by(run: Run) -> ArchSpec:
    """The most probable network of a search among those that use its budget up; as a file in the run's folder."""
    distribution = result_of(run)
    budget = distribution.target_us
    point = most_probable(distribution, (1 - UNUSED) * budget, budget)
    arch = load_space(SPACE).arch(point, run.name)
    save_arch(arch, run.folder / NETWORK)
    return arch


class Found(NamedTuple):
    """A network that was found for a device, and what became of it.

    Attributes:
        device, seed: of the search.
        params, macs: of the network.
        ms: the network's latency by device.
        mean_ms: mean latency of P_theta's networks by device.
        top1: accuracy in percent, per training.
    """

    device: str
    seed: int
    params: int
    macs: int
    ms: Dict[str, float]
    mean_ms: Dict[str, float]
    top1: List[float]


def run(args: argparse.Namespace) -> Dict[str, Any]:
    os.makedirs(args.output, exist_ok=True)
    tables, errors = make_tables(args)
    for device, one in errors.items():
        error = f"errors up to {one['largest_error_us']:.2f} µs"
        print(f"table of {device}: R2 {one['r2']:.6f}, {error}, on {one['networks']} networks held out")
    pairs = len(args.search_seeds) * len(args.devices)
    counts = {"warmup": len(args.search_seeds), "search": 1 + pairs, "train": pairs * len(args.train_seeds)}
    runner = Runner(counts)

    runner.do(warmup_run(args, args.search_seeds[0]))
    blind = search_run(args, tables[BOTH + NARROW], args.share * MEAN_US, args.search_seeds[0])
    runner.do(blind)
    budget = {device: expected_us(blind, tables[device + NARROW]) for device in args.devices}
    print(f"budgets: {', '.join(f'{us / 1e3:.2f} ms on {device}' for device, us in budget.items())}", flush=True)
    searches = {}
    for seed in args.search_seeds:
        if seed != args.search_seeds[0]:
            runner.do(warmup_run(args, seed))
        for device in args.devices:
            searches[device, seed] = search_run(args, tables[device + NARROW], budget[device], seed)
            runner.do(searches[device, seed])
    archs = {key: found_by(one) for key, one in searches.items()}
    draw(os.path.join(args.output, "figure4.png"), tables, archs, args.devices)

    found = []
    for (device, seed), one in searches.items():
        cost, name = archs[device, seed].cost(), f"{device}_{seed}"
        runs = [training_run(args, name, str(one.folder / NETWORK), image_count(args), i) for i in args.train_seeds]
        top1 = [runner.do(training)["top1"] for training in runs]
        ms = {on: tables[on].latency(archs[device, seed]).total_us / 1e3 for on in args.devices}
        mean_ms = {on: expected_us(one, tables[on + NARROW]) / 1e3 for on in args.devices}
        found.append(Found(device, seed, cost.params, cost.macs, ms, mean_ms, top1))
    wins = report(args.devices, found)
    print(f"processor time: {runner.times()}")
    return {
        "tables": errors,
        "budget_ms": {device: us / 1e3 for device, us in budget.items()},
        "networks": [one._asdict() for one in found],
        "wins": wins,
        "seconds": runner.processor_seconds,
    }


def draw(path: str, tables: Dict[str, LatencyTable], archs: Dict[Any, ArchSpec], devices: Sequence[str]) -> None:
    """Figure 4 of the networks."""
    labels = []
    for (device, seed), arch in archs.items():
        times = ", ".join(f"{tables[on].latency(arch).total_us / 1e3:.1f} ms on {on}" for on in devices)
        labels.append(arch_label(arch, name=f"found for {device}, seed {seed}") + f"\n{times}")
    draw_architectures(list(archs.values()), path, labels=labels)


def report(devices: Sequence[str], found: Sequence[Found]) -> Dict[str, Dict[str, int]]:
    """Prints Table 5, its means over seeds, and in how many searches each device's result is the faster one on it."""
    rows = []
    for one in found:
        times = [f"{one.ms[on]:.2f}" for on in devices] + [f"{one.mean_ms[on]:.2f}" for on in devices]
        accuracy = ", ".join(f"{top1:.2f}" for top1 in one.top1)
        rows.append([one.device, one.seed, f"{one.params / 1e6:.2f}M", f"{one.macs / 1e6:.1f}M", *times, accuracy])
    for device in devices:
        mine = [one for one in found if one.device == device]
        keys = [(key, on) for key in ("ms", "mean_ms") for on in devices]
        times = [f"{np.mean([getattr(one, key)[on] for one in mine]):.2f}" for key, on in keys]
        params, macs = (np.mean([getattr(one, key) for one in mine]) / 1e6 for key in ("params", "macs"))
        top1 = np.concatenate([one.top1 for one in mine])
        spread = top1.std(ddof=min(1, len(top1) - 1))
        rows.append([device, "mean", f"{params:.2f}M", f"{macs:.1f}M", *times, f"{top1.mean():.2f} ± {spread:.2f}"])
    heads = [f"ms on {on}" for on in devices] + [f"P_theta's on {on}" for on in devices]
    heads = ["found for", "seed", "params", "MACs", *heads, "top-1 %"]
    print("\n" + tabulate(rows, heads, "pipe", disable_numparse=True) + "\n")
    wins: Dict[str, Dict[str, int]] = {}
    for key, what in (("ms", "network"), ("mean_ms", "P_theta")):
        times_of = {(one.device, one.seed): getattr(one, key) for one in found}
        seeds = sorted({one.seed for one in found})
        wins[key] = {
            on: sum(min(devices, key=lambda name: times_of[name, seed][on]) == on for seed in seeds) for on in devices
        }
        counts = ", ".join(f"on {on} in {count}" for on, count in wins[key].items())
        print(f"the device's own {what} is the faster one {counts} of {len(seeds)} searches")
    return wins


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        figures = run(args)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
