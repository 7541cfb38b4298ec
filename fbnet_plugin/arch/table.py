"""Tables of architectures: one row per network, or one row per block of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .blocks import BlockSpec, FusedSpec, InvertedResidualSpec
from .cost import Cost, Shape
from .spec import ArchSpec

CONVENTIONS = """\
MACs: multiply-adds of convolution and linear layers alone, for one image of the given size; fvcore and ptflops
also count norms and pools and come out 3-4% higher. params: everything learnable; conv+fc weights: without biases
and norms, as the papers count; both at 1000 classes. Bodies for detectors (*_det): without classifier, at 320 px."""


@dataclass(frozen=True)
class ArchRow:
    """One line of the table of architectures.

    Attributes:
        name: the network's name.
        resolution: px of the square image that the counts are for.
        macs: multiply-adds of convolutions and linear layers.
        params: all learnable values.
        conv_fc_weights: convolution and linear weights alone.
        published_top1: ImageNet top-1 accuracy in percent as published, or None.
    """

    name: str
    resolution: int
    macs: int
    params: int
    conv_fc_weights: int
    published_top1: float | None


def arch_row(spec: ArchSpec) -> ArchRow:
    """The row of one network at its own resolution."""
    cost = spec.cost()
    return ArchRow(spec.name, spec.resolution, cost.macs, cost.params, cost.weights, spec.published.top1)


def format_archs(rows: Iterable[ArchRow]) -> str:
    """The table of architectures, counts in millions; ``CONVENTIONS`` says what they are."""
    lines = [["name", "px", "MACs (M)", "params (M)", "conv+fc weights (M)", "published top-1 (%)"]]
    for row in rows:
        top1 = "-" if row.published_top1 is None else str(row.published_top1)
        counts = [f"{row.macs / 1e6:,.1f}", f"{row.params / 1e6:.3f}", f"{row.conv_fc_weights / 1e6:.3f}"]
        lines.append([row.name, str(row.resolution), *counts, top1])
    return _align(lines)


def format_blocks(spec: ArchSpec) -> str:
    """The table of a network's blocks with exact counts, the total in the last row."""
    lines = [["block", "operator", "input", "output", "MACs", "params", "conv+fc weights"]]
    for layer in spec.layers():
        place, size = f"{layer.part}.{layer.index}", (_size(layer.input), _size(layer.output))
        lines.append([place, describe(layer.block), *size, *_counts(layer.cost)])
    if spec.head is not None:
        lines.append(["head", f"average pool, linear {spec.head.num_classes}", "", "", *_counts(spec.head_cost())])
    lines.append([spec.name, "total", "", "", *_counts(spec.cost())])
    return _align(lines, left=4)


def describe(block: BlockSpec) -> str:
    """A block in the papers' short form, such as ``mb k5 e1 g2 s2``."""
    words = [block.op]
    for letter, key, usual in (("k", "kernel", 0), ("e", "expansion", 0), ("g", "groups", 1), ("x", "cascade", 1)):
        value = getattr(block, key, usual)
        if value != usual:
            words.append(f"{letter}{value:g}")
    if block.stride > 1:
        words.append(f"s{block.stride}")
    if isinstance(block, (InvertedResidualSpec, FusedSpec)) and block.se is not None:
        words.append("se")
    return " ".join([*words, getattr(block, "act", "")]).rstrip()


def _size(shape: Shape) -> str:
    return f"{shape.channels}x{shape.height}x{shape.width}"


def _counts(cost: Cost) -> list[str]:
    return [f"{count:,}" for count in (cost.macs, cost.params, cost.weights)]


def _align(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns of equal width, the first ``left`` of them aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    aligned = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:left], widths)]
        cells += [cell.rjust(width) for cell, width in zip(line[left:], widths[left:])]
        aligned.append("  ".join(cells).rstrip())
    return "\n".join(aligned)
