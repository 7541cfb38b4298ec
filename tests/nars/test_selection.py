"""Which candidates a round trains."""

from __future__ import annotations

import numpy as np
import pytest

from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.selection import choose, spread


def line(count: int) -> np.ndarray:
    return np.arange(count)[:, None]


class TestChoose:
    def test_best_of_each_bin(self):
        # bins of [0, 9]: 0-3, 3-6, 6-9
        macs = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 9])
        predicted = np.array([5.0, 7, 6, 1, 2, 3, 9, 8, 4])
        assert choose(line(9), predicted, {"macs": macs}, count=3).tolist() == [6, 1, 5]  # best first

    def test_the_given_range_and_metric(self):
        costs = {"macs": np.zeros(8), "params": np.arange(8.0)}
        predicted = np.array([9.0, 1, 2, 3, 4, 5, 6, 9])
        chosen = choose(line(8), predicted, costs, metric="params", count=2, low=1, high=6)
        assert chosen.tolist() == [6, 3]  # [1, 3.5) and [3.5, 6]

    def test_empty_bins_are_made_up_for_by_the_best_of_the_others(self):
        macs = np.array([0.0, 0.1, 0.2, 10.0, 9.9])
        predicted = np.array([1.0, 2, 3, 4, 2.5])
        assert choose(line(5), predicted, {"macs": macs}, count=4).tolist() == [3, 2, 4, 1]

    def test_fewer_bins_give_several_each(self):
        macs = np.arange(10.0)
        predicted = np.array([1.0, 2, 3, 4, 5, 10, 9, 8, 7, 6])
        assert sorted(choose(line(10), predicted, {"macs": macs}, count=4, bins=2)) == [3, 4, 5, 6]
        assert sorted(choose(line(10), predicted, {"macs": macs}, count=5, bins=2)) == [3, 4, 5, 6, 7]
        assert choose(line(10), predicted, {"macs": macs}, count=4, bins=1).tolist() == [5, 6, 7, 8]

    def test_never_one_that_was_taken_nor_one_twice(self):
        rng = np.random.default_rng(0)
        points = rng.integers(0, 3, (300, 5))  # of 243
        macs, predicted = points.sum(axis=1) * 1.0, rng.random(300)
        taken = np.zeros((0, 5), dtype=np.int64)
        different = len(np.unique(points, axis=0))
        while len(taken) < different:
            chosen = choose(points, predicted, {"macs": macs}, count=20, taken=taken)
            assert len(chosen) == min(20, different - len(taken))
            taken = np.concatenate([taken, points[chosen]])
            assert len(np.unique(taken, axis=0)) == len(taken)
        with pytest.raises(NARSError, match="no candidate is left"):
            choose(points, predicted, {"macs": macs}, count=20, taken=taken)

    def test_kappa_prefers_the_uncertain(self):
        predicted, std = np.array([1.0, 1.1, 1.2]), np.array([0.5, 0.1, 0.0])
        costs = {"macs": np.ones(3)}
        assert choose(line(3), predicted, costs, count=1, std=std).tolist() == [2]
        assert choose(line(3), predicted, costs, count=1, std=std, kappa=1.0).tolist() == [0]
        with pytest.raises(NARSError, match="kappa 1.0"):
            choose(line(3), predicted, costs, count=1, kappa=1.0)

    def test_equal_costs_and_equal_predictions(self):
        chosen = choose(line(6), np.ones(6), {"macs": np.full(6, 4.0)}, count=3)
        assert chosen.tolist() == [0, 1, 2]

    def test_errors(self):
        costs = {"macs": np.ones(3)}
        with pytest.raises(NARSError, match="pool point 1 is nan"):
            choose(line(3), np.array([1, np.nan, 1]), costs, count=1)
        with pytest.raises(NARSError, match="'latency_us'.*macs"):
            choose(line(3), np.ones(3), costs, metric="latency_us", count=1)
        with pytest.raises(NARSError, match="0 candidates"):
            choose(line(3), np.ones(3), costs, count=0)
        with pytest.raises(NARSError, match="outside of the range"):
            choose(line(3), np.ones(3), costs, count=1, low=2, high=3)


class TestSpread:
    @pytest.mark.parametrize("design", ["maximin", "strata", "random"])
    def test_distinct_new_and_by_seed(self, design):
        rng = np.random.default_rng(0)
        points = rng.integers(0, 3, (400, 5))
        costs = {"macs": points.sum(axis=1) * 1.0}
        first = spread(points, costs, 30, design=design, seed=1)
        assert len(np.unique(points[first], axis=0)) == len(first) == 30
        assert (first == spread(points, costs, 30, design=design, seed=1)).all()
        assert set(first) != set(spread(points, costs, 30, design=design, seed=2))
        second = spread(points, costs, 1000, taken=points[first], design=design, seed=1)
        together = np.concatenate([points[first], points[second]])
        assert len(np.unique(together, axis=0)) == len(together) == len(np.unique(points, axis=0))

    def test_strata_come_from_all_parts_of_the_range(self):
        macs = np.random.default_rng(0).random(1000) ** 3
        chosen = spread(line(1000), {"macs": macs}, 10, design="strata", seed=3)
        ranks = np.argsort(np.argsort(macs))[chosen]
        assert (ranks // 100).tolist() == list(range(10))

    def test_maximin_takes_the_farthest(self):
        points = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 1, 0]])
        costs = {"macs": np.ones(5)}
        for seed in range(20):
            first, second = points[spread(points, costs, 2, seed=seed)]
            assert (first != second).sum() == (points != first).sum(axis=1).max()

    def test_maximin_shows_more_choices_than_chance(self):
        points = np.random.default_rng(0).integers(0, 5, (2000, 10))
        costs = {"macs": np.ones(2000)}

        def shown(design):
            drawn = [points[spread(points, costs, 6, design=design, seed=seed)] for seed in range(10)]
            return np.mean([[len(set(column)) for column in one.T] for one in drawn])

        assert shown("random") == pytest.approx(5 * (1 - 0.8**6), abs=0.2)
        assert shown("maximin") > 4.5

    def test_errors(self):
        with pytest.raises(NARSError, match="'sobol'.*maximin"):
            spread(line(3), {"macs": np.ones(3)}, 2, design="sobol")
