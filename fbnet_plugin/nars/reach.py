"""What costs a space's networks can have, and a way to networks that meet constraints which random ones hardly do."""

from __future__ import annotations

import math
from typing import Callable, Dict, Sequence, Tuple

import numpy as np

from .constraints import Constraint, format_constraints, format_cost, satisfied, violation
from .costs import Costs
from .errors import NARSError
from .space import JointSpace

LISTED = 1 << 15  # architectures that are all counted rather than searched
STARTS = 8  # of a descent
RANDOM = 1 << 11  # points among which the starts are the best
SWEEPS = 20  # over all variables, at most
ROUNDS = 100  # of changes of several variables at once, where single ones lead nowhere
CHANGED = 512  # points of such a round

Score = Callable[[np.ndarray], np.ndarray]


def reach(space: JointSpace, costs: Costs) -> Dict[str, Tuple[float, float]]:
    """Smallest and largest cost of a space's networks, per metric.

    Exact for spaces of up to ``LISTED`` architectures. In larger ones variables are set in turn to their best choice,
    from several starts, until nothing changes; that is exact where a cost grows with each variable by itself, as MACs
    and parameters nearly do.
    """
    found = {}
    for metric in costs.metrics:
        ends = [_extreme(space, costs, metric, sign) for sign in (1.0, -1.0)]
        found[metric] = ends[0], ends[1]
    return found


def _extreme(space: JointSpace, costs: Costs, metric: str, sign: float) -> float:
    points, _ = descend(space, lambda points: sign * costs(points)[metric])
    return float(costs(points[:1])[metric][0])


def descend(space: JointSpace, score: Score, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    """Points with a low score that depends on the architecture alone.

    Args:
        space: any; the recipes of the points are its first.
        score: of points (n, V), shape (n,); an exact 0 is the best there is, where it cannot be negative.

    Returns:
        points (k, V) and scores (k,), the best first.
    """
    if space.arch_space.size <= LISTED:
        points = arch_points(space)
    else:
        points = _sweep(space, score, _starts(space, score, np.random.default_rng(seed)))
    values = score(points)
    order = np.argsort(values, kind="stable")
    return points[order], values[order]


def arch_points(space: JointSpace) -> np.ndarray:
    """All architectures of a space, each with the first recipe."""
    points = np.zeros((space.arch_space.size, len(space.sizes)), dtype=np.int64)
    points[:, : space.num_arch] = all_points(space.sizes[: space.num_arch])
    return points


def all_points(sizes: np.ndarray) -> np.ndarray:
    """Every point of a small space: int64, shape (product of sizes, len(sizes))."""
    count = math.prod(sizes.tolist())
    if not len(sizes):
        return np.zeros((count, 0), dtype=np.int64)
    return np.stack(np.unravel_index(np.arange(count), sizes.tolist()), axis=1).astype(np.int64)


def _starts(space: JointSpace, score: Score, rng: np.random.Generator) -> np.ndarray:
    """The best of random points, and the points of all first and of all last choices."""
    points = space.sample(RANDOM, rng)
    points[:, space.num_arch :] = 0
    last = space.sizes - 1
    last[space.num_arch :] = 0
    best = np.argsort(score(points), kind="stable")[: STARTS - 2]
    return np.concatenate([np.zeros_like(last)[None], last[None], points[best]])


def _sweep(space: JointSpace, score: Score, points: np.ndarray) -> np.ndarray:
    """Sets one variable after the other to its best choice, in each point, until a sweep changes nothing."""
    points = points.copy()
    for _ in range(SWEEPS):
        before = points.copy()
        for column in range(space.num_arch):
            size = int(space.sizes[column])
            trial = np.repeat(points, size, axis=0)
            trial[:, column] = np.tile(np.arange(size), len(points))
            values = score(trial).reshape(len(points), size)
            best = values.argmin(axis=1)
            here = np.arange(len(points))
            gained = values[here, best] < values[here, points[:, column]]
            points[gained, column] = best[gained]
        if (points == before).all():
            break
        points = np.unique(points, axis=0)  # starts that have met
    return points


def feasible_points(
    space: JointSpace, costs: Costs, constraints: Sequence[Constraint], rng: np.random.Generator
) -> np.ndarray:
    """A few points that meet constraints, found by lowering their violation.

    Returns:
        int64, shape (k, V), k at least 1, all with the space's first recipe.

    Raises:
        NARSError: none was found; names the smallest or largest cost that networks of this space have.
    """

    def score(points: np.ndarray) -> np.ndarray:
        return violation(costs(points), constraints)

    points, values = descend(space, score)
    if values[0] > 0:
        _check_each(space, costs, constraints)
    for _ in range(ROUNDS if space.arch_space.size > LISTED else 0):
        if values[0] <= 0:
            break
        children = changed(points[rng.integers(0, len(points), CHANGED)], space, rng)
        points = np.concatenate([points, children])
        values = np.concatenate([values, score(children)])
        order = np.argsort(values, kind="stable")[: 4 * STARTS]
        points, values = points[order], values[order]
    good = satisfied(costs(points), constraints)
    if not good.any():
        has = " and ".join(format_cost(float(value[0]), metric) for metric, value in costs(points[:1]).items())
        raise NARSError(
            f"{format_constraints(constraints)}: no network of {space.arch_space.name} was found that meets all; "
            f"the nearest has {has}"
        )
    return points[good]


def changed(points: np.ndarray, space: JointSpace, rng: np.random.Generator) -> np.ndarray:
    """Copies in which one to three variables of the architecture are drawn anew; there must be such variables."""
    points = points.copy()
    for share in (1.0, 0.7, 0.7):
        rows = np.flatnonzero(rng.random(len(points)) < share)
        columns = rng.integers(0, space.num_arch, len(rows))
        points[rows, columns] = rng.integers(0, space.sizes[columns])
    return points


def _check_each(space: JointSpace, costs: Costs, constraints: Sequence[Constraint]) -> None:
    """Raises NARSError for constraints that no network meets even alone."""
    name, problems = space.arch_space.name, []
    alone = space.arch_space.size == 1
    for one in constraints:
        if math.isfinite(one.high):
            low = _extreme(space, costs, one.metric, 1.0)
            if low > one.high:
                which = f"the network {name}" if alone else f"the smallest network of {name}"
                problems.append(f"{format_constraints([one])}: {which} has {format_cost(low, one.metric, math.ceil)}")
        if one.low > 0:
            high = _extreme(space, costs, one.metric, -1.0)
            if high < one.low:
                which = f"the network {name}" if alone else f"the largest network of {name}"
                problems.append(f"{format_constraints([one])}: {which} has {format_cost(high, one.metric, math.floor)}")
    if problems:
        raise NARSError("; ".join(problems))
