"""What can be known to fail before the first training begins."""

from __future__ import annotations

from typing import List

import torch
from detectron2.config import CfgNode

from fbnet_plugin.data import register_from_config
from fbnet_plugin.engine import trainer_class, validate
from fbnet_plugin.engine.identity import config_lines
from fbnet_plugin.modeling.torchvision_network import family_of

from .errors import AblationError
from .plan import Plan, Training
from .variants import variant


def check(plan: Plan, num_gpus: int = 0, jobs: int = 1) -> List[str]:
    """Checks every config of a plan as tools/train_net.py does; nothing is written.

    Args:
        num_gpus: of each training.
        jobs: trainings at a time.

    Returns:
        warnings of one line each.

    Raises:
        ConfigError, ArchError, DatasetError: what cannot be used.
    """
    found = torch.cuda.device_count()
    if num_gpus > found:
        raise AblationError(f"--num-gpus {num_gpus}: PyTorch finds {found} on this machine")
    notes: List[str] = []
    if num_gpus * jobs > found:
        notes.append(f"--jobs {jobs} with --num-gpus {num_gpus}: some trainings share a GPU, as there are {found}")
    seen = set()
    for training in plan.trainings:
        cfg = _checked_config(training)
        lines = tuple(config_lines(cfg, ("SEED",)))
        if lines not in seen:
            seen.add(lines)
            notes += _check_one(cfg, max(num_gpus, 1))
    return list(dict.fromkeys(notes))


def _checked_config(training: Training) -> CfgNode:
    """The config that runs, but without a teacher that has still to be trained, and on the CPU where that is all."""
    opts = ["MODEL.DISTILLATION.ENABLED", False] if training.teacher else []
    if torch.device(training.cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        opts += ["MODEL.DEVICE", "cpu"]
    return variant(training.cfg, *opts)


def _check_one(cfg: CfgNode, world_size: int) -> List[str]:
    if len(cfg.DATASETS.TEST) != 1:
        raise AblationError(
            f"DATASETS.TEST is {tuple(cfg.DATASETS.TEST)}, expected one dataset; an ablation's figure is of one"
        )
    register_from_config(cfg)
    notes = validate(cfg, world_size=world_size)
    if cfg.MODEL.BACKBONE.NAME == "build_torchvision_backbone":
        family_of(cfg.MODEL.TORCHVISION.NAME)
    return notes + trainer_class(cfg).check(cfg)
