"""Architectures out of P_theta, within bounds."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import Counter
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small_searches import BLOCKS, distribution_of, points_of, space_of

from fbnet_plugin.arch import get_arch, load_space
from fbnet_plugin.dnas import sampling
from fbnet_plugin.dnas.distribution import Distribution
from fbnet_plugin.dnas.errors import SearchError
from fbnet_plugin.dnas.sampling import most_probable, sample_architectures

FBNET = load_space("fbnet")


def within(one: Distribution, low: Optional[float], high: Optional[float]) -> list[tuple[int, ...]]:
    """All points within bounds, by listing."""
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return [point for point in points_of(one) if low <= one.latency_us_of(point) <= high]


# ---------------------------------------------------------------------------------------------
# The most probable one
# ---------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e-9, 0.1, 1.0, 100.0]),
    st.booleans(),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.sampled_from(["both", "low", "high", "exact"]),
    st.sampled_from([1, 8, sampling.MIN_CELLS]),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_it_is_what_listing_all_finds(
    seed: int, sizes: list[int], scale: float, whole: bool, ends: tuple[float, float], kind: str, cells: int
) -> None:
    """On a coarse grid too, where the points that it leaves in question are many."""
    one = distribution_of(seed, sizes, scale, whole)
    latencies = sorted(map(one.latency_us_of, points_of(one)))
    if kind == "exact":  # the latency of one point, which others may have too
        low = high = latencies[int(ends[0] * (len(latencies) - 1))]
    else:
        low, high = sorted(latencies[0] + end * (latencies[-1] - latencies[0]) for end in ends)
        low, high = None if kind == "high" else low, None if kind == "low" else high
    points = within(one, low, high)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "MIN_CELLS", cells)
        patch.setattr(sampling, "MAX_CELLS", cells)
        if not points:
            with pytest.raises(SearchError, match="no architecture takes"):
                most_probable(one, low, high)
            return
        found = most_probable(one, low, high)
    assert found in points
    assert one.log_prob(found) == pytest.approx(max(map(one.log_prob, points)), abs=1e-12 * max(1, scale))


def test_without_bounds_it_is_the_argmax() -> None:
    one = distribution_of(3, [4, 5, 2])
    assert most_probable(one) == one.argmax()
    assert most_probable(Distribution(one.space, one.theta)) == one.argmax()
    uniform = Distribution(one.space, [[0.0] * len(row) for row in one.theta], one.latency_us, one.fixed_us)
    assert most_probable(uniform, 0.0, 1e9) == (0, 0, 0)


def test_bounds_are_included() -> None:
    one = Distribution(space_of([3]), [[0.0, 1.0, 2.0]], [[0.1, 0.2, 0.3]], 0.7)
    for choice in range(3):
        us = one.latency_us_of([choice])
        assert most_probable(one, us, us) == (choice,)
        assert most_probable(one, None, us) == (choice,)
    with pytest.raises(SearchError):
        most_probable(one, math.nextafter(us, 2), None)


@pytest.mark.parametrize("scale", [0.0, 1e-7, 0.01, 1.0, 20.0])
@pytest.mark.parametrize("kind", ["random", "costly is probable", "few values"])
def test_fbnet_takes_little_time(scale: float, kind: str) -> None:
    """A search that only listed points would not end; the most probable of many draws is never better."""
    rng = np.random.default_rng(5)
    us, theta = rng.uniform(50, 1500, (22, 9)), rng.normal(size=(22, 9)) * scale
    if kind == "costly is probable":
        us, theta = np.sort(us), np.sort(theta)
    if kind == "few values":
        us, theta = np.round(us, -2), np.where(theta > 0, scale, 0.0)
    one = Distribution(FBNET, theta, us, 3000.0)
    drawn = one.sample(2000, rng)
    latency, log_prob = ([call(point) for point in drawn] for call in (one.latency_us_of, one.log_prob))
    fastest = one.fixed_us + us.min(1).sum()
    for low, high in [(None, 0.9 * fastest + 0.1 * min(latency)), (13_000.0, 13_300.0), (19_000.0, 19_200.0)]:
        started = time.perf_counter()
        point = most_probable(one, low, high)
        assert time.perf_counter() - started < 1.0  # about 0.02 s
        assert (low or 0) <= one.latency_us_of(point) <= high
        rivals = [p for p, us_of in zip(log_prob, latency) if (low or 0) <= us_of <= high]
        assert max(rivals, default=-math.inf) <= one.log_prob(point) + 1e-9


def test_fbnet_a_at_its_latency() -> None:
    """Where all layers prefer the costliest candidate, a point that is preferred next is found by its latency."""
    point = (8, 2, 0, 8, 8, 7, 2, 4, 2, 7, 6, 5, 7, 3, 5, 6, 1, 7, 7, 6, 7, 7)
    rng = np.random.default_rng(0)
    us = rng.uniform(50, 1500, (22, 9))
    theta = np.zeros((22, 9))
    theta[np.arange(22), point] = 3.0
    theta[0, 3] = 4.0  # the argmax differs in the first layer
    one = Distribution(FBNET, theta, us, 3000.0)
    target = one.latency_us_of(point)
    assert one.argmax() != point and most_probable(one, target - 0.5, target + 0.5) == point
    assert one.arch(point).stages == get_arch("fbnet_a").stages


def test_what_cannot_be_reached() -> None:
    one = Distribution(space_of([2, 2]), [[0.0, 1.0]] * 2, [[1000.0, 2000.0], [10.0, 20.0]], 500.0)
    for bounds in [(None, 1000.0), (3000.0, None), (1600.0, 2400.0), (-1e308, -1e308), (1e308, None)]:
        with pytest.raises(SearchError) as caught:
            most_probable(one, *bounds)
        assert "no architecture takes " in str(caught.value)
        assert str(caught.value).endswith("small reaches from 1,510.0 to 2,520.0 µs")
    with pytest.raises(SearchError, match="1,600.0 to 2,400.0 µs"):
        sample_architectures(one, 1, np.random.default_rng(0), 1600.0, 2400.0)


@pytest.mark.parametrize(
    "bounds", [(2.0, 1.0), (math.nan, None), (None, math.nan), (math.inf, None), (None, -math.inf)]
)
def test_what_are_no_bounds(bounds: Any) -> None:
    with pytest.raises(SearchError, match="latency bounds: got .* expected a smaller and a larger number"):
        most_probable(distribution_of(0, [2]), *bounds)


def test_bounds_need_latencies() -> None:
    with pytest.raises(SearchError, match="has no latencies"):
        most_probable(Distribution(space_of([2]), [[0.0, 1.0]]), None, 100.0)


def test_bounds_that_are_too_close_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_CHECKED", 50)
    us = np.random.default_rng(0).uniform(50, 1500, (22, 9))
    one = Distribution(FBNET, np.zeros((22, 9)), us, 3000.0)
    with pytest.raises(SearchError, match="too close to each other to be met for certain"):
        most_probable(one, 15_000.0, 15_000.0)


# ---------------------------------------------------------------------------------------------
# Draws
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [16, sampling.MIN_CELLS])
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_follow_the_probabilities_given_the_bounds(
    seed: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = distribution_of(seed, [3, 4, 3, 2], 0.8)
    latencies = sorted(map(one.latency_us_of, points_of(one)))
    low, high = latencies[5], latencies[25]
    points = within(one, low, high)
    monkeypatch.setattr(sampling, "MAX_CELLS", cells)
    monkeypatch.setattr(sampling, "MIN_CELLS", cells)
    grid = sampling._Grid(one, low, high)
    drawn = Counter(map(tuple, grid.sample(20_000, np.random.default_rng(seed)).tolist()))
    outside = set(drawn) - set(points)
    assert bool(outside) == (cells == 16)  # the fine grid tells all of these points apart

    counts = np.array([drawn[point] for point in points])
    expected = np.exp([one.log_prob(point) for point in points])
    expected *= counts.sum() / expected.sum()
    assert len(points) == 21 and expected.min() > 10 and chisquare(counts, expected).pvalue > 0.01


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 8), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_samples_are_distinct_and_within_the_bounds(seed: int, sizes: list[int], count: int, whole: bool) -> None:
    one = distribution_of(seed, sizes, 0.5, whole)
    latencies = sorted(map(one.latency_us_of, points_of(one)))
    low, high = latencies[len(latencies) // 3], latencies[2 * len(latencies) // 3]
    found = sample_architectures(one, count, np.random.default_rng(seed), low, high)
    assert len(found) == min(count + 1, len(within(one, low, high)))  # nothing is left out at such probabilities
    assert len({sample.arch for sample in found}) == len(found)
    assert found[0].is_argmax and found[0].point == most_probable(one, low, high)
    for sample in found:
        assert low <= sample.latency_us <= high and sample.latency_us == one.latency_us_of(sample.point)
        assert sample.arch == one.arch(sample.point) and sample.log_prob == one.log_prob(sample.point)
        assert (sample.macs, sample.params) == (sample.arch.cost().macs, sample.arch.cost().params)
        assert sample.blocks == sum(choice > 0 for choice in sample.point)  # choice 0 is skip
        assert sample.is_argmax == (sample is found[0])
    again = sample_architectures(one, count, np.random.default_rng(seed), low, high)
    assert again == found


def test_samples_without_bounds_are_plain_draws() -> None:
    one = dataclasses.replace(distribution_of(2, [5, 5, 5], 0.3), latency_us=None, fixed_us=None, resolution=64)
    found = sample_architectures(one, 6, np.random.default_rng(0))
    drawn = list(dict.fromkeys(map(tuple, one.sample(sampling.BATCH, np.random.default_rng(0)).tolist())))
    expected = [one.argmax(), *(point for point in drawn if point != one.argmax())][:7]
    assert [sample.point for sample in found] == expected
    assert {sample.latency_us for sample in found} == {None}
    assert {sample.arch.resolution for sample in found} == {64}
    assert [sample.macs for sample in found] == [one.space.arch(sample.point).cost(64).macs for sample in found]


def test_points_of_the_same_architecture_count_as_one(caplog: pytest.LogCaptureFixture) -> None:
    same = [BLOCKS[0], {"op": "skip", "stride": 1}, BLOCKS[1]]
    space = space_of([3, 3], same)
    one = Distribution(space, [[0.0] * 3] * 2, [[1.0, 1.0, 2.0]] * 2, 0.0)
    with caplog.at_level(logging.WARNING):
        found = sample_architectures(one, 6, np.random.default_rng(0))
    assert [sample.is_argmax for sample in found] == [True, False, False, False]
    assert len({sample.arch.stages for sample in found}) == 4 and found[0].point == (0, 0)
    assert "gave 3 distinct architectures besides the most probable one, not 6" in caplog.text


def test_a_peaked_distribution_gives_fewer(caplog: pytest.LogCaptureFixture) -> None:
    one = Distribution(space_of([3, 3]), [[0.0, 60.0, 0.0]] * 2)
    with caplog.at_level(logging.WARNING):
        found = sample_architectures(one, 6, np.random.default_rng(0))
    assert [sample.point for sample in found] == [(1, 1)] and "gave 0 distinct architectures" in caplog.text
    caplog.clear()
    assert len(sample_architectures(one, 0, np.random.default_rng(0))) == 1 and not caplog.text


def test_bounds_that_plain_draws_would_never_meet() -> None:
    """All layers prefer their slowest candidate by 40 nats; the bounds ask for the fastest networks."""
    rng = np.random.default_rng(0)
    us = np.sort(rng.uniform(50, 1500, (22, 9)))
    one = Distribution(FBNET, np.linspace(0, 40, 9) + np.zeros((22, 1)), us, 3000.0)
    fastest = one.latency_us_of([0] * 22)
    found = sample_architectures(one, 6, rng, None, 1.05 * fastest)
    assert len(found) == 7 and max(sample.latency_us for sample in found) <= 1.05 * fastest
    assert all(sample.log_prob < -500 for sample in found)
    assert found[0].log_prob >= max(sample.log_prob for sample in found)


def test_no_negative_count() -> None:
    with pytest.raises(SearchError, match="count: got -1"):
        sample_architectures(distribution_of(0, [2]), -1, np.random.default_rng(0))
