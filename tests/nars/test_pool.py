"""Pools of points that meet constraints, and the costs behind them."""

from __future__ import annotations

import time
import zlib
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from fbnet_plugin.arch import get_arch
from fbnet_plugin.latency import Entry, LatencyTable, Setting
from fbnet_plugin.latency.coverage import space_operators
from fbnet_plugin.nars.constraints import parse_constraints, satisfied
from fbnet_plugin.nars.costs import Costs
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.pool import Pool, make_pool
from fbnet_plugin.nars.reach import reach
from fbnet_plugin.nars.space import JointSpace, list_joint_spaces, load_joint_space
from fbnet_plugin.recipe import Recipe

DIGITS, V3 = load_joint_space("digits"), load_joint_space("fbnet_v3")
SGD = Recipe(0.1, "sgd", False, 0.0, 0.0, 0.0, 0.0)


def pool_of(space: JointSpace, text: str, n: int, seed: int = 0, costs: Any = None) -> Pool:
    """A pool with what every pool must have."""
    costs, constraints = costs or Costs(space), parse_constraints(text)
    pool = make_pool(space, costs, constraints, n, seed)
    assert pool.points.dtype == np.int64 and pool.points.shape == (len(pool.points), len(space.variables))
    assert len(np.unique(pool.points, axis=0)) == len(pool.points) <= min(n, pool.tried)
    assert (pool.points >= 0).all() and (pool.points < space.sizes).all()
    assert satisfied(pool.costs, constraints).all()
    again = costs(pool.points)
    assert set(pool.costs) == set(costs.metrics) and all(np.array_equal(pool.costs[one], again[one]) for one in again)
    return pool


def table_of(space: JointSpace) -> LatencyTable:
    """A table with a made-up latency of 0 to 1000 µs for every operator."""
    entries = {one: Entry(zlib.crc32(str(one).encode()) % 1000) for one in space_operators(space.arch_space)}
    return LatencyTable(Setting("cpu", "a processor", "eager"), entries, constant_us=7.0)


def part_of_digits(kept: int) -> JointSpace:
    """Only the last ``kept`` variables of the architecture left to choose."""
    variables = DIGITS.arch_space.variables
    fixed = {variable.name: variable.choices[0] for variable in variables[: len(variables) - kept]}
    return JointSpace("part", DIGITS.arch_space.restrict(fixed), DIGITS.recipe_space).with_recipe(SGD)


# ---------------------------------------------------------------------------------------------
# Costs
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_joint_spaces())
def test_costs_are_those_of_the_networks(name: str) -> None:
    space = load_joint_space(name)
    points = space.sample(10, np.random.default_rng(0))
    for resolution in (None, 96):
        costs = Costs(space, resolution=resolution)(points)
        expected = [space.arch(point).cost(resolution) for point in points]
        assert costs["macs"].tolist() == [cost.macs for cost in expected] and costs["macs"].dtype == np.float64
        assert costs["params"].tolist() == [cost.params for cost in expected]
    assert all(values.shape == (0,) for values in Costs(space)(points[:0]).values())


@pytest.mark.parametrize("space", [DIGITS, DIGITS.with_arch(get_arch("fbnet_v3_a0"))])
def test_latencies_are_the_tables(space: JointSpace) -> None:
    table = table_of(space)
    costs = Costs(space, table)
    points = space.sample(30, np.random.default_rng(0))
    assert costs.metrics == ("macs", "params", "latency_us")
    assert np.array_equal(costs(points)["latency_us"], table.latencies([space.arch(point) for point in points]))


def test_two_hundred_thousand_points_in_seconds() -> None:
    points = V3.sample(200_000, np.random.default_rng(0))
    start = time.process_time()
    costs = Costs(V3)(points)
    assert time.process_time() - start < 6  # 0.6 s
    assert len(costs["macs"]) == 200_000


# ---------------------------------------------------------------------------------------------
# Pools
# ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_the_papers_pool() -> None:
    """Section 4.2: 400M to 800M MACs; two of five random points are there."""
    pool = pool_of(V3, "400M <= macs <= 800M", 5000)
    assert len(pool.points) == 5000 and (pool.bred, pool.warning) == (0, "")
    assert 0.4 < len(pool.points) / pool.tried < 0.55
    random = satisfied(Costs(V3)(V3.sample(20_000, np.random.default_rng(0))), parse_constraints("400M<=macs<=800M"))
    assert len(pool.points) / pool.tried == pytest.approx(random.mean(), abs=0.03)
    again, other = pool_of(V3, "400M <= macs <= 800M", 5000), pool_of(V3, "400M <= macs <= 800M", 5000, seed=1)
    assert np.array_equal(again.points, pool.points) and not np.array_equal(other.points, pool.points)


def test_choices_are_uniform_without_constraints() -> None:
    """More evenly than by chance: the sum of squares is far below its expectation, the degrees of freedom."""
    pool = pool_of(V3, "", 4096)
    assert pool.tried == 4096
    statistic = freedom = 0.0
    for column, size in zip(pool.points.T, V3.sizes):
        expected = 4096 / size
        statistic += float(((np.bincount(column, minlength=size) - expected) ** 2 / expected).sum())
        freedom += size - 1
    assert statistic < 0.1 * freedom


@pytest.mark.parametrize("columns", [[25, 31, 38], [35, 38, 39, 40, 41]])
def test_combinations_are_spread_better_than_by_chance(columns: list[int]) -> None:
    """Discrepancy of some of the variables with most choices: c5, c6, and the recipe's; a choice is a cell."""
    rng = np.random.default_rng(0)
    points = [pool_of(V3, "", 1024).points[:, columns], V3.sample(1024, rng)[:, columns]]
    ours, theirs = (qmc.discrepancy((some + rng.random(some.shape)) / V3.sizes[columns]) for some in points)
    assert ours < 0.4 * theirs


def test_small_spaces_give_all_that_they_have() -> None:
    space = part_of_digits(5)
    assert space.size == 2 * 4 * 3 * 5 * 3
    everything = pool_of(space, "", 1000)
    assert len(everything.points) == space.size == everything.tried and everything.warning == ""
    macs = everything.costs["macs"]
    limit = int(np.median(macs))
    half = pool_of(space, f"macs <= {limit}", 1000)
    assert len(half.points) == (macs <= limit).sum()
    assert len(pool_of(space, f"macs <= {limit}", 150).points) == 150
    assert len(pool_of(space, f"macs <= {limit}", 20).points) == 20
    one = pool_of(space.with_arch(get_arch("fbnet_a")), "", 5)
    assert one.points.shape == (1, 0) and one.costs["macs"][0] == get_arch("fbnet_a").cost().macs


def test_recipes_alone() -> None:
    space = load_joint_space("recipe_fbnet_v2_l3")
    pool = pool_of(space, "macs <= 800M", 3000)
    assert pool.tried < 3100 and set(pool.costs["macs"]) == {751_122_890.0}
    with pytest.raises(NARSError, match="macs <= 400M: the network fbnet_v2_dmasking_l3 has 751.2M macs"):
        pool_of(space, "macs <= 400M", 100)


def test_rare_points_are_bred() -> None:
    pool = pool_of(DIGITS, "macs <= 0.3M", 1000)
    assert len(pool.points) == 1000 and pool.bred > 900
    assert f"macs <= 300k: met by few random points; {pool.bred} of 1000 are changed copies" in pool.warning
    assert len(np.unique(pool.points[:, :17], axis=0)) > 10
    for column, size in zip(pool.points.T[17:], DIGITS.sizes[17:]):  # the recipes stay uniform
        assert abs(column.mean() - (size - 1) / 2) < 0.15 * size


def test_fewer_than_asked_for() -> None:
    """Exactly one architecture of a space too large to list has the least MACs."""
    space = DIGITS.with_recipe(SGD)
    least = int(reach(space, Costs(space))["macs"][0])
    pool = pool_of(space, f"macs <= {least}", 10)
    assert len(pool.points) == 1 and pool.points.sum() == 0 and "1 points were found, 10 were asked for" in pool.warning


def test_two_constraints_that_few_meet_together() -> None:
    pool = pool_of(V3, "macs >= 1.8G, params <= 10M", 50)
    assert len(pool.points) == 50


# ---------------------------------------------------------------------------------------------
# Reach
# ---------------------------------------------------------------------------------------------


def test_reach_of_a_space_that_can_be_listed() -> None:
    space = part_of_digits(6)
    costs = Costs(space)(pool_of(space, "", space.size).points)
    assert reach(space, Costs(space)) == {one: (costs[one].min(), costs[one].max()) for one in costs}


def test_reach_of_one_that_cannot() -> None:
    """The ends of FBNetV3's space: all is smallest, and all but the first stage is largest.

    An expansion by 1 has no 1x1 conv where its input is a multiple of 8 channels wide, so that stem and first stage do
    not grow with each variable.
    """
    found = reach(V3, Costs(V3))
    smallest = Costs(V3)(np.zeros_like(V3.sizes)[None])
    points = np.repeat((V3.sizes - 1)[None], 200, axis=0)
    points[:, 1:5] = np.stack(np.unravel_index(np.arange(200), V3.sizes[1:5]), axis=1)
    assert [variable.name for variable in V3.variables[1:5]] == ["c0", "k1", "c1", "n1"]
    largest = Costs(V3)(points)
    assert found == {one: (smallest[one][0], largest[one].max()) for one in smallest}
    assert largest["macs"].max() > largest["macs"][-1]


def test_reach_of_latencies() -> None:
    """No lower than the sum over rows of the fastest, no worse than what thousands of random points have."""
    costs = Costs(DIGITS, table_of(DIGITS))
    low, high = reach(DIGITS, costs)["latency_us"]
    random = costs(DIGITS.sample(5000, np.random.default_rng(0)))["latency_us"]
    assert low < random.min() and high > random.max()
    with pytest.raises(NARSError, match="latency_us <= 100: the smallest network of fbnet_v3_digits has .* µs"):
        pool_of(DIGITS, "latency_us <= 100", 10, costs=costs)


@pytest.mark.parametrize(
    "text, message",
    [
        ("macs <= 1M", "macs <= 1M: the smallest network of fbnet_v3 has 213.5M macs"),
        ("macs >= 3G, params <= 1M", "macs >= 3G: the largest .* 2.333G macs; params <= 1M: .* 6.687M params"),
    ],
)
def test_constraints_out_of_reach(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(NARSError, match=message):
        pool_of(V3, text, 1000)
    assert time.process_time() - start < 20  # 1.5 s


def test_constraints_that_exclude_each_other() -> None:
    with pytest.raises(
        NARSError, match="no network of fbnet_v3_digits was found that meets all; the nearest has .* macs"
    ):
        pool_of(DIGITS, "macs >= 7M, params <= 100k", 10)


def test_bad_arguments() -> None:
    with pytest.raises(NARSError, match="there is no latency_us, which needs a latency table: set LATENCY.TABLE"):
        pool_of(V3, "latency_us <= 3000", 10)
    for n in (0, -1, 2.5, True):
        with pytest.raises(NARSError, match="pool: got size .*, expected an integer of at least 1"):
            pool_of(V3, "", n)  # type: ignore[arg-type]
