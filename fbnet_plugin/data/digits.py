"""Real handwritten digits that come with scikit-learn: 1797 images of 8x8 px, no download.

The set is the test part of UCI's "Optical Recognition of Handwritten Digits": 13 people wrote it one after the
other. The last fifth of each class in that order is the test split, so most of its writers are new to a model that
was trained on the rest.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, List, NamedTuple

import numpy as np

from .catalog import register
from .errors import DatasetError

CLASSES = [str(digit) for digit in range(10)]
TEST_SHARE = 0.2
INSTALL_HINT = "pip install 'fbnet_plugin[demo]'"


class Digits(NamedTuple):
    """Some of the digits.

    Attributes:
        images: (N, 8, 8) uint8, 0 is paper and 255 is ink.
        labels: (N,) int64.
        rows: (N,) int64, positions in scikit-learn's set.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def register_digits(name: str, split: str) -> None:
    """Registers the digits as a classification dataset of 8x8 px RGB images in memory.

    Args:
        name: of the dataset.
        split: "train" (1438 images) or "test" (359).

    Raises:
        DatasetError: the name is taken by another dataset.
    """
    register(
        name,
        functools.partial(load_digit_dicts, split),
        thing_classes=CLASSES,
        source=f"sklearn.datasets.load_digits, {split} split",
        evaluator_type="image_classification",
    )


def load_digit_dicts(split: str) -> List[Dict[str, Any]]:
    """Dataset dicts with ``image`` (8, 8, 3) uint8 RGB, ``label``, ``image_id`` and a ``file_name`` "source[row]".

    Raises:
        DatasetError: scikit-learn is not installed.
    """
    digits = load_split(split)
    return [
        {
            "file_name": f"sklearn.datasets.load_digits[{row}]",
            "label": label,
            "image_id": row,
            "image": np.repeat(image[:, :, None], 3, axis=2),
        }
        for image, label, row in zip(digits.images, digits.labels.tolist(), digits.rows.tolist())
    ]


def load_split(split: str) -> Digits:
    """The train or the test digits; together they are the whole set, without a common image.

    Args:
        split: "train" or "test".

    Raises:
        DatasetError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DatasetError(f"the digits datasets need scikit-learn: {INSTALL_HINT}") from None
    raw = load_digits()
    is_test = np.zeros(len(raw.target), bool)
    for digit in range(10):
        rows = np.flatnonzero(raw.target == digit)
        is_test[rows[-round(len(rows) * TEST_SHARE) :]] = True
    rows = np.flatnonzero(is_test if split == "test" else ~is_test)
    images = np.rint(raw.images[rows] * (255 / 16)).astype(np.uint8)  # scikit-learn's ink is 0 to 16
    return Digits(images, raw.target[rows].astype(np.int64), rows)
