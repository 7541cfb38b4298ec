"""Training and evaluation of LazyConfigs: the engine of the YAML configs with what the LazyConfig instantiates."""

from __future__ import annotations

import copy
import logging
import os
from typing import TYPE_CHECKING, Any, Dict

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from torch import nn

from .acceleration import accelerate
from .errors import ConfigError
from .evaluate import evaluate as engine_evaluate
from .lazy_config import lazy_names, run_config
from .trainer import FBNetTrainer

if TYPE_CHECKING:
    from omegaconf import DictConfig

_logger = logging.getLogger(__name__)


def train(cfg: DictConfig, resume: bool = False) -> Any:
    """Trains ``cfg.model`` as ``cfg.train`` says.

    Args:
        cfg: see ``load_lazy_config``; not changed.
        resume: go on with the run in ``train.output_dir``, where there is one.

    Returns:
        the results of the last evaluation, None where there was none.

    Raises:
        ConfigError: a node cannot be instantiated, or a value of ``train`` cannot be used.
        FloatingPointError, TrainingStopped: see ``FBNetTrainer.train``.
    """
    with lazy_names():
        trainer = LazyTrainer(cfg)
        trainer.resume_or_load(resume=resume)
        return trainer.train()


def evaluate(cfg: DictConfig, resume: bool = False) -> Any:
    """Evaluates ``train.init_checkpoint`` on ``dataloader.test``, with ``train.ema.enabled`` also the average in it.

    The results are written to ``evaluation.json`` in ``train.output_dir`` too.

    Args:
        cfg: see ``load_lazy_config``; not changed.
        resume: evaluate the newest checkpoint of the run in ``train.output_dir`` instead, where there is one.

    Raises:
        ConfigError: see ``train``.
        CheckpointError: the file cannot be used, or does not fit the model.
    """
    with lazy_names():
        return engine_evaluate(run_config(cfg), resume, LazyTester(cfg))


class LazyTester:
    """The model and the test set of a LazyConfig.

    Attributes:
        lazy: the LazyConfig, a copy.
    """

    def __init__(self, lazy: DictConfig):
        self.lazy = copy.deepcopy(lazy)

    def build_model(self, cfg: CfgNode) -> nn.Module:
        """``model`` on its device, in the memory format and compiled as ``train`` says.

        Args:
            cfg: of ``run_config``.
        """
        model = built(self.lazy, "model").to(cfg.MODEL.DEVICE)
        _logger.info(f"Model:\n{model}")
        return accelerate(cfg, model)

    def test(self, cfg: CfgNode, model: nn.Module) -> Dict[str, Any]:
        """Results of a model on ``dataloader.test``; none where there is no such node.

        Args:
            cfg: of ``run_config``; what evaluators write goes below its ``OUTPUT_DIR``.
            model: to evaluate.
        """
        lazy = copy.deepcopy(self.lazy)
        if lazy.dataloader.get("test") is None:
            return {}
        loader = built(lazy, "dataloader.test")
        if "output_dir" in lazy.dataloader.evaluator:
            lazy.dataloader.evaluator.output_dir = os.path.join(cfg.OUTPUT_DIR, "inference")
        results = inference_on_dataset(model, loader, built(lazy, "dataloader.evaluator"))
        if comm.is_main_process() and results:
            print_csv_format(results)
        return results


class LazyTrainer(LazyTester, FBNetTrainer):
    """``FBNetTrainer`` whose model, data, optimizer and schedule are those that a LazyConfig instantiates."""

    def __init__(self, lazy: DictConfig):
        """
        Args:
            lazy: see ``load_lazy_config``; not changed.

        Raises:
            ConfigError: see ``train``.
        """
        LazyTester.__init__(self, lazy)
        if "total_batch_size" not in (lazy.dataloader.get("train") or ()):
            raise ConfigError("dataloader.train.total_batch_size is missing, expected the images of an iteration")
        FBNetTrainer.__init__(self, run_config(lazy))

    def build_train_loader(self, cfg: CfgNode) -> Any:
        """``dataloader.train``."""
        return built(self.lazy, "dataloader.train")

    def build_optimizer(self, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """``optimizer``, whose ``params.model`` is the model."""
        lazy = copy.deepcopy(self.lazy)
        lazy.optimizer.params.model = model
        return built(lazy, "optimizer")

    def build_lr_scheduler(self, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
        """``lr_multiplier`` over the length of the run."""
        return LRMultiplier(optimizer, built(self.lazy, "lr_multiplier"), cfg.SOLVER.MAX_ITER)


def built(cfg: DictConfig, key: str) -> Any:
    """What a node of a LazyConfig instantiates.

    Raises:
        ConfigError: there is no such node, or its function or class does not accept the arguments.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        node = OmegaConf.select(cfg, key)
        if node is None:
            raise ConfigError(f"{key} is missing from the LazyConfig")
        return instantiate(node)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {error}") from error
