"""Architectures as rows of boxes (FBNet Figure 4)."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ..arch import ArchError, ArchSpec, BlockSpec, ConvSpec, FusedSpec, InvertedResidualSpec, Layer, PoolSpec, SkipSpec
from ..arch.mixed import MixedSpec
from ..arch.spec import Resolution
from .picture import picture_format, save_picture

# Blue and green as in the paper; the others from Okabe and Ito's colours, told apart with every kind of colour vision.
KERNEL_COLOURS = {3: "#2B7BBA", 5: "#3BA55D", 7: "#E69F00", 9: "#CC79A7", 11: "#D55E00", 1: "#F0E442"}
LARGE_KERNEL = "#5B3A8C"  # 13 px and more
CONV, EDGE, GREY, FAINT = "#C4C4C4", "#8A8A8A", "#666666", "#DDDDDD"
GROUPED = 0.5  # by which a block with grouped 1x1 convs is lower
MAX_ARCHS = 100

# Inches: width of a block's place, height of the boxes, room above and below them.
PLACE, BOXES, ABOVE, BELOW = 0.22, 0.66, 0.16, 0.30
GAP = 0.8  # places between stages


# Layers of a network's stages by output stride and number of the stage among those of this stride.
Stages = dict[tuple[int, int], list[Layer]]


class Box(NamedTuple):
    """How a block looks: a rectangle in ``parts`` side by side; ``legend`` are the entries that explain it."""

    height: float
    face: str
    edge: str = "white"
    line: str = "-"
    hatch: str = ""
    parts: int = 1
    se: bool = False
    legend: tuple[str, ...] = ()


# Entries of the legend besides the kernels, in order.
CONV_ENTRY, POOL_ENTRY = "convolution (stem)", "pooling block"
FUSED_ENTRY, CASCADE_ENTRY = "fused: dense k×k conv", "stacked depthwise convs"
GROUPS_ENTRY, SE_ENTRY = "grouped 1×1 convs: lower by ½", "squeeze-and-excite"
PROJECTED_ENTRY, IDENTITY_ENTRY = "skip as 1×1 conv", "skip"


def block_box(block: BlockSpec, c_in: int) -> Box:
    """The box of one block: height = expansion, colour = kernel of the depthwise (or fused, dense) convolution.

    Args:
        block: of a network's stage.
        c_in: its input channels, which tell an identity from a 1x1 convolution.

    Raises:
        ArchError: the block is a choice that is still open.
    """
    if isinstance(block, SkipSpec):
        if block.is_identity(c_in):
            return Box(1.0, "none", EDGE, ":", legend=(IDENTITY_ENTRY,))
        return Box(1.0, "white", EDGE, hatch="xxxxxx", legend=(PROJECTED_ENTRY,))
    if isinstance(block, ConvSpec):
        return Box(1.0, CONV, legend=(CONV_ENTRY,))
    if isinstance(block, PoolSpec):
        return Box(block.expansion, CONV, hatch="....", legend=(POOL_ENTRY,))
    if isinstance(block, MixedSpec):
        raise ArchError("is still to be chosen, expected a network without choices", block.variable)
    assert isinstance(block, (InvertedResidualSpec, FusedSpec)), block
    colour, se = KERNEL_COLOURS.get(block.kernel, LARGE_KERNEL), block.se is not None
    entries = [kernel_entry(block.kernel), *([SE_ENTRY] if se else [])]
    if isinstance(block, FusedSpec):
        height = block.expansion if block.project else 1.0
        return Box(height, colour, hatch="////", se=se, legend=(*entries, FUSED_ENTRY))
    height = block.expansion - (GROUPED * min(block.expansion, 1.0) if block.groups > 1 else 0.0)
    entries += [CASCADE_ENTRY] if block.cascade > 1 else []
    entries += [GROUPS_ENTRY] if block.groups > 1 else []
    return Box(height, colour, parts=block.cascade, se=se, legend=tuple(entries))


def kernel_entry(kernel: int) -> str:
    """Legend entry of a kernel size in px."""
    return f"{kernel}×{kernel} kernel" if kernel in KERNEL_COLOURS else "13×13 kernel or larger"


def arch_label(
    arch: ArchSpec, resolution: Resolution | None = None, *, name: str = "", latency_us: float | None = None
) -> str:
    """A row's label: name, then input size and MACs, then latency if it is known.

    Args:
        arch: the network.
        resolution: image px, one side or (height, width); default: the network's own.
        name: default: the network's.
        latency_us: µs.

    Raises:
        ArchError: the network cannot take such images.
    """
    size = arch.resolution if resolution is None else resolution
    side = f"{size}" if isinstance(size, int) else "×".join(map(str, size))
    lines = [name or arch.name, f"{side} px, {arch.cost(resolution).macs / 1e6:,.1f}M MACs"]
    if latency_us is not None:
        ms = latency_us / 1e3
        lines.append(f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.3g} ms")
    return "\n".join(lines)


def draw_architectures(
    archs: Sequence[ArchSpec],
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    resolution: Resolution | None = None,
    title: str = "",
) -> None:
    """One row of boxes per architecture, one box per block of its stages (FBNet Figure 4).

    Height is expansion and colour the kernel, see ``block_box``; a dot above a box is squeeze-and-excite. Stages of
    equal output stride begin at the same place in all rows. Under each row stand the output channels.

    Args:
        archs: 1 to ``MAX_ARCHS`` networks.
        path: of the .png, .pdf or .svg file; it appears complete or not at all.
        labels: one per row, the first line in bold; default: ``arch_label``.
        resolution: image px for the sizes of the maps, one side or (height, width); default: each network's own.
        title: above the rows.

    Raises:
        ArchError: no or too many networks, another number of labels, or a network that cannot take such images.
        ValueError: the file's name ends otherwise.
    """
    picture_format(path)
    if not 1 <= len(archs) <= MAX_ARCHS:
        raise ArchError(f"{len(archs)} architectures, expected 1 to {MAX_ARCHS}")
    labels = [arch_label(arch, resolution) for arch in archs] if labels is None else labels
    if len(labels) != len(archs):
        raise ArchError(f"{len(labels)} labels, expected one for each of the {len(archs)} architectures")
    rows = [_stages(arch, resolution) for arch in archs]
    boxes = [_box(layer) for row in rows for stage in row.values() for layer in stage]
    starts, end = _columns(rows)
    top = max(6.0, *(box.height for box in boxes))  # the paper's highest is 6
    unit = BOXES / top  # inches per unit of expansion
    figure = Figure(figsize=(end * PLACE, len(rows) * (ABOVE + BOXES + BELOW)))
    edges = {"left": 0, "right": 1, "bottom": 0, "top": 1, "hspace": 0}
    panels = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw=edges)[:, 0]
    sizes = {slot: {_size(row[slot]) for row in rows if slot in row} for slot in starts}
    for row, label, axes in zip(rows, labels, panels):
        axes.set_xlim(0, end)
        axes.set_ylim(-BELOW / unit, top + ABOVE / unit)
        _plain(axes, top)
        _name(axes, label, top / 2)
        for slot, start in starts.items():
            if start:
                axes.axvline(start - GAP / 2, color=FAINT, linewidth=0.6, zorder=0)
            if slot in row:
                _draw_stage(axes, row[slot], start, unit, with_size=len(sizes[slot]) > 1)
    _head(panels[0], starts, end, sizes, title)
    height = figure.get_size_inches()[1]
    entries = {entry for box in boxes for entry in box.legend}
    figure.legend(
        handles=_legend(entries), ncol=_legend_columns(len(entries), end * PLACE), frameon=False, fontsize=7,
        loc="upper left", bbox_to_anchor=(0, -0.06 / height), borderpad=0, borderaxespad=0, handlelength=1.4,
        columnspacing=1.4,
    )  # fmt: skip
    save_picture(figure, path)


def _stages(arch: ArchSpec, resolution: Resolution | None) -> Stages:
    by_part: dict[str, list[Layer]] = {}
    for layer in arch.layers(resolution):
        by_part.setdefault(layer.part, []).append(layer)
    strides = arch.strides()
    return {
        (stride, strides[:number].count(stride)): by_part[f"stages[{number}]"] for number, stride in enumerate(strides)
    }


def _box(layer: Layer) -> Box:
    return block_box(layer.block, layer.input.channels)


def _size(stage: Sequence[Layer]) -> str:
    """Size of the map that a stage gives."""
    shape = stage[-1].output
    return f"{shape.height} px" if shape.height == shape.width else f"{shape.height}×{shape.width} px"


def _columns(rows: Sequence[Stages]) -> tuple[dict[tuple[int, int], float], float]:
    """Place where each stage begins, in order, and where the last one ends; at least two places each."""
    starts: dict[tuple[int, int], float] = {}
    end = -GAP
    for slot in sorted(set().union(*rows)):
        starts[slot] = end + GAP
        end = starts[slot] + max(2, *(len(row.get(slot, ())) for row in rows))
    return starts, end


def _draw_stage(axes: Axes, stage: Sequence[Layer], start: float, unit: float, with_size: bool) -> None:
    """The boxes of one stage, and under them the channels, with a line per run of equal ones, and the map's size."""
    for x, layer in enumerate(stage):
        box, left = _box(layer), start + x + 0.07
        axes.add_patch(_rectangle(box, left, 0.86))
        for part in range(1, box.parts):
            axes.plot([left + 0.86 * part / box.parts] * 2, [0, box.height], color="white", linewidth=0.8)
        if box.se:
            axes.plot(left + 0.43, box.height + 0.055 / unit, "o", color="black", markersize=1.9, zorder=3)
    left = start
    for channels, run in itertools.groupby(stage, key=lambda layer: layer.output.channels):
        count = len(list(run))
        axes.plot([left + 0.07, left + count - 0.07], [0, 0], color=GREY, linewidth=0.8, solid_capstyle="butt")
        axes.text(left + count / 2, -0.03 / unit, str(channels), fontsize=5.5, ha="center", va="top", color="#222222")
        left += count
    if with_size:
        axes.text(start + 0.07, -0.16 / unit, _size(stage), fontsize=5.5, ha="left", va="top", color=GREY)


def _rectangle(box: Box, left: float, width: float) -> Rectangle:
    return Rectangle(
        (left, 0), width, box.height, facecolor=box.face, edgecolor=box.edge, linestyle=box.line, hatch=box.hatch,
        linewidth=0.7 if box.edge != "white" else 0.0,
    )  # fmt: skip


def _plain(axes: Axes, top: float) -> None:
    """No frame; faint lines at the expansions 1, 3 and 6, or at round ones where boxes are higher than the paper's."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    ticks = [1, 3, 6] if top < 10 else [1, *(round(top * part) for part in (0.5, 1))]
    axes.set_yticks(ticks, [str(tick) for tick in ticks], fontsize=5.5, color=GREY)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, pad=2)
    axes.grid(axis="y", color=FAINT, linewidth=0.4, linestyle=":")
    axes.set_axisbelow(True)


def _name(axes: Axes, label: str, middle: float) -> None:
    """A row's label to the left of it, the first line in bold."""
    name, _, figures = label.partition("\n")
    style: dict[str, Any] = {"xy": (0, middle), "xycoords": ("axes fraction", "data"), "textcoords": "offset points",
                             "ha": "right", "parse_math": False}  # fmt: skip
    axes.annotate(fill(name, 36), xytext=(-14, 1), va="bottom", fontsize=8, fontweight="bold", **style)
    axes.annotate(figures, xytext=(-14, -2), va="top", fontsize=6.5, color=GREY, linespacing=1.3, **style)


def _head(
    axes: Axes, starts: Mapping[tuple[int, int], float], end: float, sizes: Mapping[Any, set[str]], title: str
) -> None:
    """Above the first row: output stride of each stage, and the size of its map where all rows agree."""
    above = axes.get_xaxis_transform()
    for slot, start in starts.items():
        size = f"\n{next(iter(sizes[slot]))}" if len(sizes[slot]) == 1 else ""
        text = f"stride {slot[0]}{size}"
        axes.text(start + 0.07, 1.02, text, transform=above, fontsize=6.5, color=GREY, ha="left", va="bottom")
    style: dict[str, Any] = {"xycoords": ("axes fraction", "axes fraction"), "textcoords": "offset points"}
    axes.annotate("expansion", xy=(0, 1), xytext=(-2, -1), ha="right", va="top", fontsize=5.5, color=GREY, **style)
    if title:
        axes.annotate(title, xy=(0, 1), xytext=(0, 28), fontsize=10, parse_math=False, **style)


def _legend_columns(entries: int, width: float) -> int:
    """Columns of a legend of about ``width`` inches, its rows filled evenly."""
    rows = math.ceil(entries / max(2, int(width / 1.6)))
    return math.ceil(entries / rows)


def _legend(entries: set[str]) -> list[Artist]:
    """Handles for the entries that the boxes name."""
    known = [1, *sorted(set(KERNEL_COLOURS) - {1}), 13]
    handles: list[Artist] = [
        Patch(facecolor=KERNEL_COLOURS.get(kernel, LARGE_KERNEL), label=kernel_entry(kernel)) for kernel in known
    ]
    handles += [
        Patch(facecolor=CONV, label=CONV_ENTRY),
        Patch(facecolor=CONV, edgecolor="white", linewidth=0, hatch="....", label=POOL_ENTRY),
        Patch(facecolor=EDGE, edgecolor="white", linewidth=0, hatch="////", label=FUSED_ENTRY),
        Patch(facecolor=EDGE, edgecolor="white", linewidth=0, hatch="|", label=CASCADE_ENTRY),
        Line2D([], [], color=EDGE, linewidth=2.5, solid_capstyle="butt", label=GROUPS_ENTRY),
        Line2D([], [], color="black", marker="o", markersize=2.4, linestyle="", label=SE_ENTRY),
        Patch(facecolor="white", edgecolor=EDGE, linewidth=0.7, hatch="xxxxxx", label=PROJECTED_ENTRY),
        Patch(facecolor="none", edgecolor=EDGE, linewidth=0.7, linestyle=":", label=IDENTITY_ENTRY),
    ]
    return [handle for handle in handles if handle.get_label() in entries]
