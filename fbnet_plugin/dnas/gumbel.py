"""Relaxed samples of an architecture (FBNet section 3.3)."""

from __future__ import annotations

import torch

# Float32 noise: no draw of an exponential variable may be 0, or its logarithm would be infinite.
_TINY = torch.finfo(torch.float32).tiny


def gumbel_noise(shape: "tuple[int, ...]", generator: torch.Generator) -> torch.Tensor:
    """Independent draws of Gumbel(0, 1), float32 of ``shape`` on the CPU; finite.

    Args:
        shape: (layers, candidates), or (images, layers, candidates).
        generator: of the CPU, so that every device and every process sees the same noise.
    """
    return -torch.empty(shape).exponential_(generator=generator).clamp_(min=_TINY).log_()


def masked(theta: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """``theta`` with minus infinity where a layer has no candidate."""
    return theta.float().masked_fill(~valid, float("-inf"))


def probabilities(theta: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Probability of each candidate (eq. 4).

    Args:
        theta: (L, C).
        valid: (L, C), False where a layer has fewer candidates.

    Returns:
        (L, C), rows sum to one, zero where not valid.
    """
    return masked(theta, valid).softmax(-1)


def gumbel_softmax(theta: torch.Tensor, noise: torch.Tensor, temperature: float, valid: torch.Tensor) -> torch.Tensor:
    """Relaxed one-hot masks ``m`` (eq. 8), differentiable in ``theta``.

    Computed in float32 whatever the autocast, and relative to each layer's largest logit before the division, so that
    neither a small temperature nor an extreme theta gives anything that is not finite.

    Args:
        theta: (L, C), finite.
        noise: from ``gumbel_noise``, (L, C) or (N, L, C).
        temperature: tau, above 0.
        valid: as for ``probabilities``.

    Returns:
        of the shape of ``noise``; rows sum to one.
    """
    logits = masked(theta, valid) + noise.to(theta.device)
    return ((logits - logits.detach().amax(-1, keepdim=True)) / temperature).softmax(-1)


def gumbel_choice(theta: torch.Tensor, noise: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Index of the sampled candidate of each layer, (L,): exact draws of eq. 4 (the limit of eq. 8 at tau = 0)."""
    return (masked(theta, valid) + noise.to(theta.device)).argmax(-1)
