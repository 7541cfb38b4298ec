"""Predictor-based evolutionary search (FBNetV3, section 3.4 and stage 3 of Algorithm 1).

From the best trained candidates and random points, each generation breeds children that meet the constraints, scores
them with the predictor, and keeps the best, until the best score gains nothing. The predictor and the costs are asked
about whole arrays of points, never about one, and about no point twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Set, Tuple

import numpy as np

from .breeding import Breeder
from .constraints import Constraint, satisfied
from .errors import NARSError
from .evolution_settings import EvolutionSettings
from .feasible import Costs, random_feasible
from .genetics import row_keys

Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Evolved:
    """What an evolutionary search found.

    Attributes:
        points: the best K, distinct, best first, int64 (k, V) with 1 <= k <= K; all meet the constraints.
        scores: theirs, (k,).
        best: best score after each generation, the first included.
        evaluated: number of scored points up to each generation.
        seconds: wall time.
    """

    points: np.ndarray
    scores: np.ndarray
    best: Tuple[float, ...]
    evaluated: Tuple[int, ...]
    seconds: float


def evolve(
    start: np.ndarray,
    score: Score,
    costs: Costs,
    constraints: Sequence[Constraint],
    sizes: np.ndarray,
    settings: EvolutionSettings = EvolutionSettings(),  # noqa: B008 - frozen
    seed: int = 0,
    ordered: Optional[np.ndarray] = None,
) -> Evolved:
    """Searches for the points of the highest score among those that meet the constraints.

    Args:
        start: points for the first generation, such as the trained candidates, int64 (n, V), n >= 0; those that
            violate the constraints are left out, of the others the ``settings.parents`` best by score come in.
        score: points (n, V) -> scores (n,), higher is better; the predictor.
        costs: points (n, V) -> metric -> (n,).
        constraints: all are to be met; none is allowed too.
        sizes: number of choices of each variable, (V,).
        seed: the same gives the same result.
        ordered: variables whose neighbouring choices are alike, bool (V,); default: none.

    Raises:
        NARSError: nothing meets the constraints (names the smallest or largest reachable cost), a score is not
            finite (names the point), or a start point is outside of the space.
    """
    begin = time.monotonic()
    sizes = np.asarray(sizes, dtype=np.int64)
    rng = np.random.default_rng(seed)
    kinds = np.zeros(len(sizes), dtype=bool) if ordered is None else np.asarray(ordered, dtype=bool)
    breeder = Breeder(sizes, costs, constraints, settings, kinds, rng)
    population = _Population(score, settings)
    _first_generation(population, _valid(start, sizes), costs, constraints, sizes, settings, rng)
    best, evaluated, stalled = [population.best()], [population.evaluated], 0
    for _ in range(settings.generations):
        if stalled >= settings.patience or population.full():
            break
        _next_generation(population, breeder, settings)
        stalled = stalled + 1 if population.best() - best[-1] <= settings.epsilon else 0
        best.append(population.best())
        evaluated.append(population.evaluated)
    seconds = time.monotonic() - begin
    return Evolved(population.points, population.scores, tuple(best), tuple(evaluated), seconds)


def evolve_all(
    constraint_sets: Sequence[Sequence[Constraint]],
    start: np.ndarray,
    score: Score,
    costs: Costs,
    sizes: np.ndarray,
    settings: EvolutionSettings = EvolutionSettings(),  # noqa: B008 - frozen
    seed: int = 0,
    ordered: Optional[np.ndarray] = None,
) -> List[Evolved]:
    """``evolve`` for each set of constraints with one predictor; a set's result does not depend on the others."""
    return [evolve(start, score, costs, one, sizes, settings, seed, ordered) for one in constraint_sets]


class _Population:
    """The best scored points, and what was scored.

    Attributes:
        points, scores: the kept, best first; equal scores in the order in which they came.
        seen: keys of all scored points.
        evaluated: number of scored points.
    """

    def __init__(self, score: Score, settings: EvolutionSettings):
        self._score, self._keep, self._limit = score, settings.keep, settings.evaluations
        self.points = np.zeros((0, 0), dtype=np.int64)
        self.scores = np.zeros(0)
        self.seen: Set[bytes] = set()
        self.evaluated = 0

    def full(self) -> bool:
        """The limit of scored points is reached."""
        return self._limit is not None and self.evaluated >= self._limit

    def best(self) -> float:
        return float(self.scores[0])

    def scored(self, points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """New, distinct points, as many as the limit allows, and their scores."""
        if self._limit is not None:
            points = points[: max(self._limit - self.evaluated, 0)]
        if not len(points):
            return points, np.zeros(0)
        scores = np.asarray(self._score(points), dtype=np.float64)
        if scores.shape != (len(points),):
            raise NARSError(f"the score of {len(points)} points has shape {scores.shape}, expected ({len(points)},)")
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise NARSError(f"the score of point {points[bad[0]].tolist()} is {scores[bad[0]]}, expected a number")
        self.seen.update(row_keys(points))
        self.evaluated += len(points)
        return points, scores

    def add(self, points: np.ndarray, scores: np.ndarray) -> None:
        """Keeps the best K of the kept and the given."""
        if len(self.scores):
            points, scores = np.concatenate([self.points, points]), np.concatenate([self.scores, scores])
        order = np.argsort(-scores, kind="stable")[: self._keep]
        self.points, self.scores = points[order], scores[order]


def _valid(start: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    points = np.asarray(start, dtype=np.int64)
    if points.size == 0:
        return np.zeros((0, len(sizes)), dtype=np.int64)
    if points.ndim != 2 or points.shape[1] != len(sizes):
        raise NARSError(f"the start points have shape {points.shape}, expected (n, {len(sizes)})")
    outside = np.flatnonzero(((points < 0) | (points >= sizes)).any(axis=1))
    if len(outside):
        raise NARSError(f"start point {points[outside[0]].tolist()} is no point of the space")
    return np.unique(points, axis=0)


def _first_generation(
    population: _Population,
    start: np.ndarray,
    costs: Costs,
    constraints: Sequence[Constraint],
    sizes: np.ndarray,
    settings: EvolutionSettings,
    rng: np.random.Generator,
) -> None:
    """The best p of the start points, and random points that fill up to p + q."""
    if len(start):
        start = start[satisfied(costs(start), constraints)]
    points, scores = population.scored(start)
    order = np.argsort(-scores, kind="stable")[: settings.parents]
    population.add(points[order], scores[order])
    wanted = settings.parents + settings.random - len(order)
    if wanted and not population.full():
        drawn = random_feasible(wanted + len(order), sizes, costs, constraints, rng)
        new = [key not in population.seen for key in row_keys(drawn)]
        population.add(*population.scored(drawn[new][:wanted]))


def _next_generation(population: _Population, breeder: Breeder, settings: EvolutionSettings) -> None:
    """``children`` of each breeder, bred in waves of whole numbers of children each."""
    parts = np.array_split(np.arange(settings.children), min(settings.waves, settings.children))
    for part in parts:
        points, scores = population.points[: settings.breeders], population.scores[: settings.breeders]
        population.add(*population.scored(breeder.children(points, scores, len(part), population.seen)))
