"""What the figures of a search share: size, fonts, colours, and their form as SVG."""

from __future__ import annotations

import base64
import io
import re
from textwrap import fill
from typing import Any, Dict, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

# Inches. On a phone the figure is as wide as the page, so that a point is about a CSS px.
WIDTH = 4.4
TICKS, LABELS, NOTES = 9.5, 10.5, 9.5  # font sizes, points
DPI = 200  # of what is drawn as pixels
MANY = 1000  # points from which on they are drawn as pixels
MAX_SVG = 1_000_000  # bytes

# Okabe and Ito's colours, told apart with every common kind of colour vision; yellow is too faint for white paper.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
BLUE, ORANGE, WINNER_COLOUR = COLOURS[0], COLOURS[1], COLOURS[5]
CYAN, GREY, FAINT = "#00B4D8", "#666666", "#DDDDDD"
MARKERS = "osD^vPX"
LINES = ("-", "--", "-.", ":")

_SETTINGS: Dict[str, Any] = {"svg.hashsalt": "nars", "svg.fonttype": "path", "font.family": "DejaVu Sans"}


def new_figure(height: float) -> Figure:
    """An empty figure for one column of the page; ``height`` in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def plain(axes: Axes) -> None:
    """Frame on two sides, and fonts."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=TICKS)
    axes.xaxis.label.set_fontsize(LABELS)
    axes.yaxis.label.set_fontsize(LABELS)


def note(axes: Axes, text: str, place: str = "upper left") -> None:
    """A few words in a corner of the panel, over what is drawn there."""
    x, across = (0.03, "left") if place.endswith("left") else (0.97, "right")
    y, along = (0.97, "top") if place.startswith("upper") else (0.03, "bottom")
    axes.text(
        x, y, text, transform=axes.transAxes, ha=across, va=along, fontsize=NOTES, linespacing=1.4, zorder=10,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}, parse_math=False,
    )  # fmt: skip


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of ``axes`` under the figure's panels, in as many of ``columns`` as fit; the figure grows by it."""
    handles, labels = axes.get_legend_handles_labels()
    names = [fill(label, 44) for label in labels]
    legend = _legend(figure, handles, names, columns)
    while columns > 1 and _size(figure, legend)[0] > 0.98 * figure.get_figwidth():
        legend.remove()
        columns -= 1
        legend = _legend(figure, handles, names, columns)
    for line in legend.get_lines():  # of thin and pale curves
        line.set_alpha(1)
    added = _size(figure, legend)[1]
    height = figure.get_figheight() + added
    figure.set_figheight(height)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, added / height, 1, 1 - added / height))


def _legend(figure: Figure, handles: Sequence[Artist], names: Sequence[str], columns: int) -> Legend:
    legend = figure.legend(
        handles, names, loc="lower center", ncol=columns, frameon=False, fontsize=TICKS, handletextpad=0.4,
        columnspacing=1.2, borderaxespad=0,
    )  # fmt: skip
    legend.set_in_layout(False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def _size(figure: Figure, artist: Artist) -> Tuple[float, float]:
    """Width and height in inches."""
    extent = artist.get_window_extent(renderer_of(figure))
    return extent.width / figure.dpi, extent.height / figure.dpi


def renderer_of(figure: Figure) -> RendererBase:
    """What measures texts of a figure that is on no screen."""
    return FigureCanvasAgg(figure).get_renderer()


def round_colours(rounds: Sequence[int]) -> Dict[int, Any]:
    """Grey for the first, random round, then from light to dark."""
    later = [number for number in rounds if number != 1]
    shades = matplotlib.colormaps["viridis_r"](np.linspace(0.3, 1.0, max(2, len(later))))
    colours: Dict[int, Any] = {1: "#8C8C8C"}
    colours.update({number: tuple(shade) for number, shade in zip(later, shades[-len(later) :] if later else [])})
    return colours


def round_ticks(axis: Axis, number: int = 6, whole: bool = False) -> None:
    """At most ``number`` ticks at multiples of 1, 2, 2.5 or 5."""
    axis.set_major_locator(MaxNLocator(number, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10], integer=whole))


def span(values: np.ndarray, share: float = 0.05) -> Tuple[float, float]:
    """Smallest and largest of ``values`` with a margin, for an axis."""
    low, high = float(np.min(values)), float(np.max(values))
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def label_points(axes: Axes, points: np.ndarray, names: Sequence[str], others: np.ndarray) -> List[Annotation]:
    """Names beside points, where they cover neither each other nor, if it can be helped, other points.

    Args:
        axes: with its final limits.
        points: data coordinates, shape (n, 2).
        names: as many.
        others: data coordinates of further points that should stay visible, shape (k, 2).

    Returns:
        the names that found a place; in a crowd some are left out.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the labels must not move the axes
    renderer = renderer_of(figure)
    frame, unit = axes.get_window_extent(renderer), figure.dpi / 72
    marks = axes.transData.transform(np.concatenate([points, others.reshape(-1, 2)]))
    half = 6 * unit  # of a star
    taken = [Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half) for x, y in marks[: len(points)]]
    placed = []
    for point, name in zip(points, names):
        text = axes.annotate(
            name, point, (0, 0), textcoords="offset points", fontsize=NOTES, zorder=11, parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )  # fmt: skip
        text.set_in_layout(False)
        home = text.get_window_extent(renderer)
        place = _free_place(home, frame, taken, marks, unit)
        if place is None:
            text.remove()
            continue
        text.set_position(place)
        taken.append(home.translated(place[0] * unit, place[1] * unit).padded(unit))
        if abs(place[1]) > 20:
            _lead(axes, point, place, home.width / unit, home.height / unit)
        placed.append(text)
    return placed


def _lead(axes: Axes, point: np.ndarray, place: Tuple[float, float], width: float, height: float) -> None:
    """A thin line from a point to the nearest side of its name, whose lower left corner is ``place``; all in points."""
    x, y = place
    end = (min(max(0.0, x), x + width), min(max(0.0, y), y + height))
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    lead = axes.annotate("", (point[0], point[1]), end, textcoords="offset points", arrowprops=line, zorder=4)
    lead.set_in_layout(False)


def _free_place(
    home: Bbox, frame: Bbox, taken: Sequence[Bbox], marks: np.ndarray, unit: float
) -> Optional[Tuple[float, float]]:
    """The offset, points, at which a text covers nothing in ``taken`` and the fewest of ``marks``; None for none."""
    width, height = home.width / unit, home.height / unit
    best, least = None, np.inf
    for distance, away in enumerate((6, 13, 21, 30)):
        rises = (away - 2, -away - height + 4) if distance else (away - 2, -height / 2 + 2, -away - height + 4)
        for rise in rises:
            for x in (-width / 2, 6.0, -width - 6.0):
                if distance == 0 and x == -width / 2 and rise == -height / 2 + 2:
                    continue
                box = home.translated(x * unit, rise * unit)
                inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                if not inside or any(box.overlaps(other) for other in taken):
                    continue
                covered = np.sum(np.all((marks > box.min) & (marks < box.max), axis=1)) + 0.5 * distance
                if covered < least:
                    best, least = (x, rise), covered
    return best


def figure_style() -> Any:
    """A context in which figures look the same whatever the user's own settings of matplotlib are."""
    return style.context(["default", _SETTINGS])


def figure_markup(figure: Figure, prefix: str, words: str) -> str:
    """A figure as markup for a page: an inline SVG, or a picture of pixels where that would be very large.

    Args:
        figure: drawn within ``figure_style``.
        prefix: of its ids, another one for each figure of a page; letters and digits.
        words: what it shows, escaped for an attribute.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", dpi=DPI, facecolor="white", metadata={"Date": None, "Creator": None})
    svg = _inline(stream.getvalue(), prefix, words)
    if len(svg) <= MAX_SVG:
        return svg
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    data = base64.b64encode(pixels.getvalue()).decode("ascii")
    return f'<img alt="{words}" src="data:image/png;base64,{data}">'


def _inline(document: str, prefix: str, words: str) -> str:
    """The ``svg`` element of an SVG file: without fixed size, styles for the whole page, and ids of other figures."""
    svg = document[document.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>\s*|<defs>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{words}">{rest}'
