"""Codes of points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.arch.space import Variable
from fbnet_plugin.nars.encoding import Encoding
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.space import JointSpace, list_joint_spaces, load_joint_space

number = st.floats(-1e300, 1e300) | st.integers(-(10**30), 10**30) | st.floats(0, 1e-300)
variables = st.lists(
    st.builds(lambda values: (tuple(sorted(values)), True), st.sets(number, min_size=1, max_size=30))
    | st.builds(
        lambda values: (tuple(values), False), st.lists(st.text(max_size=2) | st.booleans(), min_size=1, max_size=5)
    ),
    min_size=1,
    max_size=6,
)


def check_round_trip(encoding: Encoding, sizes: Any, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).integers(0, sizes, size=(64, len(sizes)))
    codes = encoding.encode(points)
    assert codes.dtype == np.float32 and codes.shape == (64, encoding.width) and len(encoding.columns) == encoding.width
    assert codes.size == 0 or 0 <= codes.min() <= codes.max() <= 1
    again = encoding.decode(codes)
    assert again.dtype == np.int64 and np.array_equal(again, points)
    return codes


@given(variables, st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_decoding_gives_back_the_points(lists: list[tuple[tuple[Any, ...], bool]], seed: int) -> None:
    made = [Variable(f"v{place}", choices, ordered) for place, (choices, ordered) in enumerate(lists)]
    sizes = [len(variable.choices) for variable in made]
    encoding = Encoding(made, seed % (len(made) + 1))
    check_round_trip(encoding, sizes, seed)
    lowest, highest = np.zeros((1, len(made)), np.int64), np.array([sizes]) - 1
    for place, variable in enumerate(made):
        if variable.ordered and sizes[place] > 1:
            column = encoding.columns.index(variable.name)
            assert (encoding.encode(lowest)[0, column], encoding.encode(highest)[0, column]) == (0, 1)


@pytest.mark.parametrize("name", list_joint_spaces())
def test_shipped_spaces(name: str) -> None:
    space = load_joint_space(name)
    encoding = Encoding(space.variables, space.num_arch)
    codes = check_round_trip(encoding, space.sizes)
    ordered = [variable.ordered for variable in space.variables]
    expected = sum(1 if one else len(variable.choices) for one, variable in zip(ordered, space.variables))
    assert encoding.width == expected
    arch = Encoding(space.variables[: space.num_arch], space.num_arch)
    assert arch.width == encoding.arch_width
    points = encoding.decode(codes)
    assert np.array_equal(arch.encode(points[:, : space.num_arch]), codes[:, : encoding.arch_width])


def test_restricted_spaces() -> None:
    space = load_joint_space("digits")
    part = space.arch_space.restrict({"c0": 12, "resolution": (24, 32), "k1": 3, "k2": (3, 5)})
    joint = JointSpace("part", part, space.recipe_space)
    encoding = Encoding(joint.variables, joint.num_arch)
    check_round_trip(encoding, joint.sizes)
    assert "c0" not in encoding.columns and "resolution" in encoding.columns
    assert not any(column.startswith("k1") for column in encoding.columns) and "k2=5" in encoding.columns


def test_codes_by_hand() -> None:
    made = [
        Variable("width", (8, 16, 32), ordered=True),
        Variable("op", ({"op": "mb"}, {"op": "skip"})),
        Variable("one", (5,), ordered=True),
        Variable("ema", (True, False)),
    ]
    encoding = Encoding(made, 3)
    assert encoding.columns == ("width", "op=0", "op=1", "ema=true", "ema=false")
    assert (encoding.width, encoding.arch_width) == (5, 3)
    codes = encoding.encode([[1, 1, 0, 0]])
    np.testing.assert_allclose(codes, [[1 / 2, 0, 1, 1, 0]], rtol=1e-6)
    assert encoding.decode([[0.8, 0.1, 0.2, 0.6, 0.5]]).tolist() == [[2, 1, 0, 0]]
    assert encoding.decode([[-3, 0, 0, 0, 0], [9, 0, 0, 0, 0]])[:, 0].tolist() == [0, 2]


def test_numbers_that_float32_cannot_tell_apart() -> None:
    encoding = Encoding([Variable("x", (0.0, 1.0 - 1e-12, 1.0), ordered=True)], 1)
    assert encoding.encode([[0], [1], [2]])[:, 0].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "points, message",
    [
        ([[0, 0]], r"points: got shape \(1, 2\), expected choice indices \(n, 1\)"),
        ([[0.0]], "points: got shape"),
        ([[2]], "x: got 2 to 2, expected indices from 0 to 1"),
        ([[0], [-1]], "x: got -1 to 0, expected indices from 0 to 1"),
    ],
)
def test_bad_points(points: Any, message: str) -> None:
    encoding = Encoding([Variable("x", ("a", "b"))], 1)
    with pytest.raises(NARSError, match=message):
        encoding.encode(points)
    with pytest.raises(NARSError, match=r"codes: got shape \(1, 3\), expected \(n, 2\)"):
        encoding.decode([[0, 0, 0]])
    assert encoding.encode(np.zeros((0, 1), np.int64)).shape == (0, 2)
