"""Losses that know the latency: registered, chosen by ``LATENCY.LOSS``."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from fvcore.common.registry import Registry
from torch import nn

LATENCY_LOSS_REGISTRY = Registry("LATENCY_LOSS")
LATENCY_LOSS_REGISTRY.__doc__ = """
Modules called with the task's loss (a scalar) and the latency of the sample in µs (a scalar, differentiable in theta);
they give the loss to minimize. The registered object is called with the config.
"""


@LATENCY_LOSS_REGISTRY.register()
class ProductLatencyLoss(nn.Module):
    """``CE * alpha * log(LAT)^beta`` (FBNet eq. 2), LAT in µs, natural logarithm (the paper names no base).

    Args:
        alpha: overall magnitude (appendix A: 0.2).
        beta: strength of the latency (appendix A: 0.6); 0 leaves a constant factor alone.
    """

    @configurable
    def __init__(self, alpha: float = 0.2, beta: float = 0.6):
        super().__init__()
        self.alpha, self.beta = alpha, beta

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "dict[str, Any]":
        return {"alpha": cfg.LATENCY.ALPHA, "beta": cfg.LATENCY.BETA}

    def forward(self, task: torch.Tensor, latency_us: torch.Tensor) -> torch.Tensor:
        """Scalars to a scalar; ``latency_us`` above 1."""
        return task * self.alpha * latency_us.log() ** self.beta


class TaskLoss(nn.Module):
    """The task's loss alone: without a latency table, and where the latency is a constraint (``LATENCY.TARGET_US``)."""

    def forward(self, task: torch.Tensor, latency_us: torch.Tensor) -> torch.Tensor:
        return task
