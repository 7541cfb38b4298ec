"""Linear regression with groups of coefficients, each shrunk as much as the data asks for, and tails in the noise.

    y = intercept + X w + noise,   w_j ~ N(0, noise^2 * exp(s_g)) for j in group g

The strengths s_g and the noise maximise the marginal likelihood (empirical Bayes, partial pooling) times a prior that
is 0 where a variance is 0: one that is ruled out by chance would leave standard errors far too small. The noise is
normal or Student's t, whichever explains the residuals best; t is fitted by reweighting the rows (EM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, lapack, qr, solve_triangular
from scipy.optimize import minimize
from scipy.special import gammaln

TAILS = (2.5, 5.0, 12.0, math.inf)  # degrees of freedom of the noise; infinity is the normal distribution
WEAKEST, STRONGEST = -15.0, 32.0  # bounds of s_g, the upper one of s_g + log n: V stays positive definite in float64
PUSH = 0.125  # the prior of a variance is its power of this
ROUNDS = 6  # of reweighting
SETTLED = 0.02  # change of the weights at which it ends


@dataclass(frozen=True)
class Posterior:
    """What the data says of the coefficients.

    Attributes:
        intercept: expected y at ``center``.
        intercept_variance: of it.
        center: weighted mean of the columns, shape (p,).
        mean: coefficients, shape (p,).
        covariance: of the coefficients, shape (p, p).
        noise: standard deviation of the noise; with tails the t distribution's scale.
        tail: degrees of freedom of the noise.
        left_out: prediction of each row from all others (strengths and weights kept), shape (n,).
    """

    intercept: float
    intercept_variance: float
    center: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    noise: float
    tail: float
    left_out: np.ndarray


def infer(columns: np.ndarray, group: np.ndarray, y: np.ndarray) -> Posterior:
    """Fits the model.

    Args:
        columns: X, shape (n, p), scaled so that each group's sum of variances is about 1; p may exceed n.
        group: number of each column's group, from 0, shape (p,).
        y: not all equal, shape (n,).
    """
    scale, shift = y.std(), y.mean()
    target = (y - shift) / scale
    weights, strengths = np.ones(len(y)), np.zeros(group.max(initial=0) + 1)
    for _ in range(ROUNDS):
        total = weights.sum()
        center, level = weights @ columns / total, weights @ target / total
        centered, root = columns - center, np.sqrt(weights)
        rows, values = _compress(root[:, None] * centered, root * (target - level))
        strengths, noise2 = _strengths(rows, values, group, len(y) - 1, strengths)
        mean, factor = _solve(rows, values, np.exp(0.5 * strengths[group]))
        residual = target - level - centered @ mean
        spread = ((centered @ factor) ** 2).sum(axis=1) + 1 / total  # variance of the fitted value / noise2
        left = 1 - np.minimum(weights * spread, 1 - 1e-9)
        tail = _tail(residual / np.sqrt(noise2 * left))
        before, weights = weights, _weights(residual**2 / noise2 + spread, tail)
        if np.abs(weights - before).max() < SETTLED:
            break
    # Under t noise an observation tells (tail + 1) / (tail + 3) of what one of known precision would.
    seen2 = scale**2 * noise2 * (1.0 if math.isinf(tail) else (tail + 3) / (tail + 1))
    return Posterior(
        intercept=shift + scale * level,
        intercept_variance=seen2 / total,
        center=center,
        mean=scale * mean,
        covariance=seen2 * (factor @ factor.T),
        noise=scale * math.sqrt(noise2),
        tail=tail,
        left_out=y - scale * residual / left,
    )


def _compress(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most p + 1 rows with the same X'X, X'y and y'y."""
    both = np.column_stack([x, y])
    if len(both) > both.shape[1]:
        both = qr(both, mode="r", check_finite=False)[0][: both.shape[1]]
    return both[:, :-1], both[:, -1]


def _strengths(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, freedom: int, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Maximises the marginal likelihood of y ~ N(0, noise2 * V), V = I + sum of exp(s_g) X_g X_g', times the prior.

    Args:
        x, y: rows, the intercept projected out.
        freedom: number of observations behind them, less one for the intercept.
        start: first guess of the log strengths.

    Returns:
        log strengths, shape (groups,), and noise2, for which the maximum is known: y'V^-1y over the freedom that the
        prior of noise2 and of noise2 * exp(s_g) leaves.
    """
    left = freedom - 2 * PUSH * (len(start) + 1)
    grams = [x[:, group == g] @ x[:, group == g].T for g in range(len(start))]
    unit = np.eye(len(y))

    def cost(s: np.ndarray) -> tuple[float, np.ndarray, float]:
        """-2 log of it up to a constant, its gradient, and noise2."""
        factors = np.exp(s)
        lower = cholesky(unit + sum(f * gram for f, gram in zip(factors, grams)), lower=True, check_finite=False)
        solved = cho_solve((lower, True), y, check_finite=False)
        square = max(float(y @ solved), 1e-20)
        inverse = lapack.dpotri(lower, lower=1)[0]  # its lower triangle
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        traces = np.array([np.vdot(inverse, gram) for gram in grams])
        squares = np.array([solved @ gram @ solved for gram in grams])
        value = 2 * np.log(np.diag(lower)).sum() + left * math.log(square) - 2 * PUSH * s.sum()
        return value, factors * (traces - left * squares / square) - 2 * PUSH, square / left

    bounds = [(WEAKEST, STRONGEST - math.log(freedom + 1))] * len(start)
    found = minimize(lambda s: cost(s)[:2], start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x, cost(found.x)[2]


def _solve(x: np.ndarray, y: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean, and F with covariance = noise2 * F F'; ``root`` is the prior deviation / noise of each column."""
    p = x.shape[1]
    stacked = np.vstack([x * root, np.eye(p)])
    q, r = qr(stacked, mode="economic", check_finite=False)
    inverse = solve_triangular(r, np.eye(p), check_finite=False)
    factor = root[:, None] * inverse
    return factor @ (q[: len(y)].T @ y), factor


def _weights(square: np.ndarray, tail: float) -> np.ndarray:
    """E-step: expected precision of each row, given its squared residual in units of the noise."""
    return np.ones_like(square) if math.isinf(tail) else (tail + 1) / (tail + square)


def _tail(z: np.ndarray) -> float:
    """The entry of ``TAILS`` under which studentised residuals are likeliest, whatever their scale."""
    scores = []
    for tail in TAILS:
        if math.isinf(tail):
            scores.append(-0.5 * len(z) * (math.log(2 * math.pi * max(float(np.mean(z**2)), 1e-30)) + 1))
            continue
        square = max(float(np.median(z**2)), 1e-30)
        for _ in range(30):
            square = max(float(np.mean(_weights(z**2 / square, tail) * z**2)), 1e-30)
        constant = gammaln((tail + 1) / 2) - gammaln(tail / 2) - 0.5 * math.log(tail * math.pi * square)
        scores.append(len(z) * constant - (tail + 1) / 2 * np.log1p(z**2 / square / tail).sum())
    return TAILS[int(np.argmax(scores))]
