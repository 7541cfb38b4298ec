"""Detection sets in COCO's format that a config names."""

from __future__ import annotations

import functools
import os
from typing import Any, Dict, List

from detectron2.data.datasets import load_coco_json

from .catalog import missing, register


def register_coco_json(name: str, json_file: str, image_root: str) -> None:
    """Registers a detection set in COCO's format; nothing is read before its first use.

    The metadata has ``thing_classes`` once the set has been loaded.

    Args:
        name: of the dataset.
        json_file: path of the annotations.
        image_root: folder that the annotations' file names are relative to.

    Raises:
        DatasetError: the name is taken by another dataset.
    """
    load = functools.partial(_load, name, json_file, image_root)
    register(name, load, json_file=json_file, image_root=image_root, evaluator_type="coco")


def _load(name: str, json_file: str, image_root: str) -> List[Dict[str, Any]]:
    if not os.path.isfile(json_file):
        raise missing(name, "file", json_file)
    if not os.path.isdir(image_root):
        raise missing(name, "folder", image_root)
    return load_coco_json(json_file, image_root, name)
