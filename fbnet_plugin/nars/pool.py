"""The sample pool: quasi Monte-Carlo points of a joint space that meet constraints (FBNetV3 section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Set

import numpy as np

from .constraints import Constraint, format_constraints, missing_metric, satisfied
from .costs import Costs
from .errors import NARSError
from .reach import all_points, changed, feasible_points
from .space import JointSpace

LISTED = 1 << 17  # points of a space that are all counted
CHUNK = 1 << 14  # points drawn at once, a power of two as Sobol's sequence wants it
RARE = 1 / 200  # share of the drawn points below which drawing is given up for breeding
CROWDED = 1 / 4  # share of a listed space's good points from which they are drawn without a sequence
BARREN = 20  # chunks in a row without a new point before breeding ends
MAX_BRED = 1 << 22  # points bred at most


@dataclass(frozen=True)
class Pool:
    """Different points that meet the constraints.

    Attributes:
        points: int64, shape (n, V).
        costs: metric -> float64, shape (n,).
        tried: points drawn for it; len(points) / tried is the share that met the constraints.
        bred: how many of the points, the last ones, are changed copies of others and no samples.
        warning: what the user should know about the pool, or "".
    """

    points: np.ndarray
    costs: Dict[str, np.ndarray]
    tried: int
    bred: int = 0
    warning: str = ""


def make_pool(space: JointSpace, costs: Costs, constraints: Sequence[Constraint], n: int, seed: int) -> Pool:
    """Draws a pool from a scrambled Sobol sequence, rejecting what does not meet the constraints.

    Where fewer than ``RARE`` of the points meet them, the pool is completed with changed copies of those that do: it
    then holds feasible architectures, no longer uniform ones (``Pool.bred``, ``Pool.warning``); recipes stay uniform.
    A space with no more than ``n`` such points gives all that there are, or, if it is too large to be listed, as many
    as breeding finds.

    Args:
        space: any joint space whose architectures all fit their resolution.
        costs: of its points.
        constraints: on metrics that ``costs`` has.
        n: size of the pool.
        seed: equal seeds give equal pools.

    Raises:
        NARSError: ``n`` is no positive number, a constraint is on a metric that ``costs`` does not have, or no
            network meets the constraints (names the smallest or largest cost that there is).
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise NARSError(f"pool: got size {n!r}, expected an integer of at least 1")
    for one in constraints:
        if one.metric not in costs.metrics:
            raise missing_metric(one.metric, costs.metrics)
    rng = np.random.default_rng(seed)
    if space.size <= LISTED:
        points = all_points(space.sizes)
        good = np.flatnonzero(satisfied(costs(points), constraints))
        if not len(good):
            feasible_points(space, costs, constraints, rng)  # raises
        if n > CROWDED * len(good) or len(good) < 2 * RARE * len(points):
            chosen = rng.permutation(good)[:n]
            return Pool(points[chosen], costs(points[chosen]), len(points))
    gathered = _Gathered(space, costs, constraints, int(n))
    tried = _draw(gathered, space, rng)
    drawn = len(gathered)
    if drawn < n:
        tried += _breed(gathered, space, rng)
    return gathered.pool(tried, len(gathered) - drawn)


def _draw(gathered: _Gathered, space: JointSpace, rng: np.random.Generator) -> int:
    """Draws until there are enough points or they turn out to be rare; returns how many it drew."""
    from scipy.stats import qmc  # takes longer to load than all of this package

    sobol = qmc.Sobol(len(space.sizes), scramble=True, seed=rng)
    tried = 0
    while gathered.missing and (tried < 2 * CHUNK or len(gathered) >= RARE * tried):
        places = sobol.random(CHUNK)
        points = np.minimum((places * space.sizes).astype(np.int64), space.sizes - 1)
        tried += gathered.add(points)
    return tried


def _breed(gathered: _Gathered, space: JointSpace, rng: np.random.Generator) -> int:
    """Completes the points with changed copies; returns how many copies were made."""
    if not len(gathered):
        seeds = feasible_points(space, gathered.costs, gathered.constraints, rng)
        gathered.add(_with_new_recipes(seeds, space, rng))
    made = barren = 0
    while gathered.missing and barren < BARREN and made < MAX_BRED:
        before = len(gathered)
        parents = np.stack(gathered.points)
        mothers, fathers = (parents[rng.integers(0, len(parents), CHUNK)] for _ in range(2))
        crossed = (rng.random(mothers.shape) < 0.5) & (rng.random((CHUNK, 1)) < 0.5)
        children = np.where(crossed, fathers, mothers)
        if space.num_arch:
            children = changed(children, space, rng)
        made += gathered.add(_with_new_recipes(children, space, rng))
        barren = barren + 1 if len(gathered) == before else 0
    return made


def _with_new_recipes(points: np.ndarray, space: JointSpace, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([points[:, : space.num_arch], space.sample(len(points), rng)[:, space.num_arch :]], axis=1)


class _Gathered:
    """Different points that meet the constraints, up to ``n``, in the order in which they came."""

    def __init__(self, space: JointSpace, costs: Costs, constraints: Sequence[Constraint], n: int):
        self.space, self.costs, self.constraints, self.n = space, costs, constraints, n
        self.points: List[np.ndarray] = []
        self._keys: Set[bytes] = set()

    def __len__(self) -> int:
        return len(self.points)

    @property
    def missing(self) -> int:
        return self.n - len(self.points)

    def add(self, points: np.ndarray) -> int:
        """Takes the new ones among points that meet the constraints; returns how many it looked at to be complete."""
        good = np.flatnonzero(satisfied(self.costs(points), self.constraints))
        for place in good.tolist():
            key = points[place].tobytes()
            if key not in self._keys:
                self._keys.add(key)
                self.points.append(points[place])
                if not self.missing:
                    return place + 1
        return len(points)

    def pool(self, tried: int, bred: int) -> Pool:
        points = np.stack(self.points)
        warning = ""
        if bred:
            wanted = format_constraints(self.constraints)
            warning = f"{wanted}: met by few random points; {bred} of {len(points)} are changed copies of others"
        if self.missing:
            warning += f"{'; ' if warning else ''}{len(points)} points were found, {self.n} were asked for"
        return Pool(points, self.costs(points), tried, bred, warning)
