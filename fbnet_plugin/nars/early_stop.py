"""The epoch after which candidates need not be trained on (FBNetV3, section 3.3 and Figure 5)."""

from __future__ import annotations

import numpy as np

from .errors import NARSError
from .run_data import EarlyStopData

FEWEST = 3  # candidates whose ranks are compared


def early_stop(curves: np.ndarray, threshold: float = 0.92, method: str = "spearman") -> EarlyStopData:
    """Rank correlation of candidates' accuracy after each epoch with the final one, and where it is high enough.

    The epoch is the first from which on the correlation does not fall below the threshold again: a correlation that
    exceeds it once among few candidates can be chance.

    Args:
        curves: accuracies, %, (n, epochs), epoch 1 first; candidates with a value that is not finite are left out.
        threshold: of the correlation.
        method: "spearman" or "kendall"; the paper says "rank correlation" alone.

    Raises:
        NARSError: fewer than 3 whole curves, no epoch, or no such method.
    """
    if method not in ("spearman", "kendall"):
        raise NARSError(f"the rank correlation for early stopping is {method!r}, expected spearman or kendall")
    curves = np.asarray(curves, dtype=np.float64)
    if curves.ndim != 2 or not curves.shape[1]:
        raise NARSError(f"curves for early stopping have shape {curves.shape}, expected (candidates, epochs)")
    curves = curves[np.isfinite(curves).all(axis=1)]
    if len(curves) < FEWEST:
        raise NARSError(f"early stopping needs {FEWEST} candidates with whole curves, there are {len(curves)}")
    correlation = [_correlation(column, curves[:, -1], method) for column in curves.T]
    epochs = curves.shape[1]
    epoch = epochs
    while epoch > 1 and correlation[epoch - 2] >= threshold:  # NaN ends it
        epoch -= 1
    return EarlyStopData(tuple(range(1, epochs + 1)), tuple(correlation), float(threshold), epoch)


def _correlation(first: np.ndarray, second: np.ndarray, method: str) -> float:
    """NaN where all values of one side are equal."""
    from scipy.stats import kendalltau, rankdata  # takes longer to load than all of this package

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    if method == "kendall":
        return round(float(kendalltau(first, second).statistic), 12)
    return round(float(np.corrcoef(rankdata(first), rankdata(second))[0, 1]), 12)  # 1 for equal ranks
