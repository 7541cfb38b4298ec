"""Which images train the weights and which theta (FBNet appendix A)."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
from detectron2.config import CfgNode

from fbnet_plugin.data import is_classification, training_dicts

from .errors import SearchError
from .schedule import THETA, WEIGHTS

_logger = logging.getLogger(__name__)
Dicts = List[Dict[str, Any]]


class SearchData(NamedTuple):
    """Dataset dicts of the two halves of a search, disjoint, together all that is searched on.

    Attributes:
        weights: train the weights.
        theta: train theta.
        classes: the dataset's classes that are searched on, in the order of their labels here; empty: all.
    """

    weights: Dicts
    theta: Dicts
    classes: Sequence[int]

    def of(self, phase: str) -> Dicts:
        """The dicts of a phase."""
        return {WEIGHTS: self.weights, THETA: self.theta}[phase]


def search_data(cfg: CfgNode) -> SearchData:
    """The images of ``DATASETS.TRAIN``, or of ``DNAS.CLASSES`` random classes of it, split by ``DNAS.WEIGHT_SHARE``.

    The split and the classes depend on ``DNAS.SPLIT_SEED`` and the data alone.

    Raises:
        SearchError: a share that leaves one half empty, or a number of classes that there is not.
    """
    classification = is_classification(cfg.DATASETS.TRAIN)
    dicts = training_dicts(cfg)
    classes: Sequence[int] = ()
    if cfg.DNAS.CLASSES:
        if not classification:
            raise SearchError("DNAS.CLASSES is for classification; a detector's images have several classes each")
        classes, dicts = some_classes(dicts, cfg.DNAS.CLASSES, cfg.DNAS.SPLIT_SEED)
        _logger.info(f"Searching on {len(classes)} classes, {len(dicts)} images: {', '.join(map(str, classes))}")
    weights, theta = split(dicts, cfg.DNAS.WEIGHT_SHARE, cfg.DNAS.SPLIT_SEED)
    return SearchData(weights, theta, classes)


def some_classes(dicts: Dicts, count: int, seed: int) -> "tuple[list[int], Dicts]":
    """Images of ``count`` random classes, their labels renumbered from 0.

    Returns:
        the classes' old labels in the order of the new ones, and copies of the dicts.

    Raises:
        SearchError: there are fewer classes.
    """
    labels = sorted({int(one["label"]) for one in dicts})
    if not 1 < count <= len(labels):
        raise SearchError(f"DNAS.CLASSES is {count}, expected 2 to {len(labels)} (the training set's), or 0 for all")
    chosen = np.sort(np.random.default_rng(seed).choice(labels, count, replace=False)).tolist()
    renumbered = {label: number for number, label in enumerate(chosen)}
    kept = [{**one, "label": renumbered[int(one["label"])]} for one in dicts if int(one["label"]) in renumbered]
    return chosen, kept


def split(dicts: Dicts, share: float, seed: int) -> "tuple[Dicts, Dicts]":
    """A random ``share`` of the dicts, and the others.

    Raises:
        SearchError: one of the two would be empty.
    """
    first = round(share * len(dicts))
    if not 0 < first < len(dicts):
        raise SearchError(f"DNAS.WEIGHT_SHARE is {share}, which leaves no images of {len(dicts)} for weights or theta")
    order = np.random.default_rng(seed).permutation(len(dicts))
    return [dicts[i] for i in sorted(order[:first])], [dicts[i] for i in sorted(order[first:])]
