"""The evolutionary search against pymoo's constrained GA and optuna's NSGA-II, with equal numbers of candidates."""

from __future__ import annotations

import warnings
from typing import Dict, List

import numpy as np
import pytest

from fbnet_plugin.nars.constraints import Constraint
from fbnet_plugin.nars.evolution import EvolutionSettings, evolve

LAYERS, CHOICES = 22, 9
SEEDS = range(8)


class Problem:
    """22 layers with 9 choices: random values of choices and of pairs of neighbours, costs that add up like a latency
    table's, dearer choices better on average, and a budget at the 25 % quantile."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.cost = rng.uniform(0.1, 1.0, (LAYERS, CHOICES))
        self.single = rng.normal(self.cost, 1.0)
        self.pair = rng.normal(0.0, 0.3, (LAYERS - 1, CHOICES, CHOICES))
        points = rng.integers(0, CHOICES, (10_000, LAYERS))
        self.budget = float(np.quantile(self.total(points), 0.25))
        self.scale = float(self.score(points).std())

    def total(self, points: np.ndarray) -> np.ndarray:
        return self.cost[np.arange(LAYERS), points].sum(axis=-1)

    def score(self, points: np.ndarray) -> np.ndarray:
        layer = np.arange(LAYERS)
        pairs = self.pair[layer[:-1], points[..., :-1], points[..., 1:]]
        return self.single[layer, points].sum(axis=-1) + pairs.sum(axis=-1)

    def costs(self, points: np.ndarray) -> Dict[str, np.ndarray]:
        return {"latency_us": self.total(points)}


def ours(problem: Problem, evaluations: int, seed: int) -> float:
    settings = EvolutionSettings(evaluations=evaluations)
    budget = [Constraint("latency_us", high=problem.budget)]
    none = np.zeros((0, LAYERS), dtype=np.int64)
    sizes = np.full(LAYERS, CHOICES)
    found = evolve(none, problem.score, problem.costs, budget, sizes, settings, seed)
    assert found.evaluated[-1] <= evaluations
    assert problem.total(found.points).max() <= problem.budget
    return found.best[-1]


def pymoo_ga(problem: Problem, evaluations: int, seed: int, population: int) -> float:
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Budgeted(PymooProblem):
        def __init__(self) -> None:
            super().__init__(n_var=LAYERS, n_obj=1, n_ieq_constr=1, xl=0, xu=CHOICES - 1, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"], out["G"] = -problem.score(x.astype(int)), problem.total(x.astype(int)) - problem.budget

    algorithm = GA(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=UX(prob=1.0, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    result = minimize(Budgeted(), algorithm, ("n_eval", evaluations), seed=seed, verbose=False)
    return -float(result.F[0])


def optuna_nsga2(problem: Problem, evaluations: int, seed: int, population: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constraints are experimental there
        sampler = optuna.samplers.NSGAIISampler(
            seed=seed, population_size=population, constraints_func=lambda trial: (trial.user_attrs["excess"],)
        )
    feasible: List[float] = [-np.inf]

    def objective(trial: optuna.Trial) -> float:
        point = np.array([trial.suggest_categorical(str(layer), list(range(CHOICES))) for layer in range(LAYERS)])
        excess, score = float(problem.total(point)) - problem.budget, float(problem.score(point))
        trial.set_user_attr("excess", excess)
        if excess <= 0:
            feasible.append(score)
        return score

    optuna.create_study(direction="maximize", sampler=sampler).optimize(objective, n_trials=evaluations)
    return max(feasible)


def mean_of(search, evaluations: int, *args: int) -> float:
    problems = {seed: Problem(seed) for seed in SEEDS}
    return float(np.mean([search(one, evaluations, seed, *args) / one.scale for seed, one in problems.items()]))


@pytest.mark.parametrize("evaluations", [1000, 2000])
def test_at_least_as_good_as_pymoo(evaluations):
    pytest.importorskip("pymoo")
    mine = mean_of(ours, evaluations)
    for population in (20, 30, 50):  # 100 is worse there
        assert mine >= mean_of(pymoo_ga, evaluations, population), f"population {population}"


def test_at_least_as_good_as_optuna():
    pytest.importorskip("optuna")
    assert mean_of(ours, 1000) >= mean_of(optuna_nsga2, 1000, 20)  # its default of 50 is worse there
