"""Figures of latency tables: devices side by side, prediction against measurement, and how fits improve with data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ..atomic_file import atomic_write
from ..latency.compare import ComparedOperator, Comparison
from ..latency.errors import LatencyError
from ..latency.operators import Operator

# Okabe and Ito's colours, told apart with every common kind of colour vision; yellow is too faint for white paper.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
GREY = "#777777"
ONE_SCALE = 30  # largest ratio of two bars that still share an axis
DPI = 150


def plot_comparison(comparison: Comparison, path: str | os.PathLike[str], *, top: int = 12, title: str = "") -> None:
    """Bars of the operators that devices see most differently, one colour per device (FBNet Figure 5).

    Operators that suit the first device stand at the top, those that suit the last at the bottom. Devices that
    differ much in speed throughout get an axis each.

    Args:
        comparison: from ``compare_tables``.
        path: of the .png file; it appears complete or not at all.
        top: number of operators.
        title: above the bars.

    Raises:
        LatencyError: more tables than there are colours, or no operator to show.
    """
    rows = comparison.grouped(top)
    count = len(comparison.names)
    if count > len(COLOURS) or not rows:
        raise LatencyError(f"{count} tables and {len(rows)} operators, expected at most {len(COLOURS)} and at least 1")
    us = np.array([row.us for row in rows])  # (operators, devices)
    shared = us.max() / us.min() <= ONE_SCALE
    width, height = (9.0, 0.18 * count + 0.16) if shared else (4.0 + 2.4 * count, 0.32)
    figure = Figure(figsize=(width, 1.3 + height * len(rows)), layout="constrained")
    panels = figure.subplots(1, 1 if shared else count, sharey=True, squeeze=False)[0]
    places, thick = np.arange(len(rows)), 0.8 / count if shared else 0.6
    for number, (name, colour) in enumerate(zip(comparison.names, COLOURS)):
        offset = (number - (count - 1) / 2) * thick if shared else 0.0
        axes = panels[0 if shared else number]
        bars = axes.barh(places + offset, us[:, number], thick, color=colour, label=name)
        axes.bar_label(bars, [_few_digits(value) for value in us[:, number]], padding=2, fontsize=7, color=GREY)
        if not shared:
            axes.set_title(name, fontsize=8, loc="left")
    for axes in panels:
        axes.set_xlabel("latency (µs)")
        axes.margins(x=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(6 if shared else 3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        _plain(axes)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(places, [operator_label(row.operator) for row in rows], fontsize=8)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    _name_groups(panels, rows, comparison.names)
    if shared:
        panels[0].legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncol=min(count, 3))
    if title:
        figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _few_digits(us: float) -> str:
    return f"{us:,.0f}" if us >= 100 else f"{us:.3g}"


def operator_label(operator: Operator) -> str:
    """An operator in few letters: ``mb k5 s2 16-96-24 relu, 112x112`` (channels in, expanded, out; input px)."""
    channels, height, width = operator.input
    fields = dict(operator.fields)
    widths = [channels, *([fields["mid"]] if "mid" in fields else []), fields["out"]]
    words = [operator.op]
    for key, letter in (("kernel", "k"), ("stride", "s"), ("groups", "g")):
        words += [f"{letter}{fields[key]}"] if key in fields else []
    words.append("-".join(map(str, widths)))
    words += [f"se{fields['se']}"] if "se" in fields else []
    told = ("kernel", "stride", "groups", "mid", "out", "se", "gate")
    words += [str(value) if key == "act" else f"{key}={value}" for key, value in fields.items() if key not in told]
    return f"{' '.join(words)}, {height}x{width}"


def plot_validation(
    measured_us: Sequence[float] | np.ndarray,
    predicted_us: Sequence[float] | np.ndarray,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    constant_us: float | None = None,
) -> None:
    """Whole networks: measured latency over the sum of their operators.

    The dashed line is equality, the full one equality after one constant overhead.

    Args:
        measured_us: end to end, µs, shape (n,).
        predicted_us: sums over operators, µs, shape (n,), without the constant.
        path: of the .png file; it appears complete or not at all.
        title: above the points.
        constant_us: the overhead; default: the median of the differences.

    Raises:
        LatencyError: no networks, or arrays of different lengths.
    """
    measured, predicted = np.asarray(measured_us, float) / 1e3, np.asarray(predicted_us, float) / 1e3
    if measured.ndim != 1 or measured.shape != predicted.shape or not measured.size:
        raise LatencyError(f"shapes {measured.shape} and {predicted.shape}, expected two arrays of the same length")
    constant = float(np.median(measured - predicted)) if constant_us is None else constant_us / 1e3
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.scatter(predicted, measured, s=18, color=COLOURS[0], alpha=0.75, linewidths=0, zorder=3)
    low = min(predicted.min(), measured.min())
    high = max(predicted.max(), measured.max())
    margin = 0.05 * (high - low) or 0.05 * high or 1.0
    ends = np.array([low - margin, high + margin])
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="measured = sum")
    sign = "+" if constant >= 0 else "-"
    shifted = f"measured = sum {sign} {abs(constant):.3g} ms"
    axes.plot(ends, ends + constant, color=COLOURS[5], linewidth=1, label=shifted)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal")
    axes.set_xlabel("sum of operators (ms)")
    axes.set_ylabel("measured end to end (ms)")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _finish(figure, axes, title, path)


def plot_learning_curve(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    target: float | None = 0.95,
    title: str = "",
) -> None:
    """Rank correlation on held-out networks over the number of networks that a table was fitted to.

    Args:
        curves: name -> (numbers of networks, Spearman correlations).
        path: of the .png file; it appears complete or not at all.
        target: a dashed line; None for none.
        title: above the curves.

    Raises:
        LatencyError: no curve, more than there are colours, or one whose two lists differ in length.
    """
    if not 1 <= len(curves) <= len(COLOURS):
        raise LatencyError(f"{len(curves)} curves, expected 1 to {len(COLOURS)}")
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, (counts, scores)), colour in zip(curves.items(), COLOURS):
        if len(counts) != len(scores) or not len(counts):
            raise LatencyError(f"{name}: {len(counts)} numbers and {len(scores)} scores, expected as many of both")
        axes.plot(counts, scores, marker="o", markersize=3.5, linewidth=1.3, color=colour, label=name)
    if target is not None:
        axes.axhline(target, color=GREY, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    ticks = sorted({count for counts, _ in curves.values() for count in counts})
    axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("measured networks")
    axes.set_ylabel("Spearman correlation, held out")
    axes.legend(frameon=False, fontsize=8, loc="best")
    _finish(figure, axes, title, path)


def _name_groups(panels: Sequence[Axes], rows: Sequence[ComparedOperator], names: Sequence[str]) -> None:
    """Says beside the bars which device the operators of a group suit; a thin line parts the groups."""
    first = 0
    for place, row in enumerate(rows):
        if place + 1 < len(rows) and rows[place + 1].favours == row.favours:
            continue
        text = f"relatively\nfast on\n{fill(names[row.favours], 16)}"
        middle = (first + place) / 2
        panels[-1].text(1.03, middle, text, fontsize=7, va="center", transform=panels[-1].get_yaxis_transform())
        first = place + 1
        if first < len(rows):
            for axes in panels:
                axes.axhline(first - 0.5, color=GREY, linewidth=0.6, linestyle=":")


def _finish(figure: Figure, axes: Axes, title: str, path: str | os.PathLike[str]) -> None:
    if title:
        axes.set_title(title, fontsize=9)
    _plain(axes)
    _save(figure, path)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
