"""Image classification from folders: one folder of images per class."""

from __future__ import annotations

import functools
import os
from typing import Any, Dict, List, Optional

from detectron2.data import MetadataCatalog

from .catalog import missing, register
from .errors import DatasetError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")


def register_image_folder(name: str, root: str) -> None:
    """Registers ``root/<class>/<image>`` as a classification dataset; nothing is read before its first use.

    Classes are the sorted names of the folders in ``root`` (hidden ones left out), labels their positions.
    An entry has ``file_name``, ``label`` (int) and ``image_id`` (int, position in the dataset). The
    classes' names are the metadata's ``thing_classes`` once the dataset has been loaded.

    Args:
        name: of the dataset.
        root: folder of the class folders.

    Raises:
        DatasetError: the name is taken by another dataset.
    """
    load = functools.partial(load_image_folder, name, root)
    register(name, load, image_root=root, evaluator_type="image_classification")


def load_image_folder(name: str, root: str) -> List[Dict[str, Any]]:
    """The dataset dicts of ``register_image_folder``.

    Raises:
        DatasetError: ``root`` is missing or has no class folders, or a class folder has no images.
    """
    classes = class_folders(name, root)
    dicts: List[Dict[str, Any]] = []
    for label, class_name in enumerate(classes):
        folder = os.path.join(root, class_name)
        files = images_below(folder)
        if not files:
            raise DatasetError(
                f"dataset {name!r}: the class folder {folder} has no images (files that end in "
                f"{', '.join(IMAGE_SUFFIXES)})"
            )
        first = len(dicts)
        dicts += [{"file_name": file, "label": label, "image_id": first + i} for i, file in enumerate(files)]
    MetadataCatalog.get(name).set(thing_classes=classes)
    return dicts


def class_folders(name: str, root: str) -> List[str]:
    """Names of the classes in ``root``, in the order of their labels.

    Raises:
        DatasetError: ``root`` is missing or has no folders in it.
    """
    if not os.path.isdir(root):
        raise missing(name, "folder", root)
    classes = _folders(root)
    if not classes:
        raise DatasetError(f"dataset {name!r}: {root} has no class folders; expected <class name>/<image file> in it")
    return classes


def known_classes(name: str) -> Optional[List[str]]:
    """Class names of a registered dataset as far as they can be told without loading it, else None."""
    metadata = MetadataCatalog.get(name)
    classes = metadata.get("thing_classes")
    root = metadata.get("image_root")
    if classes is None and metadata.get("evaluator_type") == "image_classification" and root and os.path.isdir(root):
        return _folders(root) or None
    return classes


def _folders(root: str) -> List[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def images_below(folder: str) -> List[str]:
    """Paths of the images in ``folder`` and below it, sorted."""
    found = []
    for where, _, names in os.walk(folder, followlinks=True):
        found += [os.path.join(where, name) for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return sorted(found)
