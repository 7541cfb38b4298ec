"""The FBNet search as a training run of Detectron2's engine (FBNet section 3.3 and appendix A)."""

from __future__ import annotations

import logging
import weakref
from typing import Any, Dict, List

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine.hooks import LRScheduler
from detectron2.modeling import build_model
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError, read_checkpoint
from fbnet_plugin.checkpoint.resume import newest_readable
from fbnet_plugin.data import build_train_loader
from fbnet_plugin.engine import TRAINER_REGISTRY, FBNetTrainer
from fbnet_plugin.engine.identity import changes, config_lines
from fbnet_plugin.engine.precision import precision_from_config
from fbnet_plugin.engine.random_state import mix
from fbnet_plugin.layers.cpu_memory import keep_freed_memory
from fbnet_plugin.modeling import space_from_config

from .check import check_search, completed
from .data import search_data
from .hooks import AlternationHook, LatencyTargetHook, SearchLogHook, WeightScheduleHook
from .record import SearchRecord
from .schedule import PHASES, THETA, WEIGHTS
from .settings import latency_table_from_config, schedule_from_config
from .step import SearchStep, broadcast_model
from .supernet import Supernet

_logger = logging.getLogger(__name__)
# Keys that a resumed search may have other values of: none changes what it computes, but for rounding on another
# device; space and table are compared by what is in them.
_FREE = (
    "OUTPUT_DIR", "VERSION", "DATALOADER.NUM_WORKERS", "SOLVER.CHECKPOINT_PERIOD", "VIS_PERIOD", "DATASETS.TEST",
    "MODEL.DEVICE", "MODEL.SUPERNET.SPACE", "LATENCY.TABLE",
)  # fmt: skip
_FREE_SECTIONS = ("TEST.",)
_NOISE = 1  # what the mixed seed is for


@TRAINER_REGISTRY.register()
class DNASTrainer(FBNetTrainer):
    """Trains a supernet: in each epoch its weights on one part of the data, then theta on the other.

    Everything else is ``FBNetTrainer``'s: command line, datasets, checkpoints, evaluation (of the most probable
    architecture with the supernet's weights). Resuming is exact; a resumed search whose config, space or latency
    table has changed is refused.

    Attributes:
        schedule: what each iteration does.
        data: the two parts of the training set.
    """

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: complete and frozen; ``MODEL.META_ARCHITECTURE`` is Supernet.

        Raises:
            SearchError, ArchError, LatencyError, DatasetError: the config describes no search.
        """
        cfg = completed(cfg)
        self.data = search_data(cfg)
        self.schedule = schedule_from_config(cfg, self.data)
        self._table = latency_table_from_config(cfg)
        self._search = search_identity(cfg, self._table.digest() if self._table else "")
        cfg.defrost()
        cfg.SOLVER.MAX_ITER = self.schedule.iterations
        cfg.freeze()
        if torch.device(cfg.MODEL.DEVICE).type == "cpu":
            keep_freed_memory()
        super().__init__(cfg)

    @classmethod
    def check(cls, cfg: CfgNode) -> List[str]:
        """See ``check_search``."""
        return check_search(cfg)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> Supernet:
        """The supernet; unlike Detectron2's, this does not log the thousands of lines of its modules."""
        model = build_model(cfg)
        count = sum(parameter.numel() for parameter in model.inner.parameters())
        _logger.info(
            f"Supernet over {model.space.name}: {len(model.space.variables)} layers, {model.space.size:.3g} "
            f"architectures, {count / 1e6:.2f}M parameters, inside {type(model.inner).__name__}"
        )
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: Supernet) -> torch.optim.Optimizer:
        """The weights' optimizer: ``SOLVER`` on the inner model."""
        return super().build_optimizer(cfg, model.inner)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """The images of one dataset, of the space's size where the config leaves that open."""
        return super().build_test_loader(completed(cfg), dataset_name)

    def build_step(self, cfg: CfgNode, model: Supernet, optimizer: torch.optim.Optimizer) -> SearchStep:
        """Loaders and optimizers of both phases."""
        model.single_path = cfg.DNAS.WEIGHT_STEP == "single_path"
        loaders = {
            phase: build_train_loader(cfg, dataset=self.data.of(phase), seed=mix(self.seed, number))
            for number, phase in enumerate(PHASES)
        }
        theta = torch.optim.Adam([model.theta], lr=cfg.DNAS.THETA_LR, weight_decay=cfg.DNAS.THETA_WEIGHT_DECAY)
        optimizers = {WEIGHTS: optimizer, THETA: theta}
        parts = cfg.SOLVER.ACCUMULATION_STEPS
        return SearchStep(model, loaders, optimizers, precision=precision_from_config(cfg), parts=parts)

    def build_lr_scheduler(self, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """``SOLVER``'s learning rate schedule over the weight steps."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.EPOCHS = self.schedule.total_weight_steps, cfg.DNAS.EPOCHS
        return super().build_lr_scheduler(cfg, optimizer)

    def distributed(self, model: nn.Module) -> nn.Module:
        """The model with the first process's parameters; gradients are averaged by ``SearchStep``."""
        broadcast_model(model)
        return model

    def loaders(self) -> Dict[str, Any]:
        loaders = {name: loader for name, loader in super().loaders().items() if name != "train"}
        return {**loaders, **self._trainer.loaders}

    def build_hooks(self) -> List[HookBase]:
        """``FBNetTrainer``'s; alternation first, what changes theta and records it before checkpoints are written."""
        cfg, net, step = self.cfg, self._trainer.model, weakref.proxy(self._trainer)
        record = SearchRecord(
            cfg.OUTPUT_DIR,
            net.space,
            self._table,
            cfg.DNAS.EPOCHS - 1,
            cfg.DNAS.SNAPSHOT_PERIOD,
            cfg.LATENCY.TARGET_US,
        )
        own: List[HookBase] = [AlternationHook(net, step, self.schedule)]
        if cfg.LATENCY.TARGET_US:
            own.append(LatencyTargetHook(net, self.schedule, cfg.LATENCY.TARGET_US, cfg.LATENCY.TARGET_RAMP))
        own.append(SearchLogHook(net, self.schedule, record, cfg.DNAS.SKIP_WARNING))
        hooks = super().build_hooks()
        for number, hook in enumerate(hooks):
            if isinstance(hook, LRScheduler):
                hooks[number] = WeightScheduleHook(step, self._trainer.optimizers[WEIGHTS], self.scheduler)
        after_timer = 1
        return [*hooks[:after_timer], *own, *hooks[after_timer:]]

    def iterations_per_epoch(self) -> float:
        """Of weights and theta together."""
        return self.schedule.iterations / self.cfg.DNAS.EPOCHS

    def run_step(self) -> None:
        """One iteration; its noise follows from seed and number too, and is the same in all processes."""
        self._trainer.model.seed_noise(mix(self.seed, self.iter, _NOISE))
        super().run_step()

    def state_dict(self) -> Dict[str, Any]:
        return {**super().state_dict(), "search": self._search}

    def resume_or_load(self, resume: bool = True) -> None:
        """
        Raises:
            CheckpointError: the run in ``OUTPUT_DIR`` is of another search: other config, space or latency table; said
                before its weights are compared, which then need not fit.
        """
        if resume and self.checkpointer.has_checkpoint():
            content = read_checkpoint(newest_readable(self.cfg.OUTPUT_DIR))
            refuse_changes(content["trainer"].get("search"), self._search, self.cfg.OUTPUT_DIR)
        super().resume_or_load(resume)


def search_identity(cfg: CfgNode, table_digest: str) -> Dict[str, Any]:
    """What must not change when a search is resumed: config, space, latency table."""
    space = space_from_config(cfg)
    return {
        "config": config_lines(cfg, _FREE, _FREE_SECTIONS),
        "space": [repr(variable) for variable in space.variables] + [repr(space.template)],
        "latency_table": table_digest,
    }


def refuse_changes(before: Any, now: Dict[str, Any], folder: str) -> None:
    """
    Raises:
        CheckpointError: the two differ; the message has the lines that do.
    """
    if before is None:
        raise CheckpointError(f"{folder}: the checkpoint is not of a search; name another OUTPUT_DIR")
    lines = changes(before, now, {"config": "the config", "space": "the search space"})
    if lines:
        raise CheckpointError(
            "\n  ".join([f"{folder}: a search is resumed as it began, or begun anew in another OUTPUT_DIR:", *lines])
        )
