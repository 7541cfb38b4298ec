"""What can be known to fail before a run starts, said before it writes anything."""

from __future__ import annotations

import os
from typing import Iterable, List, Optional, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from fbnet_plugin.checkpoint.resume import has_training_state
from fbnet_plugin.data import is_classification
from fbnet_plugin.data.image_folder import known_classes
from fbnet_plugin.modeling import arch_from_config, inner_name
from fbnet_plugin.modeling.arch import SUPERNET

from .acceleration import check_acceleration
from .errors import ConfigError, did_you_mean
from .precision import check_precision

# Detectron2's detectors and the key that holds their number of classes.
_DETECTORS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    "ProposalNetwork": "",
}
_CLASSIFIERS = {"ImageClassifier": "MODEL.CLASSIFIER.NUM_CLASSES"}


def validate(cfg: CfgNode, *, eval_only: bool = False, resume: bool = False, world_size: int = 1) -> List[str]:
    """Checks names, datasets, weights and batch size.

    Datasets whose files are missing are loaded: some make their files at first use, all others raise.

    Args:
        cfg: complete; its own datasets must be registered.
        eval_only: whether ``DATASETS.TEST`` alone is used.
        resume: whether an earlier run in ``OUTPUT_DIR`` may be continued.
        world_size: number of processes.

    Returns:
        what is not wrong but worth a warning, one line each.

    Raises:
        ConfigError: what is wrong, what is accepted, and the nearest of it.
        ArchError: the architecture cannot be used.
        DatasetError: a dataset of this project cannot be used.
    """
    require_known("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, (name for name, _ in META_ARCH_REGISTRY))
    require_known("MODEL.SUPERNET.INNER", inner_name(cfg), (name for name, _ in META_ARCH_REGISTRY))
    require_known("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, (name for name, _ in BACKBONE_REGISTRY))
    if cfg.MODEL.BACKBONE.NAME.startswith("build_fbnet_"):
        arch_from_config(cfg)
    used = {"DATASETS.TEST": cfg.DATASETS.TEST} if eval_only else {"DATASETS.TRAIN": cfg.DATASETS.TRAIN}
    for key, names in used.items():
        if not names:
            raise ConfigError(f"{key} is empty, expected the name of a dataset")
    if cfg.MODEL.META_ARCHITECTURE == SUPERNET and cfg.TRAINER == "FBNetTrainer" and not eval_only:
        raise ConfigError("FBNetTrainer does not train a Supernet's theta; set TRAINER DNASTrainer")
    notes = _check_datasets(cfg, {**used, "DATASETS.TEST": cfg.DATASETS.TEST})
    _check_files(cfg, resume)
    if not eval_only and (cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % world_size):
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of the {world_size} processes"
        )
    check_acceleration(cfg)
    if not eval_only:
        check_precision(cfg)
        _check_parts(cfg, world_size)
    return notes


def _check_parts(cfg: CfgNode, world_size: int) -> None:
    """Whether each process can cut its share of a batch into parts for accumulation."""
    keys = cfg.SOLVER
    scaled = keys.IMS_PER_BATCH * world_size // keys.REFERENCE_WORLD_SIZE if keys.REFERENCE_WORLD_SIZE else None
    share = (scaled or keys.IMS_PER_BATCH) // world_size
    if keys.ACCUMULATION_STEPS < 1 or share % keys.ACCUMULATION_STEPS:
        raise ConfigError(
            f"SOLVER.ACCUMULATION_STEPS is {keys.ACCUMULATION_STEPS}, expected 1 or more that divides the {share} "
            "images of a process"
        )


def require_known(key: str, name: str, known: Iterable[str]) -> None:
    """
    Raises:
        ConfigError: the value ``name`` of ``key`` is none of ``known``; the message suggests the nearest.
    """
    names = sorted(known)
    if name not in names:
        raise ConfigError(f"{key} is {name!r}{did_you_mean(name, names)} (known: {', '.join(names)})")


def _check_datasets(cfg: CfgNode, used: "dict[str, Sequence[str]]") -> List[str]:
    for key, names in used.items():
        for name in names:
            require_known(key, name, DatasetCatalog.list())
    every = sorted({name for names in used.values() for name in names})
    _check_task(cfg, is_classification(every), every)
    notes = []
    for name in every:
        _check_data(name)
        note = _check_classes(cfg, name)
        notes += [note] if note else []
    return notes


def _check_task(cfg: CfgNode, classification: bool, names: Sequence[str]) -> None:
    model = inner_name(cfg)
    if model in (_DETECTORS if classification else _CLASSIFIERS):
        kind = "image classification" if classification else "detection"
        raise ConfigError(f"MODEL.META_ARCHITECTURE is {model}, but {', '.join(names)} are for {kind}")


def _check_data(name: str) -> None:
    """Finds the files that a dataset's metadata names, or lets the dataset say what is missing."""
    metadata = MetadataCatalog.get(name)
    paths = [metadata.get(key) for key in ("json_file", "image_root", "dirname", "image_dir", "gt_dir")]
    paths += metadata.get("batches", [])
    if all(os.path.exists(path) for path in paths if path and "://" not in path):
        return
    try:
        DatasetCatalog.get(name)
    except OSError as error:  # Detectron2's own datasets
        root = os.environ.get("DETECTRON2_DATASETS", "unset: ./datasets")
        raise ConfigError(f"dataset {name!r}: {error} (DETECTRON2_DATASETS is {root})") from None


def _check_classes(cfg: CfgNode, name: str) -> Optional[str]:
    """Compares the model's number of classes with the dataset's, as far as that can be told without loading it."""
    key = {**_DETECTORS, **_CLASSIFIERS}.get(inner_name(cfg))
    classes = known_classes(name)
    if not key or not classes or cfg.DNAS.CLASSES:  # a search on some of the classes checks its number itself
        return None
    node = cfg
    for part in key.split("."):
        node = node[part]
    if node < len(classes):
        raise ConfigError(f"{key} is {node}, but dataset {name!r} has {len(classes)} classes")
    return f"{key} is {node}, dataset {name!r} has {len(classes)} classes" if node > len(classes) else None


def _check_files(cfg: CfgNode, resume: bool) -> None:
    if os.path.exists(cfg.OUTPUT_DIR) and not os.path.isdir(cfg.OUTPUT_DIR):
        raise ConfigError(f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}, which is not a folder")
    weights = cfg.MODEL.WEIGHTS.split("?")[0]
    continues = resume and has_training_state(cfg.OUTPUT_DIR)
    if weights and "://" not in weights and not os.path.isfile(weights) and not continues:
        raise ConfigError(f"MODEL.WEIGHTS is {cfg.MODEL.WEIGHTS!r}: no such file")
