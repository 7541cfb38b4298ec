"""Points that meet resource constraints, and what to say where there are none."""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Sequence, Tuple

import numpy as np

from .constraints import Constraint, format_constraints, format_cost, satisfied, violation
from .errors import NARSError
from .genetics import mutate, one_each, row_keys, sample, uniform_crossover

Costs = Callable[[np.ndarray], Dict[str, np.ndarray]]

BATCH = 2048  # points whose costs are asked for at once
MAX_DRAWS = 16 * BATCH  # uniformly drawn points before violations are bred down instead
ACCEPTED = 1e-3  # of the draws; below it, rejection is given up
STALLED = 60  # generations without less violation before a breeding ends
STARTS = 4  # of a descent of one cost


def random_feasible(
    count: int,
    sizes: np.ndarray,
    costs: Costs,
    constraints: Sequence[Constraint],
    rng: np.random.Generator,
) -> np.ndarray:
    """Up to ``count`` distinct random points that meet the constraints; fewer if more were not found.

    Uniform by rejection; where next to nothing is accepted, points are bred for less violation instead.

    Returns:
        int64, (k, V), 1 <= k <= count.

    Raises:
        NARSError: none was found; names the smallest (or largest) cost that can be reached.
    """
    drawn = 0
    found: Dict[bytes, np.ndarray] = {}
    seeds = sample(BATCH, sizes, rng)
    while len(found) < count and drawn < MAX_DRAWS:
        points = sample(BATCH, sizes, rng) if drawn else seeds
        _keep(points[satisfied(costs(points), constraints)], found, count)
        drawn += len(points)
        if drawn >= 2 * BATCH and len(found) < ACCEPTED * drawn:
            break
    if len(found) < count:
        _breed(count, found, seeds, sizes, costs, constraints, rng)
    if not found:
        raise infeasible(sizes, costs, constraints, rng)
    return np.stack(list(found.values()))


def _keep(points: np.ndarray, found: Dict[bytes, np.ndarray], count: int) -> int:
    """Adds points that are new until there are enough; returns how many were."""
    before = len(found)
    for key, point in zip(row_keys(points), points):
        if len(found) < count:
            found.setdefault(key, point)
    return len(found) - before


def _breed(
    count: int,
    found: Dict[bytes, np.ndarray],
    seeds: np.ndarray,
    sizes: np.ndarray,
    costs: Costs,
    constraints: Sequence[Constraint],
    rng: np.random.Generator,
) -> None:
    """Lowers the violation of a population until enough of its points have none, or nothing gets better."""
    size = max(256, 2 * count)
    points = np.concatenate([seeds[:BATCH], *(point[None] for point in found.values())])
    excess = violation(costs(points), constraints)
    best, stalled = np.inf, 0
    near = np.full(len(sizes), 0.5)
    while stalled < STALLED and len(found) < count:
        kept = np.argsort(excess, kind="stable")[:size]
        points, excess = points[kept], excess[kept]
        mates = points[rng.integers(0, len(points), len(points))]
        children = uniform_crossover(points, mates, np.full(len(points), 0.5), rng)
        chosen = (rng.random(children.shape) < 1 / len(sizes)) | one_each(len(children), sizes, rng)
        children = mutate(children, chosen, sizes, near, rng)
        new = violation(costs(children), constraints)
        gained = _keep(children[new <= 0], found, count)
        lowest = min(float(new.min()), float(excess.min()))
        stalled = 0 if gained or lowest < best else stalled + 1
        best = min(best, lowest)
        points, excess = _distinct(np.concatenate([points, children]), np.concatenate([excess, new]))


def _distinct(points: np.ndarray, values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    _, first = np.unique(points, axis=0, return_index=True)
    first.sort()
    return points[first], values[first]


def infeasible(
    sizes: np.ndarray, costs: Costs, constraints: Sequence[Constraint], rng: np.random.Generator
) -> NARSError:
    """The error that names what each constraint's cost can reach, and where they only clash, the nearest point."""
    starts = sample(STARTS, sizes, rng)
    reached: List[str] = []
    for one in constraints:
        for bound, sign, word in ((one.high, 1.0, "smallest"), (one.low, -1.0, "largest")):
            if not np.isfinite(bound):
                continue
            value = sign * _lowest(starts, sizes, _signed(costs, one.metric, sign))[1]
            if sign * value > sign * bound:
                found = format_cost(value, one.metric, math.ceil if sign > 0 else math.floor)
                reached.append(f"the {word} that can be reached is {found}, not {format_cost(bound, one.metric)}")
    if not reached:
        point, _ = _lowest(starts, sizes, lambda points: violation(costs(points), constraints))
        nearest = {key: float(value[0]) for key, value in costs(point[None]).items()}
        text = ", ".join(format_cost(nearest[one.metric], one.metric) for one in constraints)
        reached.append(f"each bound can be met, but not all at once; the nearest point has {text}")
    return NARSError(f"no point of the space meets {format_constraints(constraints)}: {'; '.join(reached)}")


def _signed(costs: Costs, metric: str, sign: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: sign * costs(points)[metric]


def _lowest(
    starts: np.ndarray, sizes: np.ndarray, value: Callable[[np.ndarray], np.ndarray]
) -> Tuple[np.ndarray, float]:
    """The lowest value found by descents along one variable at a time, all its choices at once; and its point."""
    points, lowest = starts.copy(), value(starts)
    improved = True
    while improved:
        improved = False
        for variable in np.flatnonzero(sizes > 1):
            size = int(sizes[variable])
            lines = np.repeat(points, size, axis=0)
            lines[:, variable] = np.tile(np.arange(size), len(points))
            values = value(lines).reshape(len(points), size)
            best = values.argmin(axis=1)
            gains = values.min(axis=1) < lowest
            points[gains, variable], lowest[gains] = best[gains], values.min(axis=1)[gains]
            improved = improved or bool(gains.any())
    at = int(lowest.argmin())
    return points[at], float(lowest[at])
