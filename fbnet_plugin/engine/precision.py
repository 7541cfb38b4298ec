"""Mixed precision: which number format the forward pass has, and the scale that float16 needs on the loss."""

from __future__ import annotations

import logging
from typing import Any, Optional

import torch
from detectron2.config import CfgNode

from .errors import ConfigError, did_you_mean

_logger = logging.getLogger(__name__)
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def check_precision(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: ``SOLVER.AMP.DTYPE`` is no format, or one that the CUDA device does not have.
    """
    name = cfg.SOLVER.AMP.DTYPE
    if name not in DTYPES:
        raise ConfigError(f"SOLVER.AMP.DTYPE is {name!r}{did_you_mean(name, DTYPES)} (known: {', '.join(DTYPES)})")
    cuda = cfg.SOLVER.AMP.ENABLED and torch.device(cfg.MODEL.DEVICE).type == "cuda"
    if cuda and name == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise ConfigError("SOLVER.AMP.DTYPE is bfloat16, which this CUDA device does not have; use float16")


def precision_from_config(cfg: CfgNode) -> Optional[torch.dtype]:
    """The format of the forward pass, None for full precision; float16 is for CUDA devices alone.

    Raises:
        ConfigError: see ``check_precision``.
    """
    check_precision(cfg)
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    dtype = DTYPES[cfg.SOLVER.AMP.DTYPE]
    if dtype == torch.float16 and torch.device(cfg.MODEL.DEVICE).type != "cuda":
        _logger.warning(
            f"SOLVER.AMP.ENABLED needs a CUDA device, not {cfg.MODEL.DEVICE}, for float16; training in full precision "
            "(SOLVER.AMP.DTYPE bfloat16 works there)"
        )
        return None
    return dtype


def autocast(device: str, dtype: Optional[torch.dtype]) -> torch.autocast:
    """The context of a forward pass in ``dtype``; for None it does nothing."""
    return torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def grad_scaler(device: str, dtype: Optional[torch.dtype]) -> Any:
    """PyTorch's gradient scaler, under the name that it has in this version; it does nothing but for float16."""
    enabled = dtype == torch.float16
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device, enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled and device == "cuda")
