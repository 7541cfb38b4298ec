"""A latency budget as a constraint on the distribution, in place of a weight to be guessed."""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq

from .gumbel import probabilities


def expected_latency_us(
    theta: torch.Tensor, latency_us: torch.Tensor, fixed_us: float, valid: torch.Tensor
) -> torch.Tensor:
    """Expected latency of an architecture drawn from P_theta: eq. 9 with eq. 4's probabilities for m, exact.

    Args:
        theta: (L, C).
        latency_us: µs, (L, C), any finite number where not valid.
        fixed_us: what no choice changes.
        valid: (L, C).

    Returns:
        scalar, differentiable in ``theta``, of the precision of ``latency_us``.
    """
    return (probabilities(theta, valid).to(latency_us.dtype) * latency_us).sum() + fixed_us


def project_onto_latency(
    theta: torch.Tensor, latency_us: torch.Tensor, fixed_us: float, valid: torch.Tensor, target_us: float
) -> torch.Tensor:
    """The distribution nearest to P_theta whose expected latency is the target.

    Among all distributions with E[LAT] = target, the one of the smallest Kullback-Leibler divergence from P_theta is
    P_theta tilted by ``exp(-mu * LAT)``; with layers that are independent and latencies that add up this is
    ``theta - mu * latency``, with one multiplier mu for all layers. So the constraint of the Lagrangian
    ``CE + mu * (E[LAT] - target)`` is met in every step, and there is no penalty weight to tune.

    Args: as ``expected_latency_us``;
        target_us: what E[LAT] shall be; clipped to what theta can reach.

    Returns:
        theta of the same shape and type.
    """
    us = latency_us.double().masked_fill(~valid, 0.0)
    wide = theta.detach().double().masked_fill(~valid, 0.0)
    scale = float((us.amax(1) - us.amin(1)).max())
    if scale == 0.0:
        return theta.detach().clone()  # every architecture is equally fast
    relative = us / scale

    def tilted(mu: float) -> torch.Tensor:
        return wide - mu * relative

    def excess(mu: float) -> float:
        p = tilted(mu).masked_fill(~valid, -math.inf).softmax(-1)
        return float((p * us).sum()) + fixed_us - target_us

    reach = 50.0 + float(wide.abs().max()) * 2
    low, high = -reach, reach
    for _ in range(20):  # small differences between candidates need a stronger tilt
        if excess(low) >= 0 >= excess(high):
            break
        low, high = 2 * low, 2 * high
    if excess(high) > 0 or excess(low) < 0:
        mu = high if excess(high) > 0 else low
    else:
        mu = brentq(excess, low, high, xtol=1e-12)
    moved = tilted(mu)
    # A common shift of a layer's theta changes no probability, but the weight decay would see it.
    count = valid.sum(1, keepdim=True)
    shift = ((moved - wide).masked_fill(~valid, 0.0)).sum(1, keepdim=True) / count
    return (moved - shift).masked_fill(~valid, 0.0).to(theta.dtype)


def ramped_target_us(start_us: float, target_us: float, progress: float, ramp: float) -> float:
    """The constraint on the way to the target: from ``start_us`` geometrically, reached at ``progress = ramp``.

    Args:
        progress: share of the theta epochs that are over, 0 to 1.
        ramp: share of them after which the target itself holds; 0: from the first step.
    """
    done = 1.0 if progress >= ramp else progress / ramp
    return start_us * (target_us / start_us) ** done
