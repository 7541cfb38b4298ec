"""Wider, deeper and larger copies of a network."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import numpy as np

from .blocks import BlockSpec
from .cost import round_channels
from .errors import value_error
from .spec import ArchSpec, StageSpec

ROUNDINGS = ("nearest", "ceil")


def scale_channels(channels: int, factor: float, divisor: int = 8, rounding: str = "nearest") -> int:
    """``channels * factor`` as a multiple of ``divisor``.

    Args:
        rounding: "nearest" is the published models' rule R on ``int(channels * factor)``; "ceil" gives
            ``ceil(channels * factor / divisor) * divisor``, which fits all seven widths of
            FBNet-96-0.35-1 (FBNet section 4.2), where "nearest" would not.

    Raises:
        ArchError: another word for ``rounding``.
    """
    if rounding not in ROUNDINGS:
        raise value_error("rounding", rounding, " or ".join(ROUNDINGS))
    if rounding == "ceil":
        return math.ceil(round(channels * factor / divisor, 9)) * divisor
    return int(round_channels(np.floor(channels * factor), divisor))


def scale_width(
    spec: ArchSpec, factor: float, divisor: int = 8, rounding: str = "nearest", scale_head: bool = True
) -> ArchSpec:
    """A copy with all output channels scaled; 1.0 leaves every width as it is, rounded or not.

    Args:
        scale_head: also the head's blocks; False keeps them, as the paper does.
    """
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor <= 64:
        raise value_error("width factor", factor, "a number above 0, at most 64")
    if factor == 1.0:
        return spec

    def widen(block: BlockSpec) -> BlockSpec:
        return dataclasses.replace(block, out=scale_channels(block.out, factor, divisor, rounding))

    scaled = spec.map_blocks(widen)
    return scaled if scale_head else dataclasses.replace(scaled, head=spec.head)


def scale_depth(spec: ArchSpec, factor: float) -> ArchSpec:
    """A copy with ``ceil(repeat * factor)`` copies in every row that keeps its shape.

    Rows whose first block changes the shape keep that one block and scale the rest.
    """
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor <= 64:
        raise value_error("depth factor", factor, "a number above 0, at most 64")

    def deepen(block: BlockSpec) -> BlockSpec:
        return block if block.repeat == 1 else dataclasses.replace(block, repeat=math.ceil(round(block.repeat * factor, 9)))

    stages = tuple(StageSpec(tuple(map(deepen, stage.blocks))) for stage in spec.stages)
    return dataclasses.replace(spec, stages=stages)


def scale(spec: ArchSpec, width: float = 1.0, depth: float = 1.0, resolution: Optional[int] = None) -> ArchSpec:
    """Compound scaling: width and depth factors and a new resolution (px) in one call."""
    scaled = scale_depth(scale_width(spec, width, scale_head=False), depth)
    return scaled if resolution is None else dataclasses.replace(scaled, resolution=resolution)
