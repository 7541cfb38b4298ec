"""The images that candidates are trained and compared on (FBNetV3 section 4)."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from fbnet_plugin.data import is_classification, training_dicts
from fbnet_plugin.data.image_folder import known_classes
from fbnet_plugin.data.subset import some_classes, split

from .errors import NARSError

Dicts = List[Dict[str, Any]]


class Parts(NamedTuple):
    """Dataset dicts that candidates are trained on and, disjoint from them, compared on.

    Attributes:
        train, validation: both from the training set.
        classes: the old labels of the classes that are searched on; empty: all.
    """

    train: Dicts
    validation: Dicts
    classes: Tuple[int, ...]


def search_parts(cfg: CfgNode) -> Parts:
    """``NARS.CLASSES`` random classes of ``DATASETS.TRAIN``, and ``NARS.VALIDATION_IMAGES`` images withheld from them.

    They depend on ``NARS.SPLIT_SEED`` and the data alone. Reading the set is done once per process.

    Raises:
        NARSError, DatasetError: there are not so many classes or images.
    """
    key = _source(cfg)
    if key not in _read:
        _read.clear()
        _read[key] = _search_parts(cfg)
    return _read[key]


_read: Dict[Any, Parts] = {}


def _source(cfg: CfgNode) -> Tuple[Any, ...]:
    """All that the parts depend on."""
    return tuple(cfg.DATASETS.TRAIN), cfg.NARS.CLASSES, cfg.NARS.VALIDATION_IMAGES, cfg.NARS.SPLIT_SEED


def _search_parts(cfg: CfgNode) -> Parts:
    keys = cfg.NARS
    dicts = training_dicts(cfg)
    classes: List[int] = []
    if keys.CLASSES:
        if not is_classification(cfg.DATASETS.TRAIN):
            raise NARSError("NARS.CLASSES is for classification; a detector's images have several classes each")
        classes, dicts = some_classes(dicts, keys.CLASSES, keys.SPLIT_SEED, "NARS.CLASSES")
    batch = cfg.SOLVER.IMS_PER_BATCH
    if not 0 < keys.VALIDATION_IMAGES <= len(dicts) - batch:
        raise NARSError(
            f"NARS.VALIDATION_IMAGES is {keys.VALIDATION_IMAGES}; DATASETS.TRAIN has {len(dicts)} images to search on, "
            f"and a batch of {batch} must be left to train on"
        )
    validation, train = split(dicts, keys.VALIDATION_IMAGES, keys.SPLIT_SEED)
    return Parts(train, validation, tuple(classes))


def register_search_data(cfg: CfgNode) -> Tuple[str, str]:
    """Registers the two parts with Detectron2, once per process.

    Args:
        cfg: of the search; its own datasets are registered.

    Returns:
        names of the training and the validation set.
    """
    digest = hashlib.sha256(repr(_source(cfg)).encode()).hexdigest()[:8]
    names = f"nars_train_{digest}", f"nars_validation_{digest}"
    for name, part in zip(names, ("train", "validation")):
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, functools.partial(_part, cfg.clone(), part))
            MetadataCatalog.get(name).set(**_metadata(cfg))
    return names


def _part(cfg: CfgNode, part: str) -> Dicts:
    return getattr(search_parts(cfg), part)


def _metadata(cfg: CfgNode) -> Dict[str, Any]:
    """What evaluators and visualizers need to know of a part."""
    first = cfg.DATASETS.TRAIN[0]
    classification = is_classification(cfg.DATASETS.TRAIN)
    chosen = search_parts(cfg).classes if cfg.NARS.CLASSES else None
    metadata: Dict[str, Any] = {"evaluator_type": "image_classification" if classification else "coco"}
    names: Optional[List[str]] = known_classes(first)
    if names is not None:
        metadata["thing_classes"] = [names[label] for label in chosen] if chosen else list(names)
    if not classification:  # classes are numbered as the dicts number them
        metadata["thing_dataset_id_to_contiguous_id"] = {number: number for number in range(len(names or ()))}
    return metadata
