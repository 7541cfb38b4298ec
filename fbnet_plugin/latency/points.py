"""Latencies of many points of a space, without making their networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arch import ArchError, SearchSpace, Shape
from ..arch.point_rows import PointRows, check_points, point_rows
from ..arch.spec import Resolution, image_size
from .table import LatencyTable, RowLookup, source_of


class PointLatencies:
    """Latency of points of one space by one table; what was looked up once is remembered for later calls.

    Args:
        table: has the operators of the space.
        space: any space.
        resolution: image px for all networks, one side or (height, width); default: each network's own.
    """

    def __init__(self, table: LatencyTable, space: SearchSpace, resolution: Resolution | None = None):
        self.table, self.space, self.resolution = table, space, resolution
        self._lookup = RowLookup(table)

    def __call__(self, points: Any) -> np.ndarray:
        """Total µs, float64 of shape (n,); what ``table.latencies([space.arch(point), ...])`` gives.

        Args:
            points: choice indices, int, shape (n, len(space.variables)).

        Raises:
            LatencyError: operators are not in the table.
            ArchError: the points do not fit the space, or the first point whose network does not fit its resolution.
        """
        points = check_points(self.space, points)
        parts = point_rows(self.space, points)
        total = _Sum(len(points))
        bad = parts.bad.copy()
        shapes, shape = self._images(parts)
        for row in parts.rows:
            us, shapes, after = self._pairs(shapes, shape[row.points], row.blocks, row.choice, self._lookup.row)
            total.add(us, row.points)
            shape[row.points] = after
            bad[row.points[after < 0]] = True
        heads = [one.head.num_classes if one.head else 0 for one in parts.frames]
        us, _, _ = self._pairs(shapes, shape, heads, parts.frame, self._classifier)
        total.add(us, np.arange(len(points)))
        if bad.any():
            self.space.arch(points[int(np.argmax(bad))]).cost(self.resolution)
            raise AssertionError("a network has a latency alone, but none among others")
        us = total.value()
        if np.isnan(us).any():
            self._refuse(points[np.isnan(us)], parts.frame[np.isnan(us)])
        return us + self.table.constant_us

    def _images(self, parts: PointRows) -> tuple[list[Shape], np.ndarray]:
        """Different input shapes of the networks, and each point's place among them."""
        shapes: dict[Shape, int] = {}
        places = []
        for one in parts.frames:
            size = image_size(one.resolution if self.resolution is None else self.resolution)
            places.append(shapes.setdefault(Shape(one.in_channels, *size), len(shapes)))
        return list(shapes), np.array([*places, -1])[parts.frame]

    @staticmethod
    def _pairs(
        shapes: list[Shape],
        shape: np.ndarray,
        things: Sequence[Any],
        thing: np.ndarray,
        look_up: Callable[[Any, Shape], tuple[float, Shape]],
    ) -> tuple[np.ndarray, list[Shape], np.ndarray]:
        """Looks up each pair of an input shape and something that stands in a row, once.

        Args:
            shapes, things: what they can be; ``shapes`` is continued.
            shape, thing: places in these lists, shape (m,); -1 is none.
            look_up: µs and output shape.

        Returns:
            µs, shape (m,); all shapes; places of the output shapes, -1 where the input does not fit.
        """
        numbers = {one: place for place, one in enumerate(shapes)}
        us, after = np.full(len(shape), 0.0), np.full(len(shape), -1)
        known = np.flatnonzero((shape >= 0) & (thing >= 0))
        code = shape[known] * len(things) + thing[known]
        codes, place = np.unique(code, return_inverse=True)
        found = np.zeros((len(codes), 2))
        for which, pair in enumerate(codes.tolist()):
            try:
                cost, output = look_up(things[pair % len(things)], shapes[pair // len(things)])
            except ArchError:
                found[which] = 0, -1
                continue
            if output not in numbers:
                numbers[output] = len(shapes)
                shapes.append(output)
            found[which] = cost, numbers[output]
        us[known], after[known] = found[place.reshape(-1), 0], found[place.reshape(-1), 1]
        return us, shapes, after

    def _classifier(self, num_classes: int, shape: Shape) -> tuple[float, Shape]:
        return (self._lookup.classifier(num_classes, shape) if num_classes else 0.0), shape

    def _refuse(self, points: np.ndarray, frame: np.ndarray) -> None:
        """Raises LatencyError for points that need operators which the table does not have."""
        _, first = np.unique(frame, return_index=True)
        archs = [self.space.arch(point) for point in points[np.sort(first)]]
        self.table.require(self._lookup.missing, source_of(archs, self.resolution))


class _Sum:
    """Sums of n columns of numbers, with the rounding errors carried along, so that they are ``math.fsum``'s."""

    def __init__(self, n: int):
        self._high, self._low = np.zeros(n), np.zeros(n)

    def add(self, values: np.ndarray, index: np.ndarray) -> None:
        before = self._high[index]
        after = before + values
        back = after - before
        self._low[index] += (before - (after - back)) + (values - back)
        self._high[index] = after

    def value(self) -> np.ndarray:
        return self._high + self._low
