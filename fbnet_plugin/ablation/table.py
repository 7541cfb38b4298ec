"""An ablation's tables in the form of the paper's (FBNetV3 Tables 3 and 8), as files."""

from __future__ import annotations

import json
import os
from typing import List, Mapping, Optional

from tabulate import tabulate

from fbnet_plugin.atomic_file import atomic_write

from .outcome import BEGUN, FAILED, WAITING, Outcome
from .plan import RECIPES, TECHNIQUES, Outline, metric_key
from .statistics import LEVEL, Difference, Spread
from .summary import Cell, Summary, Table

SUMMARY_FILE, TABLE_FILE, PICTURE_FILE = "ablation.json", "ablation.md", "ablation.png"
_NAMES = {TECHNIQUES: "Training Model", RECIPES: "Model"}
_TITLES = {
    TECHNIQUES: "EMA and distillation (the form of FBNetV3's Table 8)",
    RECIPES: "One training recipe on several networks (the form of FBNetV3's Table 3)",
}


def write_tables(summary: Summary, folder: str) -> List[str]:
    """Writes the figures as ablation.json and the tables as ablation.md; returns the paths."""
    contents = {
        SUMMARY_FILE: json.dumps(summary.to_dict(), indent=1, allow_nan=False) + "\n",
        TABLE_FILE: markdown(summary),
    }
    for name, text in contents.items():
        with atomic_write(os.path.join(folder, name)) as file:
            file.write(text.encode("utf-8"))
    return [os.path.join(folder, name) for name in contents]


def markdown(summary: Summary) -> str:
    """The tables with a few words on what they show."""
    outline = summary.outline
    digits = digits_of(outline.metric)
    parts = [f"# {_TITLES[outline.kind]}", _measured(summary), main_table(summary)]
    if outline.kind == TECHNIQUES:
        parts += ["\\*: Distillation-based training", _differences(summary, summary.final)]
        if summary.halfway:
            parts += ["Half way through the same trainings:", _plain_table(summary, summary.halfway)]
            parts += [_differences(summary, summary.halfway)]
    for name, value in summary.teachers.items():
        parts.append(f"Teacher ({name}): {'-' if value is None else f'{value:.{digits}f}'}")
    failures = [f"- {name}: {_one_line(one.reason)}" for name, one in summary.outcomes.items() if one.state == FAILED]
    parts += ["Failed:\n\n" + "\n".join(failures)] if failures else []
    return "\n\n".join(parts) + "\n"


def _measured(summary: Summary) -> str:
    seeds = sorted({entry.seed for entry in summary.outline.entries})
    return (
        f"{summary.outline.metric}, mean ± sample standard deviation over the seeds {', '.join(map(str, seeds))}; "
        f"differences between trainings of equal seeds: mean ± standard error [{LEVEL:.0%} interval by Student's t]."
    )


def main_table(summary: Summary) -> str:
    """The paper's table, with spreads: Table 3 with the difference as its last column."""
    if summary.outline.kind == TECHNIQUES:
        return _plain_table(summary, summary.final)
    digits = digits_of(summary.outline.metric)
    rows: List[List[str]] = []
    for row, cells in summary.final.items():
        differences = [difference_text(cell.difference, digits) for cell in cells.values() if cell.difference]
        rows.append([row, *(cell_text(cell, digits) for cell in cells.values()), *differences])
    return _github([_NAMES[RECIPES], *summary.outline.columns, "Δ"], rows)


def _plain_table(summary: Summary, table: Table) -> str:
    digits = digits_of(summary.outline.metric)
    rows = [[row, *(cell_text(cell, digits) for cell in cells.values())] for row, cells in table.items()]
    return _github([_NAMES[summary.outline.kind], *map(_escaped, summary.outline.columns)], rows)


def _differences(summary: Summary, table: Table) -> str:
    first, *others = summary.outline.columns
    digits = digits_of(summary.outline.metric)
    rows = [
        [row, *(difference_text(cells[column].difference, digits) for column in others)] for row, cells in table.items()
    ]
    return _github([f"Δ to {first}", *map(_escaped, others)], rows)


def _github(head: List[str], rows: List[List[str]]) -> str:
    return tabulate(rows, headers=head, tablefmt="github", disable_numparse=True)


def _escaped(column: str) -> str:
    return column.replace("*", "\\*")


def digits_of(metric: str) -> int:
    """Decimals of a figure: 2 of a percentage, 4 of a loss."""
    return 4 if metric.endswith("loss") else 2


def cell_text(cell: Cell, digits: int = 2) -> str:
    """Such as 91.20 ± 0.31, and what is missing of it."""
    missing = _missing(cell.missing)
    if not cell.spread.n:
        return missing or "-"
    return spread_text(cell.spread, digits) + (f" ({missing})" if missing else "")


def _missing(missing: Mapping[int, str]) -> str:
    failed = sum(state == FAILED for state in missing.values())
    others = sum(state in (BEGUN, WAITING) for state in missing.values())  # one that is done lacks this figure
    words = [f"{failed} failed"] if failed > 1 else ["failed"] * failed
    return ", ".join([*words, *([f"{others} to come"] if others else [])])


def spread_text(spread: Spread, digits: int = 2) -> str:
    """Mean ± sample standard deviation, as far as there are enough values."""
    if spread.mean is None:
        return "-"
    return f"{spread.mean:.{digits}f}" + ("" if spread.std is None else f" ± {spread.std:.{digits}f}")


def difference_text(difference: Optional[Difference], digits: int = 2) -> str:
    """Such as +1.31 ± 0.22 [+0.80, +1.82]: mean, standard error, interval."""
    if difference is None or difference.mean is None:
        return "-"
    mean = f"{difference.mean:+.{digits}f}"
    if difference.error is None:
        return mean
    return f"{mean} ± {difference.error:.{digits}f} [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"


def outcome_text(outline: Outline, name: str, outcome: Outcome) -> str:
    """The figures that a training gives to the table, such as "Baseline 90.25, EMA 91.00"."""
    parts: List[str] = []
    for entry in outline.entries:
        key, digits = metric_key(outline.metric, entry.average), digits_of(outline.metric)
        if entry.training == name and key in outcome.figures:
            parts.append(f"{entry.column} {outcome.figures[key]:.{digits}f}")
    return ", ".join(parts)


def _one_line(reason: str) -> str:
    lines = reason.splitlines()
    return lines[0] if len(lines) < 2 else f"{lines[0]}: {lines[-1]}"
