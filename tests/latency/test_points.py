"""Latencies of points without their networks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from small_spaces import listed_operators, space_of
from tables import table_of

from fbnet_plugin.arch import ArchError, load_space
from fbnet_plugin.latency import LatencyError, LatencyTable
from fbnet_plugin.latency.coverage import space_operators
from fbnet_plugin.latency.points import PointLatencies

SPACE = space_of(
    {
        "width": [8, 16],
        "kind": [{"op": "mb", "kernel": 3, "expansion": 2, "repeat": 3}, {"op": "skip"}, {"op": "skip", "stride": 2}],
        "px": [16, 24],
        "classes": [2, 5],
    },
    resolution="$px",
    stages=[[{"op": "conv", "out": "$width", "stride": 2}, {"use": "$kind", "out": "$width"}]],
    head={"num_classes": "$classes", "blocks": [{"op": "conv", "kernel": 1, "out": 24}]},
)
TABLE = table_of(listed_operators(SPACE), constant_us=12.5)


def both(table: LatencyTable, space: Any, points: np.ndarray, resolution: Any = None) -> tuple[np.ndarray, np.ndarray]:
    archs = [space.arch(point) for point in points]
    return PointLatencies(table, space, resolution)(points), table.latencies(archs, resolution)


def test_every_point_of_a_small_space() -> None:
    points = np.stack(np.unravel_index(np.arange(SPACE.size), [2, 3, 2, 2]), axis=1)
    ours, theirs = both(TABLE, SPACE, points)
    assert ours.dtype == np.float64 and np.array_equal(ours, theirs) and len(np.unique(ours)) > 10


@pytest.mark.parametrize("name", ["fbnet_digits", "fbnet_v3_digits"])
@pytest.mark.parametrize("resolution", [None, (20, 28)])
def test_equal_to_the_tables_own_sums(name: str, resolution: Any) -> None:
    space = load_space(name)
    table = table_of(space_operators(space, resolution), constant_us=3.25)
    ours, theirs = both(table, space, space.sample(200, np.random.default_rng(0)), resolution)
    assert np.array_equal(ours, theirs)


def test_what_was_looked_up_is_remembered() -> None:
    space = load_space("fbnet_v3_digits")
    latencies = PointLatencies(table_of(space_operators(space)), space)
    points = space.sample(20_000, np.random.default_rng(0))
    first = latencies(points)
    start = time.process_time()
    assert np.array_equal(latencies(points[::-1]), first[::-1])
    assert time.process_time() - start < 1  # 0.03 s
    assert np.array_equal(latencies(points[:3]), first[:3]) and latencies(points[:0]).shape == (0,)


def test_missing_operators_are_refused_as_the_table_does() -> None:
    """Also by an object that has seen them missing before; points without them go on."""
    whole = sorted(listed_operators(SPACE))
    table = table_of(operator for operator in whole if dict(operator.fields)["out"] != 5)
    latencies = PointLatencies(table, SPACE)
    points = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    with pytest.raises(LatencyError) as ours:
        latencies(points)
    with pytest.raises(LatencyError) as theirs:
        table.latencies([SPACE.arch(point) for point in points])
    assert str(ours.value) == str(theirs.value) and "lacks 2 operators" in str(ours.value)
    good = np.array([[0, 0, 0, 0], [1, 2, 1, 0]])
    assert np.array_equal(latencies(good), table.latencies([SPACE.arch(point) for point in good]))


def test_maps_that_vanish_and_points_that_do_not_fit() -> None:
    stages = [[{"op": "mb", "kernel": 5, "pad": 0, "out": 8, "repeat": "$repeat"}]]
    space = space_of({"repeat": [1, 2, 3]}, resolution=9, stages=stages)
    latencies = PointLatencies(table_of(listed_operators(space)), space)
    assert latencies([[0], [1]]).shape == (2,)
    with pytest.raises(ArchError, match=r"stages\[0\].blocks\[0\]: the 1.*x1.* px input leaves no output pixel"):
        latencies([[0], [2]])
    with pytest.raises(ArchError, match="repeat: got 3, expected an index from 0 to 2"):
        latencies([[3]])
