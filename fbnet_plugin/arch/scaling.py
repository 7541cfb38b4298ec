"""Wider, deeper and larger copies of a network."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .blocks import BlockSpec, PoolSpec, SkipSpec
from .checks import check_choice, check_float, check_int
from .cost import round_channels
from .spec import ArchSpec, StageSpec

ROUNDINGS = ("nearest", "ceil")


def scale_channels(channels: int, factor: float, divisor: int = 8, rounding: str = "nearest") -> int:
    """``channels * factor`` as a multiple of ``divisor``.

    Args:
        rounding: "nearest" is the published models' rule R on ``int(channels * factor)``; "ceil" gives
            ``ceil(channels * factor / divisor) * divisor``, which fits all seven widths of
            FBNet-96-0.35-1 (FBNet section 4.2), where "nearest" would not.

    Raises:
        ArchError: another word for ``rounding``, or a number out of range.
    """
    check_choice("rounding", rounding, ROUNDINGS)
    check_int("divisor", divisor, 1, 1024)
    factor = check_float("width factor", factor, 0.01, 64.0)
    if rounding == "ceil":
        return math.ceil(round(channels * factor / divisor, 9)) * divisor
    return int(round_channels(np.floor(channels * factor), divisor))


def scale_width(
    spec: ArchSpec, factor: float, divisor: int = 8, rounding: str = "nearest", scale_head: bool = True
) -> ArchSpec:
    """A copy with all output channels scaled; 1.0 leaves every width as it is, rounded or not.

    Args:
        scale_head: also the head's blocks; False keeps them, as the paper does.

    Raises:
        ArchError: a bad argument, or the scaled blocks no longer fit each other.
    """
    if check_float("width factor", factor, 0.01, 64.0) == 1.0:
        return spec

    def widen(block: BlockSpec) -> BlockSpec:
        return dataclasses.replace(block, out=scale_channels(block.out, factor, divisor, rounding))

    scaled = spec.map_blocks(widen)
    return (scaled if scale_head else dataclasses.replace(scaled, head=spec.head)).validate()


def scale_depth(spec: ArchSpec, factor: float) -> ArchSpec:
    """A copy whose stages hold ``ceil(n * factor)`` copies of every block that keeps the map's shape.

    A row whose first copy changes the shape keeps that one and scales the rest. Skips, the head and the
    box head stay as they are.

    Raises:
        ArchError: a bad factor, or more blocks than a network may have.
    """
    check_float("depth factor", factor, 0.01, 64.0)
    stages, channels = [], spec.in_channels
    for stage in spec.stages:
        rows = []
        for row in stage.blocks:
            rows.append(_deepen(row, channels, factor))
            channels = row.out
        stages.append(StageSpec(tuple(rows)))
    return dataclasses.replace(spec, stages=tuple(stages)).validate()


def _deepen(row: BlockSpec, c_in: int, factor: float) -> BlockSpec:
    if isinstance(row, (SkipSpec, PoolSpec)):
        return row
    fixed = 0 if row.stride == 1 and row.out == c_in else 1
    scaled = math.ceil(round((row.repeat - fixed) * factor, 9))
    return dataclasses.replace(row, repeat=max(fixed + scaled, 1))


def scale(spec: ArchSpec, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> ArchSpec:
    """Compound scaling: width and depth factors and a new resolution (px) in one call.

    The head's blocks keep their width.

    Raises:
        ArchError: see ``scale_width`` and ``scale_depth``.
    """
    scaled = scale_depth(scale_width(spec, width, scale_head=False), depth)
    return scaled if resolution is None else dataclasses.replace(scaled, resolution=resolution).validate()
