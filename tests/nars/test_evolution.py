"""Adaptive genetic algorithm: probabilities by hand, constraints, determinism, the end of the search."""

from __future__ import annotations

import math
import time
from typing import Dict, List

import numpy as np
import pytest

from fbnet_plugin.nars.breeding import Breeder
from fbnet_plugin.nars.constraints import Constraint, satisfied
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.evolution import EvolutionSettings, evolve, evolve_all
from fbnet_plugin.nars.feasible import random_feasible
from fbnet_plugin.nars.genetics import adaptive_rates, mutate, one_each, row_keys, uniform_crossover

SIZES = np.array([5, 3, 1, 8, 2, 6, 4, 7])
NONE = np.zeros((0, len(SIZES)), dtype=np.int64)


class Problem:
    """Random additive scores and costs; records what was asked about."""

    def __init__(self, seed: int = 0, sizes: np.ndarray = SIZES):
        rng = np.random.default_rng(seed)
        self.sizes = sizes
        self.value = rng.normal(size=(len(sizes), sizes.max()))
        self.cost = rng.uniform(1e6, 9e6, size=(len(sizes), sizes.max()))
        self.scored: List[np.ndarray] = []

    def score(self, points: np.ndarray) -> np.ndarray:
        self.scored.append(points.copy())
        return self.exact(points)

    def exact(self, points: np.ndarray) -> np.ndarray:
        return self.value[np.arange(len(self.sizes)), points].sum(axis=1)

    def costs(self, points: np.ndarray) -> Dict[str, np.ndarray]:
        return {"macs": self.cost[np.arange(len(self.sizes)), points].sum(axis=1), "params": points.sum(axis=1) * 1.0}

    def every(self) -> np.ndarray:
        return np.stack(np.meshgrid(*map(np.arange, self.sizes), indexing="ij"), axis=-1).reshape(-1, len(self.sizes))

    def budget(self, quantile: float) -> Constraint:
        return Constraint("macs", high=float(np.quantile(self.costs(self.every())["macs"], quantile)))


def smallest(problem: Problem) -> float:
    return float(problem.costs(problem.every())["macs"].min())


class TestAdaptiveRates:
    def test_by_hand(self):
        # best 9, mean 6: (9 - 8) / 3 and (9 - 6) / 3 above or at the mean, the other rate below it
        rates = adaptive_rates(np.array([9.0, 8.0, 6.0, 5.0, 1.0]), 9.0, 6.0, 0.6, 0.5)
        assert rates == pytest.approx([0.0, 0.2, 0.6, 0.5, 0.5])

    def test_equal_scores_are_no_division_by_zero(self):
        with np.errstate(all="raise"):
            assert adaptive_rates(np.full(3, 2.5), 2.5, 2.5, 1.0, 0.4) == pytest.approx([0.4] * 3)

    def test_mean_above_best_by_rounding(self):
        scores = np.full(3, 0.1)
        mean = float(np.nextafter(0.1, 1))
        assert adaptive_rates(scores, 0.1, mean, 1.0, 0.5) == pytest.approx([0.5] * 3)

    def test_defaults_are_those_of_the_original(self):
        settings = EvolutionSettings()
        assert (settings.k1, settings.k2, settings.k3, settings.k4, settings.floor) == (1.0, 0.5, 1.0, 0.5, 0.005)

    def test_rates_of_the_operators(self):
        """Shares of children that differ from their parents, measured, for a good, a mean and a poor parent."""
        sizes = np.full(40, 9)
        settings = EvolutionSettings(crossover=False, attempts=0, k2=0.4, k4=0.3)
        rng = np.random.default_rng(0)
        breeder = Breeder(sizes, lambda points: {"macs": np.zeros(len(points))}, (), settings, np.zeros(40, bool), rng)
        points = rng.integers(0, 9, (3, 40))
        scores = np.array([3.0, 2.0, 0.0])  # mean 5/3, best 3: 0 -> floor, 0.4 * 1 / (4/3) = 0.3, k4 = 0.3
        children = np.concatenate([breeder.children(points, scores, 400, set(row_keys(points))) for _ in range(5)])
        parent = (children[:, None] != points).sum(axis=2).argmin(axis=1)
        share = np.bincount(parent, minlength=3) / 2000
        assert share == pytest.approx([0.005, 0.3, 0.3], abs=0.03)


class TestOperators:
    def test_mutation_changes_what_is_chosen_and_nothing_else(self):
        rng = np.random.default_rng(0)
        points = rng.integers(0, SIZES, (2000, len(SIZES)))
        chosen = rng.random(points.shape) < 0.3
        changed = mutate(points, chosen, SIZES, np.zeros(len(SIZES)), rng)
        assert ((changed != points) == (chosen & (SIZES > 1))).all()
        assert ((changed >= 0) & (changed < SIZES)).all()
        others = changed[chosen[:, 3] & (points[:, 3] == 2), 3]
        assert set(others) == {0, 1, 3, 4, 5, 6, 7}

    def test_steps_of_ordered_variables(self):
        rng = np.random.default_rng(0)
        points = rng.integers(0, SIZES, (2000, len(SIZES)))
        changed = mutate(points, np.ones_like(points, dtype=bool), SIZES, np.ones(len(SIZES)), rng)
        assert (np.abs(changed - points)[:, SIZES > 1] == 1).all()
        assert ((changed >= 0) & (changed < SIZES)).all()
        assert set((changed - points)[points[:, 3] == 4, 3]) == {-1, 1}

    def test_one_each(self):
        chosen = one_each(500, SIZES, np.random.default_rng(0))
        assert (chosen.sum(axis=1) == 1).all()
        assert (chosen.any(axis=0) == (SIZES > 1)).all()
        assert not one_each(3, np.ones(4, dtype=np.int64), np.random.default_rng(0)).any()

    def test_crossover(self):
        rng = np.random.default_rng(0)
        first, second = np.zeros((1000, 30), dtype=np.int64), np.ones((1000, 30), dtype=np.int64)
        children = uniform_crossover(first, second, np.repeat([0.0, 1.0], 500), rng)
        assert not children[:500].any()
        assert 0.45 < children[500:].mean() < 0.55


class TestEvolve:
    def test_finds_the_optimum_of_a_small_space(self):
        for seed in range(5):
            problem = Problem(seed)
            constraint = problem.budget(0.25)
            every = problem.every()
            best = problem.exact(every[satisfied(problem.costs(every), [constraint])]).max()
            found = evolve(NONE, problem.score, problem.costs, [constraint], SIZES, seed=seed)
            assert found.scores[0] == pytest.approx(best)

    def test_never_scores_a_point_twice_or_one_that_violates_a_constraint(self):
        problem = Problem()
        constraints = (Constraint("macs", 30e6, 34e6), Constraint("params", low=10, high=14))
        start = np.random.default_rng(1).integers(0, SIZES, (60, len(SIZES)))
        start = np.concatenate([start, start[:20]])
        found = evolve(start, problem.score, problem.costs, constraints, SIZES)
        scored = np.concatenate(problem.scored)
        assert satisfied(problem.costs(scored), constraints).all()
        assert len(np.unique(scored, axis=0)) == len(scored) == found.evaluated[-1]
        assert satisfied(problem.costs(found.points), constraints).all()
        assert len(np.unique(found.points, axis=0)) == len(found.points) == 40
        assert found.scores == pytest.approx(problem.exact(found.points))
        assert found.scores == pytest.approx(np.sort(problem.exact(scored))[::-1][:40])
        assert list(found.scores) == sorted(found.scores, reverse=True)
        assert len(found.best) == len(found.evaluated)
        assert all(low <= high for low, high in zip(found.best, found.best[1:]))

    def test_scores_in_batches(self):
        problem = Problem()
        found = evolve(NONE, problem.score, problem.costs, (), SIZES, EvolutionSettings(waves=1, children=10))
        assert len(problem.scored) <= 1 + len(found.best)
        assert len(problem.scored[1]) == 12 * 10

    def test_same_seed_same_result(self):
        first, second, third = (
            evolve(NONE, Problem().score, Problem().costs, [Problem().budget(0.4)], SIZES, seed=seed)
            for seed in (3, 3, 4)
        )
        assert (first.points == second.points).all()
        assert first.best == second.best and first.evaluated == second.evaluated
        assert first.evaluated != third.evaluated or first.best != third.best

    def test_start_enters_by_score(self):
        problem = Problem()
        every = problem.every()
        order = np.argsort(-problem.exact(every), kind="stable")
        start = every[order[np.r_[0, 500:560]]]
        settings = EvolutionSettings(parents=5, random=0, generations=0, keep=100)
        found = evolve(start[::-1], problem.score, problem.costs, (), SIZES, settings)
        assert (found.points == start[:5]).all()
        assert found.evaluated == (61,)

    def test_start_that_violates_is_left_out(self):
        problem = Problem()
        every = problem.every()
        best = every[[np.argmax(problem.exact(every))]]
        below = Constraint("macs", high=float(problem.costs(best)["macs"][0]) - 1)
        found = evolve(best, problem.score, problem.costs, [below], SIZES)
        assert (np.concatenate(problem.scored) != best).any(axis=1).all()
        assert found.best[0] < problem.exact(best)[0]

    def test_ends_without_gain(self):
        """The best score rises by little more than epsilon, then by less: the end comes after ``patience`` of those."""
        for patience in (1, 3):
            calls = []

            def score(points, calls=calls):
                calls.append(len(points))
                gain = [0.0, 2e-6, 4e-6, 4.5e-6, 5e-6, 5.5e-6]
                return np.full(len(points), gain[min(len(calls) - 1, 5)])

            settings = EvolutionSettings(waves=1, children=2, keep=10, breeders=None, patience=patience)
            sizes = np.full(30, 9)
            costs = lambda points: {"macs": np.zeros(len(points))}  # noqa: E731
            found = evolve(np.zeros((0, 30), int), score, costs, (), sizes, settings)
            assert len(found.best) == 1 + 2 + patience
            assert found.evaluated == (100, *(100 + 20 * i for i in range(1, 3 + patience)))

    def test_gain_at_epsilon_is_none(self):
        values = iter([0.0, 1.0, 1.5, 9.0])

        def score(points):
            return np.full(len(points), next(values))

        def costs(points):
            return {"macs": np.zeros(len(points))}

        settings = EvolutionSettings(waves=1, patience=1, epsilon=0.5)
        found = evolve(np.zeros((0, 30), int), score, costs, (), np.full(30, 9), settings)
        assert found.best == (0.0, 1.0, 1.5)

    def test_limit_of_evaluations_is_exact(self):
        for limit in (1, 30, 100, 517):
            problem = Problem()
            found = evolve(NONE, problem.score, problem.costs, (), SIZES, EvolutionSettings(evaluations=limit))
            assert sum(map(len, problem.scored)) == found.evaluated[-1] == limit

    def test_equal_scores(self):
        with np.errstate(all="raise"):
            found = evolve(NONE, lambda points: np.full(len(points), 50.0), Problem().costs, (), SIZES)
        assert set(found.best) == {50.0} and len(found.best) == 6

    def test_a_space_smaller_than_the_population(self):
        sizes = np.array([2, 3, 1])
        found = evolve(
            np.zeros((0, 3), int), lambda p: p.sum(axis=1) * 1.0, lambda p: {"macs": p[:, 0] * 1.0}, (), sizes
        )
        assert found.evaluated[-1] == len(found.points) == 6
        assert found.points[0].tolist() == [1, 2, 0]

    def test_a_single_point(self):
        sizes = np.ones(3, dtype=np.int64)
        found = evolve(np.zeros((0, 3), int), lambda p: np.ones(len(p)), lambda p: {"macs": np.ones(len(p))}, (), sizes)
        assert found.points.tolist() == [[0, 0, 0]] and found.evaluated[-1] == 1

    def test_several_sets_in_one_call(self):
        problem = Problem()
        sets = [[problem.budget(quantile)] for quantile in (0.5, 0.1, 0.9)]
        found = evolve_all(sets, NONE, problem.score, problem.costs, SIZES, seed=2)
        alone = evolve(NONE, problem.score, problem.costs, sets[1], SIZES, seed=2)
        assert len(found) == 3
        assert (found[1].points == alone.points).all() and found[1].best == alone.best
        assert found[1].scores[0] < found[0].scores[0] < found[2].scores[0]

    def test_the_papers_form(self):
        problem = Problem()
        found = evolve(NONE, problem.score, problem.costs, [problem.budget(0.3)], SIZES, EvolutionSettings.paper())
        assert found.evaluated[0] == 100 and found.evaluated[1] <= 100 + 40 * 12
        assert found.best[-1] - found.best[-2] <= 1e-6
        assert satisfied(problem.costs(np.concatenate(problem.scored)), [problem.budget(0.3)]).all()


class TestErrors:
    def test_budget_below_all(self):
        problem = Problem(sizes=np.full(22, 9))
        shown = math.ceil(problem.cost.min(axis=1).sum() / 1e4) / 100  # M, rounded up so that it can be asked for
        begin = time.monotonic()
        with pytest.raises(NARSError, match=rf"macs <= 1M.*smallest.*{shown}M macs, not 1M macs"):
            evolve(np.zeros((0, 22), int), problem.score, problem.costs, [Constraint("macs", high=1e6)], problem.sizes)
        assert time.monotonic() - begin < 5
        assert not problem.scored

    def test_bound_above_all(self):
        problem = Problem()
        with pytest.raises(NARSError, match=r"largest.*28 params, not 99 params"):
            evolve(NONE, problem.score, problem.costs, [Constraint("params", low=99)], SIZES)

    def test_constraints_that_clash(self):
        problem = Problem()
        constraints = [Constraint("macs", high=smallest(problem)), Constraint("params", low=28)]
        with pytest.raises(NARSError, match="not all at once; the nearest point has .* macs, .* params"):
            evolve(NONE, problem.score, problem.costs, constraints, SIZES)

    def test_reachable_though_next_to_nothing_is(self):
        problem = Problem(sizes=np.full(22, 9))
        least = float(problem.cost.min(axis=1).sum())
        only = [Constraint("macs", high=least * 1.02)]
        begin = time.monotonic()
        found = evolve(np.zeros((0, 22), int), problem.score, problem.costs, only, problem.sizes)
        assert time.monotonic() - begin < 5
        assert satisfied(problem.costs(found.points), only).all()

    def test_score_that_is_not_finite(self):
        problem = Problem()
        bad = problem.every()[17]

        def score(points):
            return np.where((points == bad).all(axis=1), np.nan, 1.0)

        with pytest.raises(NARSError, match=rf"point \[{', '.join(map(str, bad))}\] is nan"):
            evolve(bad[None], score, problem.costs, (), SIZES)

    def test_score_of_another_shape(self):
        with pytest.raises(NARSError, match=r"shape \(100, 1\), expected \(100,\)"):
            evolve(NONE, lambda points: np.ones((len(points), 1)), Problem().costs, (), SIZES)

    def test_start_outside_of_the_space(self):
        with pytest.raises(NARSError, match=r"start point \[0, 0, 0, 8, 0, 0, 0, 0\] is no point"):
            evolve(np.array([[0, 0, 0, 8, 0, 0, 0, 0]]), Problem().score, Problem().costs, (), SIZES)
        with pytest.raises(NARSError, match=r"shape \(2, 3\), expected \(n, 8\)"):
            evolve(np.zeros((2, 3), int), Problem().score, Problem().costs, (), SIZES)

    @pytest.mark.parametrize("name, value", [("k1", 1.5), ("floor", -0.1), ("keep", 0), ("children", 0)])
    def test_settings(self, name, value):
        with pytest.raises(NARSError, match=name):
            EvolutionSettings(**{name: value})


class TestRandomFeasible:
    def test_uniform_where_rejection_works(self):
        problem = Problem()
        constraint = problem.budget(0.5)
        points = random_feasible(5000, SIZES, problem.costs, [constraint], np.random.default_rng(0))
        assert len(np.unique(points, axis=0)) == len(points) == 5000
        assert satisfied(problem.costs(points), [constraint]).all()
        every = problem.every()
        inside = every[satisfied(problem.costs(every), [constraint])]
        for variable in range(len(SIZES)):
            share = np.bincount(points[:, variable], minlength=SIZES[variable]) / len(points)
            exact = np.bincount(inside[:, variable], minlength=SIZES[variable]) / len(inside)
            assert share == pytest.approx(exact, abs=0.03)

    def test_a_band_that_rejection_does_not_hit(self):
        problem = Problem(sizes=np.full(22, 9))
        least = float(problem.cost.min(axis=1).sum())
        band = [Constraint("macs", least * 1.1, least * 1.1005)]
        points = random_feasible(100, problem.sizes, problem.costs, band, np.random.default_rng(0))
        assert satisfied(problem.costs(points), band).all()
        assert len(np.unique(points, axis=0)) == 100
