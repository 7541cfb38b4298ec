"""The latency target as a projection: what it reaches, and that nothing nearer does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.dnas.gumbel import probabilities
from fbnet_plugin.dnas.target import expected_latency_us, project_onto_latency, ramped_target_us

FIXED = 50.0


def problem(seed: int, scale: float = 1.0):
    g = torch.Generator().manual_seed(seed)
    valid = torch.arange(4) < torch.tensor([[4], [2], [3], [1]])
    us = (torch.rand(4, 4, generator=g) * 100).masked_fill(~valid, 0)
    theta = (torch.randn(4, 4, generator=g) * scale).masked_fill(~valid, 0)
    low = us.masked_fill(~valid, 1e9).amin(1).sum() + FIXED
    high = us.amax(1).sum() + FIXED
    return theta, us, valid, float(low), float(high)


@given(st.integers(0, 1000), st.floats(0.05, 0.95), st.sampled_from([0.1, 1.0, 20.0]))
@settings(max_examples=80, deadline=None)
def test_reaches_the_target(seed, share, scale):
    theta, us, valid, low, high = problem(seed, scale)
    target = low + share * (high - low)
    moved = project_onto_latency(theta, us, FIXED, valid, target)
    assert float(expected_latency_us(moved, us, FIXED, valid)) == pytest.approx(target, rel=1e-4)
    assert (moved[~valid] == 0).all()


@pytest.mark.parametrize("share", [-1.0, 2.0])
def test_unreachable_targets_are_clipped(share):
    theta, us, valid, low, high = problem(0)
    moved = project_onto_latency(theta, us, FIXED, valid, low + share * (high - low))
    found = float(expected_latency_us(moved, us, FIXED, valid))
    assert found == pytest.approx(low if share < 0 else high, rel=1e-3) and torch.isfinite(moved).all()


def divergence(p: torch.Tensor, q: torch.Tensor, valid: torch.Tensor) -> float:
    return float((p * (p / q).log())[valid].sum())


def test_no_distribution_with_that_latency_is_nearer():
    """Against what a general constrained optimizer finds for the same problem."""
    from scipy.optimize import minimize

    theta, us, valid, low, high = problem(5)
    target = low + 0.3 * (high - low)
    p = probabilities(theta, valid).double()
    moved = probabilities(project_onto_latency(theta, us, FIXED, valid, target), valid).double()
    places = valid.nonzero().tolist()

    def rows(x):
        q = torch.zeros(4, 4, dtype=torch.double)
        for (i, j), value in zip(places, x):
            q[i, j] = float(value)
        return q

    constraints = [{"type": "eq", "fun": lambda x, i=i: float(rows(x)[i].sum()) - 1} for i in range(4)]
    constraints.append({"type": "eq", "fun": lambda x: (float((rows(x) * us).sum()) + FIXED - target) / 100})
    start = [1 / float(valid[i].sum()) for i, _ in places]
    best = minimize(lambda x: divergence(rows(x), p, valid), start, bounds=[(1e-9, 1)] * 10, constraints=constraints)
    assert best.success
    assert divergence(moved, p, valid) <= best.fun + 1e-5
    torch.testing.assert_close(moved, rows(best.x), atol=2e-3, rtol=0)


def test_where_all_candidates_are_equally_fast_nothing_moves():
    theta = torch.randn(2, 3)
    valid = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(project_onto_latency(theta, torch.full((2, 3), 7.0), 0.0, valid, 5.0), theta)


def test_the_tilt_leaves_the_mean_of_theta():
    theta, us, valid, low, high = problem(1)
    moved = project_onto_latency(theta, us, FIXED, valid, low + 0.4 * (high - low))
    torch.testing.assert_close(moved.sum(1), theta.sum(1), atol=1e-4, rtol=0)


def test_ramp():
    assert ramped_target_us(400.0, 100.0, 0.0, 0.5) == 400.0
    assert ramped_target_us(400.0, 100.0, 0.25, 0.5) == pytest.approx(200.0)  # geometric
    assert ramped_target_us(400.0, 100.0, 0.5, 0.5) == ramped_target_us(400.0, 100.0, 0.9, 0.5) == 100.0
    assert ramped_target_us(400.0, 100.0, 0.0, 0.0) == 100.0
