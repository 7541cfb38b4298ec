"""All figures of an ablation, read from the folders of its trainings at any time."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .outcome import DONE, Outcome, read_outcome
from .plan import Entry, Outline, metric_key, read_outline
from .statistics import Difference, Spread, as_dict, paired_difference, spread


@dataclass(frozen=True)
class Cell:
    """One way of training one network.

    Attributes:
        figures: seed -> figure, of the trainings that are done.
        missing: seed -> state of the others.
        spread: of ``figures``.
        difference: to the first column with equal seeds; None in that column itself.
    """

    figures: Mapping[int, float]
    missing: Mapping[int, str]
    spread: Spread
    difference: Optional[Difference]


Table = Dict[str, Dict[str, Cell]]  # row -> column -> cell


@dataclass(frozen=True)
class Summary:
    """
    Attributes:
        outline: of the table.
        outcomes: of the trainings by name.
        final: figures at the end.
        halfway: figures of the same trainings near the half of their length; empty where they were not evaluated then.
        teachers: training -> its figure.
    """

    outline: Outline
    outcomes: Mapping[str, Outcome]
    final: Table
    halfway: Table
    teachers: Mapping[str, Optional[float]]

    def curves(self, row: str, column: str) -> Dict[int, Dict[int, float]]:
        """seed -> iterations done -> figure, of one cell."""
        found: Dict[int, Dict[int, float]] = {}
        for entry in self.outline.entries:
            if (entry.row, entry.column) == (row, column):
                key = metric_key(self.outline.metric, entry.average)
                curve = self.outcomes[entry.training].curve
                found[entry.seed] = {at: figures[key] for at, figures in curve.items() if key in figures}
        return found

    def epochs_per_iteration(self) -> Optional[float]:
        """None unless all trainings have the same number of both."""
        lengths = {(self.outline.epochs[name], one.iterations) for name, one in self.outcomes.items() if one.iterations}
        if len(lengths) != 1 or len(set(self.outline.epochs.values())) != 1:
            return None
        epochs, iterations = lengths.pop()
        return epochs / iterations if epochs else None

    def to_dict(self) -> Dict[str, Any]:
        """Plain data, for a file."""
        trainings = {name: {"state": one.state, **({"reason": one.reason} if one.reason else {})}
                     for name, one in self.outcomes.items()}  # fmt: skip
        return {
            "kind": self.outline.kind,
            "metric": self.outline.metric,
            "columns": list(self.outline.columns),
            "rows": _plain(self.final),
            "halfway": _plain(self.halfway),
            "teachers": dict(self.teachers),
            "trainings": trainings,
        }


def summarize(folder: str, metric: str = "") -> Summary:
    """The summary of the ablation in a folder.

    Args:
        metric: another one than the ablation's, "group/name"; "" for its own.

    Raises:
        AblationError: the folder holds none, or a file in it has been damaged.
    """
    outline = read_outline(folder)
    if metric:
        outline = dataclasses.replace(outline, metric=metric)
    outcomes = {name: read_outcome(os.path.join(folder, name)) for name in outline.trainings()}

    def final(entry: Entry) -> Optional[float]:
        return figure_of(outcomes[entry.training], outline.metric, entry.average)

    def halfway(entry: Entry) -> Optional[float]:
        return halfway_of(outcomes[entry.training], outline.metric, entry.average)

    middle = _table(outline, outcomes, halfway)
    if not any(cell.figures for row in middle.values() for cell in row.values()):
        middle = {}
    teachers = {name: figure_of(outcomes[name], outline.metric, average) for name, average in outline.teachers.items()}
    return Summary(outline, outcomes, _table(outline, outcomes, final), middle, teachers)


def figure_of(outcome: Outcome, metric: str, average: bool) -> Optional[float]:
    """The figure at the end of a training; None unless it is done and was evaluated so."""
    return outcome.figures.get(metric_key(metric, average)) if outcome.state == DONE else None


def halfway_of(outcome: Outcome, metric: str, average: bool) -> Optional[float]:
    """The figure of the evaluation nearest to the half of a training that is done; None outside the middle half."""
    key, total = metric_key(metric, average), outcome.iterations
    near = [at for at, figures in outcome.curve.items() if key in figures and total <= 4 * at <= 3 * total]
    if outcome.state != DONE or not near:
        return None
    return outcome.curve[min(near, key=lambda at: (abs(2 * at - total), at))][key]


def _table(outline: Outline, outcomes: Mapping[str, Outcome], figure: Any) -> Table:
    table: Table = {}
    for row in outline.rows():
        cells = {column: _figures(outline.entries, row, column, figure) for column in outline.columns}
        baseline = cells[outline.columns[0]]
        table[row] = {}
        for column, figures in cells.items():
            missing = {
                entry.seed: outcomes[entry.training].state
                for entry in outline.entries
                if (entry.row, entry.column) == (row, column) and entry.seed not in figures
            }
            difference = None if column == outline.columns[0] else paired_difference(figures, baseline)
            table[row][column] = Cell(figures, missing, spread(list(figures.values())), difference)
    return table


def _figures(entries: Sequence[Entry], row: str, column: str, figure: Any) -> Dict[int, float]:
    values = {entry.seed: figure(entry) for entry in entries if (entry.row, entry.column) == (row, column)}
    return {seed: value for seed, value in sorted(values.items()) if value is not None}


def _plain(table: Table) -> List[Dict[str, Any]]:
    rows: List[Dict[str, Any]] = []
    for row, cells in table.items():
        columns = {
            column: {
                "figures": {str(seed): value for seed, value in cell.figures.items()},
                "missing": {str(seed): state for seed, state in cell.missing.items()},
                **as_dict(cell.spread),
                "difference": as_dict(cell.difference) if cell.difference else None,
            }
            for column, cell in cells.items()
        }
        rows.append({"row": row, "columns": columns})
    return rows
