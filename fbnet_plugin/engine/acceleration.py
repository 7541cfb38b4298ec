"""Memory format and compilation of a model, for training and evaluation alike: neither changes what it computes."""

from __future__ import annotations

from typing import Any, List, Tuple

import torch
from detectron2.config import CfgNode
from torch import nn

from .errors import ConfigError, did_you_mean

# Children of a model that take tensors of few shapes. Around them are lists of dicts, and in detectors lists of boxes
# of any length, which torch.compile would break into pieces or compile again and again.
_COMPILED = ("backbone", "head")


def check_acceleration(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: PyTorch has no backend of the name that ``MODEL.COMPILE`` gives, or cannot compile in place.
    """
    name = cfg.MODEL.COMPILE
    if not name:
        return
    if not hasattr(nn.Module, "compile"):
        raise ConfigError(f"MODEL.COMPILE is {name!r}, which needs PyTorch 2.1 or newer, not {torch.__version__}")
    known = compile_backends()
    if name not in known:
        raise ConfigError(f"MODEL.COMPILE is {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")


def compile_backends() -> List[str]:
    """What ``MODEL.COMPILE`` may be, besides "" for none."""
    return sorted({*torch._dynamo.list_backends(), "eager", "aot_eager"})


def accelerate(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """The same model with ``MODEL.CHANNELS_LAST`` and ``MODEL.COMPILE`` applied; names of parameters stay.

    Args:
        cfg: complete.
        model: a meta-architecture, in place.

    Raises:
        ConfigError: see ``check_acceleration``.
    """
    check_acceleration(cfg)
    if cfg.MODEL.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)
        if hasattr(model, "backbone"):
            model.backbone.register_forward_pre_hook(_channels_last)
    if cfg.MODEL.COMPILE:
        compile_parts(model, cfg.MODEL.COMPILE)
    return model


def compile_parts(model: nn.Module, backend: str) -> None:
    """Compiles the parts of a model that take tensors, each at its first use.

    Args:
        model: whose backbone, and whose head if it is a classifier, are compiled in place.
        backend: of ``torch.compile``.
    """
    for name in _COMPILED:
        part = getattr(model, name, None)
        if isinstance(part, nn.Module):
            part.compile(backend=backend)


def _channels_last(_: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
    return tuple(
        one.contiguous(memory_format=torch.channels_last) if isinstance(one, torch.Tensor) and one.dim() == 4 else one
        for one in inputs
    )
