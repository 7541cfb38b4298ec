"""The regression behind fitted tables, against the textbook's formulas on small problems."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fbnet_plugin.latency import fit_model
from fbnet_plugin.latency.fit_model import infer

GROUP = np.array([0, 0, 0, 0, 0, 0, 1, 1])


def problem(count, noise=0.5, seed=0):
    """Eight columns, the last two of them of no use."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(count, 8)) / np.sqrt(np.where(GROUP == 0, 6, 2))
    return columns, 7 + columns[:, :6] @ (2 * rng.normal(size=6)) + noise * rng.normal(size=count), rng


def marginal(columns, y, strengths, noise2):
    """log N(y) with the intercept integrated out, by one orthonormal set of contrasts."""
    contrasts = np.linalg.svd(np.eye(len(y)) - 1 / len(y))[0][:, :-1]
    covariance = np.eye(len(y)) + (columns * np.exp(strengths[GROUP])) @ columns.T
    return multivariate_normal.logpdf(contrasts.T @ y, cov=noise2 * contrasts.T @ covariance @ contrasts)


@pytest.mark.parametrize("count", [7, 40])  # fewer rows than columns, and more
def test_strengths_maximise_likelihood_and_prior(count):
    columns, y, _ = problem(count)
    x, z = fit_model._compress(columns - columns.mean(axis=0), y - y.mean())
    strengths, noise2 = fit_model._strengths(x, z, GROUP, count - 1, np.zeros(2))

    def goal(s, n):
        return marginal(columns, y, s, n) + fit_model.PUSH * (math.log(n) + (s + math.log(n)).sum())

    best = goal(strengths, noise2)
    for step in ([0.1, 0], [-0.1, 0], [0, 0.1], [0, -0.1]):
        assert goal(strengths + step, noise2) < best
    assert max(goal(strengths, 1.1 * noise2), goal(strengths, 0.9 * noise2)) < best


@pytest.mark.parametrize("count", [7, 40])
def test_posterior_is_that_of_the_normal_model(count, monkeypatch):
    """Mean and covariance of the coefficients and of the intercept, for the strengths that were found."""
    monkeypatch.setattr(fit_model, "TAILS", (math.inf,))
    columns, y, _ = problem(count)
    found = {}
    strengths_of = fit_model._strengths
    monkeypatch.setattr(fit_model, "_strengths", lambda *a: found.setdefault("it", strengths_of(*a)))
    fit = infer(columns, GROUP, y)
    strengths, noise2 = found["it"][0], fit.noise**2
    design = np.column_stack([np.ones(count), columns - fit.center])
    precision = design.T @ design / noise2 + np.diag(np.append(0, np.exp(-strengths[GROUP]) / noise2))
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ y / noise2
    assert fit.intercept == pytest.approx(mean[0]) and fit.mean == pytest.approx(mean[1:], rel=1e-6)
    assert fit.intercept_variance == pytest.approx(covariance[0, 0])
    assert fit.covariance == pytest.approx(covariance[1:, 1:], rel=1e-6, abs=1e-12)


def test_left_out_predictions(monkeypatch):
    """Those of fits to the other rows, at the same strengths."""
    monkeypatch.setattr(fit_model, "TAILS", (math.inf,))
    columns, y, _ = problem(12)
    fit = infer(columns, GROUP, y)
    x, z = fit_model._compress((columns - columns.mean(axis=0)), (y - y.mean()) / y.std())
    strengths, _ = fit_model._strengths(x, z, GROUP, 11, np.zeros(2))
    for row in range(12):
        rest = np.arange(12) != row
        design = np.column_stack([np.ones(11), columns[rest]])
        penalty = np.diag(np.append(0, np.exp(-strengths[GROUP])))
        mean = np.linalg.solve(design.T @ design + penalty, design.T @ y[rest])
        assert fit.left_out[row] == pytest.approx(np.append(1, columns[row]) @ mean, rel=1e-5)


def test_units_do_not_matter():
    columns, y, _ = problem(30)
    one, two = infer(columns, GROUP, y), infer(columns, GROUP, 1e6 * y + 5e6)
    assert two.mean == pytest.approx(1e6 * one.mean, rel=1e-6) and two.noise == pytest.approx(1e6 * one.noise)
    assert two.intercept == pytest.approx(1e6 * one.intercept + 5e6)


def test_useless_columns_fade():
    columns, y, _ = problem(300)
    fit = infer(columns, GROUP, y)
    assert np.abs(fit.mean[6:]).max() < 0.2 * np.abs(fit.mean[:6]).min()
    assert fit.noise == pytest.approx(0.5, rel=0.15) and math.isinf(fit.tail)


def test_tails_are_told_from_normal_noise():
    columns, y, rng = problem(400, noise=0)
    fit = infer(columns, GROUP, y + 0.3 * rng.standard_t(2.5, 400))
    assert fit.tail < 12 and fit.noise == pytest.approx(0.3, rel=0.25)


def test_standard_errors_under_tails():
    """Errors of coefficients, in units of their standard errors, have a mean square of about 1."""
    squares = []
    for seed in range(30):
        columns, exact, rng = problem(150, noise=0, seed=seed)
        fit = infer(columns, GROUP, exact + 0.3 * rng.standard_t(2.5, 150))
        truth = np.linalg.lstsq(np.column_stack([np.ones(150), columns]), exact, rcond=None)[0][1:]
        squares.append(np.mean((fit.mean - truth)[:6] ** 2 / np.diag(fit.covariance)[:6]))
    assert 0.6 < np.mean(squares) < 1.5
