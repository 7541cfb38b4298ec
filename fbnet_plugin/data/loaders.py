"""Data loaders that suit the dataset: images with a label for classifiers, Detectron2's own for detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence

import torch
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MapDataset,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from .errors import DatasetError
from .image_folder import known_classes
from .mapper import ClassificationMapper, DetectionMapper

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch.utils.data import Sampler

# Detectron2's samplers that look at an entry's annotations.
SAMPLERS_OF_BOXES = ("RepeatFactorTrainingSampler", "WeightedCategoryTrainingSampler")

Mapper = Callable[[Dict[str, Any]], Dict[str, Any]]


def build_train_loader(
    cfg: CfgNode,
    *,
    mapper: Optional[Mapper] = None,
    dataset: Optional[List[Dict[str, Any]]] = None,
    sampler: Optional[Sampler] = None,
) -> Any:
    """The training loader for ``cfg.DATASETS.TRAIN``, whether it is for classification or for detection.

    Args:
        cfg: with the keys of ``add_fbnet_config``.
        mapper: in place of ``ClassificationMapper`` or ``DetectionMapper``.
        dataset: dataset dicts in place of those of ``cfg.DATASETS.TRAIN``.
        sampler: in place of the one that ``cfg.DATALOADER.SAMPLER_TRAIN`` names.

    Returns:
        An endless iterable of lists of SOLVER.IMS_PER_BATCH / number of processes dicts.

    Raises:
        DatasetError: classification and detection sets are mixed, or the sets' classes differ.
    """
    if is_classification(cfg.DATASETS.TRAIN):
        return build_classification_train_loader(cfg, mapper=mapper, dataset=dataset, sampler=sampler)
    mapper = mapper or DetectionMapper(cfg, True)
    return build_detection_train_loader(cfg, mapper=mapper, dataset=dataset, sampler=sampler)


def build_test_loader(cfg: CfgNode, dataset_name: str, *, mapper: Optional[Mapper] = None) -> Any:
    """The test loader for one dataset, whether it is for classification or for detection.

    Raises:
        DatasetError: a training set of ``cfg`` has other classes (classification).
    """
    if is_classification([dataset_name]):
        return build_classification_test_loader(cfg, dataset_name, mapper=mapper)
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper or DetectionMapper(cfg, False))


def build_classification_train_loader(
    cfg: CfgNode,
    *,
    mapper: Optional[Mapper] = None,
    dataset: Optional[List[Dict[str, Any]]] = None,
    sampler: Optional[Sampler] = None,
) -> Any:
    """``build_train_loader`` for classification sets.

    Raises:
        DatasetError: the sets' classes differ.
        ValueError: the sampler that ``cfg`` names needs boxes.
    """
    if sampler is None and cfg.DATALOADER.SAMPLER_TRAIN in SAMPLERS_OF_BOXES:
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN: got {cfg.DATALOADER.SAMPLER_TRAIN!r}, which counts boxes; expected "
            "TrainingSampler or RandomSubsetTrainingSampler for classification"
        )
    if dataset is None:
        dataset = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
        _require_same_classes(cfg.DATASETS.TRAIN)
    return build_detection_train_loader(
        cfg,
        mapper=mapper or ClassificationMapper(cfg, True),
        dataset=dataset,
        sampler=sampler,
        aspect_ratio_grouping=False,
    )


def build_classification_test_loader(
    cfg: CfgNode, dataset_name: str, *, mapper: Optional[Mapper] = None
) -> torch.utils.data.DataLoader:
    """``build_test_loader`` for classification sets, each image once, in batches as large as in training.

    Returns:
        An iterable of lists of up to SOLVER.IMS_PER_BATCH / number of processes dicts.

    Raises:
        DatasetError: a training set of ``cfg`` has other classes.
    """
    dicts = get_detection_dataset_dicts([dataset_name], filter_empty=False)
    _require_same_classes([*cfg.DATASETS.TRAIN, dataset_name])
    dataset = MapDataset(DatasetFromList(dicts, copy=False), mapper or ClassificationMapper(cfg, False))
    return torch.utils.data.DataLoader(
        dataset,
        batch_size=max(cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(), 1),
        sampler=InferenceSampler(len(dicts)),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
    )


def is_classification(names: Sequence[str]) -> bool:
    """Whether these datasets are for classification; False for none and for names that nobody registered.

    Raises:
        DatasetError: some are and some are not.
    """
    kinds = {MetadataCatalog.get(name).get("evaluator_type") for name in names if name in DatasetCatalog}
    if "image_classification" in kinds and len(kinds) > 1:
        raise DatasetError(f"classification and detection sets cannot be mixed: {', '.join(names)}")
    return "image_classification" in kinds


def _require_same_classes(names: Sequence[str]) -> None:
    """Labels mean the same only where the class names agree; sets whose names are not known yet pass."""
    pairs = [(name, known_classes(name)) for name in names if name in DatasetCatalog]
    known = [(name, classes) for name, classes in pairs if classes is not None]
    for name, classes in known[1:]:
        first, expected = known[0]
        if classes != expected:
            only = sorted(set(classes) ^ set(expected))[:3]
            raise DatasetError(
                f"datasets {first!r} ({len(expected)} classes) and {name!r} ({len(classes)} classes) do not have the "
                f"same classes" + (f"; only one of them has {', '.join(map(repr, only))}" if only else "")
            )
