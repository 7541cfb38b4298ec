"""Costs of many points of a space, without making their networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .batch import Maps
from .cost import Cost
from .point_rows import PointRows, check_points, point_rows
from .space import SearchSpace
from .spec import Resolution, image_size


def space_cost(space: SearchSpace, points: Any, resolution: Resolution | None = None) -> Cost:
    """Exact counts of many points, equal to ``space.arch(point).cost(resolution)`` of each.

    Args:
        space: any space.
        points: choice indices, int, shape (n, len(space.variables)).
        resolution: image px for all, one side or (height, width); default: each network's own.

    Returns:
        Cost of int64 arrays of shape (n,).

    Raises:
        ArchError: the points do not fit the space, or as ``space.arch(point).cost(resolution)`` of the first
            point that has no cost.
    """
    points = check_points(space, points)
    parts = point_rows(space, points)
    if not len(parts.frames):
        return _nothing(space, points, resolution)
    maps = _images(parts, resolution)
    for row in parts.rows:
        maps.add_row(row.blocks, row.choice, row.points)
    bad = parts.bad | maps.bad
    if bad.any():
        return _nothing(space, points[bad], resolution)
    classes = np.array([one.head.num_classes if one.head else 0 for one in parts.frames], dtype=np.int64)
    return maps.cost(classes[parts.frame])


def _images(parts: PointRows, resolution: Resolution | None) -> Maps:
    sizes = [image_size(one.resolution if resolution is None else resolution) for one in parts.frames]
    channels = np.array([one.in_channels for one in parts.frames], dtype=np.int64)
    return Maps(channels[parts.frame], np.array(sizes, dtype=np.float64)[parts.frame])


def _nothing(space: SearchSpace, points: np.ndarray, resolution: Resolution | None) -> Cost:
    """No counts for no points, and the first one's error for points that have no cost."""
    if len(points):
        space.arch(points[0]).cost(resolution)
        raise AssertionError(f"{points[0].tolist()} of {space.name} has a cost alone, but none among others")
    return Cost(*(np.zeros(0, dtype=np.int64) for _ in Cost._fields))
