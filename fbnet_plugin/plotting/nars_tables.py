"""The tables of a search's report: winners, the best candidates, other trainings, failures."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..nars.run_data import CandidateData, RunData
from .nars_numbers import SEARCH, WINNER, at_epoch, compared, epochs_trained, of_phase, pareto_front, trainings_of
from .nars_words import (
    NOTHING,
    arch_text,
    cost_columns,
    cost_text,
    duration,
    flat,
    percent,
    recipe_columns,
    value_text,
)

BEST = 15  # candidates in the table of the best ones

Column = Tuple[str, Callable[[CandidateData], str]]


class Table(NamedTuple):
    """Plain text, not escaped.

    Attributes:
        title: of the section.
        note: one sentence under the title, or "".
        header: of the columns; the first one names the row.
        rows: as many cells each.
        left: number of first columns that hold words; those after them hold numbers.
    """

    title: str
    note: str
    header: List[str]
    rows: List[List[str]]
    left: int


def winners_table(run: RunData) -> Table:
    """Every winner with its constraints, costs, accuracies, recipe and architecture."""
    winners = of_phase(run, WINNER)
    columns: List[Column] = [
        ("name", lambda one: one.name),
        ("constraints", lambda one: one.target or NOTHING),
        ("state", lambda one: one.state),
        *_costs(winners),
        ("predicted (%)", lambda one: percent(one.predicted, one.predicted_std)),
        ("trained (%)", lambda one: percent(one.accuracy)),
        *([("mean of seeds (%)", lambda one: _mean_text(one, winners))] if _several_seeds(winners) else []),
        ("epochs", _epochs),
        *_recipe(winners),
        ("architecture", lambda one: arch_text(one.arch) or NOTHING),
    ]
    note = "Predictions are for trainings as in the search; winners have settings of their own." if winners else ""
    return _table("Winners", note, winners, columns, 3)


def _several_seeds(winners: Sequence[CandidateData]) -> bool:
    return any(len(trainings_of(one, winners)) > 1 for one in winners)


def _mean_text(one: CandidateData, winners: Sequence[CandidateData]) -> str:
    """Mean and sample deviation of a winner's trainings: "79.80 ± 0.10"."""
    values = [alike.accuracy for alike in trainings_of(one, winners) if alike.accuracy is not None]
    if not values:
        return NOTHING
    return percent(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def best_table(run: RunData) -> Table:
    """The most accurate candidates of the iterative optimization."""
    ranked = sorted(compared(run), key=lambda pair: (-pair[1], pair[0].id))
    chosen = [candidate for candidate, _ in ranked[:BEST]]
    pairs = compared(run)
    front = pareto_front([one.costs["macs"] for one, _ in pairs], [accuracy for _, accuracy in pairs])
    on_front = {pairs[index][0].id for index in front}
    columns: List[Column] = [
        ("name", lambda one: one.name),
        ("origin", lambda one: one.origin),
        ("on the front", lambda one: "yes" if one.id in on_front else ""),
        *_costs(chosen),
        (_compared_heading(run), lambda one: percent(at_epoch(one, run.early_stop))),
        *([("last (%)", lambda one: percent(one.accuracy))] if run.early_stop is not None else []),
        ("epochs", _epochs),
        ("predicted (%)", lambda one: percent(one.predicted, one.predicted_std)),
        *_recipe(chosen),
    ]
    note = f"The best {len(chosen)} of {len(ranked):,} that are done." if len(ranked) > len(chosen) else ""
    return _table("Best candidates of the search", note, chosen, columns, 3)


def _compared_heading(run: RunData) -> str:
    return "accuracy (%)" if run.early_stop is None else f"after epoch {run.early_stop.epoch} (%)"


def others_table(run: RunData) -> Table:
    """Candidates that neither the search nor the evolution chose, such as those with swapped recipes."""
    others = [candidate for candidate in run.candidates if candidate.phase not in (SEARCH, WINNER)]
    columns: List[Column] = [
        ("name", lambda one: one.name),
        ("part", lambda one: one.phase),
        ("state", lambda one: one.state),
        *_costs(others),
        ("accuracy (%)", lambda one: percent(one.accuracy)),
        ("epochs", _epochs),
        *_recipe(others),
    ]
    return _table("Other trainings", "", others, columns, 3)


def failures_table(run: RunData) -> Table:
    """Every candidate that failed, whichever part it belongs to, with its reason."""
    failed = [candidate for candidate in run.candidates if candidate.state == "failed"]
    columns: List[Column] = [
        ("name", lambda one: one.name),
        ("part", lambda one: f"round {one.round}" if one.phase == SEARCH else one.phase),
        ("reason", lambda one: one.reason or "no reason given"),
        *_costs(failed),
        ("attempts", lambda one: str(one.attempts)),
        ("epochs", _epochs),
        ("time", lambda one: NOTHING if one.seconds is None else duration(one.seconds)),
    ]
    return _table("Failures", "", failed, columns, 3)


def _table(title: str, note: str, rows: Sequence[CandidateData], columns: Sequence[Column], left: int) -> Table:
    return Table(title, note, [name for name, _ in columns], [[cell(one) for _, cell in columns] for one in rows], left)


def _costs(candidates: Sequence[CandidateData]) -> List[Column]:
    def column(metric: str, heading: str) -> Column:
        return heading, lambda one: cost_text(one, metric)

    return [column(metric, heading) for metric, heading in cost_columns(candidates)]


def _recipe(candidates: Sequence[CandidateData]) -> List[Column]:
    def column(key: str) -> Column:
        return key.replace("_", " "), lambda one: value_text(flat(one.recipe).get(key))

    return [column(key) for key in recipe_columns(candidates)]


def _epochs(one: CandidateData) -> str:
    trained = epochs_trained(one)
    return str(trained) if trained == one.epochs or not one.epochs else f"{trained} of {one.epochs}"
