"""What a search ends with: the winners' files, their trainings, and a summary of them."""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from fbnet_plugin.arch import save_arch
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.recipe import save_recipe

from .candidate import training_config, write_config
from .constraints import Constraint, format_constraints
from .run import WINNER, Pair, SearchRun, arch_data
from .run_data import CandidateData

_logger = logging.getLogger(__name__)
FOLDER, SUMMARY = "winners", "winners.json"


def names_of(target: Tuple[Constraint, ...], count: int) -> List[str]:
    """Names of the winners under a target: "macs450M-1", "macs450M-2", ...; "best-1" without constraints."""
    text = re.sub(r"[^\w.,]+", "", format_constraints(target).replace("<=", "")).replace(",", "-")
    return [f"{text or 'best'}-{place + 1}" for place in range(count)]


def pair_files(folder: str, name: str) -> Dict[str, str]:
    """Paths of a pair's architecture, recipe and config."""
    kinds = {"arch": ".arch.yaml", "recipe": ".recipe.yaml", "config": ".yaml"}
    return {kind: os.path.join(folder, f"{name}{ending}") for kind, ending in kinds.items()}


def winner_files(run: SearchRun, name: str) -> Dict[str, str]:
    """Paths of a winner's architecture, recipe and config."""
    return pair_files(os.path.join(run.cfg.OUTPUT_DIR, FOLDER), name)


def write_winners(run: SearchRun, winners: Sequence[Sequence[Pair]]) -> None:
    """Keeps the winners' names, and writes their files to OUTPUT_DIR/winners."""
    run.store.put_many(
        {
            "winners": [[pair.name for pair in pairs] for pairs in winners],
            "winner_pairs": [pair_data(pair) for pairs in winners for pair in pairs],
        }
    )
    write_pairs(run, [pair for pairs in winners for pair in pairs], os.path.join(run.cfg.OUTPUT_DIR, FOLDER))


def pair_data(pair: Pair) -> Dict[str, Any]:
    """A pair as the fields of ``CandidateData``."""
    return {
        "name": pair.name,
        "origin": pair.origin,
        "costs": pair.costs,
        "arch": arch_data(pair.arch),
        "recipe": pair.recipe.to_dict(),
        "predicted": pair.predicted,
        "predicted_std": pair.predicted_std,
        "target": pair.target,
    }


def write_pairs(run: SearchRun, pairs: Sequence[Pair], folder: str) -> None:
    """Architecture, recipe and a config for ``tools/train_net.py`` of each pair."""
    os.makedirs(folder, exist_ok=True)
    for pair in pairs:
        paths = pair_files(folder, pair.name)
        header = f"{pair.name} of a NARS search, under {pair.target or 'no constraints'}."
        save_arch(pair.arch, paths["arch"], header)
        save_recipe(pair.recipe, paths["recipe"])
        cfg = training_config(run.cfg, os.path.abspath(paths["arch"]), pair.recipe, final=True)
        cfg.defrost()
        cfg.OUTPUT_DIR = f"./output/{pair.name}"
        write_config(cfg, paths["config"])


def train_winners(run: SearchRun, winners: Sequence[Sequence[Pair]]) -> None:
    """Trains each winner ``NARS.WINNERS.SEEDS`` times, and writes OUTPUT_DIR/winners.json."""
    pairs = [pair for pairs in winners for pair in pairs]
    trained = train_finally(run, pairs, WINNER, run.cfg.NARS.WINNERS.SEEDS)
    rows = [winner_row(run, pair, trained[pair.name]) for pair in pairs]
    with atomic_write(run.file(SUMMARY)) as stream:
        stream.write((json.dumps(rows, indent=1) + "\n").encode())
    for row in rows:
        measured = ", ".join(f"{value:.2f}" for value in row["accuracy"]) or "failed"
        macs, target = row["costs"]["macs"] / 1e6, row["target"] or "no constraints"
        _logger.info(f"Winner {row['name']} ({target}): {macs:.1f}M MACs, {run.cfg.NARS.METRIC} {measured}")


def train_finally(run: SearchRun, pairs: Sequence[Pair], phase: str, seeds: int) -> Dict[str, List[CandidateData]]:
    """Trains pairs with the winners' schedule, each ``seeds`` times; those that are in the store already are not.

    Returns:
        name -> its trainings, failed ones among them.
    """
    known = {one.name: one.id for one in run.store.candidates(phase=phase)}
    wanted = [pair._replace(name=name) for pair in pairs for name in seed_names(pair.name, seeds)]
    missing = [pair for pair in wanted if pair.name not in known]
    known.update(zip([pair.name for pair in missing], run.add(missing, phase, epochs=run.final_epochs)))
    run.evaluate([known[pair.name] for pair in wanted], final=True)
    after = {one.name: one for one in run.store.candidates(phase=phase)}
    return {pair.name: [after[name] for name in seed_names(pair.name, seeds)] for pair in pairs}


def seed_names(name: str, seeds: int) -> List[str]:
    """The names of several trainings of one pair."""
    return [name, *(f"{name}-seed{number + 1}" for number in range(1, seeds))]


def winner_row(run: SearchRun, pair: Pair, trained: Sequence[CandidateData]) -> Dict[str, Any]:
    """A winner in winners.json."""
    accuracy, files = [one.accuracy for one in trained if one.accuracy is not None], winner_files(run, pair.name)
    return {
        "name": pair.name,
        "target": pair.target,
        "origin": pair.origin,
        "costs": pair.costs,
        "predicted": pair.predicted,
        "accuracy": accuracy,
        "mean": float(np.mean(accuracy)) if accuracy else None,
        "files": {kind: os.path.relpath(path, run.cfg.OUTPUT_DIR) for kind, path in files.items()},
        "recipe": pair.recipe.to_dict(),
    }
