"""Adaptive genetic operators (Srinivas & Patnaik 1994) on points of a search space, all in whole arrays.

A point is a row of choice indices, int64 of shape (V,), 0 <= point < sizes; scores are maximized.
"""

from __future__ import annotations

from typing import List

import numpy as np


def adaptive_rates(scores: np.ndarray, best: float, mean: float, above: float, below: float) -> np.ndarray:
    """``above * (best - score) / (best - mean)`` where a score is at least the mean, otherwise ``below``.

    With (k1, k3) it is the chance of a crossover, of the better parent's score; with (k2, k4) that of a mutation, of
    the parent's own. Good points are so kept, poor ones taken apart. Where all scores are equal the fraction is 0/0:
    the population has converged, and ``below``, the rate that takes it apart, stands for all.

    Args:
        scores: shape (n,).
        best, mean: of the population.
    """
    rates = np.full(len(scores), float(below))
    spread = best - mean
    if spread > 0 and np.isfinite(spread):
        good = scores >= mean
        rates[good] = np.clip(above * (best - scores[good]) / spread, 0.0, 1.0)
    return rates


def uniform_crossover(first: np.ndarray, second: np.ndarray, rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Children, (n, V): with the row's rate half of the values, drawn one by one, come from ``second``."""
    crossed = rng.random(len(first)) < rates
    return np.where(crossed[:, None] & (rng.random(first.shape) < 0.5), second, first)


def mutate(
    points: np.ndarray, chosen: np.ndarray, sizes: np.ndarray, near: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The points, (n, V), with another value of each chosen variable that has one.

    Args:
        chosen: bool, (n, V).
        near: chance, per variable (V,), of a step to a neighbouring value instead of a draw from all others.
    """
    others = np.maximum(sizes - 1, 1)
    drawn = (points + 1 + (rng.random(points.shape) * others).astype(np.int64)) % sizes
    up = rng.random(points.shape) < 0.5
    step = np.where(points == 0, 1, np.where(points == sizes - 1, -1, np.where(up, 1, -1)))
    changed = np.where(rng.random(points.shape) < near, points + step, drawn)
    return np.where(chosen & (sizes > 1), changed, points)


def one_each(count: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bool, (count, V): one variable that has a choice in each row, or none if there is no such variable."""
    chosen = np.zeros((count, len(sizes)), dtype=bool)
    free = np.flatnonzero(sizes > 1)
    if len(free):
        chosen[np.arange(count), rng.choice(free, count)] = True
    return chosen


def sample(count: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uniformly drawn points, (count, V)."""
    return rng.integers(0, sizes, (count, len(sizes)), dtype=np.int64)


def row_keys(points: np.ndarray) -> List[bytes]:
    """One hashable key per row of points (n, V)."""
    rows = np.ascontiguousarray(points, dtype=np.int64)
    return [row.tobytes() for row in rows]
