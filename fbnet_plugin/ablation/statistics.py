"""What a few seeds say: mean, spread, and the difference between two ways of training that share their seeds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95  # of the interval


@dataclass(frozen=True)
class Spread:
    """
    Attributes:
        n: number of values.
        mean: None without values.
        std: sample standard deviation (n - 1 in the denominator), None for fewer than two values.
    """

    n: int
    mean: Optional[float]
    std: Optional[float]


@dataclass(frozen=True)
class Difference:
    """Of pairs with equal seeds.

    Attributes:
        n: number of pairs.
        mean: None without pairs.
        error: standard error of the mean, None for fewer than two pairs.
        low, high: ends of the interval in which the true mean lies with probability ``LEVEL``, by Student's t; None
            for fewer than two pairs.
    """

    n: int
    mean: Optional[float]
    error: Optional[float]
    low: Optional[float]
    high: Optional[float]


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation."""
    n = len(values)
    return Spread(n, float(np.mean(values)) if n else None, float(np.std(values, ddof=1)) if n > 1 else None)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """``values - baseline`` over the seeds that both have.

    Args:
        values, baseline: seed to figure.
    """
    pairs = [values[seed] - baseline[seed] for seed in sorted(set(values) & set(baseline))]
    of_pairs = spread(pairs)
    if of_pairs.mean is None or of_pairs.std is None:
        return Difference(of_pairs.n, of_pairs.mean, None, None, None)
    error = of_pairs.std / math.sqrt(of_pairs.n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, of_pairs.n - 1)) * error
    return Difference(of_pairs.n, of_pairs.mean, error, of_pairs.mean - reach, of_pairs.mean + reach)


def as_dict(of: "Spread | Difference") -> Dict[str, Optional[float]]:
    """Plain data, for a file."""
    return dataclasses.asdict(of)
