"""How good predictions are: rank correlations, errors, and the samples that pretraining saves."""

from __future__ import annotations

import math
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from scipy.stats import kendalltau, spearmanr

from ..nars.run_data import PredictorData
from .nars_numbers import Values


class Saved(NamedTuple):
    """Samples that pretraining saves (section 3.2).

    Attributes:
        factor: samples without pretraining over samples with it, for the same error.
        at_least: the error was below that of the other one from the first size on.
    """

    factor: float
    at_least: bool


def spearman(first: Values, second: Values) -> float:
    """Rank correlation; NaN for fewer than two pairs or where one side is constant."""
    return _correlation(spearmanr, first, second)


def kendall(first: Values, second: Values) -> float:
    """Kendall's tau-b; NaN for fewer than two pairs or where one side is constant."""
    return _correlation(kendalltau, first, second)


def _correlation(measure: Callable[..., Any], first: Values, second: Values) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(measure(first, second)[0])


def relative_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of |predicted - true| / |true|, without those that are truly 0; NaN where nothing is left."""
    kept = true != 0
    return float(np.mean(np.abs(predicted[kept] / true[kept] - 1))) if kept.any() else math.nan


def mean_squared_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """In squared percentage points for accuracies in %; NaN for none."""
    return float(np.mean((np.asarray(predicted) - np.asarray(true)) ** 2)) if len(true) else math.nan


def samples_saved(predictor: PredictorData) -> Optional[Saved]:
    """How many times fewer samples reach the error that all samples reach without pretraining (Figure 4e).

    Between two sizes the error is interpolated on logarithmic axes. None without a learning curve, or where the
    pretrained one never gets as low.
    """
    if predictor.mse_pretrained is None or predictor.mse_plain is None or len(predictor.samples) < 2:
        return None
    sizes = np.log(np.asarray(predictor.samples, float))
    tiny = np.finfo(float).tiny
    with_it = np.log(np.maximum(np.mean(predictor.mse_pretrained, axis=0), tiny))
    goal = float(np.log(max(float(np.mean(predictor.mse_plain, axis=0)[-1]), tiny)))
    reached = np.flatnonzero(with_it <= goal)
    if not len(reached):
        return None
    after = int(reached[0])
    if after == 0:
        return Saved(float(np.exp(sizes[-1] - sizes[0])), True)
    share = (with_it[after - 1] - goal) / (with_it[after - 1] - with_it[after])
    size = sizes[after - 1] + share * (sizes[after] - sizes[after - 1])
    return Saved(float(np.exp(sizes[-1] - size)), False)
