"""The predictor's figures of a search, as in the paper: Figure 4 (a) to (e) and Figure 5."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from ..nars.run_data import EarlyStopData, PredictorData, PretrainData
from .nars_quality import Saved, kendall, mean_squared_error, relative_error, samples_saved, spearman
from .nars_style import (
    BLUE,
    CYAN,
    GREY,
    MANY,
    NOTES,
    ORANGE,
    WINNER_COLOUR,
    legend_below,
    new_figure,
    note,
    plain,
    round_ticks,
    span,
)

UNITS = {"macs": ("MACs (M)", 1e6), "params": ("parameters (M)", 1e6), "latency_us": ("latency (ms)", 1e3)}
SQUARED = "%²"
SPREAD = (10, 90)  # percentiles of the repeats between which the band lies


def statistic_figure(pretrain: PretrainData, statistic: str) -> Figure:
    """Predicted over true MACs or numbers of parameters of the part held out (Figure 4a, 4b).

    Args:
        pretrain: of the predictor's first training.
        statistic: one of its names.

    Raises:
        ValueError: no such statistic.
    """
    if statistic not in pretrain.statistics:
        raise ValueError(f"no statistic {statistic!r}, expected one of {', '.join(pretrain.statistics)}")
    column = pretrain.statistics.index(statistic)
    name, unit = UNITS.get(statistic, (statistic, 1.0))
    true, predicted = pretrain.true[:, column] / unit, pretrain.predicted[:, column] / unit
    figure = new_figure(3.9)
    axes = figure.subplots()
    _against(axes, true, predicted)
    axes.set_xlabel(f"true {name}")
    axes.set_ylabel(f"predicted {name}")
    error = relative_error(true, predicted)
    note(axes, f"rank correlation {spearman(true, predicted):.4f}\nmean relative error {error:.2%}\nn = {len(true):,}")
    return figure


def accuracy_figure(predictor: PredictorData, pretrained: bool) -> Figure:
    """Predicted over measured accuracy, each predicted from the other folds (Figure 4c without, 4d with pretraining).

    Both forms share their axes, so that they can be compared.
    """
    predicted = np.asarray(predictor.pretrained if pretrained else predictor.plain)
    true = np.asarray(predictor.true)
    figure = new_figure(3.9)
    axes = figure.subplots()
    ends = np.concatenate([true, predictor.pretrained, predictor.plain])
    _against(axes, true, predicted, ends, ORANGE if not pretrained else BLUE)
    axes.set_xlabel("measured accuracy (%)")
    axes.set_ylabel("predicted accuracy (%)")
    error = mean_squared_error(true, predicted)
    note(axes, f"Kendall τ {kendall(true, predicted):.3f}\nMSE {error:.3g} {SQUARED}\nn = {len(true):,}")
    return figure


def _against(
    axes: Axes, true: np.ndarray, predicted: np.ndarray, ends: Optional[np.ndarray] = None, colour: str = BLUE
) -> None:
    """Points and the line of equality, both axes with the same limits."""
    many = len(true) >= MANY
    axes.scatter(true, predicted, s=5 if many else 22, color=colour, alpha=0.35 if many else 0.75, linewidths=0,
                 rasterized=many, zorder=3)  # fmt: skip
    finite = np.concatenate([true, predicted]) if ends is None else ends
    low, high = span(finite[np.isfinite(finite)] if np.isfinite(finite).any() else np.zeros(1))
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, zorder=2)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(0.82)
    for axis in (axes.xaxis, axes.yaxis):
        round_ticks(axis, 5)
    plain(axes)


def samples_figure(predictor: PredictorData) -> Figure:
    """Error over the number of training samples, with and without pretraining (Figure 4e).

    Lines are means over the repeats, bands reach from their 10th to their 90th percentile.

    Raises:
        ValueError: no learning curve.
    """
    if predictor.mse_pretrained is None or predictor.mse_plain is None or not predictor.samples:
        raise ValueError("no learning curve, expected the errors at one number of samples or more")
    figure = new_figure(3.4)
    axes = figure.subplots()
    sizes = np.asarray(predictor.samples)
    both = (
        ("without pretraining", predictor.mse_plain, ORANGE, "s", "--"),
        ("with pretraining", predictor.mse_pretrained, BLUE, "o", "-"),
    )
    for name, errors, colour, marker, line in both:
        low, high = np.percentile(errors, SPREAD, axis=0)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
        mean = np.mean(errors, axis=0)
        axes.plot(sizes, mean, color=colour, marker=marker, linestyle=line, markersize=5, linewidth=1.6, label=name)
    _mark_saved(axes, predictor, samples_saved(predictor))
    axes.set_xscale("log")
    axes.set_xticks(_apart(sizes), [f"{size:,}" for size in _apart(sizes)])
    axes.xaxis.set_minor_locator(NullLocator())
    if min(np.min(predictor.mse_pretrained), np.min(predictor.mse_plain)) > 0:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 60 else (1.0,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training samples")
    axes.set_ylabel(f"mean squared error ({SQUARED})")
    plain(axes)
    legend_below(figure, axes, 2)
    return figure


def _mark_saved(axes: Axes, predictor: PredictorData, saved: Optional[Saved]) -> None:
    """A line from the size that pretraining needs to the one that it is compared with."""
    if saved is None or predictor.mse_plain is None or saved.factor <= 1:
        return
    most, error = predictor.samples[-1], float(np.mean(predictor.mse_plain, axis=0)[-1])
    axes.plot(
        [most / saved.factor, most], [error, error], color=WINNER_COLOUR, linewidth=1.2, marker="|", label="_saved"
    )
    note(axes, saved_text(saved), "upper right")


def saved_text(saved: Saved) -> str:
    """ "same error with 4.2× fewer samples"."""
    return f"same error with {'≥ ' if saved.at_least else ''}{saved.factor:.1f}× fewer samples"


def _apart(sizes: np.ndarray) -> Sequence[int]:
    """Those sizes whose labels do not run into each other on a logarithmic axis, the largest among them."""
    least = 0.11 * max(np.log(sizes[-1] / sizes[0]), 1e-9)
    kept = [int(sizes[-1])]
    for size in sizes[-2::-1]:
        if np.log(kept[-1] / size) >= least:
            kept.append(int(size))
    return kept[::-1]


def early_stop_figure(early_stop: EarlyStopData) -> Figure:
    """Rank correlation with the final accuracy over the epochs, the threshold in cyan, the chosen epoch (Figure 5)."""
    figure = new_figure(3.0)
    axes = figure.subplots()
    epochs, correlation = np.asarray(early_stop.epochs), np.asarray(early_stop.correlation, float)
    axes.axhline(early_stop.threshold, color=CYAN, linewidth=2, zorder=2, label=f"threshold {early_stop.threshold:g}")
    marker = "o" if len(epochs) <= 60 else None
    axes.plot(
        epochs,
        correlation,
        color=BLUE,
        linewidth=1.6,
        zorder=3,
        label="rank correlation",
        marker=marker,
        markersize=3.5,
    )
    axes.axvline(early_stop.epoch, color=GREY, linewidth=1, linestyle=":", zorder=1)
    here = correlation[epochs == early_stop.epoch]
    if len(here) and np.isfinite(here[0]):
        axes.plot(
            [early_stop.epoch], here[:1], color=WINNER_COLOUR, marker="*", markersize=15, linestyle="none", zorder=5,
            markeredgecolor="black", markeredgewidth=0.6, label=f"chosen: epoch {early_stop.epoch}",
        )  # fmt: skip
    low = np.nanmin(np.append(correlation, early_stop.threshold)) if np.isfinite(correlation).any() else 0.0
    axes.set_ylim(min(float(low) - 0.05, early_stop.threshold - 0.1), 1.03)
    round_ticks(axes.xaxis, whole=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("rank correlation")
    plain(axes)
    legend_below(figure, axes, 3)
    if not np.any(correlation >= early_stop.threshold):
        axes.text(0.5, 0.03, "no epoch reaches the threshold", transform=axes.transAxes, fontsize=NOTES, ha="center")
    return figure
