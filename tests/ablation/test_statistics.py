"""Means, spreads and paired differences against scipy's own tests and hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fbnet_plugin.ablation.statistics import paired_difference, spread


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    assert spread([1.0, 2.0, 6.0]) == (spread([6.0, 1.0, 2.0]))
    found = spread([1.0, 2.0, 6.0])  # deviations -2, -1, 3: 14 / 2
    assert (found.n, found.mean) == (3, 3.0) and found.std == pytest.approx(7**0.5)
    assert (spread([4.0]).mean, spread([4.0]).std) == (4.0, None)
    assert (spread([]).n, spread([]).mean, spread([]).std) == (0, None, None)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_difference_is_that_of_a_paired_t_test(n: int) -> None:
    rng = np.random.default_rng(n)
    baseline = rng.normal(70, 5, n)
    values = baseline + rng.normal(0.7, 0.4, n)
    found = paired_difference(dict(enumerate(values)), dict(enumerate(baseline)))
    expected = stats.ttest_rel(values, baseline)
    low, high = expected.confidence_interval(0.95)
    assert (found.n, found.mean) == (n, pytest.approx(np.mean(values - baseline)))
    assert found.error == pytest.approx(stats.sem(values - baseline))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.low <= 0 <= found.high) == (expected.pvalue >= 0.05)


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_difference({1: 10.0, 2: 20.0, 3: 99.0}, {2: 18.0, 1: 9.0, 4: 0.0})
    assert (found.n, found.mean, found.error) == (2, 1.5, pytest.approx(0.5))
    assert paired_difference({1: 10.0}, {1: 9.0}).error is None
    assert paired_difference({1: 10.0}, {2: 9.0}).mean is None
