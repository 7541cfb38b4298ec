"""What a run tells while it goes on: time left, losses, accuracy, images per second."""

from __future__ import annotations

import logging
from typing import Any, List, Optional, Tuple

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import CommonMetricPrinter, EventStorage, get_event_storage

IMAGES_PER_S = "images_per_s"
# Accuracy of a batch while training, as the meta-architectures name it, and the factor that makes it a percentage.
TRAINING_ACCURACY = {"train/top1": 1.0, "fast_rcnn/cls_accuracy": 100.0}
# The first figure of an evaluation that is shown, by its end: what people compare.
_SHOWN = ("/top1", "/AP")
_WINDOW = 20


class ThroughputHook(HookBase):
    """Notes the images per second of all processes together; it stands behind the hook that times iterations."""

    def __init__(self, batch_size: int):
        """
        Args:
            batch_size: of all processes together.
        """
        self._batch_size = batch_size

    def after_step(self) -> None:
        seconds = _latest(self.trainer.storage, "time")
        if seconds:
            self.trainer.storage.put_scalar(IMAGES_PER_S, self._batch_size / seconds)


class ProgressPrinter(CommonMetricPrinter):
    """Detectron2's line with, besides time left, losses, times and learning rate, throughput and accuracy."""

    def __init__(self, max_iter: int, epoch_length: float = 0.0):
        """
        Args:
            max_iter: of the run.
            epoch_length: iterations of an epoch, to show which one it is; 0 where that is not known.
        """
        super().__init__(max_iter, _WINDOW)
        self._epoch_length = epoch_length
        self._log = logging.getLogger(__name__)

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return  # the end of a run is told by its results
        eta = self._get_eta(storage)
        self._log.info("  ".join(part for part in (f"eta: {eta}" if eta else "", *self._parts(storage)) if part))

    def _parts(self, storage: EventStorage) -> List[str]:
        done = storage.iter + 1
        epoch = f" (epoch {done / self._epoch_length:.2f})" if self._epoch_length else ""
        parts = [f"iter: {storage.iter}/{self._max_iter}{epoch}"]
        for name, history in storage.histories().items():
            if "loss" in name and not name.startswith("classification"):
                parts.append(f"{name}: {history.median(_WINDOW):.4g}")
        for name, factor in TRAINING_ACCURACY.items():
            share = _latest(storage, name)
            parts.append("" if share is None else f"{name}: {factor * share:.1f}%")
        parts += [f"{name}: {value:.2f}" for name, value in evaluated(storage)]
        rate = _median(storage, IMAGES_PER_S)
        parts.append("" if rate is None else f"img/s: {rate:.1f}")
        for name in ("time", "data_time"):
            seconds = _median(storage, name)
            parts.append("" if seconds is None else f"{name}: {seconds:.4f}")
        rate = _latest(storage, "lr")
        parts.append("" if rate is None else f"lr: {rate:.5g}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        return parts


def evaluated(storage: EventStorage) -> List[Tuple[str, float]]:
    """The last evaluation's most telling figures, such as ("classification/top1", 75.1), averages' included."""
    latest = storage.latest()
    return [(name, latest[name][0]) for name in latest if name.endswith(_SHOWN) and name not in TRAINING_ACCURACY]


def _median(storage: EventStorage, name: str) -> Optional[float]:
    return storage.histories()[name].median(_WINDOW) if name in storage.histories() else None


def _latest(storage: EventStorage, name: str) -> Any:
    return storage.histories()[name].latest() if name in storage.histories() else None
