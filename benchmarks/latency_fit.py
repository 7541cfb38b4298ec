#!/usr/bin/env python3
"""How well operator tables that are fitted to whole-network times predict the times of other networks.

    latency_fit.py --data PATH [--space NAME] [--devices NAME ...] [--sizes N ...] [--repeats R] [--split ordered]

PATH is a CSV file, or a folder with one named latency_ms.csv. It has a column "ops" (the choice of each layer, one
digit each), columns of milliseconds, one per device, and perhaps "arch_id"; the rows stand in the order of measurement.
Such a file, of 4,000 networks of FBNet's space on 21 devices, comes from HELP (github.com/HayeonLee/HELP, data/fbnet).
Tables are fitted to a random 80 % of the rows and scored on the rest; with --split ordered to the first 80 %.

Columns of the output:
    R2, rho, MAPE    score of the table on the held-out networks: R2, Spearman's rank correlation, mean absolute
                     percentage error
    R2 drift         R2 when the device's steady drift over the run is added
    n                how many networks are enough for rho >= 0.95 (median of R random subsets): with nothing else
                     known, with physical features (MACs, weights, map sizes; the default of fit_table), with
                     another device's table, with both. "-": more than the largest size, or never.
    prior            that other device: of another name (batch size aside), and most alike in its ranks of
                     10 networks, which come on top of n

The last line holds all figures as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from fbnet_plugin.arch import SearchSpace, load_space
from fbnet_plugin.engine import exit_codes
from fbnet_plugin.latency import LatencyError, Setting
from fbnet_plugin.latency.csv_networks import read_networks
from fbnet_plugin.latency.csv_rows import read_rows
from fbnet_plugin.latency.fit import Fit, fit_table
from fbnet_plugin.latency.fit_curve import learning_curve, networks_needed
from fbnet_plugin.latency.fit_score import spearman

TRAIN = 0.8  # share of the rows
TARGET = 0.95  # Spearman's rho
SIZES = (10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300)
LIKENESS = 10  # networks that choose the prior device, beside those of the curve
SLOW = 5.0  # seconds after which progress is shown
WAYS = ("alone", "features", "prior", "both")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="PATH", help="CSV file of networks and their milliseconds")
    parser.add_argument("--space", default="fbnet_cifar", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--devices", nargs="+", metavar="NAME", help="columns; default: all")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N", help="networks of the curve")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="random subsets of each size")
    parser.add_argument("--seed", type=int, default=0, help="of split and subsets; default: %(default)s")
    parser.add_argument(
        "--split", choices=("random", "ordered"), default="random", help="which rows are held out; default: %(default)s"
    )
    parser.add_argument(
        "--reference",
        metavar="PATH",
        help="CSV file of known differences to skip, ms, to compare with; default: lut_recovered_ms.csv in the folder",
    )
    args = parser.parse_args(argv)
    if os.path.isdir(args.data):
        reference = os.path.join(args.data, "lut_recovered_ms.csv")
        args.reference = args.reference or (reference if os.path.exists(reference) else None)
        args.data = os.path.join(args.data, "latency_ms.csv")
    return args


def device_columns(path: str, space: SearchSpace) -> List[str]:
    """All columns that are neither a network's number nor its choices."""
    known = {"arch_id", "ops", *(variable.name for variable in space.variables)}
    return [column for column in read_rows(path)[0] if column not in known]


def family(device: str) -> str:
    """A device's name without its batch size."""
    return re.sub(r"_(1|32|64)$", "", device)


def progress(names: Sequence[str], what: str) -> Iterator[str]:
    """Hands out the names; once it takes long, says on stderr how far it is."""
    start = time.perf_counter()
    for number, name in enumerate(names):
        passed = time.perf_counter() - start
        if passed > SLOW:
            left = passed / number * (len(names) - number)
            print(f"{what}: {number}/{len(names)}, next {name}, about {left:.0f} s left", file=sys.stderr)
        yield name


class Device(NamedTuple):
    """Networks that were timed on a device, µs, the first ``train`` of them fitted; ``order`` is their rows."""

    points: np.ndarray
    times: np.ndarray
    order: np.ndarray
    train: int
    fit: Fit

    @property
    def held_out(self) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points, times and order of the networks that were not fitted."""
        return self.points[self.train :], self.times[self.train :], self.order[self.train :]


def fit_devices(args: argparse.Namespace, space: SearchSpace, names: Sequence[str]) -> Dict[str, Device]:
    """A table for each column, its rows taken to be in the order of measurement."""
    devices = {}
    for name in progress(names, "fitting"):
        points, times = read_networks(args.data, space, name, "ms")
        count, train = len(points), int(TRAIN * len(points))
        order = np.random.default_rng(args.seed).permutation(count) if args.split == "random" else np.arange(count)
        points, times = points[order], times[order]
        setting = Setting(device=name, processor=name, runtime="unknown")
        fit = fit_table(space, points[:train], times[:train], setting=setting, order=order[:train])
        devices[name] = Device(points, times, order, train, fit)
    return devices


def nearest_device(name: str, devices: Dict[str, Device]) -> Optional[str]:
    """The device of another family whose table ranks a few fitted networks most like ``name`` does."""
    some = slice(min(LIKENESS, devices[name].train))
    points, times = devices[name].points[some], devices[name].times[some]
    others = [other for other in devices if family(other) != family(name)]
    likeness = [spearman(devices[other].fit.predict(points)[0], times) for other in others]
    return others[int(np.argmax(likeness))] if others else None


def figures_of(name: str, devices: Dict[str, Device], space: SearchSpace, args: argparse.Namespace) -> Dict[str, Any]:
    """Scores and learning curves of one device."""
    device = devices[name]
    points, times, order = device.held_out
    table, drift = device.fit.score(points, times), device.fit.score(points, times, order)
    prior = nearest_device(name, devices)
    curves = {}
    for way in WAYS:
        if way in ("prior", "both") and prior is None:
            continue
        curves[way] = learning_curve(
            space,
            device.points[: device.train],
            device.times[: device.train],
            points,
            times,
            [size for size in args.sizes if size <= device.train],
            args.repeats,
            args.seed,
            prior=devices[prior].fit.table if prior and way in ("prior", "both") else None,
            features=way in ("features", "both"),
        )
    tail = device.fit.noise_tail
    return {
        "r2": round(table.r2, 6),
        "r2_drift": round(drift.r2, 6),
        "spearman": round(table.spearman, 4),
        "kendall": round(table.kendall, 4),
        "mape": round(table.mape, 4),
        "noise_us": round(device.fit.noise_us, 2),
        "noise_tail": tail if np.isfinite(tail) else None,
        "drift_us_per_network": round(device.fit.drift_us, 5),
        "prior": prior,
        "networks_needed": {way: networks_needed(curve, TARGET) for way, curve in curves.items()},
        "curve": {way: [[n, round(rho, 4), round(r2, 4)] for n, rho, r2 in curve] for way, curve in curves.items()},
    }


def line(name: str, figures: Dict[str, Any]) -> str:
    """A device's row of the printed table."""
    counts = "".join(f"{figures['networks_needed'].get(way) or '-':>9}" for way in WAYS)
    return (
        f"{name:<15}{figures['r2']:8.5f}{figures['r2_drift']:9.5f}{figures['spearman']:8.4f}"
        f"{figures['mape']:7.2f}{counts}  {figures['prior'] or '-'}"
    )


def reference_error_ms(path: str, name: str, fit: Fit) -> Optional[float]:
    """Largest difference of fitted contrasts to known ones, ms; None where the file lacks the device.

    Columns: device, kind ("layer" or "const"), layer (from 0), then one per candidate but the last, which is skip.
    """
    columns, rows = read_rows(path)
    known = np.full_like(fit.difference_us, np.nan)
    for row in rows:
        if row.cells.get("device") == name and row.cells.get("kind") == "layer":
            layer, differences = int(row.number("layer")), [row.number(key) for key in columns[3:]]
            if not 0 <= layer < len(known) or len(differences) >= known.shape[1]:
                raise LatencyError(f"{row.file}:{row.line}: layer {layer} with {len(differences)} candidates and skip")
            known[layer, : len(differences)] = differences
    return None if np.isnan(known).all() else float(np.nanmax(np.abs(fit.difference_us / 1000 - known)))


def run(args: argparse.Namespace) -> Dict[str, Any]:
    space = load_space(args.space)
    names = device_columns(args.data, space)
    wanted = args.devices or names
    for name in wanted:
        if name not in names:
            raise LatencyError(f"--devices: no column {name} in {args.data}, expected some of {', '.join(names)}")
    devices = fit_devices(args, space, names)
    count, train = len(devices[wanted[0]].points), devices[wanted[0]].train
    print(f"{train} networks of {space.name} to fit to, {count - train} held out ({args.split})\n")
    print(f"{'':47}n for rho >= {TARGET}")
    print(f"{'device':<15}{'R2':>8}{'R2 drift':>9}{'rho':>8}{'MAPE':>7}{''.join(f'{way:>9}' for way in WAYS)}  prior")
    figures = {}
    for name in progress(wanted, "learning curves"):
        figures[name] = figures_of(name, devices, space, args)
        print(line(name, figures[name]), flush=True)
    known = {name: reference_error_ms(args.reference, name, devices[name].fit) for name in wanted if args.reference}
    print()
    for name, error in known.items():
        if error is not None:
            print(f"{name}: differences to skip within {error:.1e} ms of {os.path.basename(args.reference)}")
    return {"train": train, "test": count - train, "devices": figures, "largest_difference_to_reference_ms": known}


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    start = time.perf_counter()
    with exit_codes():
        figures = run(args)
    print(f"{time.perf_counter() - start:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
