"""The geometry of ImageNet training and testing as Detectron2 augmentations, to the pixel as torchvision does it."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, PadTransform, Transform, TransformList

SAMPLING_ATTEMPTS = 10


class RandomResizedCrop(T.Augmentation):
    """Cuts a random rectangle out of the image and scales it to a square."""

    def __init__(self, size: int, area: Sequence[float], aspect: Sequence[float]):
        """
        Args:
            size: px of the square.
            area: smallest and largest area of the rectangle as fractions of the image's, in (0, 1].
            aspect: smallest and largest width / height of the rectangle.

        Raises:
            ValueError: a range is empty or out of bounds.
        """
        super().__init__()
        if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"crop area: got {area!r}, expected 0 < smallest <= largest <= 1")
        if len(aspect) != 2 or not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"crop aspect: got {aspect!r}, expected 0 < smallest <= largest")
        self.size, self.area, self.aspect = size, (area[0], area[1]), (aspect[0], aspect[1])

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        x, y, crop_width, crop_height = self._sample(height, width)
        crop = CropTransform(x, y, crop_width, crop_height, width, height)
        return TransformList([crop, T.ResizeTransform(crop_height, crop_width, self.size, self.size)])

    def _sample(self, height: int, width: int) -> Tuple[int, int, int, int]:
        """(x, y, width, height) px inside an image of (height, width)."""
        for _ in range(SAMPLING_ATTEMPTS):
            area = height * width * np.random.uniform(*self.area)
            aspect = np.exp(np.random.uniform(*np.log(self.aspect)))
            crop_width, crop_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                x = np.random.randint(width - crop_width + 1)
                y = np.random.randint(height - crop_height + 1)
                return x, y, crop_width, crop_height
        # The largest central rectangle whose aspect is allowed.
        crop_width = min(width, max(round(height * self.aspect[1]), 1))
        crop_height = min(height, max(round(width / self.aspect[0]), 1))
        return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


class ResizeShortSide(T.Augmentation):
    """Scales the image so that its short side is ``size`` px; the long side is rounded down."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if height <= width:
            new_height, new_width = self.size, self.size * width // height
        else:
            new_height, new_width = self.size * height // width, self.size
        return T.ResizeTransform(height, width, new_height, new_width)


class CenterCrop(T.Augmentation):
    """Cuts the central square out of the image; an image that is smaller gets black borders first."""

    def __init__(self, size: int):
        """
        Args:
            size: px of the square.
        """
        super().__init__()
        self.size = size

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        missing_x, missing_y = max(self.size - width, 0), max(self.size - height, 0)
        left, top = missing_x // 2, missing_y // 2
        pad = PadTransform(left, top, missing_x - left, missing_y - top, width, height)
        width, height = width + missing_x, height + missing_y
        x, y = round((width - self.size) / 2), round((height - self.size) / 2)
        return TransformList([pad, CropTransform(x, y, self.size, self.size, width, height)])
