"""Costs of points without their networks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.arch import ArchError, SearchSpace, list_spaces, load_space, space_cost
from fbnet_plugin.arch.space import Variable


def one_by_one(space: SearchSpace, points: Any, resolution: Any = None) -> list[tuple[int, ...]]:
    return [tuple(space.arch(point).cost(resolution)) for point in points]


def at_once(space: SearchSpace, points: Any, resolution: Any = None) -> list[tuple[int, ...]]:
    cost = space_cost(space, points, resolution)
    assert all(counts.dtype == np.int64 and counts.shape == (len(points),) for counts in cost)
    return list(zip(*(counts.tolist() for counts in cost)))


def space_of(stages: Any, variables: dict[str, Any], **template: Any) -> SearchSpace:
    made = [Variable(name, tuple(choices)) for name, choices in variables.items()]
    return SearchSpace("made", made, {"resolution": 32, "stages": stages, **template})


@pytest.mark.parametrize("resolution", [None, 256, (320, 200)])
@pytest.mark.parametrize("name", list_spaces())
def test_equal_to_the_networks_own_counts(name: str, resolution: Any) -> None:
    space = load_space(name)
    points = space.sample(40, np.random.default_rng(0))
    assert at_once(space, points, resolution) == one_by_one(space, points, resolution)
    assert at_once(space, points[:1].astype(np.int8), resolution) == one_by_one(space, points[:1], resolution)


def test_no_points_and_no_variables() -> None:
    assert at_once(load_space("fbnet"), np.zeros((0, 22), np.int64)) == []
    space = space_of([[{"op": "mb", "out": 8, "repeat": 3}]], {})
    assert at_once(space, np.zeros((2, 0), np.int64)) == 2 * [tuple(space.arch([]).cost())]


BLOCKS = [
    {"op": "mb", "kernel": 5, "expansion": 2.5, "repeat": 3},
    {"op": "mb", "kernel": 3, "expansion": 3, "stride": 2, "repeat": 4, "se": {"ratio": 0.5, "width": "expanded"}},
    {"op": "mb", "kernel": 5, "expansion": 1, "pad": 0, "repeat": 3},
    {"op": "mb", "kernel": 3, "expansion": 2, "groups": 4},
    {"op": "fused", "kernel": 3, "expansion": 2, "project": False, "repeat": 2},
    {"op": "conv", "kernel": 3, "bias": False},
    {"op": "skip", "stride": 2},
    {"op": "skip", "repeat": 5},
]


@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=8, unique_by=str), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_any_space(blocks: list[dict], seed: int, data: st.DataObject) -> None:
    """Kinds, strides, paddings, repeats, heads and images that are chosen; maps may vanish and groups not fit."""
    stages = [
        [{"op": "conv", "out": "$width", "stride": 2}, {"use": "$first", "out": "$width"}],
        [{"use": "$second", "out": "$other"}, {"use": "$first", "out": 16}],
    ]
    head = {
        "num_classes": "$classes",
        "blocks": data.draw(st.sampled_from([[], [{"use": "$second", "out": "$other"}]])),
    }
    variables = {
        "width": [4, 8, 12],
        "other": [6, 8],
        "first": blocks,
        "second": blocks[::-1],
        "classes": [1, 10],
        "px": [20, 33, 64],
        "images": [1, 3],
    }
    space = space_of(stages, variables, resolution="$px", in_channels="$images", head=head)
    points = space.sample(12, np.random.default_rng(seed))
    try:
        expected = one_by_one(space, points)
    except ArchError as error:
        with pytest.raises(ArchError) as caught:
            space_cost(space, points)
        assert str(caught.value) == str(error)
        return
    assert at_once(space, points) == expected


def test_errors_are_those_of_the_first_bad_point() -> None:
    stages = [[{"op": "conv", "out": "$width"}, {"op": "mb", "out": 16, "groups": "$groups", "repeat": "$repeat"}]]
    space = space_of(stages, {"width": [8, 12], "groups": [1, 8], "repeat": [1, 511, 600]})
    assert at_once(space, [[1, 0, 1], [0, 1, 0]]) == one_by_one(space, [[1, 0, 1], [0, 1, 0]])
    for points, problem in (
        ([[0, 1, 0], [1, 1, 0], [0, 0, 2]], "got 8, expected a divisor of the 12 input channels"),
        ([[0, 1, 0], [0, 0, 2], [1, 1, 0]], "repeat: got 600, expected an integer from 1 to 512"),
    ):
        with pytest.raises(ArchError, match=problem):
            space_cost(space, points)
    many = space_of([*stages, [{"op": "skip", "out": 16, "repeat": 2}]], {"width": [8], "groups": [1], "repeat": [511]})
    with pytest.raises(ArchError, match="514 blocks"):
        space_cost(many, [[0, 0, 0]])


@pytest.mark.parametrize(
    "points, message",
    [
        ([[0] * 21], "points: got .*, expected choice indices of shape .n, 22."),
        ([0] * 22, "points: got .*, expected choice indices"),
        (np.zeros((3, 22)), "points: got .*, expected choice indices"),
        ([[0] * 22, [0, 9] + [0] * 20], "layer2: got 9, expected an index from 0 to 8"),
        ([[-1] + [0] * 21], "layer1: got -1, expected an index from 0 to 8"),
    ],
)
def test_points_that_do_not_fit_the_space(points: Any, message: str) -> None:
    with pytest.raises(ArchError, match=message):
        space_cost(load_space("fbnet"), points)


def test_a_row_of_many_variables() -> None:
    """More combinations than an int64 can number."""
    fields = [
        "kernel",
        "expansion",
        "out",
        "groups",
        "bias",
        "dw_norm_act",
        "cascade",
        "divisor",
        "zero_init",
        "repeat",
    ]
    names = {field: f"v{field}" for field in fields}
    variables: dict[str, Any] = {"v" + field: [1] * 200 for field in fields}
    variables["vkernel"] = [1 + 2 * (place % 15) for place in range(200)]
    variables["vout"] = list(range(8, 208))
    variables["vexpansion"] = [1 + place / 10 for place in range(200)]
    for field in ("bias", "dw_norm_act", "zero_init"):
        variables[f"v{field}"] = [place % 2 == 0 for place in range(200)]
    row = {"op": "mb", **{field: f"${name}" for field, name in names.items()}}
    space = space_of([[row]], variables)
    points = space.sample(30, np.random.default_rng(0))
    assert space.size > 2**64 and at_once(space, points) == one_by_one(space, points)


def test_twenty_thousand_points_in_a_second_and_a_half() -> None:
    space = load_space("fbnet_v3")
    points = space.sample(20_000, np.random.default_rng(0))
    start = time.process_time()
    cost = space_cost(space, points)
    assert time.process_time() - start < 1.5  # 0.06 s; 0.6 s for 200,000
    some = [0, 777, 19_999]
    assert [tuple(int(counts[i]) for counts in cost) for i in some] == one_by_one(space, points[some])
