"""Relaxed samples: eq. 8 by its own formula, its limits, and values that others report NaN for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.dnas.gumbel import gumbel_choice, gumbel_noise, gumbel_softmax, probabilities

ALL = torch.ones(2, 3, dtype=torch.bool)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_equation_8():
    theta, noise, tau = torch.randn(2, 3), torch.randn(2, 3), 1.7
    expected = torch.exp((theta + noise) / tau)
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(gumbel_softmax(theta, noise, tau, ALL), expected)


def test_equation_4():
    theta = torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 0.0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    expected = torch.tensor([[0.0900, 0.2447, 0.6652], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(probabilities(theta, valid), expected, atol=1e-4, rtol=0)


def test_noise_is_gumbel():
    """Mean is Euler's constant, variance pi^2 / 6."""
    noise = gumbel_noise((400_000,), generator())
    assert abs(noise.mean() - 0.5772) < 0.01 and abs(noise.var() - 1.6449) < 0.03
    assert torch.isfinite(noise).all()


def test_choices_follow_equation_4():
    theta = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    noise = gumbel_noise((20_000, 2, 3), generator(1))
    found = torch.stack([(gumbel_choice(theta, noise, valid) == i).float().mean(0) for i in range(3)], 1)
    torch.testing.assert_close(found, probabilities(theta, valid), atol=0.015, rtol=0)


def test_small_temperatures_approach_the_choice():
    theta, noise = torch.randn(2, 3), gumbel_noise((2, 3), generator())
    m = gumbel_softmax(theta, noise, 1e-4, ALL)
    assert torch.equal(m.argmax(1), gumbel_choice(theta, noise, ALL))
    assert m.amax(1).min() > 0.999


def test_large_temperatures_approach_uniform():
    m = gumbel_softmax(torch.randn(2, 3), torch.randn(2, 3), 1e6, ALL)
    torch.testing.assert_close(m, torch.full((2, 3), 1 / 3), atol=1e-4, rtol=0)


@given(
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e20, 3e37]),
    tau=st.sampled_from([1e-30, 1e-8, 1e-3, 0.09, 5.0, 1e20]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=150, deadline=None)
def test_finite_with_any_theta_and_temperature(scale, tau, seed):
    theta = (torch.randn(4, 5, generator=generator(seed)) * scale).requires_grad_()
    valid = torch.arange(5) < torch.tensor([[5], [1], [3], [4]])
    noise = gumbel_noise((4, 5), generator(seed + 1))
    m = gumbel_softmax(theta, noise, tau, valid)
    assert torch.isfinite(m).all() and (m[~valid] == 0).all()
    torch.testing.assert_close(m.sum(1), torch.ones(4))
    (m * torch.randn(4, 5, generator=generator(seed))).sum().backward()
    assert not torch.isnan(theta.grad).any()
    assert (theta.grad[~valid] == 0).all()


def test_gradient_is_that_of_finite_differences():
    valid = torch.tensor([[True, True, True], [True, True, False]])
    noise, weights = torch.randn(2, 3), torch.randn(2, 3)
    theta = torch.randn(2, 3, requires_grad=True)
    (gumbel_softmax(theta, noise, 0.7, valid) * weights).sum().backward()
    for i, j in ((0, 0), (0, 2), (1, 1)):
        step = torch.zeros(2, 3)
        step[i, j] = 1e-2
        up, down = (
            (gumbel_softmax((theta + sign * step).detach(), noise, 0.7, valid) * weights).sum() for sign in (1, -1)
        )
        assert float(up - down) / 2e-2 == pytest.approx(float(theta.grad[i, j]), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_theta_is_computed_in_float32(dtype):
    m = gumbel_softmax(torch.tensor([[6e4, -6e4]]).to(dtype), torch.zeros(1, 2), 1e-3, torch.ones(1, 2, dtype=bool))
    assert m.dtype == torch.float32 and m.tolist() == [[1.0, 0.0]]
