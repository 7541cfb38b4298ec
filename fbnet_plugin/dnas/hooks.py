"""The hooks of a search: alternation and annealing, the latency target, the record of what theta does."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional

import torch
from detectron2.engine import HookBase
from detectron2.engine.hooks import LRScheduler
from detectron2.utils import comm

from .record import SearchRecord, Summary
from .schedule import THETA, WEIGHTS, SearchSchedule
from .supernet import Supernet
from .target import project_onto_latency, ramped_target_us

_logger = logging.getLogger(__name__)


class AlternationHook(HookBase):
    """Before each iteration: whose turn it is, and the temperature of the epoch (FBNet appendix A)."""

    def __init__(self, supernet: Supernet, step: Any, schedule: SearchSchedule):
        """
        Args:
            supernet: whose gradients and temperature to set.
            step: the ``SearchStep`` whose phase to set.
            schedule: of the search.
        """
        self._supernet, self._step, self._schedule = supernet, step, schedule

    def before_step(self) -> None:
        place = self._schedule.at(self.trainer.iter)
        self._step.phase = place.phase
        self._supernet.train_only(place.phase)
        self._supernet.temperature = self._schedule.temperature_at(place.epoch)


class WeightScheduleHook(LRScheduler):
    """Detectron2's learning rate hook, which here counts the weight steps alone."""

    def __init__(self, step: Any, optimizer: torch.optim.Optimizer, scheduler: Any):
        super().__init__(optimizer, scheduler)
        self._step = step

    def after_step(self) -> None:
        if self._step.phase == WEIGHTS:
            super().after_step()


class LatencyTargetHook(HookBase):
    """After each theta step: the expected latency is brought to the target, or to its place on the way there."""

    def __init__(self, supernet: Supernet, schedule: SearchSchedule, target_us: float, ramp: float):
        """
        Args:
            supernet: whose theta to move.
            schedule: of the search.
            target_us: expected latency at the end, µs.
            ramp: share of the theta epochs in which it is reached.
        """
        self._supernet, self._schedule = supernet, schedule
        self._target_us, self._ramp = target_us, ramp
        self._start_us = 0.0  # expected latency before the first theta step

    def before_step(self) -> None:
        if not self._start_us and self._schedule.at(self.trainer.iter).phase == THETA:
            with torch.no_grad():
                self._start_us = float(self._supernet.expected_latency_us())

    def after_step(self) -> None:
        place = self._schedule.at(self.trainer.iter)
        if place.phase != THETA:
            return
        total = (self._schedule.epochs - self._schedule.theta_start) * self._schedule.theta_steps
        wanted = ramped_target_us(self._start_us, self._target_us, (place.step + 1) / total, self._ramp)
        net = self._supernet
        with torch.no_grad():
            net.theta.copy_(project_onto_latency(net.theta, net.latency_us, net.fixed_us, net.valid, wanted))

    def state_dict(self) -> Dict[str, Any]:
        return {"start_us": self._start_us}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self._start_us = state["start_us"]


class SearchLogHook(HookBase):
    """At the end of each epoch: the log's table, TensorBoard's curves, and the files in ``OUTPUT_DIR/search``."""

    def __init__(
        self,
        supernet: Supernet,
        schedule: SearchSchedule,
        record: SearchRecord,
        skip_warning: float,
        vis_images: bool = True,
    ):
        """
        Args:
            supernet: to look at.
            schedule: of the search.
            record: what becomes of it on the disk.
            skip_warning: mean probability of "skip" above which to warn.
            vis_images: whether TensorBoard gets a picture of the probabilities.
        """
        self._supernet, self._schedule, self._record = supernet, schedule, record
        self._skip_warning, self._images = skip_warning, vis_images
        self._sums: Dict[str, List[float]] = {}

    def after_step(self) -> None:
        place = self._schedule.at(self.trainer.iter)
        latest = self.trainer.storage.latest()
        if "total_loss" in latest:  # in the main process
            total = self._sums.setdefault(place.phase, [0.0, 0.0])
            total[0] += float(_value(latest["total_loss"]))
            total[1] += 1
        if not place.last_of_epoch:
            return
        losses = {phase: total / count for phase, (total, count) in self._sums.items()}
        self._sums = {}
        summary = Summary.of(self._supernet, self._schedule, self.trainer.iter, losses)
        self._warn_of_collapse(summary)
        if comm.is_main_process():
            _logger.info(summary.table(self._supernet))
            self._plot(summary)
            self._record.add(summary, self._supernet)

    def _warn_of_collapse(self, summary: Summary) -> None:
        early = 0 < self._schedule.theta_progress(summary.epoch) <= 0.5
        if early and summary.skip is not None and summary.skip > self._skip_warning:
            _logger.warning(
                f"skip takes over: mean probability {summary.skip:.2f} in epoch {summary.epoch}, in the first half of "
                "theta's training. The blocks may have had too little training (DNAS.THETA_START), theta may learn too "
                "fast (DNAS.THETA_LR), the latency may weigh too much (LATENCY.BETA, LATENCY.TARGET_US), or the maps "
                "may be too small for this space (small images want strides as in the space fbnet_cifar)"
            )

    def _plot(self, summary: Summary) -> None:
        storage = self.trainer.storage
        storage.put_scalars(smoothing_hint=False, **summary.scalars(self._supernet))
        if self._images:
            storage.put_image("search/probability", heat_map(self._supernet.probabilities().detach()))

    def state_dict(self) -> Dict[str, Any]:
        return {"sums": self._sums, "history": self._record.history}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self._sums = {phase: list(total) for phase, total in state["sums"].items()}
        self._record.history = [dict(line) for line in state["history"]]


def _value(latest: Any) -> Any:
    """The storage's latest value, which comes with its iteration in some versions."""
    return latest[0] if isinstance(latest, tuple) else latest


def heat_map(probability: torch.Tensor, cell: int = 16) -> torch.Tensor:
    """(L, C) of 0 to 1 as an image (3, L * cell, C * cell), uint8: the brighter, the more probable."""
    grey = (probability.clamp(0, 1) * 255).to(torch.uint8).cpu()
    grey = grey.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return grey.expand(3, *grey.shape)


def first_of(hooks: List[HookBase], kind: type) -> Optional[int]:
    """Index of the first hook of a kind."""
    return next((number for number, hook in enumerate(hooks) if isinstance(hook, kind)), None)
