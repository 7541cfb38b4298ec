"""The model of a config, with its weights, as an export needs it."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from torch import nn

from ..checkpoint import FBNetCheckpointer
from ..modeling.arch import SUPERNET
from .errors import ExportInputError

_logger = logging.getLogger(__name__)


def load_model(cfg: CfgNode) -> nn.Module:
    """The model with the weights of ``MODEL.WEIGHTS``, in evaluation mode on the CPU, with no gradients.

    Args:
        cfg: ``MODEL.DEVICE`` is not used. Without ``MODEL.WEIGHTS`` the weights are random, with a warning.

    Raises:
        ExportInputError: the model is a supernet, or of no known meta-architecture.
        ArchError, CheckpointError: the architecture cannot be built, or the weights do not fit it.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if name == SUPERNET:
        raise ExportInputError("MODEL.META_ARCHITECTURE is Supernet; export a network that tools/sample_archs.py draws")
    if name not in META_ARCH_REGISTRY:
        raise ExportInputError(f"MODEL.META_ARCHITECTURE is {name!r}, which nobody registered")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval().requires_grad_(False)
    if cfg.MODEL.WEIGHTS:
        FBNetCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    else:
        _logger.warning("MODEL.WEIGHTS is empty: the weights are random")
    return model
