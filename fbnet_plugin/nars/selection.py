"""Which candidates of the pool a round trains (FBNetV3, section 3.3)."""

from __future__ import annotations

from typing import List, Mapping, Optional, Set

import numpy as np

from .errors import NARSError
from .genetics import row_keys

DESIGNS = ("random", "strata", "maximin")  # of the first round, see ``spread``


def choose(
    points: np.ndarray,
    predicted: np.ndarray,
    costs: Mapping[str, np.ndarray],
    metric: str = "macs",
    count: int = 48,
    low: Optional[float] = None,
    high: Optional[float] = None,
    taken: Optional[np.ndarray] = None,
    std: Optional[np.ndarray] = None,
    kappa: float = 0.0,
    bins: Optional[int] = None,
) -> np.ndarray:
    """The most promising candidates, spread over the range of a cost.

    The range is cut into equal bins, and each gives the same number of its best candidates, by default one. What a bin
    lacks, the best of all the others make up for.

    Args:
        points: the pool, (n, V).
        predicted: accuracies, higher is better, (n,).
        costs: metric -> (n,).
        metric: the cost whose range is cut; no matter with one bin.
        count: candidates that are wanted; fewer come back if the pool has no more.
        low, high: inclusive range of the cost, candidates outside are never chosen; default: that of the pool.
        taken: points that were chosen before, (t, V), and are not chosen again.
        std: standard deviations of the predictions, (n,).
        kappa: candidates stand in the order of ``predicted + kappa * std``; above 0 explores, needs ``std``.
        bins: number of bins; default: ``count``. One bin: the best of all, wherever they lie, which is right where
            only the best counts and not a whole front.

    Returns:
        Indices into ``points``, distinct points, best first.

    Raises:
        NARSError: a prediction is not finite, or nothing is left to choose.
    """
    value = _values(predicted, std, kappa, len(points))
    cost = _cost(costs, metric, len(points))
    bounds = (cost.min() if low is None else low, cost.max() if high is None else high) if len(cost) else (0.0, 0.0)
    free = _new(points, taken) & (cost >= bounds[0]) & (cost <= bounds[1])
    order = np.flatnonzero(free)
    order = order[np.argsort(-value[order], kind="stable")]  # best first
    _check_left(order, count)
    bins = min(bins or count, count)
    bin_of = _bin_of(cost[order], bounds[0], bounds[1], bins)
    place = _place_in_bin(bin_of)
    chosen = place < count // bins
    rest = np.flatnonzero(~chosen)[: max(count - int(chosen.sum()), 0)]
    chosen[rest] = True
    return order[chosen]


def spread(
    points: np.ndarray,
    costs: Mapping[str, np.ndarray],
    count: int = 48,
    metric: str = "macs",
    taken: Optional[np.ndarray] = None,
    design: str = "maximin",
    seed: int = 0,
) -> np.ndarray:
    """The first round's candidates, for a predictor that has seen no accuracy yet.

    Args:
        design: "random"; "strata": one at random out of each of ``count`` parts of the pool, cut at quantiles of the
            cost; "maximin": after a random one always that which differs from all before in the most variables, ties
            broken at random, so that all choices of all variables come in.
        points, costs, count, metric, taken: as for ``choose``.

    Returns:
        Indices into ``points``, distinct points.

    Raises:
        NARSError: nothing is left to choose, or no such design.
    """
    rng = np.random.default_rng(seed)
    free = np.flatnonzero(_new(points, taken))
    _check_left(free, count)
    count = min(count, len(free))
    if design == "random":
        return rng.choice(free, count, replace=False)
    if design == "strata":
        order = free[np.argsort(_cost(costs, metric, len(points))[free], kind="stable")]
        return np.array([part[rng.integers(len(part))] for part in np.array_split(order, count)])
    if design == "maximin":
        return free[_maximin(points[free], count, rng)]
    raise NARSError(f"the design of the first round is {design!r}, expected one of {', '.join(DESIGNS)}")


def _maximin(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    chosen = [int(rng.integers(len(points)))]
    distance = (points != points[chosen[0]]).sum(axis=1).astype(np.float64)
    tie_break = rng.random(len(points)) * 0.5  # distances are whole numbers
    while len(chosen) < count:
        distance[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(distance + tie_break)))
        distance = np.minimum(distance, (points != points[chosen[-1]]).sum(axis=1))
    return np.array(chosen)


def _values(predicted: np.ndarray, std: Optional[np.ndarray], kappa: float, count: int) -> np.ndarray:
    value = np.asarray(predicted, dtype=np.float64)
    if kappa:
        if std is None:
            raise NARSError(f"choosing candidates with kappa {kappa} needs the predictions' standard deviations")
        value = value + kappa * np.asarray(std, dtype=np.float64)
    if value.shape != (count,):
        raise NARSError(f"predictions for {count} points have shape {value.shape}")
    bad = np.flatnonzero(~np.isfinite(value))
    if len(bad):
        raise NARSError(f"the predicted accuracy of pool point {bad[0]} is {value[bad[0]]}, expected a number")
    return value


def _cost(costs: Mapping[str, np.ndarray], metric: str, count: int) -> np.ndarray:
    if metric not in costs:
        raise NARSError(f"no cost {metric!r} to spread candidates over, known: {', '.join(costs) or 'none'}")
    cost = np.asarray(costs[metric], dtype=np.float64)
    if cost.shape != (count,):
        raise NARSError(f"{metric} of {count} points has shape {cost.shape}")
    return cost


def _new(points: np.ndarray, taken: Optional[np.ndarray]) -> np.ndarray:
    """Bool, (n,): the first of equal points, if it was not taken."""
    seen: Set[bytes] = set(row_keys(taken)) if taken is not None and len(taken) else set()
    new: List[bool] = []
    for key in row_keys(points):
        new.append(key not in seen)
        seen.add(key)
    return np.array(new, dtype=bool)


def _check_left(order: np.ndarray, count: int) -> None:
    if count < 1:
        raise NARSError(f"{count} candidates are to be chosen, expected at least 1")
    if not len(order):
        raise NARSError("no candidate is left to choose: all of the pool were taken or lie outside of the range")


def _bin_of(cost: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """Number of the equal part of [low, high] in which each cost lies."""
    if not high > low:
        return np.zeros(len(cost), dtype=np.int64)
    return np.minimum(((cost - low) / (high - low) * bins).astype(np.int64), bins - 1)


def _place_in_bin(bin_of: np.ndarray) -> np.ndarray:
    """How many earlier entries are of the same bin, (n,)."""
    order = np.argsort(bin_of, kind="stable")
    ordered = bin_of[order]
    first = np.searchsorted(ordered, ordered, side="left")
    place = np.empty(len(bin_of), dtype=np.int64)
    place[order] = np.arange(len(bin_of)) - first
    return place
