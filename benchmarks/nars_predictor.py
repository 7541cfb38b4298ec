#!/usr/bin/env python3
"""How many trained networks does the accuracy predictor need? Learning curves beside three regressors of scikit-learn.

    nars_predictor.py --data FOLDER [--datasets nas_bench_macro joint_nin_arch_recipe] [--splits 10] [--jobs 1]

FOLDER holds the tables nas_bench_macro/nas_bench_macro.csv (architectures alone: 8 layers of 3 categories, one-hot;
statistics: params and MACs) and joint_nin_arch_recipe/nin_cifar10.csv (architecture: depth, width; recipe: logarithms
of learning rate and training set size, all min-max; accuracy: mean over a configuration's seeds; statistics: params).

At each split n random rows train all contestants, on the same columns, and all other rows test them. Statistics are
free, so pretraining takes those of all rows of the table; it sees no accuracy. The forms:

    default, plain      PredictorSettings() and PredictorSettings.plain(), pretrained
    ... unpretrained    the same, with the same epochs, and an encoder that learns from the first one on
    ridge, boosting, forest         scikit-learn, on accuracies
    ... log             the same, on logarithms of the error, as in the default form

Kendall's tau and mean squared error (points^2), mean +- standard deviation over the splits. The last line is one JSON
object. Ratio: samples that the unpretrained form needs over those that the pretrained one needs for the same error.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from scipy.stats import kendalltau
from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from tabulate import tabulate

from fbnet_plugin.nars.predictor import Predictor
from fbnet_plugin.nars.predictor_settings import PredictorSettings

SIZES = {"nas_bench_macro": (12, 25, 50, 100, 200, 400, 800), "joint_nin_arch_recipe": (12, 25, 50, 100, 200, 400)}
FORMS = {"default": PredictorSettings, "plain": PredictorSettings.plain}
Result = Dict[str, Dict[int, Tuple[float, float, float]]]  # contestant -> samples -> tau, MSE, seconds


class Table(NamedTuple):
    """codes (n, D) of which the first arch_width are the architecture's; accuracy (n,) in %; statistics (n, S)."""

    codes: np.ndarray
    arch_width: int
    accuracy: np.ndarray
    statistics: np.ndarray
    names: Tuple[str, ...]


def read_rows(path: Path) -> List[Dict[str, str]]:
    if not path.is_file():
        raise SystemExit(f"--data: no file {path}")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def nas_bench_macro(folder: Path) -> Table:
    rows = read_rows(folder / "nas_bench_macro" / "nas_bench_macro.csv")
    layers = np.array([[int(digit) for digit in row["arch"]] for row in rows])
    codes = np.eye(3, dtype=np.float32)[layers].reshape(len(rows), -1)
    statistics = np.array([[float(row["params"]), float(row["flops"])] for row in rows])
    return Table(
        codes, codes.shape[1], np.array([float(row["mean_acc"]) for row in rows]), statistics, ("params", "macs")
    )


def joint_nin_arch_recipe(folder: Path) -> Table:
    grouped: Dict[Tuple[float, ...], List[Tuple[float, float]]] = defaultdict(list)
    for row in read_rows(folder / "joint_nin_arch_recipe" / "nin_cifar10.csv"):
        key = (float(row["depth"]), float(row["width"]), np.log(float(row["lr"])), np.log(float(row["train_size"])))
        grouped[key].append((100 * float(row["val_acc"]), float(row["params"])))
    values = np.array(sorted(grouped))
    means = np.array([np.mean(grouped[tuple(key)], axis=0) for key in values])
    low, high = values.min(axis=0), values.max(axis=0)
    return Table(((values - low) / (high - low)).astype(np.float32), 2, means[:, 0], means[:, 1:], ("params",))


TABLES: Dict[str, Callable[[Path], Table]] = {
    "nas_bench_macro": nas_bench_macro,
    "joint_nin_arch_recipe": joint_nin_arch_recipe,
}


def regressors(seed: int) -> Dict[str, RegressorMixin]:
    """The baselines, and each on the logarithm of the error."""
    plain = {
        "ridge": RidgeCV(np.logspace(-3, 3, 13)),
        "boosting": GradientBoostingRegressor(
            n_estimators=300, max_depth=3, learning_rate=0.05, subsample=0.8, random_state=seed
        ),
        "forest": RandomForestRegressor(200, max_features=0.5, random_state=seed),
    }
    wrapped = {
        f"{name} log": TransformedTargetRegressor(one, func=log_error, inverse_func=from_log_error, check_inverse=False)
        for name, one in plain.items()
    }
    return {**plain, **wrapped}


def log_error(accuracy: np.ndarray) -> np.ndarray:
    return -np.log(100.5 - accuracy)


def from_log_error(value: np.ndarray) -> np.ndarray:
    return 100.5 - np.exp(-value)


def run_split(folder: Path, dataset: str, sizes: Tuple[int, ...], split: int) -> Result:
    """All contestants at all sizes, whose training rows are nested."""
    table = TABLES[dataset](folder)
    order = np.random.default_rng([7, split]).permutation(len(table.codes))
    contestants: Dict[str, Any] = {}
    for name, settings in FORMS.items():
        for pretrained in (True, False):
            predictor = Predictor(
                table.arch_width, table.codes.shape[1], table.names, settings(calibration_folds=0), split
            )
            if pretrained:
                predictor.pretrain(table.codes[:, : table.arch_width], table.statistics)
            contestants[name if pretrained else f"{name} unpretrained"] = predictor
    contestants.update(regressors(split))
    result: Result = {name: {} for name in contestants}
    for size in sizes:
        train, test = order[:size], order[size:]
        for name, one in contestants.items():
            begin = time.process_time()
            one.fit(table.codes[train], table.accuracy[train])
            predicted = one.predict(table.codes[test])
            predicted = predicted[0] if isinstance(one, Predictor) else predicted
            error = float(np.square(predicted - table.accuracy[test]).mean())
            tau = float(kendalltau(predicted, table.accuracy[test])[0])
            result[name][size] = (tau, error, time.process_time() - begin)
    return result


def sample_ratio(sizes: Tuple[int, ...], pretrained: np.ndarray, plain: np.ndarray) -> Dict[int, Optional[float]]:
    """Unpretrained over pretrained samples for the error of each unpretrained size, interpolated over logarithms.

    None where the pretrained curve does not reach the error, or is below it from its first size on.
    """
    errors, logs = np.log(np.minimum.accumulate(pretrained)), np.log(sizes)
    found: Dict[int, Optional[float]] = {}
    for size, error in zip(sizes, np.log(plain)):
        inside = errors[-1] <= error <= errors[0]
        needed = np.exp(np.interp(-error, -errors, logs)) if inside else None
        found[size] = None if needed is None else float(size / needed)
    return found


def summarize(sizes: Tuple[int, ...], results: List[Result]) -> Dict[str, Any]:
    """Mean and standard deviation of each contestant, and what pretraining saves."""
    stacked = {name: np.array([[one[name][size] for size in sizes] for one in results]) for name in results[0]}
    contestants = {
        name: {
            key: {"mean": array[..., place].mean(axis=0).tolist(), "std": array[..., place].std(axis=0).tolist()}
            for place, key in enumerate(("tau", "mse", "seconds"))
        }
        for name, array in stacked.items()
    }
    ratios = {
        name: sample_ratio(
            sizes, stacked[name][..., 1].mean(axis=0), stacked[f"{name} unpretrained"][..., 1].mean(axis=0)
        )
        for name in FORMS
    }
    return {"sizes": list(sizes), "splits": len(results), "contestants": contestants, "sample_ratio": ratios}


def report(dataset: str, figures: Dict[str, Any]) -> None:
    for key, form in (("tau", "{:.3f} ± {:.3f}"), ("mse", "{:.2f} ± {:.2f}")):
        rows = [
            [name, *(form.format(mean, std) for mean, std in zip(one[key]["mean"], one[key]["std"]))]
            for name, one in figures["contestants"].items()
        ]
        print(f"\n{dataset}, {key} at numbers of training samples, {figures['splits']} splits:")
        print(tabulate(rows, ["", *figures["sizes"]], tablefmt="github", disable_numparse=True))
    for name, ratio in figures["sample_ratio"].items():
        text = ", ".join(f"{size}: {value:.1f}" for size, value in ratio.items() if value is not None)
        print(f"{name}: unpretrained over pretrained samples for equal MSE, at unpretrained {text or '-'}")


def benchmark(args: argparse.Namespace, dataset: str) -> Dict[str, Any]:
    count = len(TABLES[dataset](Path(args.data)).codes)
    sizes = tuple(size for size in args.sizes or SIZES[dataset] if size <= 0.8 * count)
    begin = time.monotonic()
    results: List[Result] = []
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as executor:
        jobs = [executor.submit(run_split, Path(args.data), dataset, sizes, split) for split in range(args.splits)]
        try:
            for job in jobs:
                results.append(job.result())
                left = (time.monotonic() - begin) / len(results) * (args.splits - len(results))
                print(f"{dataset}: {len(results)}/{args.splits} splits, {left:.0f} s left", file=sys.stderr, flush=True)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    figures = {**summarize(sizes, results), "seconds": time.monotonic() - begin}
    report(dataset, figures)
    return figures


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", required=True, help="holds a folder of each dataset")
    parser.add_argument("--datasets", nargs="+", choices=list(TABLES), default=list(TABLES), help="default: both")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="training samples; default: 12 to 800 (400)")
    parser.add_argument("--splits", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    args = parser.parse_args(argv)
    if args.splits < 1 or args.jobs < 1:
        parser.error("expected at least 1 split and 1 job")
    if args.sizes and (min(args.sizes) < 4 or args.sizes != sorted(set(args.sizes))):
        parser.error("--sizes: expected increasing numbers of at least 4")
    return args


def main() -> None:
    args = parse_args()
    try:
        figures = {name: benchmark(args, name) for name in args.datasets}
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
