"""The shipped configs and their models by name, with the calls of ``detectron2.model_zoo``.

    from fbnet_plugin import model_zoo
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml")
    model = model_zoo.get("ImageNet-Classification/fbnet_v3_a_400e.yaml")
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.modeling import build_model
from torch import nn

from .checkpoint import FBNetCheckpointer
from .engine import ConfigError, load_config
from .engine.config_file import SCHEME, shipped_config


def get_config_file(config_path: str) -> str:
    """Path of a shipped config.

    Args:
        config_path: below the package's ``configs`` folder, such as
            ``COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml``; a file of a LazyConfig ends in ``.py``.

    Raises:
        ConfigError: there is no such file; the message suggests the nearest.
    """
    return shipped_config(config_path[len(SCHEME) :] if config_path.startswith(SCHEME) else config_path)


def get_checkpoint_url(config_path: str) -> str:
    """Address of the published weights that a config names (``MODEL.WEIGHTS``, or ``train.init_checkpoint``).

    Raises:
        ConfigError: no such config, or it names no weights that can be had anywhere.
    """
    weights = _weights(get_config(config_path))
    if "://" not in weights:
        named = f"names the file {weights}, which is not published" if weights else "names none"
        raise ConfigError(f"{config_path}: there are no published weights for it, it {named}")
    return weights


def get_config(config_path: str, trained: bool = False) -> Any:
    """A shipped config: a ``CfgNode`` with Detectron2's keys and the project's, or the DictConfig of a ``.py`` file.

    Args:
        config_path: see ``get_config_file``.
        trained: insist on published weights, see ``get_checkpoint_url``.

    Raises:
        ConfigError: no such config, or no weights for it.
    """
    path = get_config_file(config_path)
    cfg = LazyConfig.load(path) if path.endswith(".py") else load_config(path)
    if trained:
        get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: Optional[str] = None) -> nn.Module:
    """The model of a shipped config in training mode, with the weights that the config names, if any.

    Args:
        config_path: see ``get_config_file``.
        trained: insist on published weights, see ``get_checkpoint_url``.
        device: instead of the config's; None: the config's where there is CUDA, else the CPU.

    Raises:
        ConfigError: no such config, or no weights for it.
        CheckpointError: the weights cannot be had or do not fit.
    """
    cfg = get_config(config_path, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if isinstance(cfg, CfgNode):
        cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
        model = build_model(cfg)
    else:
        cfg.train.device = device or cfg.train.device  # which norms and buffers are made for
        model = instantiate(cfg.model).to(cfg.train.device)
    weights = _weights(cfg)
    if weights:
        FBNetCheckpointer(model).load(weights, checkpointables=[])
    return model


def _weights(cfg: Any) -> str:
    if isinstance(cfg, CfgNode):
        return cfg.MODEL.WEIGHTS
    return cfg.get("train", {}).get("init_checkpoint", "") or ""
