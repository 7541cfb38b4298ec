"""How well predicted latencies meet measured ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau, rankdata


class FitScore(NamedTuple):
    """Predictions against measured times.

    Attributes:
        networks: how many were compared.
        r2: 1 - squared error / variance of the measured times; NaN where these are all equal.
        spearman, kendall: rank correlations; NaN where all measured or all predicted times are equal.
        mape: mean absolute error in percent of the measured time.
        rmse_us: root mean squared error, µs.
    """

    networks: int
    r2: float
    spearman: float
    kendall: float
    mape: float
    rmse_us: float

    @classmethod
    def of(cls, measured_us: np.ndarray, predicted_us: np.ndarray) -> FitScore:
        """Compares times of shape (n,)."""
        error = predicted_us - measured_us
        return cls(
            networks=len(error),
            r2=r_squared(measured_us, predicted_us),
            spearman=spearman(measured_us, predicted_us),
            kendall=float(kendalltau(measured_us, predicted_us)[0]),
            mape=100 * float(np.mean(np.abs(error) / measured_us)),
            rmse_us=float(np.sqrt(np.mean(error**2))),
        )


def r_squared(measured: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the variance of ``measured`` that ``predicted``, of the same shape (n,), explains."""
    variance = float(np.var(measured))
    return 1 - float(np.mean((predicted - measured) ** 2)) / variance if variance else math.nan


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of shape (n,); NaN where one is constant."""
    ranks = np.stack([rankdata(a), rankdata(b)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = math.sqrt(float((ranks**2).sum(axis=1).prod()))
    return float(ranks[0] @ ranks[1]) / scale if scale else math.nan
