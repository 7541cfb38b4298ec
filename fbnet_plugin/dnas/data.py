"""Which images train the weights and which theta (FBNet appendix A)."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, NamedTuple, Sequence

from detectron2.config import CfgNode

from fbnet_plugin.data import is_classification, training_dicts
from fbnet_plugin.data.subset import some_classes, split

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
        SearchError: a share that leaves one half empty.
        DatasetError: a number of classes that there is not.
    """
    classification = is_classification(cfg.DATASETS.TRAIN)
    dicts = training_dicts(cfg)
    classes: Sequence[int] = ()
    if cfg.DNAS.CLASSES:
        if not classification:
            raise SearchError("DNAS.CLASSES is for classification; a detector's images have several classes each")
        classes, dicts = some_classes(dicts, cfg.DNAS.CLASSES, cfg.DNAS.SPLIT_SEED, "DNAS.CLASSES")
        _logger.info(f"Searching on {len(classes)} classes, {len(dicts)} images: {', '.join(map(str, classes))}")
    weights, theta = share_split(dicts, cfg.DNAS.WEIGHT_SHARE, cfg.DNAS.SPLIT_SEED)
    return SearchData(weights, theta, classes)


def share_split(dicts: Dicts, share: float, seed: int) -> "tuple[Dicts, Dicts]":
    """A random ``share`` of the dicts, and the others.

    Raises:
        SearchError: one of the two would be empty.
    """
    first = round(share * len(dicts))
    if not 0 < first < len(dicts):
        raise SearchError(f"DNAS.WEIGHT_SHARE is {share}, which leaves no images of {len(dicts)} for weights or theta")
    return split(dicts, first, seed)
