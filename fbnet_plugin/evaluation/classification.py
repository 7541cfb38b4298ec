"""Top-1 and top-5 accuracy of an image classifier."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

logger = logging.getLogger(__name__)


class _Outcome(NamedTuple):
    """What evaluation needs of one image: its class, how many classes score higher, -log of its probability."""

    label: int
    rank: int
    loss: float


class ClassificationEvaluator(DatasetEvaluator):
    """Accuracy over a dataset, each image counted once, gathered from all processes.

    An image is a top-k hit where fewer than k classes score higher than its own; among equal scores the
    lower class comes first. An image with a score that is not finite is a miss, and the loss is then NaN.
    """

    def __init__(self, dataset_name: str, *, distributed: bool = True, log_per_class: bool = False):
        """
        Args:
            dataset_name: its metadata's ``thing_classes`` say how many scores are expected.
            distributed: gather from all processes; else evaluate what this process has seen.
            log_per_class: log each class's accuracy.
        """
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._log_per_class = log_per_class
        self._classes: Optional[Sequence[str]] = None
        self._outcomes: Dict[Any, _Outcome] = {}

    def reset(self) -> None:
        self._classes = MetadataCatalog.get(self._dataset_name).get("thing_classes")
        self._outcomes = {}

    def process(self, inputs: List[Dict[str, Any]], outputs: List[Dict[str, Any]]) -> None:
        """
        Args:
            inputs: dicts with ``image_id`` and ``label``.
            outputs: dicts with ``scores``: (num_classes,) probabilities, in the order of ``inputs``.

        Raises:
            ValueError: the number of scores is not the dataset's number of classes.
        """
        if not inputs:
            return
        scores = torch.stack([output["scores"] for output in outputs]).double().cpu()  # (N, num_classes)
        labels = torch.tensor([int(entry["label"]) for entry in inputs])
        self._check(scores.shape[1], int(labels.max()))
        own = scores.gather(1, labels[:, None])  # (N, 1)
        before = torch.arange(scores.shape[1]) < labels[:, None]
        ranks = ((scores > own) | ((scores == own) & before)).sum(dim=1)
        finite = scores.isfinite().all(dim=1)
        ranks = torch.where(finite, ranks, scores.shape[1])
        # The smallest positive float32 stands for a probability that has underflowed.
        losses = -own[:, 0].clamp(min=torch.finfo(torch.float32).tiny).log()
        losses = torch.where(finite, losses, math.nan)
        for entry, label, rank, loss in zip(inputs, labels.tolist(), ranks.tolist(), losses.tolist()):
            self._outcomes[entry["image_id"]] = _Outcome(label, rank, loss)

    def _check(self, num_scores: int, largest_label: int) -> None:
        needed = len(self._classes) if self._classes is not None else None
        if needed is not None and num_scores != needed:
            raise ValueError(
                f"the model gives {num_scores} scores per image, but dataset {self._dataset_name!r} has {needed} "
                f"classes: set MODEL.CLASSIFIER.NUM_CLASSES to {needed}, or evaluate on another dataset"
            )
        if largest_label >= num_scores:
            raise ValueError(
                f"dataset {self._dataset_name!r} has the label {largest_label}, but the model gives only "
                f"{num_scores} scores per image: MODEL.CLASSIFIER.NUM_CLASSES is too small"
            )

    def evaluate(self) -> Dict[str, Dict[str, float]]:
        """
        Returns:
            In the main process ``{"classification": {"top1": %, "top5": %, "loss": mean of -log probability}}``,
            in the others an empty dict; empty as well where no image was seen.
        """
        outcomes = self._outcomes
        if self._distributed:
            comm.synchronize()
            shards = comm.gather(self._outcomes, dst=0)
            if not comm.is_main_process():
                return {}
            outcomes = {image_id: outcome for shard in shards for image_id, outcome in shard.items()}
        if not outcomes:
            logger.warning("Dataset %s: no predictions to evaluate.", self._dataset_name)
            return {}
        table = np.array(list(outcomes.values()), np.float64)  # (N, 3): label, rank, loss
        result = {
            "top1": float((table[:, 1] < 1).mean() * 100),
            "top5": float((table[:, 1] < 5).mean() * 100),
            "loss": float(table[:, 2].mean()),
        }
        self._log(table, result)
        return OrderedDict(classification=result)

    def _log(self, table: np.ndarray, result: Dict[str, float]) -> None:
        broken = int(np.isnan(table[:, 2]).sum())
        if broken:
            logger.warning("Dataset %s: %d images with scores that are not finite.", self._dataset_name, broken)
        figures = ", ".join(f"{key} {value:.3f}" for key, value in result.items())
        logger.info("Dataset %s, %d images: %s", self._dataset_name, len(table), figures)
        if self._log_per_class:
            rows = []
            for label in np.unique(table[:, 0]).astype(int):
                ranks = table[table[:, 0] == label, 1]
                name = self._classes[label] if self._classes is not None else str(label)
                rows.append((name, len(ranks), (ranks < 1).mean() * 100))
            logger.info("Per class:\n%s", tabulate(rows, headers=("class", "images", "top1"), floatfmt=".2f"))
