"""The paper's ablations on the user's own run: recipes swapped (Table 6), and no evolution (Table 7)."""

from __future__ import annotations

import json
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from fbnet_plugin.arch import load_arch
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.recipe import load_recipe

from .constraints import format_constraints
from .errors import NARSError
from .run import SEARCH, WINNER, Pair, SearchRun
from .run_data import CandidateData
from .searcher import measured
from .winners import train_finally, winner_files

SWAP, WITHOUT_EVOLUTION = "swap", "without-evolution"  # phases, and names of the files of results


class Measured(NamedTuple):
    """Trainings of one architecture with one recipe.

    Attributes:
        arch, recipe: names of the winners that they are from; for Table 7 the model's name and "Y" or "N".
        macs: of the architecture.
        accuracy: of each training that succeeded, %.
    """

    arch: str
    recipe: str
    macs: float
    accuracy: Tuple[float, ...]

    def text(self) -> str:
        """Mean and spread, such as "79.80 ± 0.10"; "failed" where nothing was trained."""
        if not self.accuracy:
            return "failed"
        spread = f" ± {np.std(self.accuracy, ddof=1):.2f}" if len(self.accuracy) > 1 else ""
        return f"{np.mean(self.accuracy):.2f}{spread}"


def winners_of(run: SearchRun) -> List[Pair]:
    """The best pair of each target, from the winners' files.

    Raises:
        NARSError: the search has not come so far.
    """
    names = run.store.get("winners")
    if not names:
        raise NARSError(f"{run.store.path}: the search has no winners yet; continue it with --resume")
    pairs = []
    for (name, *_), target in zip(names, run.targets):
        files = winner_files(run, name)
        arch, recipe = load_arch(files["arch"]), load_recipe(files["recipe"])
        known = next((one for one in run.store.candidates(phase=WINNER) if one.name == name), None)
        costs = known.costs if known else {"macs": float(arch.cost().macs), "params": float(arch.cost().params)}
        pairs.append(Pair(name, arch, recipe, costs, None, origin="evolution", target=format_constraints(target)))
    return pairs


def swap_recipes(run: SearchRun, seeds: int = 1) -> List[Measured]:
    """Every winner's architecture with every winner's recipe, trained as winners are (Table 6).

    Args:
        seeds: trainings of each.

    Raises:
        NARSError: there are fewer than two winners.
    """
    winners = winners_of(run)
    if len(winners) < 2:
        raise NARSError(f"recipes can be swapped between two winners or more, this run has {len(winners)}")
    own = train_finally(run, winners, WINNER, seeds)
    mixed = [
        arch._replace(name=swapped_name(arch, other), recipe=other.recipe, point=None, origin="swap")
        for arch in winners
        for other in winners
        if arch.name != other.name
    ]
    trained = train_finally(run, mixed, SWAP, seeds)
    rows = []
    for arch in winners:
        for other in winners:
            found = own[arch.name] if arch.name == other.name else trained[swapped_name(arch, other)]
            rows.append(Measured(arch.name, other.name, arch.costs["macs"], accuracies(found)))
    return _saved(run, SWAP, rows)


def swapped_name(arch: Pair, recipe: Pair) -> str:
    """Name of one winner's architecture with another's recipe."""
    return f"{arch.name}-with-{recipe.name}"


def without_evolution(run: SearchRun, seeds: int = 1) -> List[Measured]:
    """Each target's winner beside the best candidate of the iterative optimization under it (Table 7).

    Args:
        seeds: trainings of each.

    Raises:
        NARSError: the search has no winners yet.
    """
    winners = winners_of(run)
    own = train_finally(run, winners, WINNER, seeds)
    rows = []
    for winner, target in zip(winners, run.targets):
        rows.append(Measured(winner.name, "Y", winner.costs["macs"], accuracies(own[winner.name])))
        for best in measured(run, target, 1, SEARCH):
            best = best._replace(name=f"{winner.name}-best", origin="second stage")
            found = train_finally(run, [best], WITHOUT_EVOLUTION, seeds)[best.name]
            rows.append(Measured(f"{winner.name}*", "N", best.costs["macs"], accuracies(found)))
    return _saved(run, WITHOUT_EVOLUTION, rows)


def accuracies(trained: Sequence[CandidateData]) -> Tuple[float, ...]:
    """Of the trainings that succeeded."""
    return tuple(one.accuracy for one in trained if one.accuracy is not None)


def _saved(run: SearchRun, name: str, rows: List[Measured]) -> List[Measured]:
    with atomic_write(run.file(f"{name}.json")) as stream:
        stream.write((json.dumps([row._asdict() for row in rows], indent=1) + "\n").encode())
    return rows


def swap_table(rows: Sequence[Measured]) -> List[Dict[str, str]]:
    """Table 6: one row per architecture, one column per recipe."""
    table: Dict[str, Dict[str, str]] = {}
    for row in rows:
        line = table.setdefault(row.arch, {"architecture": row.arch, "MACs (M)": f"{row.macs / 1e6:.1f}"})
        line[f"recipe of {row.recipe}"] = row.text()
    return list(table.values())


def evolution_table(rows: Sequence[Measured]) -> List[Dict[str, str]]:
    """Table 7: with and without evolutionary search."""
    return [
        {
            "model": row.arch,
            "evolutionary search": row.recipe,
            "MACs (M)": f"{row.macs / 1e6:.1f}",
            "accuracy": row.text(),
        }
        for row in rows
    ]
