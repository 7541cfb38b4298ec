#!/usr/bin/env python3
"""How soon does the iterative optimization of a NARS search find a good architecture? Beside three other searches.

    nars_search.py --data FOLDER [--repeats 20] [--rounds 6 6 6 ...] [--design maximin] [--propose pool]

FOLDER/nas_bench_macro/nas_bench_macro.csv holds networks of github.com/xiusu/NAS-Bench-Macro (Apache-2.0), a macro
space of 8 layers with 3 blocks each, trained on CIFAR-10, half of its 6561 architectures: columns arch (8 digits),
mean_acc (%), params, flops (MACs). Evaluating an architecture is looking up its mean_acc.

For each budget (quartiles of the file's MACs) every contestant searches the architectures within the budget:

    ours       fbnet_plugin.nars: the predictor, pretrained on MACs and params; rounds of the iterative optimization
    random     without repetition
    evolution  regularised evolution (Real et al., 2019): the oldest leaves, the best of a sample has a child
    ridge      ridge regression on one-hot codes and products of neighbouring layers, refitted in rounds as ours
    ridge+     the same from the first round of ours

Regret is what the best architecture evaluated so far lacks to the best within the budget, in percentage points. The
last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from tabulate import tabulate

from fbnet_plugin.arch.space import Variable
from fbnet_plugin.engine import exit_codes
from fbnet_plugin.nars.constraints import Constraint
from fbnet_plugin.nars.encoding import Encoding
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.evolution import EvolutionSettings, evolve
from fbnet_plugin.nars.predictor import Predictor, PredictorSettings
from fbnet_plugin.nars.selection import choose, spread

FILE = "nas_bench_macro/nas_bench_macro.csv"
AT = (24, 48, 96, 192)  # evaluations
QUARTILES = (0.25, 0.5, 0.75)
ROUNDS = (*[6] * 8, *[16] * 3, *[48] * 2)  # candidates of each, 192 in all
# The best of a grid by mean regret at 24, 48 and 96, on other seeds than those that are reported.
POPULATION, SAMPLE = 10, 10
ALPHA = 0.1
TUNING_SEED = 10_000


@dataclass(frozen=True)
class Table:
    """Architectures within a budget.

    Attributes:
        points: block of each layer, (n, 8).
        accuracy: %, (n,).
        macs, params: (n,).
    """

    points: np.ndarray
    accuracy: np.ndarray
    macs: np.ndarray
    params: np.ndarray

    def within(self, budget: float) -> Table:
        inside = self.macs <= budget
        return Table(*(values[inside] for values in (self.points, self.accuracy, self.macs, self.params)))

    @property
    def costs(self) -> Dict[str, np.ndarray]:
        return {"macs": self.macs, "params": self.params}

    def regret(self, order: np.ndarray) -> List[float]:
        """After each of ``AT`` evaluations in this order, percentage points."""
        best = np.maximum.accumulate(self.accuracy[order])
        return [float(self.accuracy.max() - best[count - 1]) for count in AT]


Contestant = Callable[[Table, np.random.Generator], np.ndarray]  # -> indices in the order of evaluation


def read_table(folder: str) -> Table:
    """The file's architectures.

    Raises:
        NARSError: there is no such file.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise NARSError(f"{path} is no file; --data names the folder that holds {FILE}")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    points = np.array([[int(block) for block in row["arch"]] for row in rows], dtype=np.int64)
    columns = [np.array([float(row[key]) for row in rows]) for key in ("mean_acc", "flops", "params")]
    return Table(points, *columns)


# ---- contestants


def random_search(table: Table, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(len(table.points))[: AT[-1]]


def regularised_evolution(
    table: Table, rng: np.random.Generator, population: int = POPULATION, sample: int = SAMPLE
) -> np.ndarray:
    """Each child differs from the best of a sample in one layer; in more where the table has no new one like that."""
    index = {tuple(point): number for number, point in enumerate(table.points)}
    order = list(rng.permutation(len(table.points))[:population])
    alive, seen = deque(order), set(order)
    while len(order) < AT[-1]:
        drawn = [alive[i] for i in rng.choice(len(alive), min(sample, len(alive)), replace=False)]
        parent = table.points[max(drawn, key=lambda number: table.accuracy[number])]
        child = _new_neighbour(parent, index, seen, rng)
        order.append(child)
        seen.add(child)
        alive.append(child)
        if len(alive) > population:
            alive.popleft()
    return np.array(order)


def _new_neighbour(parent: np.ndarray, index: Dict[Any, int], seen: set, rng: np.random.Generator) -> int:
    for attempt in range(320):
        point = parent.copy()
        for layer in rng.choice(len(point), 1 + attempt // 40, replace=False):
            point[layer] = (point[layer] + rng.integers(1, 3)) % 3
        found = index.get(tuple(point))
        if found is not None and found not in seen:
            return found
    return next(number for number in rng.permutation(list(index.values())) if number not in seen)


def one_hot_products(points: np.ndarray) -> np.ndarray:
    """One-hot code of each layer and of each pair of neighbouring layers, (n, 8 * 3 + 7 * 9)."""
    one_hot = np.eye(3)[points]  # (n, 8, 3)
    pairs = one_hot[:, :-1, :, None] * one_hot[:, 1:, None, :]  # (n, 7, 3, 3)
    return np.concatenate([one_hot.reshape(len(points), -1), pairs.reshape(len(points), -1)], axis=1)


def iterated_ridge(
    table: Table,
    rng: np.random.Generator,
    rounds: Sequence[int],
    alpha: float = ALPHA,
    first: Optional[np.ndarray] = None,
) -> np.ndarray:
    """A first round (by default random), then the best predicted ones, refitted after each round."""
    codes = one_hot_products(table.points)
    order = list(rng.permutation(len(codes))[: rounds[0]] if first is None else first)
    for count in rounds[1:]:
        known, mean = codes[order], codes[order].mean(axis=0)
        centred, accuracy = known - mean, table.accuracy[order]
        gram = centred @ centred.T + alpha * np.eye(len(order))
        weight = centred.T @ np.linalg.solve(gram, accuracy - accuracy.mean())
        predicted = (codes - mean) @ weight
        predicted[order] = -np.inf
        order += list(np.argsort(-predicted, kind="stable")[:count])
    return np.array(order)


class Ours:
    """Algorithm 1's second stage, its pool being all architectures of a budget.

    Args:
        table: all architectures of the file; their MACs and params pretrain the predictors.
        rounds: candidates of each.
        design, propose, kappa, bins: see the command line.
        predictors: that take turns over the repeats.
    """

    def __init__(
        self, table: Table, rounds: Sequence[int], design: str, propose: str, kappa: float, bins: int, predictors: int
    ):
        layers = table.points.shape[1]
        self._encoding = Encoding([Variable(f"layer{i}", (0, 1, 2)) for i in range(layers)], layers)
        self._rounds, self._design, self._propose, self._kappa, self._bins = rounds, design, propose, kappa, bins
        codes, width = self._encoding.encode(table.points), self._encoding.width
        settings = PredictorSettings() if kappa else PredictorSettings(calibration_folds=0)  # no use for a std
        self._predictors, self._calls = [], 0
        for seed in range(predictors):
            predictor = Predictor(width, width, ("macs", "params"), settings, seed)
            predictor.pretrain(codes, np.stack([table.macs, table.params], axis=1))
            self._predictors.append(predictor)

    def first(self, table: Table, rng: np.random.Generator) -> np.ndarray:
        """The first round's candidates."""
        seed = int(rng.integers(1 << 31))
        return spread(table.points, table.costs, self._rounds[0], design=self._design, seed=seed)

    def __call__(self, table: Table, rng: np.random.Generator) -> np.ndarray:
        predictor = self._predictors[self._calls % len(self._predictors)]
        self._calls += 1
        codes = self._encoding.encode(table.points)
        order = list(self.first(table, rng))
        for count in self._rounds[1:]:
            predictor.fit(codes[order], table.accuracy[order])
            propose = self._from_pool if self._propose == "pool" else self._from_evolution
            order += list(propose(predictor, table, order, count, rng))
        return np.array(order)

    def _from_pool(
        self, predictor: Predictor, table: Table, order: List[int], count: int, rng: np.random.Generator
    ) -> np.ndarray:
        mean, std = predictor.predict(self._encoding.encode(table.points))
        taken = table.points[order]
        bins = self._bins or None
        return choose(table.points, mean, table.costs, count=count, taken=taken, std=std, kappa=self._kappa, bins=bins)

    def _from_evolution(
        self, predictor: Predictor, table: Table, order: List[int], count: int, rng: np.random.Generator
    ) -> List[int]:
        """The best new ones that the third stage finds; architectures that are not in the file cannot be evaluated."""
        index = {tuple(point): number for number, point in enumerate(table.points)}

        def costs(points: np.ndarray) -> Dict[str, np.ndarray]:
            there = np.array([tuple(point) in index for point in points])
            return {"macs": np.where(there, 0.0, np.inf)}

        def score(points: np.ndarray) -> np.ndarray:
            mean, std = predictor.predict(self._encoding.encode(points))
            return mean + self._kappa * std

        settings = EvolutionSettings(keep=len(order) + count)
        sizes, seed = np.full(table.points.shape[1], 3), int(rng.integers(1 << 31))
        found = evolve(table.points[order], score, costs, [Constraint("macs", high=0.0)], sizes, settings, seed)
        numbers = [index[tuple(point)] for point in found.points]
        new = [number for number in numbers if number not in set(order)][:count]
        return new + list(set(range(len(table.points))) - set(order) - set(new))[: count - len(new)]


# ---- comparison


def compare(table: Table, contestants: Dict[str, Contestant], repeats: int) -> Dict[str, Any]:
    """Regret of all contestants: name -> (budgets, repeats, len(AT)), and seconds of each.

    Ctrl-C ends it after the last complete repeat; there must be two.
    """
    budgets = [float(np.quantile(table.macs, quantile)) for quantile in QUARTILES]
    parts = [table.within(budget) for budget in budgets]
    regret: Dict[str, List[List[List[float]]]] = {name: [] for name in contestants}  # (repeats, budgets, len(AT))
    seconds = dict.fromkeys(contestants, 0.0)
    for repeat in range(repeats):
        try:
            row: Dict[str, List[List[float]]] = {name: [] for name in contestants}
            for number, inside in enumerate(parts):
                for place, (name, contestant) in enumerate(contestants.items()):
                    begin = time.monotonic()
                    order = contestant(inside, np.random.default_rng([repeat, number, place]))
                    assert len(set(order.tolist())) == len(order) >= AT[-1], f"{name} repeats itself"
                    seconds[name] += time.monotonic() - begin
                    row[name].append(inside.regret(order))
        except KeyboardInterrupt:
            if repeat < 2:
                raise
            break
        for name, values in row.items():
            regret[name].append(values)
        print(f"repeat {repeat + 1}/{repeats}", file=sys.stderr, flush=True)
    turned = {name: np.array(values).transpose(1, 0, 2) for name, values in regret.items()}
    return {"budgets": budgets, "regret": turned, "seconds": seconds, "repeats": len(regret["ours"])}


def summarize(found: Dict[str, Any]) -> List[Dict[str, Any]]:
    """One entry per contestant, budget and number of evaluations.

    ``p`` is of the one-sided Mann-Whitney test that ours has the lower regret; None for ours.
    """
    cells = []
    ours = found["regret"]["ours"]
    for name, regret in found["regret"].items():  # (budgets, repeats, len(AT))
        for number, budget in enumerate(found["budgets"]):
            for place, count in enumerate(AT):
                mine = regret[number, :, place]
                test = mannwhitneyu(ours[number, :, place], mine, alternative="less") if name != "ours" else None
                cells.append(
                    {
                        "contestant": name,
                        "budget_macs": budget,
                        "evaluations": count,
                        "mean": float(mine.mean()),
                        "median": float(np.median(mine)),
                        "standard_error": float(mine.std(ddof=1) / len(mine) ** 0.5),
                        "p": None if test is None else float(test.pvalue),
                    }
                )
    return cells


def report(cells: Sequence[Dict[str, Any]], names: Sequence[str]) -> None:
    """The table: a row per budget and count, per contestant mean ± standard error, and median."""
    rows: Dict[Any, List[str]] = {}
    for cell in cells:
        key = (cell["budget_macs"], cell["evaluations"])
        text = f"{cell['mean']:.3f} ± {cell['standard_error']:.3f} ({cell['median']:.2f})"
        if cell["p"] is not None and cell["p"] < 0.05:
            text += " *"
        rows.setdefault(key, []).append(text)
    head = ["budget (M MACs)", "evaluations", *names]
    print(tabulate([[f"{budget / 1e6:.1f}", count, *texts] for (budget, count), texts in rows.items()], head))
    print("regret in percentage points: mean ± standard error (median); *: ours is lower, Mann-Whitney p < 0.05")


def tune(table: Table, rounds: Sequence[int], repeats: int) -> None:
    """Prints the mean regret at 24, 48 and 96 evaluations of the others' settings, on seeds of its own."""
    grid: Dict[str, Contestant] = {}
    for population in (5, 10, 20, 50):
        for sample in (2, 3, 5, 10):
            if sample <= population:
                grid[f"evolution, population {population}, sample {sample}"] = (
                    lambda table, rng, p=population, s=sample: regularised_evolution(table, rng, p, s)
                )
    for name, batches in (("the rounds of ours", rounds), ("rounds of 12", (12,) * (AT[-1] // 12))):
        for alpha in (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
            grid[f"ridge, {name}, alpha {alpha}"] = lambda table, rng, a=alpha, b=batches: iterated_ridge(
                table, rng, b, a
            )
    for name, contestant in grid.items():
        regret = []
        for number, quantile in enumerate(QUARTILES):
            inside = table.within(float(np.quantile(table.macs, quantile)))
            for repeat in range(repeats):
                rng = np.random.default_rng([TUNING_SEED + repeat, number])
                regret.append(inside.regret(contestant(inside, rng))[:3])
        print(f"{np.mean(regret):.4f}  {name}", flush=True)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="FOLDER", help=f"holds {FILE}")
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="default: %(default)s")
    text = f"candidates of each round, {AT[-1]} in all; default: {' '.join(map(str, ROUNDS))}"
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS, metavar="N", help=text)
    known = ("maximin", "strata", "random")
    parser.add_argument("--design", choices=known, default="maximin", help="first round of ours; default: %(default)s")
    text = "where the other rounds of ours come from; default: %(default)s"
    parser.add_argument("--propose", choices=("pool", "evolution"), default="pool", help=text)
    text = "bins of the MACs range, 0: one per candidate; default: %(default)s"
    parser.add_argument("--bins", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--kappa", type=float, default=0.0, metavar="K", help="exploration; default: %(default)s")
    parser.add_argument("--predictors", type=int, default=4, metavar="N", help="pretrained; default: %(default)s")
    parser.add_argument("--tune", action="store_true", help="print the grid of the others' settings instead")
    args = parser.parse_args(argv)
    if sum(args.rounds) != AT[-1] or min(args.rounds) < 1:
        parser.error(f"--rounds sum to {sum(args.rounds)}, expected {AT[-1]}")
    if args.repeats < 2 or args.predictors < 1 or args.bins < 0:
        parser.error("expected at least 2 repeats, 1 predictor and no negative number of bins")
    return args


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    with exit_codes():
        table = read_table(args.data)
        if args.tune:
            tune(table, args.rounds, args.repeats)
            return
        begin = time.monotonic()
        ours = Ours(table, args.rounds, args.design, args.propose, args.kappa, args.bins, args.predictors)
        contestants: Dict[str, Contestant] = {
            "ours": ours,
            "random": random_search,
            "evolution": regularised_evolution,
            "ridge": lambda table, rng: iterated_ridge(table, rng, args.rounds),
            "ridge+": lambda table, rng: iterated_ridge(table, rng, args.rounds, first=ours.first(table, rng)),
        }
        found = compare(table, contestants, args.repeats)
        cells = summarize(found)
        report(cells, list(contestants))
        settings = {key: value for key, value in vars(args).items() if key not in ("data", "tune")}
        figures = {"cells": cells, "seconds": found["seconds"], "total_seconds": time.monotonic() - begin}
        print(json.dumps({**figures, **settings, "repeats": found["repeats"]}))


if __name__ == "__main__":
    main()
