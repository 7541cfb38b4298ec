"""Children of an evolutionary search that meet the constraints and are new. One generation is one set of arrays."""

from __future__ import annotations

from typing import Sequence, Set

import numpy as np

from .constraints import Constraint, violation
from .evolution_settings import EvolutionSettings
from .feasible import Costs
from .genetics import adaptive_rates, mutate, one_each, row_keys, uniform_crossover

TRIED = 8  # changes of a child at once


class Breeder:
    """Makes children of scored points by the adaptive genetic operators.

    Args:
        sizes: number of choices of each variable, (V,).
        costs: points (n, V) -> metric -> (n,).
        ordered: variables whose neighbouring choices are alike, bool (V,).
        rng: all randomness.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        costs: Costs,
        constraints: Sequence[Constraint],
        settings: EvolutionSettings,
        ordered: np.ndarray,
        rng: np.random.Generator,
    ):
        self._sizes, self._costs, self._constraints = sizes, costs, constraints
        self._settings, self._rng = settings, rng
        self._near = np.where(ordered, settings.near, 0.0)

    def children(self, points: np.ndarray, scores: np.ndarray, each: int, seen: Set[bytes]) -> np.ndarray:
        """At most ``each`` children of every point, (k, V): distinct, none of ``seen``, all meet the constraints.

        Args:
            points: the parents, (n, V), which meet the constraints.
            scores: theirs, (n,).
            seen: keys (``row_keys``) of the points that are no longer of interest.
        """
        settings, rng = self._settings, self._rng
        best, mean = float(scores.max()), float(scores.mean())
        parent = np.repeat(np.arange(len(points)), each)
        children = points[parent]
        if settings.crossover and len(points) > 1:
            mate = (parent + rng.integers(1, len(points), len(parent))) % len(points)
            better = np.maximum(scores[parent], scores[mate])
            rates = adaptive_rates(better, best, mean, settings.k1, settings.k3)
            children = uniform_crossover(children, points[mate], rates, rng)
        rates = adaptive_rates(scores[parent], best, mean, settings.k2, settings.k4)
        children = self._mutated(children, np.maximum(rates, settings.floor))
        return self._repaired(children, seen)

    def _mutated(self, points: np.ndarray, rates: np.ndarray) -> np.ndarray:
        rng = self._rng
        if self._settings.per_variable:
            chosen = rng.random(points.shape) < rates[:, None]
        else:
            few = rng.random(points.shape) < 1 / len(self._sizes)
            chosen = (few | one_each(len(points), self._sizes, rng)) & (rng.random(len(points)) < rates)[:, None]
        return mutate(points, chosen, self._sizes, self._near, rng)

    def _repaired(self, points: np.ndarray, seen: Set[bytes]) -> np.ndarray:
        """The points with single variables changed until each is new and meets the constraints, or is given up.

        Of several changes that are tried at once, one that makes a point acceptable is taken, or else the one that
        violates the constraints least, if less than before. A point that is not new is changed in any case.
        """
        points, excess = points.copy(), self._violation(points)
        accepted = np.zeros(len(points), dtype=bool)
        taken: Set[bytes] = set()
        self._accept(np.arange(len(points)), points, excess, accepted, seen, taken)
        for _ in range(self._settings.attempts):
            waiting = np.flatnonzero(~accepted)
            if not len(waiting):
                break
            rows = np.repeat(waiting, TRIED)
            chosen = one_each(len(rows), self._sizes, self._rng)
            changed = mutate(points[rows], chosen, self._sizes, self._near, self._rng)
            new = self._violation(changed)
            stale = np.array([key in seen or key in taken for key in row_keys(changed)])
            worth = np.where((new <= 0) & stale, np.inf, new).reshape(-1, TRIED)  # feasible but not new: last
            best = np.arange(len(waiting)) * TRIED + worth.argmin(axis=1)
            stays = (excess[waiting] <= 0) | (new[best] < excess[waiting])
            points[waiting[stays]], excess[waiting[stays]] = changed[best[stays]], new[best[stays]]
            self._accept(waiting, points, excess, accepted, seen, taken)
        return points[accepted]

    def _accept(
        self,
        waiting: np.ndarray,
        points: np.ndarray,
        excess: np.ndarray,
        accepted: np.ndarray,
        seen: Set[bytes],
        taken: Set[bytes],
    ) -> None:
        """Marks the points in waiting that are new and meet the constraints."""
        for index, key in zip(waiting, row_keys(points[waiting])):
            if excess[index] <= 0 and key not in seen and key not in taken:
                taken.add(key)
                accepted[index] = True

    def _violation(self, points: np.ndarray) -> np.ndarray:
        return violation(self._costs(points), self._constraints)
