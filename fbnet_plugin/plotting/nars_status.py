"""A search's state as a few lines for a terminal."""

from __future__ import annotations

import math
from typing import List, Optional, Tuple

import numpy as np
from tabulate import tabulate

from ..nars.run_data import CandidateData, RunData
from .nars_numbers import (
    SEARCH,
    STATES,
    WINNER,
    best,
    compared,
    failure_kinds,
    of_phase,
    remaining,
    rounds,
    spent,
    stage,
    states,
)
from .nars_words import NOTHING, cost_columns, cost_text, duration, few_digits, percent, round_name


def status_text(run: RunData) -> str:
    """What a search has done, what is best so far, what is left and what went wrong; no line break at the end."""
    number, doing = stage(run)
    parts = [f"{run.title}\nstage {number} of 3, {doing}"]
    header, rows = progress_rows(run)
    if rows:
        parts.append(_columns(header, rows, 1))
    parts.append("\n".join(f"{name + ':':12} {text}" for name, text in summary_lines(run)[1:]))
    winners = of_phase(run, WINNER)
    if winners:
        parts.append(_winners_text(winners))
    return "\n\n".join(part for part in parts if part)


def summary_lines(run: RunData) -> List[Tuple[str, str]]:
    """(name, text) of a run's state in a few lines, for the terminal and for the top of the report."""
    number, doing = stage(run)
    count = states(run.candidates)
    lines: List[Tuple[str, Optional[str]]] = [
        ("stage", f"{number} of 3, {doing}"),
        ("candidates", ", ".join(f"{count[state]:,} {state}" for state in count)),
        ("best", _best_text(run, SEARCH)),
        ("best winner", _best_text(run, WINNER)),
        ("cost", _cost_line(run)),
        ("left", _left_line(run)),
        ("early stop", _early_stop_line(run)),
        ("failures", ", ".join(f"{number} × {kind}" for kind, number in failure_kinds(run.candidates))),
    ]
    return [(name, text) for name, text in lines if text]


def progress_rows(run: RunData) -> Tuple[List[str], List[List[str]]]:
    """Header and a row per round and per other part: numbers in each state, median and best accuracy."""
    rows = []
    for number in rounds(run):
        pairs = [pair for pair in compared(run) if pair[0].round == number]
        members = [candidate for candidate in of_phase(run, SEARCH) if candidate.round == number]
        rows.append(_progress_row(round_name(number), members, [accuracy for _, accuracy in pairs]))
    for phase in dict.fromkeys(one.phase for one in run.candidates if one.phase != SEARCH):
        name = "winners" if phase == WINNER else phase
        rows.append(_progress_row(name, of_phase(run, phase), [accuracy for _, accuracy in compared(run, phase)]))
    return ["part", *STATES, "median (%)", "best (%)"], rows


def _progress_row(name: str, members: List[CandidateData], accuracies: List[float]) -> List[str]:
    count = states(members)
    middle = percent(float(np.median(accuracies))) if accuracies else NOTHING
    top = percent(max(accuracies)) if accuracies else NOTHING
    return [name, *(str(count[state]) for state in STATES), middle, top]


def _best_text(run: RunData, phase: str) -> str:
    found = best(run, phase)
    if found is None:
        return ""
    candidate, accuracy = found
    after = f" after epoch {run.early_stop.epoch}" if phase == SEARCH and run.early_stop is not None else ""
    guess = "" if candidate.predicted is None else f", predicted {percent(candidate.predicted)}%"
    macs = few_digits(candidate.costs["macs"] / 1e6)
    return f"{percent(accuracy)}% {run.metric}{after} at {macs}M MACs ({candidate.name}{guess})"


def _cost_line(run: RunData) -> str:
    total, winners = spent(run.candidates), spent(of_phase(run, WINNER))
    if not total.trainings:
        return ""
    text = f"{total.trainings:,} trainings, {total.epochs:,} epochs, {_hours(total.seconds)}"
    if winners.trainings:
        text += f"; of these for winners {winners.trainings:,}, {winners.epochs:,} and {_hours(winners.seconds)}"
    return text


def _hours(seconds: float) -> str:
    return f"{few_digits(seconds / 3600)} h of training" if seconds >= 3600 else f"{duration(seconds)} of training"


def _left_line(run: RunData) -> str:
    left = remaining(run)
    if left is None or not left.candidates:
        return ""
    at_once = max(1, states(run.candidates)["running"])
    return f"about {duration(left.seconds)} for the {left.candidates:,} candidates chosen so far, {at_once} at a time"


def _early_stop_line(run: RunData) -> str:
    data = run.early_stop
    if data is None or not data.epochs:
        return ""
    here = dict(zip(data.epochs, data.correlation)).get(data.epoch, math.nan)
    return (
        f"epoch {data.epoch} of {data.epochs[-1]}, rank correlation {few_digits(here)} (threshold {data.threshold:g})"
    )


def _winners_text(winners: List[CandidateData]) -> str:
    costs = cost_columns(winners)
    header = ["winner", "constraints", "state", *(heading for _, heading in costs), "predicted (%)", "trained (%)"]
    rows = [
        [one.name, one.target or NOTHING, one.state, *(cost_text(one, metric) for metric, _ in costs),
         percent(one.predicted, one.predicted_std), percent(one.accuracy)]
        for one in winners
    ]  # fmt: skip
    return _columns(header, rows, 3)


def _columns(header: List[str], rows: List[List[str]], left: int) -> str:
    align = ["left"] * left + ["right"] * (len(header) - left)
    return tabulate(rows, header, disable_numparse=True, colalign=align)
