"""An ablation as a picture: every training as a point, means and spreads, and how the figures came about."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..ablation.plan import TECHNIQUES
from ..ablation.statistics import LEVEL
from ..ablation.summary import Cell, Summary
from .nars_style import COLOURS, FAINT, GREY, MARKERS, figure_style, plain
from .picture import picture_format, save_picture

WIDTH, HEIGHT = 8.6, 4.2  # inches
_BESIDE = 4  # rows of a table up to which the panels stand side by side
_SMALL, _POINT = 8.5, 26
_SETTINGS = {"top1": "top-1 accuracy, %", "top5": "top-5 accuracy, %"}


def draw_ablation(summary: Summary, path: str | os.PathLike[str]) -> None:
    """Two panels: the figures of all seeds with mean and standard deviation, and beside them, for Table 8, the figures
    over the training; for Table 3 the differences with their intervals.

    Args:
        summary: may lack trainings that have not ended.
        path: of the .png, .pdf or .svg file; it appears complete or not at all.

    Raises:
        ValueError: the file's name ends otherwise.
    """
    picture_format(path)
    with figure_style():
        figure = ablation_figure(summary)
        save_picture(figure, path)


def ablation_figure(summary: Summary) -> Figure:
    """The figure itself; see ``draw_ablation``."""
    techniques = summary.outline.kind == TECHNIQUES
    if not techniques and len(summary.final) > _BESIDE:
        figure = Figure(figsize=(WIDTH, 1.7 * HEIGHT), layout="constrained")
        left, right = figure.subplots(2, 1)
    else:
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.2] if techniques else [1.25, 1])
    _draw_figures(left, summary)
    if techniques:
        _draw_curves(right, summary)
    else:
        _draw_differences(right, summary)
    for axes in (left, right):
        plain(axes)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(7))
    return figure


def figure_name(metric: str) -> str:
    """What the axis says of a metric."""
    name = metric.rpartition("/")[2]
    return _SETTINGS.get(name, name)


def _draw_figures(axes: Axes, summary: Summary) -> None:
    """One place per column of a row; rows side by side."""
    axes.use_sticky_edges = False  # bars would take the margin away
    columns, ticks, names = summary.outline.columns, [], []
    several = len(summary.final) > 1
    for place, (row, cells) in enumerate(summary.final.items()):
        for number, (column, cell) in enumerate(cells.items()):
            x = place * (len(columns) + 1.0) + number
            label = column if place == 0 else None
            _draw_cell(axes, x, cell, number, label if several else None)
            if not several:
                ticks.append(x)
                names.append(column)
        if several:
            ticks.append(place * (len(columns) + 1.0) + (len(columns) - 1) / 2)
            names.append(row)
    _name_ticks(axes, ticks, names, tilted=several and len(summary.final) > 3)
    end = len(summary.final) * (len(columns) + 1.0) - 1
    axes.set_xlim(-0.7, end - 0.3)
    axes.set_ylabel(figure_name(summary.outline.metric))
    if several:
        _legend(axes)
        axes.set_title("each seed, mean ± standard deviation", fontsize=_SMALL, color=GREY, loc="left")
    else:
        title = f"{next(iter(summary.final), '')}: each seed, mean ± std"
        axes.set_title(title, fontsize=_SMALL, color=GREY, loc="left", parse_math=False)


def _draw_cell(axes: Axes, x: float, cell: Cell, number: int, label: str | None) -> None:
    """The seeds as points side by side, their mean as a line, the standard deviation as a bar behind them."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    values = list(cell.figures.values())
    if cell.spread.mean is None:
        axes.scatter([], [], s=_POINT, color=colour, marker=marker, label=label)
        return
    if cell.spread.std is not None:
        low, height = cell.spread.mean - cell.spread.std, 2 * cell.spread.std
        axes.bar(x, height, 0.62, bottom=low, color=colour, alpha=0.2, linewidth=0)
    axes.plot([x - 0.31, x + 0.31], [cell.spread.mean] * 2, color=colour, linewidth=1.8, solid_capstyle="butt")
    across = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(x + across, values, s=_POINT, color=colour, marker=marker, edgecolor="white", linewidth=0.5, zorder=3,
                 label=label)  # fmt: skip


def _draw_curves(axes: Axes, summary: Summary) -> None:
    """The mean over the seeds at each evaluation that all of them have, and the range that they span."""
    unit = summary.epochs_per_iteration()
    for number, column in enumerate(summary.outline.columns):
        for place, row in enumerate(summary.final):
            curves = [curve for curve in summary.curves(row, column).values() if curve]
            at, values = shared_points(curves)
            if not len(at):
                continue
            x = at * (unit or 1.0)
            colour = COLOURS[number % len(COLOURS)]
            axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            line, label = ("-", column) if place == 0 else ("--", None)
            axes.plot(x, values.mean(0), line, color=colour, linewidth=1.5, marker=MARKERS[number % len(MARKERS)],
                      markersize=3.5, label=label)  # fmt: skip
    axes.set_xlabel("epoch" if unit else "iteration")
    axes.set_ylabel(figure_name(summary.outline.metric))
    axes.set_title("over the training, mean and range of the seeds", fontsize=_SMALL, color=GREY, loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=_SMALL, loc="lower right")


def shared_points(curves: list[Mapping[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """The iterations (m,) that all curves have, and their figures (number of curves, m)."""
    if not curves:
        return np.zeros(0), np.zeros((0, 0))
    at = sorted(set(curves[0]).intersection(*curves[1:]))
    return np.array(at, float), np.array([[curve[point] for point in at] for curve in curves])


def _draw_differences(axes: Axes, summary: Summary) -> None:
    """Per row the mean difference to the first column and its interval."""
    axes.axhline(0, color=GREY, linewidth=0.8)
    names = []
    for place, (row, cells) in enumerate(summary.final.items()):
        names.append(row)
        for number, cell in enumerate(cells.values()):
            if cell.difference is None or cell.difference.mean is None:
                continue
            others = max(len(cells) - 2, 1)
            x = place + 0.2 * ((number - 1) - (others - 1) / 2)
            mean, colour = cell.difference.mean, COLOURS[number % len(COLOURS)]
            ends = None
            if cell.difference.low is not None and cell.difference.high is not None:
                ends = [[mean - cell.difference.low], [cell.difference.high - mean]]
            axes.errorbar([x], [mean], yerr=ends, fmt=MARKERS[number % len(MARKERS)], color=colour, capsize=4,
                          markersize=6, linewidth=1.4)  # fmt: skip
    _name_ticks(axes, range(len(names)), names, tilted=len(names) > 3)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel(f"difference, {figure_name(summary.outline.metric)}")
    axes.set_title(f"to {summary.outline.columns[0]}, mean and {LEVEL:.0%} interval", fontsize=_SMALL, color=GREY,
                   loc="left")  # fmt: skip


def _name_ticks(axes: Axes, at: Sequence[float], names: Sequence[str], tilted: bool) -> None:
    """Names under the axis, on several lines or, where there are many, tilted."""
    if tilted:
        axes.set_xticks(at, names, rotation=30, ha="right", rotation_mode="anchor", parse_math=False)
    else:
        axes.set_xticks(at, [fill(name, 14) for name in names], parse_math=False)


def _legend(axes: Axes) -> None:
    """Above the points, where there is room made for it."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.14 * (high - low))
    axes.legend(frameon=False, fontsize=_SMALL, loc="upper left", ncol=4, borderaxespad=0.1, handletextpad=0.2)
