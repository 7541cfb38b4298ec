"""Real images, as the test mapper of a config makes them."""

from __future__ import annotations

import importlib.resources
import os
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..data import ClassificationMapper, DatasetError, DetectionMapper
from ..data.catalog import spread
from ..data.image_folder import IMAGE_SUFFIXES, images_below
from .errors import ExportInputError

# Photographs that scikit-image carries in its package.
BUNDLED = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


class Samples(NamedTuple):
    """Images (C, H, W) uint8, and where they come from."""

    images: List[torch.Tensor]
    origin: str


def test_mapper(cfg: CfgNode) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    """What turns an entry of a dataset into a model's input in a test."""
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        return ClassificationMapper(cfg, False)
    return DetectionMapper(cfg, False)


def sample_images(cfg: CfgNode, paths: Sequence[str] = (), count: int = 4) -> Samples:
    """Images to check an export on: named ones, else of the test sets, else photographs that are installed.

    Args:
        cfg: its datasets are registered.
        paths: see ``named_images``; all of them are taken, of folders at most ``count``.
        count: how many to take where none are named.

    Raises:
        ExportInputError: there is no image anywhere.
        DatasetError: one cannot be read.
    """
    if paths:
        return named_images(cfg, paths, count)
    for name in cfg.DATASETS.TEST:
        try:
            entries = spread(DatasetCatalog.get(name), count)
        except (KeyError, DatasetError, OSError):  # unknown, or not on this machine
            continue
        if entries:
            return Samples(_read(cfg, entries), f"{len(entries)} images of {name}")
    folder = _bundled_folder()
    files = [os.path.join(folder, name) for name in BUNDLED[:count] if os.path.isfile(os.path.join(folder, name))]
    if not files:
        tests = ", ".join(cfg.DATASETS.TEST) or "which is empty"
        raise ExportInputError(
            f"no images to check the file on: DATASETS.TEST ({tests}) is not on this machine and scikit-image is not "
            "installed; name some with --sample-images"
        )
    return Samples(_read(cfg, [{"file_name": file} for file in files]), f"{len(files)} photographs of scikit-image")


def named_images(cfg: CfgNode, names: Sequence[str], count: int) -> Samples:
    """Images of files, folders and datasets.

    Args:
        cfg: its datasets are registered.
        names: each a file, a folder with images in it or below it, or a registered dataset.
        count: at most that many of each folder and dataset, evenly spread over it.

    Raises:
        ExportInputError: a name is none of these, or a folder has no images.
        DatasetError: an image or a dataset cannot be read.
    """
    entries: List[Dict[str, Any]] = []
    for name in names:
        if os.path.isdir(name):
            found = spread(images_below(name), count)
            if not found:
                accepted = ", ".join(IMAGE_SUFFIXES)
                raise ExportInputError(f"{name}: no images in this folder (files that end in {accepted})")
            entries += [{"file_name": file} for file in found]
        elif os.path.isfile(name):
            entries.append({"file_name": name})
        elif name in DatasetCatalog:
            entries += spread(DatasetCatalog.get(name), count)
        else:
            raise ExportInputError(f"{name}: no such file, folder or dataset")
    return Samples(_read(cfg, entries), f"{len(entries)} images of {', '.join(names[:3])}{', ...' * (len(names) > 3)}")


def _read(cfg: CfgNode, entries: Sequence[Dict[str, Any]]) -> List[torch.Tensor]:
    mapper = test_mapper(cfg)
    return [mapper(dict(entry))["image"] for entry in entries]


def _bundled_folder() -> str:
    try:
        return str(importlib.resources.files("skimage") / "data")
    except ModuleNotFoundError:
        return ""
