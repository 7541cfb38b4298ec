"""Learning rate schedules by name, and lengths that are given in epochs."""

from __future__ import annotations

from typing import Any, List, Tuple

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler, ParamScheduler

from fbnet_plugin.data.stream import TrainLoader

from .errors import ConfigError, did_you_mean

EXPONENTIAL = "WarmupExponentialLR"


def epoch_decay(decay: float, iterations: int, epochs: int, warmup: int = 0) -> ParamScheduler:
    """The factor ``decay ** n`` in the n-th epoch (from 0) after the warm-up, 1 before its end.

    fvcore's schedulers take an iteration for the next one from a millionth of the schedule before it: of a schedule
    of more than a million iterations, each step is one iteration earlier per million.

    Args:
        decay: per epoch.
        iterations: of the whole schedule.
        epochs: of the whole schedule, of equal length.
        warmup: iterations before the first of these epochs.
    """
    ends = (warmup + -(-number * iterations // epochs) for number in range(1, epochs))  # rounded up
    milestones = [end for end in ends if end < iterations]
    return MultiStepParamScheduler([decay**n for n in range(len(milestones) + 1)], iterations, milestones)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
    """The schedule that ``SOLVER.LR_SCHEDULER_NAME`` names: Detectron2's, or WarmupExponentialLR.

    Args:
        cfg: with lengths in iterations; see ``in_iterations``.
        optimizer: whose learning rates are changed.

    Raises:
        ConfigError: see ``check_schedule``.
    """
    check_schedule(cfg)
    keys = cfg.SOLVER
    if keys.LR_SCHEDULER_NAME != EXPONENTIAL:
        return solver.build_lr_scheduler(cfg, optimizer)
    decay = epoch_decay(keys.EPOCH_DECAY, keys.MAX_ITER, keys.EPOCHS, keys.WARMUP_ITERS)
    warmup = min(keys.WARMUP_ITERS / keys.MAX_ITER, 1.0)
    schedule = WarmupParamScheduler(decay, keys.WARMUP_FACTOR, warmup, keys.WARMUP_METHOD)
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=keys.MAX_ITER)


def known_schedules(cfg: CfgNode) -> List[str]:
    """What ``SOLVER.LR_SCHEDULER_NAME`` may be with this version of Detectron2."""
    newer = ["WarmupStepWithFixedGammaLR"] if "NUM_DECAYS" in cfg.SOLVER else []
    return ["WarmupMultiStepLR", "WarmupCosineLR", *newer, EXPONENTIAL]


def check_schedule(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: nobody knows the schedule, or a length or factor of it is none.
    """
    keys, known = cfg.SOLVER, known_schedules(cfg)
    name = keys.LR_SCHEDULER_NAME
    if name not in known:
        raise ConfigError(
            f"SOLVER.LR_SCHEDULER_NAME is {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"
        )
    for key in ("EPOCHS", "WARMUP_EPOCHS", "STOP_EPOCH", "CHECKPOINT_EPOCHS"):
        if keys[key] < 0:
            raise ConfigError(f"SOLVER.{key} is {keys[key]}, expected 0 or more")
    if cfg.TEST.EVAL_EPOCHS < 0:
        raise ConfigError(f"TEST.EVAL_EPOCHS is {cfg.TEST.EVAL_EPOCHS}, expected 0 or more")
    if any(low >= high for low, high in zip((0, *keys.STEP_EPOCHS), keys.STEP_EPOCHS)):
        raise ConfigError(f"SOLVER.STEP_EPOCHS is {tuple(keys.STEP_EPOCHS)}, expected increasing numbers above 0")
    if name == EXPONENTIAL and not keys.EPOCHS:
        raise ConfigError(f"SOLVER.LR_SCHEDULER_NAME {EXPONENTIAL} decays per epoch and needs SOLVER.EPOCHS above 0")
    if not 0 < keys.EPOCH_DECAY <= 1:
        raise ConfigError(f"SOLVER.EPOCH_DECAY is {keys.EPOCH_DECAY}, expected more than 0 and at most 1")


def counts_epochs(cfg: CfgNode) -> bool:
    """Whether any length is given in epochs, so that the size of the training set must be known."""
    keys = cfg.SOLVER
    given = (keys.EPOCHS, keys.WARMUP_EPOCHS, keys.STEP_EPOCHS, keys.STOP_EPOCH, keys.CHECKPOINT_EPOCHS)
    return any(given) or bool(cfg.TEST.EVAL_EPOCHS)


def epoch_length(cfg: CfgNode, size: int) -> int:
    """Iterations of an epoch: the whole batches of all processes in the training set.

    The stream of the images does not stop between two epochs; the images that are left over from one are in the first
    batch of the next, so that n such epochs see up to n * (batch - 1) images less than n times the set.

    Args:
        cfg: whose ``SOLVER.IMS_PER_BATCH`` counts.
        size: images of the training set.

    Raises:
        ConfigError: there is no whole batch.
    """
    length = size // cfg.SOLVER.IMS_PER_BATCH
    if not length:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, but the training set has {size} images, which is "
            "not one batch per epoch"
        )
    return length


def in_iterations(cfg: CfgNode, size: int) -> CfgNode:
    """A frozen copy whose lengths in iterations are those that are given in epochs; see ``SOLVER.EPOCHS``.

    Args:
        cfg: complete; not changed.
        size: images of the training set.

    Raises:
        ConfigError: see ``check_schedule`` and ``epoch_length``.
    """
    check_schedule(cfg)
    length = epoch_length(cfg, size)
    cfg = cfg.clone()
    cfg.defrost()
    keys = cfg.SOLVER
    if keys.EPOCHS:
        keys.MAX_ITER = keys.EPOCHS * length
    if keys.WARMUP_EPOCHS:
        keys.WARMUP_ITERS = round(keys.WARMUP_EPOCHS * length)
    if keys.STEP_EPOCHS:
        keys.STEPS = tuple(round(epoch * length) for epoch in keys.STEP_EPOCHS)
    if cfg.TEST.EVAL_EPOCHS:
        cfg.TEST.EVAL_PERIOD = cfg.TEST.EVAL_EPOCHS * length
    if keys.CHECKPOINT_EPOCHS:
        keys.CHECKPOINT_PERIOD = keys.CHECKPOINT_EPOCHS * length
    cfg.freeze()
    return cfg


def lengths(cfg: CfgNode, loader: Any) -> Tuple[CfgNode, int]:
    """The config with all lengths in iterations, and how many of them to run.

    These are the whole schedule, or what ``SOLVER.STOP_EPOCH`` leaves of it.

    Args:
        cfg: complete.
        loader: of the training set, which tells its size; None where ``counts_epochs`` is False.

    Raises:
        ConfigError: see ``in_iterations``; or the loader is none of this project's.
    """
    if loader is None:
        return cfg, cfg.SOLVER.MAX_ITER
    if not isinstance(loader, TrainLoader):
        raise ConfigError(
            "SOLVER.EPOCHS and the other lengths in epochs need a training set of known size; the loader of this one "
            "does not tell it; give lengths in iterations, such as SOLVER.MAX_ITER"
        )
    size = len(loader.dataset)
    cfg = in_iterations(cfg, size)
    last, stop = cfg.SOLVER.MAX_ITER, cfg.SOLVER.STOP_EPOCH
    return cfg, min(last, stop * epoch_length(cfg, size)) if stop else last
