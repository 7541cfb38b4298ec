"""Images for digit detection: real handwritten digits drawn over crops of real photographs.

The photographs are among those that scikit-learn and scikit-image carry in their packages. Train and test images
share neither a photograph nor a digit.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from .digits import INSTALL_HINT, Digits
from .errors import DatasetError

# (package, folders and file): photographs behind the digits.
PHOTOS = {
    "train": (
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
        ("skimage", "data/coffee.png"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/rocket.jpg"),
        ("skimage", "data/gravel.png"),
        ("skimage", "data/grass.png"),
    ),
    "test": (
        ("skimage", "data/chelsea.png"),
        ("skimage", "data/brick.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
    ),
}
PLACING_ATTEMPTS = 50
# Of red, green and blue.
LUMINANCE = np.array([0.299, 0.587, 0.114])

# (x, y, width, height) in px.
Box = Tuple[int, int, int, int]


@dataclass(frozen=True)
class SceneSettings:
    """What the images look like; lengths in px.

    Attributes:
        size: side of the square image.
        max_digits: an image has 1 to this many digits.
        heights: smallest and largest height of a digit.
        photo_crops: smallest and largest side of the square that is cut from a photograph.
        max_iou: largest intersection over union of two boxes.
        min_contrast: smallest difference of luminance (0 to 255) between ink and the photograph's mean below it,
            at most 127.
    """

    size: int = 128
    max_digits: int = 4
    heights: Tuple[int, int] = (20, 64)
    photo_crops: Tuple[int, int] = (128, 300)
    max_iou: float = 0.02
    min_contrast: float = 90.0


@dataclass(frozen=True)
class PlacedDigit:
    """A digit in an image.

    Attributes:
        box: tight around the ink.
        label: 0 to 9.
        row: position of the digit in scikit-learn's set.
    """

    box: Box
    label: int
    row: int


def load_photos(split: str) -> List[Image.Image]:
    """The photographs of "train" or "test", RGB.

    Raises:
        DatasetError: a package is missing, or does not carry the photograph.
    """
    photos = []
    for package, path in PHOTOS[split]:
        try:
            file = importlib.resources.files(package).joinpath(path)
            with file.open("rb") as stream:
                photos.append(Image.open(stream).convert("RGB"))
        except ModuleNotFoundError:
            raise DatasetError(f"the digits_det datasets need {package}: {INSTALL_HINT}") from None
        except OSError as error:
            raise DatasetError(
                f"the digits_det datasets need {path} of {package}, which cannot be read: {error}"
            ) from None
    return photos


def draw_scene(
    rng: np.random.Generator, photos: Sequence[Image.Image], digits: Digits, settings: SceneSettings
) -> Tuple[np.ndarray, List[PlacedDigit]]:
    """One image and its digits.

    Args:
        rng: the only source of randomness.
        photos: to crop the background from.
        digits: to choose from.
        settings: sizes and contrast.

    Returns:
        (size, size, 3) uint8 RGB, and the digits in it, at least one.
    """
    canvas = _background(rng, photos, settings).astype(np.float32)
    placed: List[PlacedDigit] = []
    for _ in range(int(rng.integers(1, settings.max_digits + 1))):
        index = int(rng.integers(len(digits.labels)))
        alpha = _ink(rng, digits.images[index], settings)
        corner = _free_corner(rng, alpha.shape, [digit.box for digit in placed], settings)
        if corner is None:
            continue
        x, y = corner
        height, width = alpha.shape
        _paint(rng, canvas[y : y + height, x : x + width], alpha, settings)
        label, row = int(digits.labels[index]), int(digits.rows[index])
        placed.append(PlacedDigit((x, y, width, height), label, row))
    return np.rint(canvas).astype(np.uint8), placed


def _background(rng: np.random.Generator, photos: Sequence[Image.Image], settings: SceneSettings) -> np.ndarray:
    """A square crop of a photograph at (size, size, 3), mirrored half of the time."""
    photo = photos[int(rng.integers(len(photos)))]
    low, high = settings.photo_crops
    side = int(rng.integers(low, min(high, *photo.size) + 1))
    left, top = (int(rng.integers(length - side + 1)) for length in photo.size)
    crop = photo.resize(
        (settings.size, settings.size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(crop)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _ink(rng: np.random.Generator, digit: np.ndarray, settings: SceneSettings) -> np.ndarray:
    """Opacity (height, width), 0 to 1, of an 8x8 digit drawn at a random size, cut to its ink."""
    low, high = settings.heights
    height = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    aspect = rng.uniform(0.8, 1.1)
    digit = digit[:, digit.any(axis=0)][digit.any(axis=1)]
    digit = np.pad(digit, 1)
    rows, columns = digit.shape
    unit = height / (rows - 2)
    scaled = Image.fromarray(digit).resize(
        (max(round(unit * aspect * columns), 1), max(round(unit * rows), 1)), Image.Resampling.BICUBIC
    )
    # A pen's edge is sharper than 8x8 px scaled up.
    alpha = np.clip((np.asarray(scaled, np.float32) / 255 - 0.3) / 0.3, 0, 1)
    ys, xs = np.flatnonzero((alpha > 0.5).any(axis=1)), np.flatnonzero((alpha > 0.5).any(axis=0))
    return alpha[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]


def _free_corner(
    rng: np.random.Generator, shape: Tuple[int, int], boxes: Sequence[Box], settings: SceneSettings
) -> Optional[Tuple[int, int]]:
    """(x, y) for a box of (height, width) that hardly touches the others; None where no place was found."""
    height, width = shape
    for _ in range(PLACING_ATTEMPTS):
        x, y = int(rng.integers(settings.size - width + 1)), int(rng.integers(settings.size - height + 1))
        if all(_iou((x, y, width, height), box) <= settings.max_iou for box in boxes):
            return x, y
    return None


def _iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def _paint(rng: np.random.Generator, patch: np.ndarray, alpha: np.ndarray, settings: SceneSettings) -> None:
    """Draws ink into ``patch`` (height, width, 3), in place."""
    below = float((patch @ LUMINANCE).mean())
    opacity = alpha[:, :, None] * rng.uniform(0.8, 1.0)
    patch += opacity * (_colour(rng, below, settings.min_contrast) - patch)


def _colour(rng: np.random.Generator, below: float, min_contrast: float) -> np.ndarray:
    """A random colour (3,) whose luminance is at least ``min_contrast`` away from ``below``."""
    colours = rng.uniform(0, 255, (64, 3))
    contrast = np.abs(colours @ LUMINANCE - below)
    enough = np.flatnonzero(contrast >= min_contrast)
    if len(enough):
        return colours[enough[0]]
    # A colour far from a middle grey is rare: mix the best one with white or black.
    colour = colours[contrast.argmax()]
    luminance = float(colour @ LUMINANCE)
    end, sign = (255, 1) if below < 127.5 else (0, -1)
    share = (below + sign * min_contrast - luminance) / (end - luminance)
    return colour + share * (end - colour)
