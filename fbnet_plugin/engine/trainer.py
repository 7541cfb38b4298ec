"""One trainer for every task: Detectron2's ``DefaultTrainer`` with loaders by dataset and runs that end well."""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any, Dict, List

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model
from detectron2.engine.hooks import BestCheckpointer, EvalHook, IterationTimer, PreciseBN
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer
from fbnet_plugin.data import (
    DatasetError,
    TrainLoader,
    build_test_loader,
    build_train_loader,
    check_augmentation,
    is_classification,
)
from fbnet_plugin.evaluation import build_evaluator

from .acceleration import accelerate, compile_parts
from .ema import MODEL_EMA, ModelAverage, average_hooks, check_average, evaluate_average
from .errors import ConfigError
from .loader_state import loader_states, resume_loaders, stop_workers
from .lr_schedule import build_lr_scheduler, check_schedule, counts_epochs, lengths
from .optimizer import build_optimizer, check_optimizer
from .precision import precision_from_config
from .progress import ProgressPrinter, ThroughputHook
from .random_state import resumed_seed, seed_iteration
from .registry import TRAINER_REGISTRY
from .results import ResultsHook
from .step import Guarded, GuardedTrainer
from .stop import StopHook, StopSignals, TrainingStopped
from .teacher import check_distillation, give_teacher

_logger = logging.getLogger(__name__)
# Their message says all, and whoever called ``train`` receives it; Detectron2 would log a traceback before.
_SAID_ONCE = (CheckpointError, DatasetError, FloatingPointError, TrainingStopped)


def _not_said_elsewhere(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], _SAID_ONCE))


logging.getLogger("detectron2.engine.train_loop").addFilter(_not_said_elsewhere)


@TRAINER_REGISTRY.register()
class FBNetTrainer(DefaultTrainer):
    """Trains and evaluates what the config describes, on GPUs or CPUs, in one process or several.

    Beyond ``DefaultTrainer``: classification data where the datasets' metadata says so; checkpoints by
    ``FBNetCheckpointer``, with the optimizer's state in every Detectron2 version; a resumed run goes on exactly as
    if it had not been interrupted; a loss that is not finite ends the run before the step; Ctrl-C and SIGTERM end it
    after the iteration, with a checkpoint of it.

    Attributes:
        cfg: the config, with all lengths in iterations.
        max_iter: iterations to run; fewer than ``cfg.SOLVER.MAX_ITER`` where ``SOLVER.STOP_EPOCH`` says so.
        average: of the weights, None without ``MODEL_EMA.ENABLED``.
        seed: of all that is random in the run, the same in all processes and after resuming.
    """

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: complete and frozen.

        Raises:
            ConfigError: an optimizer, a schedule or a length that cannot be used.
            DatasetError: ``DATASETS.TRAIN`` mixes tasks, or files are missing.
        """
        # DefaultTrainer's own __init__ cannot wrap a model that is on CPUs for several processes.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.seed = cfg.SEED if cfg.SEED >= 0 else int(comm.shared_random_seed())
        self._signals = StopSignals()
        with self._signals:  # a loader that is not this project's may start its workers here
            self._loader = self.build_train_loader(cfg) if counts_epochs(cfg) else None
            cfg, self.max_iter = lengths(cfg, self._loader)
            self.cfg, self.start_iter = cfg, 0
            model = self.build_model(cfg)
            self.average = self._build_average(cfg, model) if cfg.MODEL_EMA.ENABLED else None
            self.prepare_model(cfg, model)
            optimizer = self.build_optimizer(cfg, model)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
            model = self.distributed(model)
            self._trainer = self.build_step(cfg, model, optimizer)
            self._trainer.signals = self._signals
            average = {MODEL_EMA: self.average} if self.average else {}
            self.checkpointer = FBNetCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self), **average)
            self.register_hooks(self.build_hooks())

    def build_step(self, cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> Guarded:
        """What does one iteration, and holds the data that it takes."""
        loader, self._loader = self._loader, None
        return GuardedTrainer(
            model,
            self.build_train_loader(cfg) if loader is None else loader,
            optimizer,
            precision=precision_from_config(cfg),
            parts=cfg.SOLVER.ACCUMULATION_STEPS,
        )

    @classmethod
    def check(cls, cfg: CfgNode) -> List[str]:
        """What this trainer needs beyond what ``validate`` checks.

        Returns:
            warnings of one line each.

        Raises:
            ConfigError: a value of the recipe that is not accepted.
        """
        check_optimizer(cfg)
        check_schedule(cfg)
        check_average(cfg)
        if cfg.MODEL.CLASSIFIER.MIXUP < 0:
            raise ConfigError(f"MODEL.CLASSIFIER.MIXUP is {cfg.MODEL.CLASSIFIER.MIXUP}, expected 0 or more")
        if is_classification(cfg.DATASETS.TRAIN):
            check_augmentation(cfg)
        return check_distillation(cfg)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The meta-architecture, in the memory format and compiled as the config says; see ``accelerate``."""
        return accelerate(cfg, super().build_model(cfg))

    @staticmethod
    def _build_average(cfg: CfgNode, model: nn.Module) -> ModelAverage:
        average = ModelAverage.from_config(cfg, model)
        if cfg.MODEL.COMPILE:  # a copy is not compiled; an evaluation-only run of the average is
            compile_parts(average.module, cfg.MODEL.COMPILE)
        return average

    @classmethod
    def prepare_model(cls, cfg: CfgNode, model: nn.Module) -> None:
        """Gives a model what it needs for training alone: with ``MODEL.DISTILLATION.ENABLED`` its teacher."""
        give_teacher(cfg, model)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See ``optimizer.build_optimizer``."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """See ``lr_schedule.build_lr_scheduler``."""
        return build_lr_scheduler(cfg, optimizer)

    def distributed(self, model: nn.Module) -> nn.Module:
        """The model itself in one process, else wrapped so that gradients are averaged over all of them."""
        if not together():
            return model
        place = {"device_ids": None} if next(model.parameters()).device.type == "cpu" else {}
        return create_ddp_model(model, broadcast_buffers=False, **place)

    def run_step(self) -> None:
        """One iteration, whose random numbers follow from ``seed`` and its number."""
        seed_iteration(self.seed, self.iter, comm.get_rank())
        super().run_step()

    def loaders(self) -> Dict[str, Any]:
        """The loaders whose position belongs to the state of the run, by name; a subclass with others names them."""
        loaders = {"train": self._trainer.data_loader}
        for hook in self._hooks:
            if isinstance(hook, PreciseBN):
                loaders["precise_bn"] = hook._data_loader
        return loaders

    def build_hooks(self) -> List[HookBase]:
        """Detectron2's hooks, with the one that ends a stopped run before the one that evaluates, and with an average
        those that keep it before all that look at the weights."""
        hooks = [hook for hook in super().build_hooks() if hook is not None]
        after_timer = next((i + 1 for i, hook in enumerate(hooks) if isinstance(hook, IterationTimer)), 0)
        hooks.insert(after_timer, ThroughputHook(self.cfg.SOLVER.IMS_PER_BATCH))
        if self.average:
            hooks = average_hooks(self.average, self.checkpointer.model, self.cfg.OUTPUT_DIR) + [
                EvalHook(self.cfg.TEST.EVAL_PERIOD, self.evaluate) if isinstance(hook, EvalHook) else hook
                for hook in hooks
            ]
        step, signals = weakref.proxy(self._trainer), self._signals
        asked = (lambda: step.asked_to_stop) if together() else (lambda: signals.received)
        self._stop = StopHook(signals, asked, together())
        place = next((i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook)), len(hooks))
        after = place + sum(isinstance(hook, EvalHook) for hook in hooks)
        return [*hooks[:place], self._stop, *hooks[place:after], ResultsHook(self.cfg.OUTPUT_DIR), *hooks[after:]]

    def build_writers(self) -> List[EventWriter]:
        """As Detectron2's, metrics.json and TensorBoard among them, with a line that tells accuracy and throughput."""
        printer = ProgressPrinter(self.max_iter, self.iterations_per_epoch())
        return [printer if isinstance(one, CommonMetricPrinter) else one for one in super().build_writers()]

    def iterations_per_epoch(self) -> float:
        """Of the training set, 0 where its size is not known."""
        loader = self._trainer.data_loader
        return len(loader.dataset) / self.cfg.SOLVER.IMS_PER_BATCH if isinstance(loader, TrainLoader) else 0.0

    @property
    def results(self) -> Any:
        """Of the last evaluation; None before the first."""
        return getattr(self, "_last_eval_results", None)

    def evaluate(self) -> Any:
        """Results of the model and of its average, on ``DATASETS.TEST``."""
        results = self.test(self.cfg, self.model)
        with self.average.on(next(self.model.parameters()).device) as module:
            self._last_eval_results = evaluate_average(self, self.cfg, module, results)
        return self._last_eval_results

    def resume_or_load(self, resume: bool = True) -> None:
        """Continues the run in ``OUTPUT_DIR`` where there is one, else begins one with ``MODEL.WEIGHTS``.

        Raises:
            CheckpointError: see ``FBNetCheckpointer.resume_or_load``.
        """
        if not resume and self.checkpointer.has_checkpoint():
            _logger.warning(
                f"{self.cfg.OUTPUT_DIR} holds checkpoints of an earlier run, which this one begins to overwrite; "
                "--resume would have continued it"
            )
        super().resume_or_load(resume)

    def train(self) -> Any:
        """Trains to the last iteration; see ``DefaultTrainer.train``.

        Returns:
            the results of the last evaluation, None where there was none.

        Raises:
            FloatingPointError: a loss, or a parameter that was to be saved, is not finite. The newest checkpoint is
                of an earlier iteration.
            TrainingStopped: on SIGINT or SIGTERM, after the state of the completed iterations was written.
        """
        with self._signals:
            try:
                super().train()
                return self.results
            except TrainingStopped as stop:
                self._save_stopped(stop)
                raise
            except RuntimeError as error:
                # The signal ended the data loading workers too, so that the next iteration had no data to begin with.
                if not self._signals.received or together() or "exited unexpectedly" not in str(error):
                    raise
                stop = TrainingStopped(self._signals.received)
                self._save_stopped(stop)
                raise stop from None
            finally:
                stop_workers(self.loaders())

    def _save_stopped(self, stop: TrainingStopped) -> None:
        """Writes the state after the last completed iteration, and says so."""
        stop.iteration = self._stop.completed
        if stop.iteration is None or not stop.between_iterations:
            _logger.warning(f"Stopped by {stop} where there was nothing complete to save")
            return
        self.iter = stop.iteration  # the next one may have been counted already, but has not begun
        name = f"model_{stop.iteration:07d}"
        self.checkpointer.save(name, iteration=stop.iteration)
        stop.checkpoint = os.path.join(self.cfg.OUTPUT_DIR, f"{name}.pth")
        _logger.warning(f"Stopped by {stop} after iteration {stop.iteration}; its state is in {stop.checkpoint}")
        comm.synchronize()  # a process that ends earlier would take the writing one with it

    def after_train(self) -> None:
        """As in Detectron2, except that a run which did not finish is not evaluated."""
        if self.iter < self.max_iter:
            self._hooks = [hook for hook in self._hooks if not isinstance(hook, (EvalHook, BestCheckpointer))]
        super().after_train()

    def state_dict(self) -> Dict[str, Any]:
        """Iteration, hooks and optimizer (which Detectron2 0.6 leaves out) in upstream's layout; seed and loaders."""
        return {
            **TrainerBase.state_dict(self),
            "_trainer": self._trainer.state_dict(),
            "seed": self.seed,
            "loaders": loader_states(self.loaders()),
        }

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """
        Raises:
            CheckpointError: the optimizer's state is missing or belongs to other parameters.
        """
        TrainerBase.load_state_dict(self, state_dict)
        if "_trainer" not in state_dict:
            raise CheckpointError(
                f"{self.cfg.OUTPUT_DIR}: the checkpoint has no optimizer state (Detectron2 0.6 itself writes none); "
                "name it as MODEL.WEIGHTS of a new run instead of resuming"
            )
        try:
            self._trainer.load_state_dict(state_dict["_trainer"])
        except ValueError as error:
            raise CheckpointError(
                f"{self.cfg.OUTPUT_DIR}: the checkpoint's optimizer state does not fit ({error}); config changed?"
            ) from error
        self.seed = resumed_seed(state_dict, self.seed, self.cfg.SEED)
        resume_loaders(self.loaders(), state_dict.get("loaders", {}))

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Batches of the datasets in ``DATASETS.TRAIN``, by their common task.

        Raises:
            DatasetError: they mix tasks.
        """
        return build_train_loader(cfg, seed=cfg.SEED if cfg.SEED >= 0 else None)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """The images of one dataset, by its task."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """The evaluator of one dataset. It writes to ``OUTPUT_DIR/inference``, below which each has its own folder
        where there are several."""
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            folder = os.path.join(folder, dataset_name)
        return build_evaluator(cfg, dataset_name, folder)


def together() -> bool:
    """Whether this is one of several processes."""
    return comm.get_world_size() > 1
