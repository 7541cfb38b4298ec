#!/usr/bin/env python3
"""How a NARS search grows: with the size of its pool, and with the number of its workers.

    nars_scale.py [--sizes 1000 20000 200000] [--batches 48 192 768] [--workers 1 2 4 ... 512] [--quick]

Pool. For each size n, on one thread: the pool of the joint space under 400M <= macs <= 800M, the exact costs of all its
points, the encoder's pretraining on four fifths of them, the scores of all points, and one evolutionary search. The
accuracies that the predictor is fitted to are a smooth made-up function of the points, as nothing is trained here.

Cluster. T rounds of m candidates on 1 to 512 virtual workers. Scheduling, time limit, retries and store are those of a
real search (``evaluate`` with a ``ScheduledExecutor``); only the trainings are events on a virtual clock, in hours. A
training takes a lognormal time with a median of 1; worker processes die, trainings raise or hang until the time limit,
and a machine that is new or replaces another takes a while to start. What happens to a candidate depends on its number
and attempt alone, so that every number of workers must end with the same candidates done; the store is checked for it,
and its ledger for each being done once. Then the main process's own time per candidate is measured.

The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import logging
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import torch
from tabulate import tabulate

from fbnet_plugin.engine import exit_codes
from fbnet_plugin.nars.constraints import parse_constraints
from fbnet_plugin.nars.costs import Costs
from fbnet_plugin.nars.encoding import Encoding
from fbnet_plugin.nars.evaluation import evaluate
from fbnet_plugin.nars.evolution import evolve
from fbnet_plugin.nars.executors import ExecutorSettings
from fbnet_plugin.nars.executors.failures import Failure, killed
from fbnet_plugin.nars.executors.scheduling import Attempt, Schedule, ScheduledExecutor
from fbnet_plugin.nars.pool import make_pool
from fbnet_plugin.nars.predictor import Predictor
from fbnet_plugin.nars.predictor_settings import PredictorSettings
from fbnet_plugin.nars.space import load_joint_space
from fbnet_plugin.nars.store import NewCandidate, Store

MEASURED = 240  # candidates that the predictor is fitted to, m = 48 and T = 5
TARGET = "macs <= 450M"


# ---- the pool


class Stopwatch:
    """Wall and CPU time of the parts of a run, seconds."""

    def __init__(self) -> None:
        self.seconds: Dict[str, List[float]] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = [round(time.perf_counter() - wall, 3), round(time.process_time() - cpu, 3)]


def benchmark_pool(space_name: str, constraints: str, n: int) -> Dict[str, Any]:
    """Wall and CPU seconds of each stage with a pool of ``n`` points."""
    space, watch = load_joint_space(space_name), Stopwatch()
    costs, encoding = Costs(space), Encoding(space.variables, space.num_arch)
    with watch.part("pool"):
        pool = make_pool(space, costs, parse_constraints(constraints), n, seed=0)
    with watch.part("costs"):
        found = costs(pool.points)
    with watch.part("encode"):
        codes = encoding.encode(pool.points)
    predictor = Predictor(encoding.arch_width, encoding.width, tuple(costs.metrics), PredictorSettings(), seed=0)
    with watch.part("pretrain"):
        shown = predictor.pretrain(
            codes[:, : encoding.arch_width], np.stack([found[name] for name in costs.metrics], axis=1)
        )
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(codes), min(MEASURED, len(codes)), replace=False)
    accuracy = made_up_accuracy(codes, found["macs"], rng)[chosen]
    with watch.part("fit"):
        predictor.fit(codes[chosen], accuracy)
    with watch.part("predict"):
        predictor.predict(codes)
    ordered = np.array([variable.ordered for variable in space.variables])
    start = pool.points[chosen[np.argsort(-accuracy)]]
    with watch.part("evolve"):
        evolved = evolve(
            start,
            lambda points: predictor.predict(encoding.encode(points))[0],
            costs,
            parse_constraints(TARGET),
            space.sizes,
            seed=0,
            ordered=ordered,
        )
    return {
        "n": len(pool.points),
        "tried": pool.tried,
        **watch.seconds,
        "held_out_error_percent": [
            round(100 * float(np.abs(shown.predicted[:, i] / shown.true[:, i] - 1).mean()), 3)
            for i in range(len(costs.metrics))
        ],
        "generations": len(evolved.best) - 1,
        "scored": evolved.evaluated[-1],
    }


def made_up_accuracy(codes: np.ndarray, macs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Accuracies in % that rise with the MACs and depend on all codes, (n,)."""
    weights = rng.normal(size=codes.shape[1]) / np.sqrt(codes.shape[1])
    return 70 + 3 * np.log(macs / macs.mean()) + 2 * (codes - 0.5) @ weights


# ---- the cluster


class Fate:
    """What happens in an attempt: its length in hours, and how it ends ("return", "raise", "hang" or "die")."""

    def __init__(self, args: argparse.Namespace, task: int, attempt: int):
        own = np.random.default_rng([args.seed, task])  # a training takes as long the second time
        self.hours = float(np.exp(own.normal(0.0, args.sigma)))
        self.raises, self.hangs = own.random(2) < (args.raise_probability, args.hang_probability)
        chance = np.random.default_rng([args.seed, task, attempt])
        self.dies = chance.random() < args.death_probability
        self.end, self.hours_run = "return", self.hours
        if self.hangs:
            self.end, self.hours_run = "hang", np.inf
        elif self.raises:
            self.end, self.hours_run = "raise", self.hours * chance.random()
        if self.dies:
            self.end, self.hours_run = "die", self.hours * chance.random()


class SimulatedExecutor(ScheduledExecutor):
    """Virtual workers on a virtual clock; everything but the trainings is as in a real executor.

    Attributes:
        clock: hours since the beginning.
        busy: worker hours of attempts that returned a result.
    """

    def __init__(self, args: argparse.Namespace, workers: int):
        settings = ExecutorSettings(workers=workers, timeout_s=args.limit, retries=args.retries)  # hours, not seconds
        super().__init__("json:loads", settings)
        self._args, self.clock, self.busy = args, 0.0, 0.0
        self._ready = [args.startup] * workers  # when each machine that is free can begin
        self._events: List[Tuple[float, int, int, str, Attempt]] = []
        self._has: Dict[int, int] = {}  # task -> number of its attempt

    def close(self) -> None:
        self._events.clear()

    def _now(self) -> float:
        return self.clock

    def _launch(self, attempt: Attempt) -> None:
        begin = max(self.clock, heapq.heappop(self._ready))
        task, fate = attempt.task.id, Fate(self._args, attempt.task.id, attempt.number)
        self._has[task] = attempt.number
        heapq.heappush(self._events, (begin, task, attempt.number, "begin", attempt))
        if fate.end != "hang":
            heapq.heappush(self._events, (begin + fate.hours_run, task, attempt.number, fate.end, attempt))
            self.busy += fate.hours if fate.end == "return" else 0.0

    def _kill(self, task: int) -> None:
        del self._has[task]
        heapq.heappush(self._ready, self.clock + self._args.startup)

    def _poll(self, patience: float, schedule: Schedule) -> None:
        if not self._events or self._events[0][0] > self.clock + patience:
            self.clock = max(self.clock + patience, np.nextafter(self.clock, np.inf))  # not caught by rounding
            return
        self.clock, task, number, what, attempt = heapq.heappop(self._events)
        if self._has.get(task) != number:
            return
        if what == "begin":
            schedule.started(task, "virtual")
            return
        del self._has[task]
        heapq.heappush(self._ready, self.clock + (self._args.startup if what == "die" else 0.0))
        if what == "return":
            schedule.finished(task, {"accuracy": 50.0 + task % 7})
        else:
            schedule.failed(task, killed(-9) if what == "die" else Failure("error", "ValueError: injected"))


def new_candidates(first: int, batch: int, round_number: int) -> List[NewCandidate]:
    """Candidates that stand for a round's."""
    return [
        NewCandidate("search", round_number, f"r{round_number}-{place:04d}", "random", (place,), {}, {}, {"macs": 1.0})
        for place in range(first, first + batch)
    ]


def simulate(args: argparse.Namespace, batch: int, workers: int, folder: Path) -> Dict[str, Any]:
    """Stage 2 with ``batch`` candidates per round on so many workers."""
    executor = SimulatedExecutor(args, workers)
    slowest = 0.0
    with Store(folder / f"{batch}-{workers}.sqlite") as store:
        for number in range(1, args.rounds + 1):
            ids = store.add(new_candidates(1, batch, number))
            before = executor.clock
            evaluate(store, executor, ids, lambda one: {}, max_consecutive_failures=0)
            slowest += max(one.seconds or 0.0 for one in store.candidates(round=number))
            assert executor.clock > before
        outcome = account(store, args.rounds * batch)
    return {
        "m": batch,
        "workers": workers,
        "hours": executor.clock,
        "busy": executor.busy,
        "slowest": slowest,
        **outcome,
    }


def account(store: Store, count: int) -> Dict[str, Any]:
    """Outcome of a simulation, after checking that its store accounts for every candidate.

    Raises:
        SystemExit: it does not.
    """
    states, ledger = store.counts(), store.attempts()
    done = {one.id for one in store.candidates(state="done")}
    outcomes = Counter(one.outcome for one in ledger)
    done_in_ledger = Counter(one.candidate for one in ledger if one.outcome == "done")
    if states["done"] + states["failed"] != count or done_in_ledger != Counter(done):
        raise SystemExit(f"the store does not account for its {count} candidates: {states}, {outcomes}")
    kinds = Counter(store.kind(one.id) for one in store.candidates(state="failed"))
    return {
        "done": len(done),
        "done_ids": hash(frozenset(done)),
        "failed": dict(kinds),
        "retried": len(ledger) - count,
    }


def benchmark_cluster(args: argparse.Namespace) -> List[Dict[str, Any]]:
    """A row per batch size and number of workers."""
    rows: List[Dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in args.batches:
            runs = [simulate(args, batch, workers, Path(folder)) for workers in args.workers]
            if len({run.pop("done_ids") for run in runs}) > 1:
                raise SystemExit("what is done depends on the number of workers")
            for run in runs:
                run["speedup"] = runs[0]["hours"] * runs[0]["workers"] / run["hours"]
                run["efficiency"] = run["busy"] / (run["hours"] * run["workers"])
            rows += runs
            print(cluster_table(runs, args), end="\n\n", flush=True)
    return rows


def cluster_table(runs: List[Dict[str, Any]], args: argparse.Namespace) -> str:
    first = runs[0]
    failed = ", ".join(f"{count} {kind}" for kind, count in sorted(first["failed"].items())) or "none"
    head = (
        f"m = {first['m']}, T = {args.rounds}: {first['done']} done, failed: {failed}; {first['retried']} attempts "
        f"repeated; the slowest of each round together {first['slowest']:.2f} h"
    )
    rows = [[run["workers"], run["hours"], run["speedup"], 100 * run["efficiency"]] for run in runs]
    return f"{head}\n" + tabulate(rows, ["workers", "hours", "speed-up", "busy %"], floatfmt=("d", ".2f", ".1f", ".0f"))


def own_time(candidates: int, epochs: int) -> Dict[str, float]:
    """Milliseconds that the main process spends per candidate that reports so many epochs, on this disk."""

    class Instant(SimulatedExecutor):
        def _poll(self, patience: float, schedule: Schedule) -> None:
            for task in list(self._has):
                schedule.started(task, "virtual")
                for epoch in range(1, epochs + 1):
                    schedule.progress(task, epoch, {"accuracy": float(epoch)})
                del self._has[task]
                heapq.heappush(self._ready, 0.0)
                schedule.finished(task, {"accuracy": 50.0})

    args = parse_args([])
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        ids = store.add(new_candidates(1, candidates, 1))
        wall, cpu = time.perf_counter(), time.process_time()
        evaluate(store, Instant(args, 512), ids, lambda one: {}, max_consecutive_failures=0)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"epochs": epochs, "wall_ms": 1000 * wall / candidates, "cpu_ms": 1000 * cpu / candidates}


# ---- both


def parse_args(argv: Any = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Callable[..., Any] = parser.add_argument
    add("--parts", nargs="+", choices=("pool", "cluster"), default=["pool", "cluster"])
    add("--sizes", type=int, nargs="+", default=[1000, 20000, 200000], help="of the pool (%(default)s)")
    add("--space", default="fbnet_v3", help="joint space (%(default)s)")
    add("--constraints", default="400M <= macs <= 800M", help="of the pool (%(default)s)")
    add("--batches", type=int, nargs="+", default=[48, 192, 768], help="candidates per round, m (%(default)s)")
    add("--rounds", type=int, default=5, help="T (%(default)s)")
    add("--workers", type=int, nargs="+", default=[2**power for power in range(10)])
    add("--sigma", type=float, default=0.3, help="of the logarithm of a training's hours (%(default)s)")
    add("--death-probability", type=float, default=0.03, help="of a worker, per attempt (%(default)s)")
    add("--raise-probability", type=float, default=0.02, help="of a training (%(default)s)")
    add("--hang-probability", type=float, default=0.005, help="of a training (%(default)s)")
    add("--limit", type=float, default=4.0, help="hours after which an attempt is killed (%(default)s)")
    add("--retries", type=int, default=2, help="of a candidate whose worker died (%(default)s)")
    add("--startup", type=float, default=0.1, help="hours that a machine takes to start (%(default)s)")
    add("--seed", type=int, default=1)
    add("--quick", action="store_true", help="small pools, few workers: a test of the script")
    args = parser.parse_args(argv)
    if args.quick:
        args.sizes, args.batches, args.workers = [500], [12], [1, 4, 16]
    return args


def main() -> None:
    args = parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("fbnet_plugin.nars.evaluation").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    figures: Dict[str, Any] = {}
    with exit_codes():
        if "pool" in args.parts:
            figures["pool"] = []
            for n in args.sizes:
                figures["pool"].append(benchmark_pool(args.space, args.constraints, n))
                print(f"pool of {n}: {sum(figures['pool'][-1][name][0] for name in TIMED):.1f} s", flush=True)
            print(pool_table(figures["pool"]), end="\n\n", flush=True)
        if "cluster" in args.parts:
            figures["cluster"] = benchmark_cluster(args)
            figures["own"] = [own_time(100 if args.quick else 500, epochs) for epochs in (0, 10)]
            for row in figures["own"]:
                text = f"{row['wall_ms']:.1f} ms ({row['cpu_ms']:.1f} ms of it computing)"
                print(f"a candidate with {row['epochs']} epochs takes the main process {text}")
    print(json.dumps(figures))


TIMED = ("pool", "costs", "encode", "pretrain", "fit", "predict", "evolve")


def pool_table(rows: List[Dict[str, Any]]) -> str:
    """One column per size."""
    lines: List[List[Any]] = []
    for name in TIMED:
        lines.append([f"{name}, s (CPU)", *(f"{row[name][0]:.2f} ({row[name][1]:.2f})" for row in rows)])
    lines.append(["points drawn", *(row["tried"] for row in rows)])
    lines.append(["held-out error, %", *(" / ".join(map(str, row["held_out_error_percent"])) for row in rows)])
    lines.append(["evolution scored", *(row["scored"] for row in rows)])
    return tabulate(lines, ["n", *(row["n"] for row in rows)])


if __name__ == "__main__":
    main()
