"""The digit detection set: COCO-format files that are made on this machine, in seconds, at their first use."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from typing import Any, Dict, List

import numpy as np
from detectron2.data.datasets import load_coco_json
from PIL import Image

from .catalog import ROOT_VARIABLE, register
from .digit_scenes import PHOTOS, SceneSettings, draw_scene, load_photos
from .digits import CLASSES, load_split
from .errors import DatasetError

FOLDER = "fbnet_plugin_digits_det"
# Raise it when the same settings begin to give other images.
VERSION = 1
SPLITS = ("train", "test")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DigitsDetSettings:
    """What determines the files, besides the versions of the libraries that draw and compress.

    Attributes:
        train_images, test_images: how many.
        seed: of all randomness.
        scene: what an image looks like.
    """

    train_images: int = 1000
    test_images: int = 200
    seed: int = 0
    scene: SceneSettings = SceneSettings()


DEFAULT = DigitsDetSettings()


def register_digits_det(name: str, root: str, split: str, settings: DigitsDetSettings = DEFAULT) -> None:
    """Registers the digit detection set; its files are made below ``root`` when it is first loaded.

    Args:
        name: of the dataset.
        root: folder of all datasets.
        split: "train" or "test". They share neither a photograph nor a digit.
        settings: other settings lie in another folder.

    Raises:
        DatasetError: the name is taken by another dataset.
    """
    folder = files_folder(root, settings)
    register(
        name,
        functools.partial(_load, name, root, split, settings),
        json_file=os.path.join(folder, f"{split}.json"),
        image_root=os.path.join(folder, split),
        thing_classes=CLASSES,
        evaluator_type="coco",
    )


def files_folder(root: str, settings: DigitsDetSettings = DEFAULT) -> str:
    """Where ``make_files`` puts the files of these settings."""
    digest = hashlib.sha256(repr((settings, PHOTOS)).encode()).hexdigest()[:10]
    return os.path.join(root, FOLDER, f"v{VERSION}-{digest}")


def make_files(root: str, settings: DigitsDetSettings = DEFAULT) -> str:
    """Makes ``{train,test}.json`` and ``{train,test}/*.png`` unless they are there; returns their folder.

    The folder appears complete or not at all, also when several processes make it at once.

    Raises:
        DatasetError: a package with digits or photographs is missing, or the folder cannot be written.
    """
    folder = files_folder(root, settings)
    if os.path.isdir(folder):
        return folder
    logger.info("Drawing the digit detection set into %s", folder)
    parent, version = os.path.split(folder)
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=parent) as scratch:
            made = os.path.join(scratch, version)
            for number, split in enumerate(SPLITS):
                _make_split(made, split, number, settings)
            _publish(made, folder)
    except OSError as error:
        raise DatasetError(
            f"cannot write the digit detection set to {os.path.abspath(folder)}: {error} (set the environment "
            f"variable {ROOT_VARIABLE} to a folder that can be written)"
        ) from error
    return folder


def _load(name: str, root: str, split: str, settings: DigitsDetSettings) -> List[Dict[str, Any]]:
    folder = make_files(root, settings)
    return load_coco_json(os.path.join(folder, f"{split}.json"), os.path.join(folder, split), name)


def _publish(made: str, folder: str) -> None:
    """Moves a complete folder to its place, or leaves the one that another process has put there."""
    try:
        os.replace(made, folder)
    except OSError:
        if not os.path.isdir(folder):
            raise


def _make_split(folder: str, split: str, number: int, settings: DigitsDetSettings) -> None:
    """Writes one split's images and annotations; image i depends on the settings, the split and i alone."""
    photos, digits = load_photos(split), load_split(split)
    os.makedirs(os.path.join(folder, split))
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for index in range(settings.train_images if split == "train" else settings.test_images):
        rng = np.random.default_rng([settings.seed, number, index])
        pixels, placed = draw_scene(rng, photos, digits, settings.scene)
        image_id, file_name = index + 1, f"{index + 1:06d}.png"
        Image.fromarray(pixels).save(os.path.join(folder, split, file_name), compress_level=1)
        height, width = pixels.shape[:2]
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for digit in placed:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": digit.label + 1,
                    "bbox": list(digit.box),
                    "area": digit.box[2] * digit.box[3],
                    "iscrowd": 0,
                    "load_digits_row": digit.row,
                }
            )
    content = {
        "info": {"description": f"Handwritten digits over photographs, {split}", "version": str(VERSION)},
        "licenses": [],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)],
        "images": images,
        "annotations": annotations,
    }
    with open(os.path.join(folder, f"{split}.json"), "w", encoding="utf-8") as file:
        json.dump(content, file)
