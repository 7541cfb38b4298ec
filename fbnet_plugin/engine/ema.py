"""Exponential moving average of a model's weights (FBNetV3 section 4.3).

After each step ``w_e <- d w_e + (1 - d) w``, for the parameters and for the running statistics of the norms. The
average of a run lies in its checkpoints under "model_ema", laid out as "model" is.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
from typing import Any, Dict, Iterator, List, Mapping

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicCheckpointer
from detectron2.utils import comm
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError
from fbnet_plugin.checkpoint.safe_files import write_weights

from .errors import ConfigError

_logger = logging.getLogger(__name__)
# Key of a checkpoint, and name of the file that a run ends with.
MODEL_EMA, FINAL = "model_ema", "model_ema_final.pth"
SUFFIX = "_ema"


class ModelAverage:
    """The averaged weights, inside a copy of the model that can be evaluated.

    In several processes the parameters are the same everywhere, as those of the model are; the running statistics
    of norms that are not synchronized are each process's own, and a checkpoint holds the first one's.

    Attributes:
        module: the copy, in evaluation mode.
        started: whether it holds an average.
        updates: steps in it so far.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: bool = True, device: str = ""):
        """
        Args:
            model: whose weights will be averaged; hooks that it has by now are copied with it.
            decay: d.
            warmup: bound d by (1 + updates) / (10 + updates), as TensorFlow's ExponentialMovingAverage does.
            device: where the average is kept; "" for the model's.
        """
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.started, self.updates = False, 0
        self._decay, self._warmup = decay, warmup
        self._home = torch.device(device) if device else next(model.parameters()).device
        self.module.to(self._home)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> ModelAverage:
        """As ``MODEL_EMA`` says."""
        keys = cfg.MODEL_EMA
        return cls(model, keys.DECAY, keys.WARMUP, keys.DEVICE)

    def decay(self) -> float:
        """d of the next update."""
        return min(self._decay, (1 + self.updates) / (10 + self.updates)) if self._warmup else self._decay

    def start(self, model: nn.Module) -> None:
        """Begins the average anew with the weights of ``model``."""
        self.load_state_dict(model.state_dict())
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes the weights of ``model`` into the average; integers, such as counters, are copied."""
        means: List[torch.Tensor] = []
        values: List[torch.Tensor] = []
        for mine, theirs in zip(self.module.state_dict().values(), model.state_dict().values()):
            if mine.is_floating_point():
                means.append(mine)
                values.append(theirs.to(mine.device))
            else:
                mine.copy_(theirs)
        torch._foreach_lerp_(means, values, 1 - self.decay())
        self.updates += 1

    @contextlib.contextmanager
    def on(self, device: torch.device) -> Iterator[nn.Module]:
        """The module on another device, for the time of a ``with`` block."""
        try:
            yield self.module.to(device)
        finally:
            self.module.to(self._home)

    def state_dict(self) -> Dict[str, torch.Tensor]:
        """Names to averaged tensors."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Replaces the average.

        Raises:
            CheckpointError: ``state`` is of another model.
        """
        load_average(self.module, state)
        self.started = True


def load_average(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Gives ``model`` the averaged weights of a checkpoint.

    Raises:
        CheckpointError: they are of another model.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the checkpoint's {MODEL_EMA} does not fit the model: {reason}") from None


class AverageHook(HookBase):
    """Updates the average after each step; it stands before the hooks that write checkpoints."""

    def __init__(self, average: ModelAverage, model: nn.Module):
        """
        Args:
            average: to update.
            model: the one that is trained, not wrapped for several processes.
        """
        self._average, self._model = average, model

    def before_train(self) -> None:
        if self._average.started:
            return
        if self.trainer.start_iter:
            _logger.warning(
                "MODEL_EMA.ENABLED: the checkpoint that is resumed holds no average; it begins with the weights of "
                f"iteration {self.trainer.start_iter - 1}"
            )
        self._average.start(self._model)

    def after_step(self) -> None:
        self._average.update(self._model)

    def state_dict(self) -> Dict[str, int]:
        return {"updates": self._average.updates}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self._average.updates = int(state["updates"])


class AverageWriter(HookBase):
    """Writes ``model_ema_final.pth`` at the end of a run that writes checkpoints: the averaged weights as "model", so
    that ``MODEL.WEIGHTS`` of another run can name it. It stands before the hook that evaluates."""

    def __init__(self, average: ModelAverage, folder: str):
        self._average, self._folder = average, folder

    def after_train(self) -> None:
        kept = any(isinstance(hook, PeriodicCheckpointer) for hook in self.trainer._hooks)
        if kept and self.trainer.iter >= self.trainer.max_iter:
            write_weights(self._average.module, os.path.join(self._folder, FINAL))


def average_hooks(average: ModelAverage, model: nn.Module, folder: str) -> List[HookBase]:
    """The hooks that a run with an average has before all others that look at the weights."""
    hooks: List[HookBase] = [AverageHook(average, model)]
    return [*hooks, AverageWriter(average, folder)] if comm.is_main_process() else hooks


def evaluate_average(trainer: Any, cfg: CfgNode, module: nn.Module, plain: Any) -> Dict[str, Any]:
    """The results of the averaged weights beside those of the model's own.

    Args:
        trainer: has ``test``; what evaluators write goes to the folder ``ema`` below ``OUTPUT_DIR``.
        cfg: of the run.
        module: with the averaged weights.
        plain: results of the model's own weights, from the same ``test``.

    Returns:
        ``plain`` and, under its groups' names with "_ema" at the end, the figures of the average.
    """
    _logger.info(f"Evaluating the averaged weights; their figures are the ones under names with {SUFFIX}")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "ema")
    cfg.freeze()
    averaged = trainer.test(cfg, module)
    if len(cfg.DATASETS.TEST) == 1:
        return _beside(plain, averaged)
    return {name: _beside(figures, averaged[name]) for name, figures in plain.items()}


def _beside(plain: Any, averaged: Any) -> Dict[str, Any]:
    return {**(plain or {}), **{f"{group}{SUFFIX}": figures for group, figures in (averaged or {}).items()}}


def check_average(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: a value in ``MODEL_EMA`` that cannot be used.
    """
    keys = cfg.MODEL_EMA
    if not 0 <= keys.DECAY < 1:
        raise ConfigError(f"MODEL_EMA.DECAY is {keys.DECAY}, expected at least 0 and below 1")
    try:
        torch.device(keys.DEVICE or "cpu")
    except RuntimeError:
        raise ConfigError(f'MODEL_EMA.DEVICE is {keys.DEVICE!r}, expected a device such as "cpu", or ""') from None
