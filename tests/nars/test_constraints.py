"""Constraints as text and on costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.nars.constraints import (
    METRICS,
    Constraint,
    format_constraints,
    format_cost,
    parse_constraints,
    satisfied,
    violation,
)
from fbnet_plugin.nars.errors import NARSError

INF = math.inf


@pytest.mark.parametrize(
    "text, constraints",
    [
        ("", []),
        ("macs <= 450M", [("macs", -INF, 450e6)]),
        ("400M <= macs <= 800M, params <= 9M", [("macs", 400e6, 800e6), ("params", -INF, 9e6)]),
        ("latency_us<=20000", [("latency_us", -INF, 20000)]),
        ("800M >= macs >= 400M", [("macs", 400e6, 800e6)]),
        ("0.45G >= macs", [("macs", -INF, 450e6)]),
        ("4e8 <= macs", [("macs", 4e8, INF)]),
        ("params >= 1.5 k", [("params", 1500, INF)]),
        ("macs >= 400M, params <= 9M, macs <= 800M", [("macs", 400e6, 800e6), ("params", -INF, 9e6)]),
        ("macs <= 800M, macs <= 4.5E+8", [("macs", -INF, 450e6)]),
        ("213.4M <= macs", [("macs", 213_400_000, INF)]),  # 213.4 * 1e6 is less than that
        (" macs <= .5K ", [("macs", -INF, 500)]),
    ],
)
def test_texts(text: str, constraints: list) -> None:
    assert parse_constraints(text) == tuple(Constraint(*one) for one in constraints)


bound = st.floats(0, 1e18) | st.integers(0, 10**12).map(float)


@given(st.lists(st.tuples(st.sampled_from(METRICS), bound, bound, st.integers(0, 2)), unique_by=lambda one: one[0]))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_formatted_constraints_are_read_back_exactly(parts: list) -> None:
    constraints = []
    for metric, first, second, kind in parts:
        low, high = min(first, second), max(first, second)
        constraints.append(Constraint(metric, -INF if kind == 0 else low, INF if kind == 1 else high))
    assert parse_constraints(format_constraints(constraints)) == tuple(constraints)


def test_formatted_for_the_reader() -> None:
    text = "400M <= macs <= 1.25G, params >= 5.3k, latency_us <= 20000"
    assert format_constraints(parse_constraints(text)) == text
    assert format_constraints(()) == ""
    assert format_cost(213_440_920, "macs") == "213.4M macs" and format_cost(20413.4, "latency_us") == "20410 µs"
    assert format_cost(213_440_920, "macs", math.ceil) == "213.5M macs"
    assert [format_cost(value, "params") for value in (0, 12, 999_960, 5_300_000)] == [
        "0 params", "12 params", "1000k params", "5.3M params"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "macs", "macs < 4M", "macs = 4M", "flops <= 4M", "macs <= 4T", "macs <= fast", "macs <= -4M", "macs <= nan",
        "macs <= 1e999", "4M <= 5M", "macs <= params", "4M <= macs >= 3M", "macs <= 4M <= 5M", "1 <= 2 <= macs",
        "macs <= 4M,", "macs <= 4M;params <= 3M", "1M <= 2M <= macs <= 3M", "Macs <= 4M", "macs <= 1e9999999999",
    ],
)  # fmt: skip
def test_texts_that_are_no_constraints(text: str) -> None:
    with pytest.raises(NARSError) as caught:
        parse_constraints(text)
    assert repr(text) in str(caught.value) and "macs, params and latency_us (µs)" in str(caught.value)


def test_other_bad_constraints() -> None:
    with pytest.raises(NARSError, match="macs cannot be at least 9M and at most 3M"):
        parse_constraints("macs <= 3M, macs >= 9M")
    with pytest.raises(NARSError, match="constraints: got None, expected a text such as"):
        parse_constraints(None)  # type: ignore[arg-type]
    for fields in (("macs", 5, 3), ("macs", -1, 3), ("macs", math.nan), ("macs", 0, math.nan)):
        with pytest.raises(NARSError, match="expected bounds from 0, in order"):
            Constraint(*fields)
    with pytest.raises(NARSError, match="got 'flops', expected one of the metrics macs, params, latency_us"):
        Constraint("flops")


def test_on_costs() -> None:
    costs = {"macs": np.array([300.0, 400, 500, 600, 800]), "params": np.array([1.0, 9, 9, 10, math.nan])}
    constraints = (Constraint("macs", 400, 500), Constraint("params", high=8))
    assert satisfied(costs, constraints[:1]).tolist() == [False, True, True, False, False]
    assert violation(costs, constraints[:1]).tolist() == [0.25, 0, 0, 0.2, 0.6]
    assert satisfied(costs, constraints).tolist() == [False] * 5
    np.testing.assert_allclose(violation(costs, constraints), [0.25, 1 / 8, 1 / 8, 0.2 + 2 / 8, math.inf])
    assert satisfied(costs, ()).all() and (violation(costs, ()) == 0).all()
    assert violation({"macs": np.array([0, 3.0])}, [Constraint("macs", high=0)])[1] > 0


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=20), bound, bound)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_no_violation_where_satisfied(values: list[float], one: float, other: float) -> None:
    costs = {"macs": np.array([*values, one, other])}
    constraints = [Constraint("macs", min(one, other), max(one, other))]
    assert np.array_equal(satisfied(costs, constraints), violation(costs, constraints) == 0)


def test_metrics_that_nobody_counts() -> None:
    for check in (satisfied, violation):
        with pytest.raises(
            NARSError, match="no latency_us, which needs a latency table: set LATENCY.TABLE; known here"
        ):
            check({"macs": np.zeros(1)}, parse_constraints("latency_us <= 3"))
