"""From a classification dataset's dict to what ``ImageClassifier`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Tuple, Union

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from PIL import Image

from ..arch import get_arch
from ..arch.spec import usual_test_resize
from .augmentation import CenterCrop, RandomResizedCrop, ResizeShortSide
from .errors import DatasetError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

FLIPS = ("none", "horizontal", "vertical")


class ClassificationMapper:
    """Reads one image and makes the square that a classifier sees.

    Training: random resized crop, random flip. Testing: short side resized, central square cut out.
    """

    @configurable
    def __init__(
        self, is_train: bool = True, *, augmentations: List[Union[T.Augmentation, T.Transform]], image_format: str
    ):
        """
        Args:
            is_train: for training; the ``augmentations`` say what that means.
            augmentations: applied to the (H, W, C) image in this order.
            image_format: channel order that Detectron2 knows, such as "RGB" or "BGR".
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> Dict[str, Any]:
        augmentations = training_augmentations(cfg) if is_train else testing_augmentations(cfg)
        return {"is_train": is_train, "augmentations": augmentations, "image_format": cfg.INPUT.FORMAT}

    def __call__(self, dataset_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Args:
            dataset_dict: ``file_name``, ``label``, ``image_id`` and, where the image is not a file, ``image``:
                (H, W, 3) uint8 RGB.

        Returns:
            The dict with ``image``: (C, size, size) uint8 in the mapper's channel order, and the original
            image's ``height`` and ``width`` in px.

        Raises:
            DatasetError: the image cannot be read.
        """
        image = self._read(dataset_dict)
        height, width = image.shape[:2]
        augmented = T.AugInput(image)
        self.augmentations(augmented)
        pixels = torch.from_numpy(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))  # (H, W, C) -> (C, H, W)
        return {**dataset_dict, "image": pixels, "height": height, "width": width}

    def _read(self, dataset_dict: Dict[str, Any]) -> np.ndarray:
        """(H, W, C), turned upright as its EXIF data says."""
        if "image" in dataset_dict:
            embedded = Image.fromarray(dataset_dict["image"])
            return detection_utils.convert_PIL_to_numpy(embedded, self.image_format)
        file_name = dataset_dict["file_name"]
        try:
            return detection_utils.read_image(file_name, self.image_format)
        except Exception as error:  # a broken file makes decoders raise almost anything
            raise unreadable(dataset_dict, error) from error


class DetectionMapper(DatasetMapper):
    """Detectron2's ``DatasetMapper``; an image that cannot be read is an error that names it."""

    def __call__(self, dataset_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Raises:
            DatasetError: the image cannot be read.
        """
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError) as error:  # what Pillow raises for files that are missing, cut or no images
            raise unreadable(dataset_dict, error) from error


def unreadable(dataset_dict: Dict[str, Any], error: BaseException) -> DatasetError:
    """The error for an image that cannot be read."""
    entry = ", ".join(f"{key} {dataset_dict[key]!r}" for key in ("image_id", "label") if key in dataset_dict)
    return DatasetError(f"cannot read the image {dataset_dict.get('file_name')} ({entry}): {error}")


def training_augmentations(cfg: CfgNode) -> List[T.Augmentation]:
    """Random resized crop and random flip, from INPUT.CLASSIFICATION and INPUT.RANDOM_FLIP.

    Raises:
        ValueError: a key has a value that is not accepted.
        ArchError: TRAIN_SIZE is 0 and MODEL.FBNET.ARCH is no architecture.
    """
    keys = cfg.INPUT.CLASSIFICATION
    size = keys.TRAIN_SIZE or get_arch(cfg.MODEL.FBNET.ARCH).resolution
    augmentations: List[T.Augmentation] = [RandomResizedCrop(size, keys.CROP_AREA, keys.CROP_ASPECT)]
    flip = cfg.INPUT.RANDOM_FLIP
    if flip not in FLIPS:
        raise ValueError(f"INPUT.RANDOM_FLIP: got {flip!r}, expected one of {', '.join(FLIPS)}")
    if flip != "none":
        augmentations.append(T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical"))
    return augmentations


def testing_augmentations(cfg: CfgNode) -> List[T.Augmentation]:
    """Resize and central crop, from INPUT.CLASSIFICATION.

    Raises:
        ArchError: TEST_SIZE is 0 and MODEL.FBNET.ARCH is no architecture.
    """
    size, resize = testing_sizes(cfg)
    return [ResizeShortSide(resize), CenterCrop(size)]


def testing_sizes(cfg: CfgNode) -> Tuple[int, int]:
    """(px of the central square, px of the short side before it).

    A TEST_SIZE of 0 is the architecture's resolution. A TEST_RESIZE of 0 is the architecture's published value,
    or ``ceil(TEST_SIZE * 256 / 224 / 8) * 8`` where a TEST_SIZE is given.
    """
    keys = cfg.INPUT.CLASSIFICATION
    if keys.TEST_SIZE:
        return keys.TEST_SIZE, keys.TEST_RESIZE or usual_test_resize(keys.TEST_SIZE)
    arch = get_arch(cfg.MODEL.FBNET.ARCH)
    return arch.resolution, keys.TEST_RESIZE or arch.test_resize()
