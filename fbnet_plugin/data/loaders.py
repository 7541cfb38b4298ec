"""Data loaders that suit the dataset, for classification and for detection; training data comes from one stream."""

from __future__ import annotations

import logging
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
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from .batch import pack
from .errors import DatasetError
from .image_folder import known_classes
from .mapper import ClassificationMapper, DetectionMapper
from .order import order_from_config, shard_of
from .stream import TrainLoader

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch.utils.data import Sampler

Mapper = Callable[[Dict[str, Any]], Dict[str, Any]]

_logger = logging.getLogger(__name__)


def build_train_loader(
    cfg: CfgNode,
    *,
    mapper: Optional[Mapper] = None,
    dataset: Optional[List[Dict[str, Any]]] = None,
    sampler: Optional[Sampler] = None,
    seed: Optional[int] = None,
) -> Any:
    """The training loader for ``cfg.DATASETS.TRAIN``, whether it is for classification or for detection.

    Args:
        cfg: with the keys of ``add_fbnet_config``.
        mapper: in place of ``ClassificationMapper`` or ``DetectionMapper``.
        dataset: dataset dicts in place of those of ``cfg.DATASETS.TRAIN``.
        sampler: in place of the one that ``cfg.DATALOADER.SAMPLER_TRAIN`` names; it gives this process its share of
            the indices, the same in every run that is to be resumed.
        seed: of order and augmentation, the same in all processes; None for a random one that they share.

    Returns:
        An endless iterable of lists of SOLVER.IMS_PER_BATCH / number of processes dicts: a ``TrainLoader``, or
        Detectron2's own loader, which cannot resume, for an ``IterableDataset``.

    Raises:
        DatasetError: classification and detection sets are mixed, or the sets' classes differ.
        ValueError: the sampler or the batch size that ``cfg`` names cannot be used.
    """
    classification = is_classification(cfg.DATASETS.TRAIN)
    torch_alone = classification and mapper is None  # torchvision's transforms draw from nothing else
    if mapper is None:
        mapper = ClassificationMapper(cfg, True) if classification else DetectionMapper(cfg, True)
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING and not classification
    if isinstance(dataset, torch.utils.data.IterableDataset):
        return build_detection_train_loader(
            dataset,
            mapper=mapper,
            sampler=sampler,
            total_batch_size=_batch_size(cfg),
            aspect_ratio_grouping=grouped,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
    if dataset is None:
        dataset = training_dicts(cfg)
    order = order_from_config(cfg, dataset) if sampler is None else shard_of(sampler)
    return TrainLoader(
        DatasetFromList(dataset, copy=False) if isinstance(dataset, list) else dataset,
        mapper,
        order,
        seed=comm.shared_random_seed() if seed is None else seed,
        batch_size=_batch_size(cfg),
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        bucket_of=orientations(dataset) if grouped else None,
        sharded=sampler is not None,
        torch_alone=torch_alone,
    )


def training_dicts(cfg: CfgNode) -> List[Dict[str, Any]]:
    """The dataset dicts of ``cfg.DATASETS.TRAIN``, filtered as ``cfg`` says where they have boxes.

    Raises:
        DatasetError: classification and detection sets are mixed, or the sets' classes differ.
    """
    if is_classification(cfg.DATASETS.TRAIN):
        dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
        require_same_classes(cfg.DATASETS.TRAIN)
        return dicts
    return get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )


def orientations(dicts: List[Dict[str, Any]]) -> Optional[bytes]:
    """0 for each image that is wider than high, 1 for the others; None, with a warning, where a dict does not say."""
    if not all("width" in one and "height" in one for one in dicts):
        _logger.warning("DATALOADER.ASPECT_RATIO_GROUPING: images without width and height; batches mix orientations")
        return None
    return bytes(one["width"] <= one["height"] for one in dicts)


def _batch_size(cfg: CfgNode) -> int:
    size, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if size < 1 or size % processes:
        raise ValueError(f"SOLVER.IMS_PER_BATCH: got {size}, expected a multiple of the {processes} processes")
    return size


def build_test_loader(cfg: CfgNode, dataset_name: str, *, mapper: Optional[Mapper] = None) -> Any:
    """The test loader for one dataset, whether it is for classification or for detection.

    Raises:
        DatasetError: a training set of ``cfg`` has other classes (classification).
    """
    if is_classification([dataset_name]):
        return build_classification_test_loader(cfg, dataset_name, mapper=mapper)
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper or DetectionMapper(cfg, False))


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
    require_same_classes([*cfg.DATASETS.TRAIN, dataset_name])
    return classification_test_loader(
        dicts,
        mapper or ClassificationMapper(cfg, False),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def classification_test_loader(
    dataset: List[Dict[str, Any]], mapper: Mapper, *, total_batch_size: int, num_workers: int = 4
) -> torch.utils.data.DataLoader:
    """Each image once, in lists of up to ``total_batch_size`` / number of processes dicts.

    Args:
        dataset: dataset dicts.
        mapper: from a dict to what the model takes.
        total_batch_size: images of all processes together.
        num_workers: processes that map ahead, for each process.
    """
    return torch.utils.data.DataLoader(
        MapDataset(DatasetFromList(dataset, copy=False), mapper),
        batch_size=max(total_batch_size // comm.get_world_size(), 1),
        sampler=InferenceSampler(len(dataset)),
        num_workers=num_workers,
        collate_fn=pack,
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


def require_same_classes(names: Sequence[str]) -> None:
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
