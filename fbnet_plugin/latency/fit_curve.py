"""How many measured networks a fitted table needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arch import SearchSpace
from ..arch.spec import Resolution
from .errors import LatencyError
from .fit import FEWEST, Regression, basis_of, check_times
from .fit_design import Design
from .fit_score import r_squared, spearman
from .table import LatencyTable


class CurvePoint(NamedTuple):
    """Fits to ``networks`` networks: medians over the repeats of their scores on held-out networks."""

    networks: int
    spearman: float
    r2: float


def learning_curve(
    space: SearchSpace,
    points: Any,
    latencies_us: Any,
    test_points: Any,
    test_latencies_us: Any,
    sizes: Sequence[int],
    repeats: int = 5,
    seed: int = 0,
    *,
    prior: LatencyTable | None = None,
    features: bool = True,
    resolution: Resolution | None = None,
) -> list[CurvePoint]:
    """How well tables predict that are fitted to a few networks each (FBNet eq. 3).

    Args:
        space, points, latencies_us, prior, features, resolution: as in ``fit_table``.
        test_points, test_latencies_us: held-out networks, at least 2.
        sizes: numbers of networks to fit to, each 3 to n.
        repeats: random subsets of each size; a smaller subset is part of the larger ones.
        seed: of the subsets.

    Raises:
        LatencyError: as ``fit_table``, or sizes or repeats out of range.
        ArchError: as ``fit_table``.
    """
    design = Design.of(space, resolution)
    groups = basis_of(design, features, prior)
    points, n = design.rows(points) - design.first[:-1], len(points)
    times = check_times(latencies_us, n)
    held_out = check_times(test_latencies_us, len(design.rows(test_points)), fewest=2)
    for size in sizes:
        if not FEWEST <= size <= n:
            raise LatencyError(f"sizes: got {size}, expected {FEWEST} to {n}, the number of networks")
    if repeats < 1:
        raise LatencyError(f"repeats: got {repeats}, expected at least 1")
    shuffled = [np.random.default_rng([seed, repeat]).permutation(n) for repeat in range(repeats)]
    curve = []
    for size in sizes:
        scores = []
        for subset in (permutation[:size] for permutation in shuffled):
            fit = Regression.fit(design, points[subset], times[subset], groups, None)
            predicted, _ = fit.predict(test_points)
            scores.append((spearman(held_out, predicted), r_squared(held_out, predicted)))
        curve.append(CurvePoint(size, *(float(value) for value in np.median(scores, axis=0))))
    return curve


def networks_needed(curve: Iterable[CurvePoint], spearman: float = 0.95) -> int | None:
    """Smallest size from which on a learning curve stays at ``spearman`` or above; None if it ends below."""
    needed = None
    for point in sorted(curve, reverse=True):
        if not point.spearman >= spearman:
            break
        needed = point.networks
    return needed
