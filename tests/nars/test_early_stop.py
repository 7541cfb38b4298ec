"""The early-stopping epoch, against ranks correlated by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fbnet_plugin.nars.early_stop import early_stop
from fbnet_plugin.nars.errors import NARSError

# Ranks after each epoch of four candidates whose final ranks are 1 2 3 4, and Spearman's 1 - 6 sum d^2 / (n^3 - n):
RANKS = np.array(
    [
        [4, 3, 2, 1],  # d^2 9 1 1 9 -> -1
        [1, 2, 3, 4],  # 1
        [2, 1, 4, 3],  # 4 -> 0.6
        [1, 3, 2, 4],  # 2 -> 0.8
        [1, 2, 4, 3],  # 2 -> 0.8
        [1, 2, 3, 4],
    ]
)
CURVES = (RANKS**2 + 40.0).T  # (candidates, epochs); ranks alone count


class TestEarlyStop:
    def test_correlation_by_hand(self):
        found = early_stop(CURVES)
        assert found.epochs == (1, 2, 3, 4, 5, 6)
        assert found.correlation == pytest.approx((-1, 1, 0.6, 0.8, 0.8, 1))
        assert found.threshold == 0.92

    @pytest.mark.parametrize("threshold, epoch", [(0.92, 6), (0.8, 4), (0.7, 4), (0.6, 2), (-1.0, 1), (1.0, 6)])
    def test_from_there_on(self, threshold, epoch):
        """Epoch 2 exceeds every threshold, but what follows does not."""
        assert early_stop(CURVES, threshold).epoch == epoch

    def test_kendall_by_hand(self):
        found = early_stop(CURVES, 0.6, "kendall")
        # discordant pairs of 6: 6, 0, 2, 1, 1, 0
        assert found.correlation == pytest.approx((-1, 1, 1 / 3, 2 / 3, 2 / 3, 1))
        assert found.epoch == 4

    def test_ties_by_hand(self):
        """Ranks 1.5 1.5 3 with 1 2 3: covariance 1.5 / 3, variances 0.5 and 2/3 (x 3): 1.5 / sqrt(1.5 * 2)."""
        found = early_stop(np.array([[1.0, 10], [1, 20], [2, 30]]))
        assert found.correlation[0] == pytest.approx(0.75**0.5)

    def test_equal_accuracies_have_no_correlation(self):
        curves = np.array([[10.0, 1, 1], [10, 2, 2], [10, 3, 3]])
        found = early_stop(curves)
        assert np.isnan(found.correlation[0]) and found.correlation[1:] == (1, 1)
        assert found.epoch == 2

    def test_last_epoch_where_nothing_tells(self):
        found = early_stop(np.full((5, 7), 10.0))
        assert np.isnan(found.correlation).all() and found.epoch == 7

    def test_whole_curves_alone_count(self):
        broken = CURVES[[0, 1, 2]].copy()
        broken[:, 3] = [np.nan, np.inf, 1]
        broken[2] = np.nan
        assert early_stop(np.concatenate([broken, CURVES])) == early_stop(CURVES)

    def test_one_epoch(self):
        assert early_stop(CURVES[:, -1:]).epoch == 1

    def test_errors(self):
        with pytest.raises(NARSError, match="needs 3 candidates with whole curves, there are 2"):
            early_stop(CURVES[:2])
        with pytest.raises(NARSError, match="'pearson', expected spearman or kendall"):
            early_stop(CURVES, 0.9, "pearson")
        with pytest.raises(NARSError, match=r"shape \(4,\)"):
            early_stop(CURVES[:, 0])
