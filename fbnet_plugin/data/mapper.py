"""From a classification dataset's dict to what ``ImageClassifier`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..arch import get_arch
from ..arch.spec import usual_test_resize
from .augmentation import (
    AUTO_AUGMENTS,
    FLIPS,
    RAND_AUGMENT_LARGEST,
    Transform,
    auto_augment,
    testing_transform,
    training_transform,
)
from .errors import DatasetError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Channel order of the result: Pillow's mode of the image that is augmented.
FORMATS = {"RGB": "RGB", "BGR": "RGB", "L": "L"}

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ClassificationMapper:
    """Reads one image and makes the square that a classifier sees.

    Training: random resized crop, random flip, augmentation. Testing: short side resized, central square cut out.
    """

    @configurable
    def __init__(self, is_train: bool = True, *, transform: Transform, image_format: str):
        """
        Args:
            is_train: for training; ``transform`` says what that means.
            transform: of a PIL image, to the one that becomes the tensor.
            image_format: of ``FORMATS``: "RGB", "BGR" or "L". What is augmented is RGB also where the result is BGR.
        """
        self.is_train = is_train
        self.transform = transform
        self.image_format = image_format

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> Dict[str, Any]:
        """
        Raises:
            DatasetError: a key has a value that is not accepted.
            ArchError: a size is 0 and MODEL.FBNET.ARCH is no architecture.
        """
        check_augmentation(cfg)
        transform = _training(cfg) if is_train else testing_transform(*testing_sizes(cfg))
        return {"is_train": is_train, "transform": transform, "image_format": cfg.INPUT.FORMAT}

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
        width, height = image.size
        return {**dataset_dict, "image": self._tensor(self.transform(image)), "height": height, "width": width}

    def _read(self, dataset_dict: Dict[str, Any]) -> Image.Image:
        """The image, decoded and upright, in the mode that is augmented."""
        mode = FORMATS[self.image_format]
        if "image" in dataset_dict:
            return _converted(Image.fromarray(dataset_dict["image"]), mode)
        try:
            return read_image(dataset_dict["file_name"], mode)
        except Exception as error:  # a broken file makes decoders raise almost anything
            raise unreadable(dataset_dict, error) from error

    def _tensor(self, image: Image.Image) -> torch.Tensor:
        """(C, H, W) uint8 in the mapper's channel order."""
        pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)  # (H, W, C)
        if self.image_format == "BGR":
            pixels = pixels[:, :, ::-1]
        return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def read_image(file_name: str, mode: str) -> Image.Image:
    """A file's image, decoded, turned upright as its EXIF data says, in one of Pillow's modes.

    Raises:
        Exception: of any kind, from Pillow's decoders, for a file that cannot be read.
    """
    with PathManager.open(file_name, "rb") as file:
        image = Image.open(file)
        try:
            method = _UPRIGHT.get(image.getexif().get(_ORIENTATION))
        except Exception:  # EXIF data that nobody can parse are no reason to do without the image
            method = None
        image.load()
    return _converted(image if method is None else image.transpose(method), mode)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """``image`` itself where it has the mode already, of which Pillow would make a copy."""
    return image if image.mode == mode else image.convert(mode)


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


def check_augmentation(cfg: CfgNode) -> None:
    """Whether the keys that ``ClassificationMapper`` reads can be used.

    Raises:
        DatasetError: a key has a value that is not accepted.
    """
    keys = cfg.INPUT.CLASSIFICATION
    _require_one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, list(FORMATS))
    _require_one_of("INPUT.RANDOM_FLIP", cfg.INPUT.RANDOM_FLIP, FLIPS)
    _require_one_of("INPUT.CLASSIFICATION.AUTO_AUGMENT", keys.AUTO_AUGMENT, ("", *AUTO_AUGMENTS))
    area, aspect, magnitude = keys.CROP_AREA, keys.CROP_ASPECT, keys.RAND_AUGMENT_MAGNITUDE
    _require("CROP_AREA", area, _is_range(area) and area[1] <= 1, "0 < smallest <= largest <= 1")
    _require("CROP_ASPECT", aspect, _is_range(aspect), "0 < smallest <= largest")
    _require("RAND_AUGMENT_OPS", keys.RAND_AUGMENT_OPS, keys.RAND_AUGMENT_OPS >= 1, "1 or more")
    in_range = 0 <= magnitude <= RAND_AUGMENT_LARGEST
    _require("RAND_AUGMENT_MAGNITUDE", magnitude, in_range, f"0 to {RAND_AUGMENT_LARGEST}")
    for name in ("TRAIN_SIZE", "TEST_SIZE", "TEST_RESIZE"):
        _require(name, keys[name], keys[name] >= 0, "px, or 0 for the architecture's")
    if keys.AUTO_AUGMENT:
        _fill(cfg)


def _is_range(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in values)
    return numbers and len(values) == 2 and 0 < values[0] <= values[1]


def _require(name: str, value: Any, accepted: bool, expected: str) -> None:
    if not accepted:
        raise DatasetError(f"INPUT.CLASSIFICATION.{name}: got {value!r}, expected {expected}")


def _require_one_of(key: str, value: Any, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise DatasetError(f"{key}: got {value!r}, expected one of {', '.join(one or repr(one) for one in accepted)}")


def _training(cfg: CfgNode) -> Transform:
    keys = cfg.INPUT.CLASSIFICATION
    size = keys.TRAIN_SIZE or get_arch(cfg.MODEL.FBNET.ARCH).resolution
    augment = None
    if keys.AUTO_AUGMENT:
        strength = {"operations": keys.RAND_AUGMENT_OPS, "magnitude": keys.RAND_AUGMENT_MAGNITUDE}
        augment = auto_augment(keys.AUTO_AUGMENT, _fill(cfg), **strength)
    return training_transform(size, keys.CROP_AREA, keys.CROP_ASPECT, cfg.INPUT.RANDOM_FLIP, augment)


def _fill(cfg: CfgNode) -> List[int]:
    """MODEL.PIXEL_MEAN in the order of the image that is augmented: what the model sees as nothing."""
    channels, mean = len(FORMATS[cfg.INPUT.FORMAT]), list(cfg.MODEL.PIXEL_MEAN)
    if len(mean) != channels or not all(0 <= value <= 255 for value in mean):
        expected = f"{channels} values of 0 to 255, one per channel of INPUT.FORMAT {cfg.INPUT.FORMAT}"
        raise DatasetError(f"MODEL.PIXEL_MEAN: got {mean!r}, expected {expected} (INPUT.CLASSIFICATION.AUTO_AUGMENT)")
    return [round(value) for value in (mean[::-1] if cfg.INPUT.FORMAT == "BGR" else mean)]


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
