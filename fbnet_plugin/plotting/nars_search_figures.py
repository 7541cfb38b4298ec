"""The candidates of a search: Figure 6 of the paper, the accuracy-MACs scatter, learning curves, the evolution."""

from __future__ import annotations

from itertools import cycle
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..nars.run_data import CandidateData, EvolutionData, RunData
from .nars_numbers import SEARCH, compared, of_phase, pareto_front, rounds, trainings_of, winner_points
from .nars_style import (
    COLOURS,
    FAINT,
    GREY,
    LINES,
    MARKERS,
    WINNER_COLOUR,
    label_points,
    legend_below,
    new_figure,
    plain,
    round_colours,
    round_ticks,
    span,
)
from .nars_words import round_name

MAX_LABELS = 12
BOX = 8  # samples from which on quartiles say something
Pair = Tuple[CandidateData, float]


def samples_of_rounds_figure(run: RunData) -> Figure:
    """Accuracy over MACs of each round's samples and of the final result, and their distribution (Figure 6).

    Accuracies of the search are those after the epoch at which later rounds stop. Winners are stars; hollow ones are
    predicted only. Where all have the same MACs, the distribution stands alone.
    """
    colours, pairs = round_colours(rounds(run)), compared(run)
    if not varied_macs(run):
        figure = new_figure(3.2)
        axes = figure.subplots()
        _distributions(axes, run, pairs, colours)
        return figure
    figure = new_figure(4.8)
    above, below = figure.subplots(2, 1, gridspec_kw={"height_ratios": [3, 2]})
    for number in rounds(run):
        _draw_round(above, number, [pair for pair in pairs if pair[0].round == number], colours[number])
    _draw_winners(above, run)
    above.set_xlabel("MACs (M)")
    above.set_ylabel("accuracy (%)")
    round_ticks(above.xaxis)
    round_ticks(above.yaxis)
    plain(above)
    _distributions(below, run, pairs, colours)
    legend_below(figure, above, 3)
    return figure


def _draw_round(axes: Axes, number: int, pairs: Sequence[Pair], colour: Any) -> None:
    """Points of a round, hollow for the random one."""
    hollow = number == 1
    axes.scatter(
        [candidate.costs["macs"] / 1e6 for candidate, _ in pairs], [accuracy for _, accuracy in pairs],
        s=24, marker=MARKERS[(number - 1) % len(MARKERS)], facecolors="none" if hollow else [colour], zorder=3,
        edgecolors=[colour] if hollow else "white", linewidths=1.2 if hollow else 0.4, alpha=1 if hollow else 0.9,
        label=round_name(number),
    )  # fmt: skip


def _draw_winners(axes: Axes, run: RunData) -> None:
    for measured, name, face in ((True, "winner", WINNER_COLOUR), (False, "winner, predicted", "white")):
        chosen = [(one, accuracy) for one, accuracy, known in winner_points(run) if known is measured]
        if chosen:
            macs, accuracies = [one.costs["macs"] / 1e6 for one, _ in chosen], [accuracy for _, accuracy in chosen]
            edge = "black" if measured else WINNER_COLOUR
            axes.scatter(
                macs, accuracies, s=150, marker="*", color=face, edgecolors=edge, linewidths=0.8, zorder=6, label=name
            )


def _distributions(axes: Axes, run: RunData, pairs: Sequence[Pair], colours: Dict[int, Any]) -> None:
    """A column of points per round, with its quartiles as a box and its median as a line; winners last."""
    columns, few = [], len(rounds(run)) <= 6
    for place, number in enumerate(rounds(run)):
        values = np.array([accuracy for candidate, accuracy in pairs if candidate.round == number])
        columns.append((str(number), len(values)))
        _column(axes, place, values, colours[number])
    measured = np.array([accuracy for _, accuracy, known in winner_points(run) if known])
    if len(measured):
        places, size = len(columns) + 0.3 * _spread(len(measured)), 90 if len(measured) <= 8 else 40
        axes.scatter(places, measured, s=size, marker="*", color=WINNER_COLOUR, edgecolors="black", linewidths=0.6)
        columns.append(("winners", len(measured)))
    axes.set_xticks(range(len(columns)), [f"{name}\n(n={size})" if few else name for name, size in columns])
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy (%)")
    plain(axes)


def _column(axes: Axes, place: int, values: np.ndarray, colour: Any) -> None:
    if not len(values):
        return
    axes.scatter(
        place + 0.3 * _spread(len(values)),
        values,
        s=8 if len(values) >= 20 else 18,
        color=[colour],
        alpha=0.6,
        linewidths=0,
        zorder=2,
    )
    if len(values) >= BOX:
        low, middle, high = np.percentile(values, (25, 50, 75))
        axes.bar(place, high - low, 0.7, bottom=low, facecolor="none", edgecolor="black", linewidth=0.9, zorder=3)
        axes.plot([place - 0.35, place + 0.35], [middle, middle], color="black", linewidth=1.8, zorder=4)


def _spread(number: int) -> np.ndarray:
    """Places from -1 to 1 for points in a column, neighbours apart; the golden ratio's multiples."""
    return 2 * (np.arange(1, number + 1) * 0.618034 % 1) - 1


def scatter_figure(run: RunData) -> Figure:
    """Accuracy over MACs of all candidates of the search, their Pareto front, and the chosen ones by name.

    Chosen are the winners, or before there are any, the front's candidates. Above stands where the pool lies.
    """
    pool = run.pool_macs is not None and len(run.pool_macs) > 1 and np.ptp(run.pool_macs) > 0
    figure = new_figure(4.1 if pool else 3.6)
    if pool:
        top, axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1, 7]})
        _draw_pool(top, np.asarray(run.pool_macs) / 1e6)
    else:
        axes = figure.subplots()
    pairs = compared(run)
    points = np.array([(candidate.costs["macs"] / 1e6, accuracy) for candidate, accuracy in pairs]).reshape(-1, 2)
    colour, size = COLOURS[0], 22
    axes.scatter(points[:, 0], points[:, 1], s=size, color=colour, alpha=0.5, linewidths=0, zorder=3, label="candidate")
    front = pareto_front(points[:, 0], points[:, 1])
    axes.plot(points[front, 0], points[front, 1], color="black", linewidth=1.3, drawstyle="steps-post", zorder=4,
              marker="o", markersize=3.5, label="Pareto front")  # fmt: skip
    _draw_winners(axes, run)
    axes.set_xlabel("MACs (M)")
    axes.set_ylabel("accuracy (%)")
    round_ticks(axes.xaxis)
    round_ticks(axes.yaxis)
    plain(axes)
    _limits(axes, points, winner_points(run))
    legend_below(figure, axes, 2)
    _name_chosen(axes, run, pairs, points, front)
    return figure


def _draw_pool(axes: Axes, macs: np.ndarray) -> None:
    axes.hist(macs, bins=60, color="#9A9A9A")
    axes.set_yticks([])
    axes.set_ylabel("pool", fontsize=10, rotation=0, ha="right", va="center")
    axes.tick_params(axis="x", labelbottom=False, length=0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


def _limits(axes: Axes, points: np.ndarray, winners: Sequence[Tuple[CandidateData, float, bool]]) -> None:
    """Room for names above and below the points."""
    accuracies = np.concatenate([points[:, 1], [accuracy for _, accuracy, _ in winners]])
    if len(accuracies):
        low, high = span(accuracies, 0.06)
        axes.set_ylim(low, high + 0.12 * (high - low))


def _name_chosen(axes: Axes, run: RunData, pairs: Sequence[Pair], points: np.ndarray, front: Sequence[int]) -> None:
    winners = winner_points(run)
    if winners:
        ones = [one for one, _, _ in winners]
        first = [trainings_of(one, ones)[0] is one for one in ones]  # of several seeds
        named = [(one.name, one.costs["macs"] / 1e6, value) for (one, value, _), named in zip(winners, first) if named]
        others = points
    else:
        named = [(pairs[index][0].name, *points[index]) for index in front]
        others = np.delete(points, front, axis=0)
    named = sorted(named, key=lambda item: -item[2])[:MAX_LABELS]
    if named:
        chosen = np.array([item[1:] for item in named], float)
        line = _along_steps(points[front])
        label_points(axes, chosen, [item[0] for item in named], np.concatenate([others, line]))


def _along_steps(corners: np.ndarray) -> np.ndarray:
    """Points along the line of a front, shape (n, 2)."""
    share = np.linspace(0, 1, 20)[:, None]
    parts = [np.empty((0, 2))]
    for first, last in zip(corners[:-1], corners[1:]):
        corner = np.array([last[0], first[1]])
        parts += [first + share * (corner - first), corner + share * (last - corner)]
    return np.concatenate(parts)


def curves_figure(run: RunData, phase: str = SEARCH) -> Figure:
    """Accuracy after each epoch of every candidate of a phase, a thin line each.

    Colours are rounds, and of winners the constraints. Failed ones are dashed and end with a cross. The dotted line is
    the epoch at which later rounds stop.
    """
    figure = new_figure(3.2)
    axes = figure.subplots()
    chosen = [candidate for candidate in of_phase(run, phase) if candidate.curve]
    keys: List[Union[int, str]] = [candidate.round if phase == SEARCH else candidate.target for candidate in chosen]
    colours: Dict[Any, Any] = (
        round_colours(rounds(run)) if phase == SEARCH else dict(zip(dict.fromkeys(keys), cycle(COLOURS)))
    )
    for candidate, key in zip(chosen, keys):
        _draw_curve(axes, candidate, colours[key], thin=len(chosen) > 12)
    for key in dict.fromkeys(keys):
        name = round_name(key) if isinstance(key, int) else key or "no constraints"
        axes.plot([], [], color=colours[key], linewidth=1.4, label=name)
    if any(candidate.state == "failed" for candidate in chosen):
        axes.plot([], [], color=GREY, linestyle="--", marker="x", markersize=5, linewidth=1.4, label="failed")
    if phase == SEARCH and run.early_stop is not None:
        axes.axvline(run.early_stop.epoch, color=GREY, linewidth=1.4, linestyle=":", zorder=1, label="early stop")
    axes.set_xlim(0, 1.02 * max([epoch for candidate in chosen for epoch, _ in candidate.curve], default=1))
    round_ticks(axes.xaxis, whole=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy (%)")
    plain(axes)
    legend_below(figure, axes, 3)
    return figure


def _draw_curve(axes: Axes, candidate: CandidateData, colour: Any, thin: bool) -> None:
    epochs, accuracies = zip(*candidate.curve)
    failed = candidate.state == "failed"
    axes.plot(
        epochs, accuracies, color=GREY if failed else colour, linewidth=0.7 if thin else 1.4,
        alpha=0.45 if thin else 0.9, linestyle="--" if failed else "-", zorder=3,
        marker="o" if len(epochs) == 1 and not failed else None, markersize=3,
    )  # fmt: skip
    if failed:
        axes.plot(epochs[-1:], accuracies[-1:], color="black", marker="x", markersize=5, linestyle="none", zorder=4)


def evolution_figure(evolution: Sequence[EvolutionData]) -> Figure:
    """Best predicted accuracy after each generation, a line per constraint set (section 3.4)."""
    figure = new_figure(3.0)
    axes = figure.subplots()
    for place, one in enumerate(evolution):
        axes.plot(
            range(len(one.best)), one.best, color=COLOURS[place % len(COLOURS)], linewidth=1.5, markersize=4,
            marker=MARKERS[place % len(MARKERS)], linestyle=LINES[place // len(COLOURS) % len(LINES)],
            markevery=max(1, len(one.best) // 12), label=one.constraints or "no constraints",
        )  # fmt: skip
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    round_ticks(axes.xaxis, whole=True)
    axes.set_xlabel("generation")
    axes.set_ylabel("best predicted accuracy (%)")
    plain(axes)
    legend_below(figure, axes, 2)
    return figure


def varied_macs(run: RunData) -> bool:
    """Whether the search's candidates differ in MACs; those of a recipe-only search do not."""
    return len({candidate.costs["macs"] for candidate in of_phase(run, SEARCH)}) > 1
