"""Which figures a search's report shows, what stands under them, and which stage brings those still missing."""

from __future__ import annotations

import math
from typing import Callable, List, NamedTuple, Optional, Tuple

import numpy as np
from matplotlib.figure import Figure

from ..nars.run_data import RunData
from .nars_figures import accuracy_figure, early_stop_figure, samples_figure, saved_text, statistic_figure
from .nars_numbers import (
    SEARCH,
    WINNER,
    best,
    compared,
    of_phase,
    pareto_front,
    rounds,
    winner_points,
)
from .nars_quality import kendall, mean_squared_error, relative_error, samples_saved, spearman
from .nars_search_figures import (
    curves_figure,
    evolution_figure,
    samples_of_rounds_figure,
    scatter_figure,
    varied_macs,
)
from .nars_words import few_digits, percent


class Shown(NamedTuple):
    """A figure with its words.

    Attributes:
        figure: drawn.
        caption: one or two sentences for everybody.
        words: what a reader who does not see it needs: its main numbers.
    """

    figure: Figure
    caption: str
    words: str


class Entry(NamedTuple):
    """A place in the report.

    Attributes:
        title: with the paper's number of the figure, where it has one.
        stage: what brings it; "" for what only some searches have.
        show: the figure, or None while a run has no data for it.
    """

    title: str
    stage: str
    show: Callable[[RunData], Optional[Shown]]


def _statistic(run: RunData, name: str, word: str) -> Optional[Shown]:
    if run.pretrain is None or name not in run.pretrain.statistics or not len(run.pretrain.true):
        return None
    column = run.pretrain.statistics.index(name)
    true, predicted = run.pretrain.true[:, column], run.pretrain.predicted[:, column]
    caption = (
        f"Predicted against true {word} of the {len(true):,} samples of the pool that the predictor was not pretrained "
        "on. The dashed line is equality."
    )
    words = f"rank correlation {spearman(true, predicted):.4f}, relative error {relative_error(true, predicted):.2%}"
    return Shown(statistic_figure(run.pretrain, name), caption, f"Predicted over true {word}: {words}")


def _macs(run: RunData) -> Optional[Shown]:
    return _statistic(run, "macs", "MACs")


def _params(run: RunData) -> Optional[Shown]:
    return _statistic(run, "params", "numbers of parameters")


def _latency(run: RunData) -> Optional[Shown]:
    return _statistic(run, "latency_us", "latencies")


def _accuracy(run: RunData, pretrained: bool) -> Optional[Shown]:
    if run.predictor is None or len(run.predictor.true) < 2:
        return None
    true = np.asarray(run.predictor.true)
    predicted = run.predictor.pretrained if pretrained else run.predictor.plain
    how = "with pretraining" if pretrained else "without pretraining"
    caption = (
        f"Predicted against measured accuracy of {len(true):,} trained candidates, {how}. Each one was predicted from "
        "the others (cross-validation)."
    )
    words = f"Kendall tau {kendall(true, predicted):.3f}, mean squared error {mean_squared_error(true, predicted):.3g}"
    words = f"Predicted over measured accuracy {how}: {words}"
    return Shown(accuracy_figure(run.predictor, pretrained), caption, words)


def _accuracy_plain(run: RunData) -> Optional[Shown]:
    return _accuracy(run, False)


def _accuracy_pretrained(run: RunData) -> Optional[Shown]:
    return _accuracy(run, True)


def _samples(run: RunData) -> Optional[Shown]:
    data = run.predictor
    if data is None or not data.samples or data.mse_pretrained is None or data.mse_plain is None:
        return None
    with_it, without = (np.mean(errors, axis=0)[-1] for errors in (data.mse_pretrained, data.mse_plain))
    repeats = len(data.mse_plain)
    saved = samples_saved(data)
    factor = f" Pretraining: {saved_text(saved)}." if saved is not None and saved.factor > 1 else ""
    caption = (
        f"Mean squared error of the predicted accuracy against the number of training samples: mean of {repeats} "
        f"repeats, the band from the 10th to the 90th percentile.{factor}"
    )
    last = f"{with_it:.3g} with and {without:.3g} without pretraining"
    words = f"Error with {data.samples[-1]:,} samples: {last}.{factor}"
    return Shown(samples_figure(data), caption, words)


def _early_stop(run: RunData) -> Optional[Shown]:
    data = run.early_stop
    if data is None or not data.epochs:
        return None
    here = dict(zip(data.epochs, data.correlation)).get(data.epoch, math.nan)
    last = data.epochs[-1]
    caption = (
        "Rank correlation of the accuracy at each epoch with the final one in the first round. Later rounds stop at "
        f"epoch {data.epoch} of {last}. Threshold: {data.threshold:g} (cyan)."
    )
    if not any(value >= data.threshold for value in data.correlation):
        caption += " No epoch reaches it."
    words = f"Rank correlation at the chosen epoch {data.epoch}: {few_digits(here)}, threshold {data.threshold:g}"
    return Shown(early_stop_figure(data), caption, words)


def _rounds(run: RunData) -> Optional[Shown]:
    pairs = compared(run)
    if not pairs:
        return None
    medians = []
    for number in rounds(run):
        values = [accuracy for candidate, accuracy in pairs if candidate.round == number]
        if values:
            medians.append(f"round {number} {percent(float(np.median(values)))}%")
    caption = (
        "Samples of each round and the final result. Boxes reach from the first to the third quartile, the thick line "
        f"is the median. {_comparability(run)}"
    )
    return Shown(samples_of_rounds_figure(run), caption.strip(), f"Median accuracy: {', '.join(medians)}")


def _comparability(run: RunData) -> str:
    """Which accuracies the search's figures show, when they are not simply the last ones."""
    parts = []
    if run.early_stop is not None:
        parts.append(f"Accuracies of the search are those after epoch {run.early_stop.epoch}")
    winners = winner_points(run)
    if any(measured for _, _, measured in winners):
        parts.append("winners have a training of their own")
    if varied_macs(run) and not all(measured for _, _, measured in winners):
        parts.append("hollow stars are predicted only")
    if not parts:
        return ""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _scatter(run: RunData) -> Optional[Shown]:
    pairs = compared(run)
    if not pairs or not varied_macs(run):
        return None
    macs = [candidate.costs["macs"] for candidate, _ in pairs]
    front = pareto_front(macs, [accuracy for _, accuracy in pairs])
    ends = [f"{percent(pairs[index][1])}% at {few_digits(macs[index] / 1e6)}M MACs" for index in (front[0], front[-1])]
    pool = " The grey bars above: MACs of the pool." if run.pool_macs is not None else ""
    chosen = "winners" if of_phase(run, WINNER) else "candidates on the front"
    caption = f"All candidates of the search with their Pareto front; named where there is room: {chosen}."
    caption = f"{caption}{pool} {_comparability(run)}".strip()
    words = f"{len(pairs)} candidates; Pareto front of {len(front)}: {' to '.join(dict.fromkeys(ends))}"
    return Shown(scatter_figure(run), caption, words)


def _curves(run: RunData, phase: str, what: str) -> Optional[Shown]:
    chosen = [candidate for candidate in of_phase(run, phase) if candidate.curve]
    if not chosen:
        return None
    failed = sum(candidate.state == "failed" for candidate in chosen)
    caption = f"Accuracy after each epoch of {len(chosen):,} {what}."
    caption += f" Dashed with a cross at the end: {failed} failed." if failed else ""
    found = best(run, phase)
    words = f"Learning curves of {len(chosen)} {what}"
    words += f"; best {percent(found[1])}% ({found[0].name})" if found else ""
    return Shown(curves_figure(run, phase), caption, words)


def _search_curves(run: RunData) -> Optional[Shown]:
    return _curves(run, SEARCH, "candidates of the search")


def _winner_curves(run: RunData) -> Optional[Shown]:
    return _curves(run, WINNER, "winners")


def _evolution(run: RunData) -> Optional[Shown]:
    if not any(one.best for one in run.evolution):
        return None
    told = [f"{one.constraints or 'no constraints'}: {percent(one.best[-1])}%" for one in run.evolution if one.best]
    seconds = math.fsum(one.seconds for one in run.evolution)
    scored = sum(one.evaluated[-1] for one in run.evolution if one.evaluated)
    caption = (
        f"Best predicted accuracy of the evolutionary search after each generation; {scored:,} candidates scored in "
        f"{seconds:.1f} s."
    )
    return Shown(evolution_figure([one for one in run.evolution if one.best]), caption, "; ".join(told))


PRETRAINED = "stage 1, when the predictor has been pretrained"
ROUND = "stage 2, as candidates are trained"
FITTED = "stage 2, when the predictor has been fitted to trained candidates"

ENTRIES: Tuple[Entry, ...] = (
    Entry("Figure 6: samples of each round and the result", ROUND, _rounds),
    Entry("Accuracy and MACs", f"{ROUND} (where candidates differ in MACs)", _scatter),
    Entry("Figure 4(a): predicted MACs", PRETRAINED, _macs),
    Entry("Figure 4(b): predicted parameters", PRETRAINED, _params),
    Entry("Predicted latency", "", _latency),
    Entry("Figure 4(c): predicted accuracy, without pretraining", FITTED, _accuracy_plain),
    Entry("Figure 4(d): predicted accuracy, with pretraining", FITTED, _accuracy_pretrained),
    Entry("Figure 4(e): error and number of samples", FITTED, _samples),
    Entry("Figure 5: rank correlation and epochs", "stage 2, after the first round", _early_stop),
    Entry("Learning curves of the search", ROUND, _search_curves),
    Entry("Evolution", "stage 3", _evolution),
    Entry("Learning curves of the winners", "stage 3, as winners are trained", _winner_curves),
)


def report_figures(run: RunData) -> Tuple[List[Tuple[Entry, Shown]], List[Entry]]:
    """The figures that a run has data for, and the entries of those that it has none for yet."""
    shown: List[Tuple[Entry, Shown]] = []
    missing: List[Entry] = []
    for entry in ENTRIES:
        figure = entry.show(run)
        if figure is not None:
            shown.append((entry, figure))
        elif entry.stage:
            missing.append(entry)
    return shown, missing
