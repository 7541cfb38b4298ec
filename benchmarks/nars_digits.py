#!/usr/bin/env python3
"""A NARS search on digits with real trainings, beside as many random candidates at equal MACs.

    nars_digits.py [--seeds 3] [--targets "macs <= 600K" "macs <= 1.2M"] [--output FOLDER] [--quick]

For each seed: one search of configs/nars/digits.yaml for all targets, and per target a search of RandomSearcher, whose
candidates, as many as the search trains, all meet that target. Then the best of each, by the images that were withheld,
are trained again from other first weights on all of the training set and evaluated on the test images, which neither
has seen. Interrupted, it goes on where it stood when it is started again with the same --output.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from typing import Any, Dict, List, Optional

import numpy as np
from tabulate import tabulate

from fbnet_plugin.engine import load_config
from fbnet_plugin.nars.constraints import parse_constraints
from fbnet_plugin.nars.store import Store
from fbnet_plugin.nars.trainer import NARSTrainer, store_path
from fbnet_plugin.nars.winners import names_of

QUICK = ["NARS.BATCH", 4, "NARS.ROUNDS", 2, "SOLVER.EPOCHS", 2, "NARS.POOL_SIZE", 300, "NARS.EVOLUTION.VERIFY", 1]


def run(folder: str, opts: List[Any]) -> float:
    """A search from its beginning or on from where it stood; returns its seconds, added up over interruptions."""
    cfg = load_config("nars/digits.yaml", ["OUTPUT_DIR", folder, "MODEL.DEVICE", "cpu"])
    cfg.merge_from_list(opts)
    cfg.freeze()
    os.makedirs(folder, exist_ok=True)
    trainer, begin = NARSTrainer(cfg), time.monotonic()
    trainer.resume_or_load(resume=True)
    with Store(store_path(folder)) as store:
        before, finished = store.get("benchmark_seconds", 0.0), store.get("finished")
    if finished:
        return before
    trainer.train()
    with Store(store_path(folder)) as store:
        store.put("benchmark_seconds", before + time.monotonic() - begin)
        return store.get("benchmark_seconds")


def winner(folder: str, target: str) -> Dict[str, Any]:
    """The winner of a target: figures on the withheld images and of its final trainings on the test images."""
    with open(os.path.join(folder, "winners.json"), encoding="utf-8") as file:
        rows = {row["name"]: row for row in json.load(file)}
    return rows[names_of(parse_constraints(target), 1)[0]]


def trainings(folder: str) -> int:
    """Candidates that were trained to choose the winners."""
    with Store(store_path(folder), read_only=True) as store:
        return sum(one.phase != "winner" for one in store.candidates())


def seed_rows(seed: int, args: argparse.Namespace) -> List[Dict[str, Any]]:
    """The comparison for one seed, one row per target."""
    common = [*(QUICK if args.quick else []), "SEED", seed, "NARS.WINNERS.SEEDS", args.trainings]
    folder = os.path.join(args.output, f"search_{seed}")
    seconds = run(folder, [*common, "NARS.EVOLUTION.TARGETS", args.targets])
    rows = []
    for target in args.targets:
        name = names_of(parse_constraints(target), 1)[0]
        other = os.path.join(args.output, f"random_{name}_{seed}")
        batch, rounds = trainings(folder), 1
        own = [
            "NARS.SEARCHER",
            "RandomSearcher",
            "NARS.BATCH",
            batch,
            "NARS.ROUNDS",
            rounds,
            "NARS.EVOLUTION.VERIFY",
            0,
        ]
        own += ["NARS.CONSTRAINTS", target, "NARS.EVOLUTION.TARGETS", [target]]
        run(other, [*common, *own])
        found, drawn = winner(folder, target), winner(other, target)
        rows.append(
            {
                "seed": seed,
                "target": target,
                "trainings": batch,
                "seconds": seconds,
                "found_macs": found["costs"]["macs"],
                "random_macs": drawn["costs"]["macs"],
                "found": found["accuracy"],
                "random": drawn["accuracy"],
            }
        )
    return rows


def shown(values: List[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}"


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="searches; default: %(default)s")
    parser.add_argument("--targets", nargs="+", default=["macs <= 600K", "macs <= 1.2M"], metavar="TEXT")
    parser.add_argument("--trainings", type=int, default=5, metavar="N", help="final ones each; default: %(default)s")
    parser.add_argument("--output", default="output/nars_digits_benchmark", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="tiny searches, to see that it works")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    rows = [row for seed in range(1, args.seeds + 1) for row in seed_rows(seed, args)]
    table = [
        {
            "seed": row["seed"],
            "target": row["target"],
            "trainings": row["trainings"],
            "search (min)": f"{row['seconds'] / 60:.1f}",
            "found (test top-1 %)": shown(row["found"]),
            "best random": shown(row["random"]),
            "MACs (M)": f"{row['found_macs'] / 1e6:.2f} / {row['random_macs'] / 1e6:.2f}",
        }
        for row in rows
    ]
    print(tabulate(table, headers="keys"))
    totals = {}
    for target in args.targets:
        mine = [row for row in rows if row["target"] == target]
        gains = [float(np.mean(row["found"]) - np.mean(row["random"])) for row in mine]
        totals[target] = {
            "found": float(np.mean([np.mean(row["found"]) for row in mine])),
            "random": float(np.mean([np.mean(row["random"]) for row in mine])),
            "gains": gains,
        }
        print(f"{target}: found {totals[target]['found']:.2f}, best random {totals[target]['random']:.2f}; "
              f"gain per seed {', '.join(f'{gain:+.2f}' for gain in gains)}")  # fmt: skip
    print(json.dumps({"rows": rows, "totals": totals}))


if __name__ == "__main__":
    main()
