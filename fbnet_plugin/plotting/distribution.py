"""The distribution over a search's candidates as a heat map."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..arch import ArchError
from .picture import picture_format, save_picture

HEAT = "viridis"  # after a square root, which tells small probabilities apart
NO_CANDIDATE = 238  # of 255, the grey of a layer's missing candidates
PRINTED = 0.05  # smallest probability that is printed


def draw_distribution(layers: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """A heat map of the probability of each candidate of each layer; the most likely one has a frame.

    Layers stand from left to right in order, candidates from top to bottom; a cell is blank where a layer lacks the
    candidate. Probabilities from 5% on are printed in percent.

    Args:
        layers: of a distribution file, mappings with ``variable`` (name), ``candidates`` (names) and
            ``probability`` (as many numbers).
        path: of the .png, .pdf or .svg file; it appears complete or not at all.
        title: above the map.

    Raises:
        ArchError: no layers, or one that is no such mapping; names layer and key.
        ValueError: the file's name ends otherwise.
    """
    picture_format(path)
    names, probabilities = _matrix(layers)
    shown = probabilities.T  # (candidates, layers)
    figure = Figure(figsize=(0.32 * shown.shape[1], 0.24 * shown.shape[0]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_facecolor(str(NO_CANDIDATE / 255))
    norm = PowerNorm(0.5, 0, 1)
    edges = [np.arange(size + 1) - 0.5 for size in shown.shape[::-1]]
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(shown), cmap=HEAT, norm=norm, edgecolors="white", linewidth=0.6)
    for layer, column in enumerate(probabilities):
        best = int(np.nanargmax(column))
        frame = Rectangle((layer - 0.46, best - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=1.4)
        axes.add_patch(frame)
        for candidate, value in enumerate(column):
            if value >= PRINTED:
                colour = "black" if value > 0.45 else "white"
                axes.text(layer, candidate, f"{100 * value:.0f}", fontsize=5.5, color=colour, ha="center", va="center")
    variables = [str(layer["variable"]) for layer in layers]
    axes.set_xticks(range(len(variables)), variables, rotation=90, fontsize=6.5, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=6.5, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    width, height = figure.get_size_inches()
    bar = figure.colorbar(mesh, cax=figure.add_axes((1 + 0.15 / width, 0, 0.1 / width, max(1.0, 1.2 / height))))
    bar.set_ticks([0, 0.02, 0.1, 0.25, 0.5, 0.75, 1], labels=["0", "2", "10", "25", "50", "75", "100"], fontsize=6)
    bar.set_label("probability (%)", fontsize=6.5)
    bar.outline.set_visible(False)
    if title:
        axes.annotate(title, (0, 1), (0, 6), "axes fraction", textcoords="offset points", fontsize=9, parse_math=False)
    save_picture(figure, path)


def _matrix(layers: Any) -> tuple[list[str], np.ndarray]:
    """Names of all candidates, and probabilities of shape (layers, names) with NaN where a layer lacks one."""
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise ArchError("is empty or no list, expected a list of layers", "layers")
    columns = [_column(layer, f"layers[{number}]") for number, layer in enumerate(layers)]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return names, np.array([[column.get(name, math.nan) for name in names] for column in columns])


def _column(layer: Any, where: str) -> dict[str, float]:
    """Probability by candidate; the second of two equal names gets a number."""
    for key in ("variable", "candidates", "probability"):
        if not isinstance(layer, Mapping) or key not in layer:
            raise ArchError("is missing", f"{where}.{key}")
    candidates, probability = layer["candidates"], layer["probability"]
    if not isinstance(candidates, list) or not candidates or not all(isinstance(name, str) for name in candidates):
        raise ArchError("expected a list of names", f"{where}.candidates")
    numbers = isinstance(probability, list) and all(type(value) in (int, float) for value in probability)
    if not numbers or len(probability) != len(candidates) or not all(0 <= value <= 1 + 1e-6 for value in probability):
        raise ArchError(f"expected {len(candidates)} numbers from 0 to 1, one per candidate", f"{where}.probability")
    column: dict[str, float] = {}
    for name, value in zip(candidates, probability):
        again = itertools.count(2)
        key = name
        while key in column:
            key = f"{name} ({next(again)})"
        column[key] = float(value)
    return column
