"""What a config can start."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from fvcore.common.registry import Registry

from .errors import ConfigError, did_you_mean

TRAINER_REGISTRY = Registry("TRAINER")
TRAINER_REGISTRY.__doc__ = """
Classes that ``tools/train_net.py`` starts by the name in the config's TRAINER. Each is made with the config and has
``resume_or_load(resume)``, ``train()``, and the class method ``check(cfg)``, which raises or warns before anything is
written.
"""


def trainer_class(cfg: CfgNode) -> Any:
    """The class that ``TRAINER`` names.

    Raises:
        ConfigError: nothing is registered under the name.
    """
    known = sorted(name for name, _ in TRAINER_REGISTRY)
    if cfg.TRAINER not in known:
        raise ConfigError(f"TRAINER is {cfg.TRAINER!r}{did_you_mean(cfg.TRAINER, known)} (known: {', '.join(known)})")
    return TRAINER_REGISTRY.get(cfg.TRAINER)
