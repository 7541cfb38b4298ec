"""What happens to a classifier's images in training and in testing: torchvision's transforms of PIL images.

All random numbers come from PyTorch's global generator. Pixels are interpolated bilinearly, as in torchvision's
reference recipe, whose results these are to the pixel.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode

# From a PIL image to a PIL image.
Transform = Callable[[Image.Image], Image.Image]

SAMPLING_ATTEMPTS = 10
_FLIP_METHODS = {"horizontal": Image.Transpose.FLIP_LEFT_RIGHT, "vertical": Image.Transpose.FLIP_TOP_BOTTOM}
FLIPS = ("none", *_FLIP_METHODS)
RAND_AUGMENT_LARGEST = 30  # of the magnitudes, which are places in a list of 31 strengths
_POLICIES = {
    "autoaugment": AutoAugmentPolicy.IMAGENET,
    "autoaugment-cifar10": AutoAugmentPolicy.CIFAR10,
    "autoaugment-svhn": AutoAugmentPolicy.SVHN,
}
AUTO_AUGMENTS = (*_POLICIES, "randaugment", "trivialaugment")


def training_transform(
    size: int, area: Sequence[float], aspect: Sequence[float], flip: str = "none", augment: Optional[Transform] = None
) -> Transform:
    """Random resized crop, random flip, augmentation.

    Args:
        size: px of the square that comes out.
        area: smallest and largest area of the crop as fractions of the image's, in (0, 1].
        aspect: smallest and largest width / height of the crop.
        flip: of ``FLIPS``.
        augment: what ``auto_augment`` gives; None for none.
    """
    steps: List[Transform] = [RandomResizedCrop(size, area, aspect)]
    if flip != "none":
        steps.append(RandomFlip(_FLIP_METHODS[flip]))
    if augment is not None:
        steps.append(augment)
    return transforms.Compose(steps)


def testing_transform(size: int, resize: int) -> Transform:
    """The short side resized to ``resize`` px, the central square of ``size`` px cut out.

    An image that is smaller than the square gets black borders.
    """
    return transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])


def auto_augment(name: str, fill: Sequence[int], *, operations: int = 2, magnitude: int = 9) -> Transform:
    """A learned or random choice of operations on colour and geometry.

    Args:
        name: of ``AUTO_AUGMENTS``: AutoAugment (arXiv:1805.09501) with the policy found on ImageNet, CIFAR-10 or SVHN,
            RandAugment (arXiv:1909.13719), or TrivialAugment (arXiv:2103.10158), wide.
        fill: colour of the places that a moved image leaves empty, one value per channel, 0 to 255.
        operations, magnitude: of RandAugment: how many per image, and how strong (0 to ``RAND_AUGMENT_LARGEST``).
    """
    more: Dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR, "fill": list(fill)}
    if name == "randaugment":
        return _RandAugment(operations, magnitude, RAND_AUGMENT_LARGEST + 1, **more)
    if name == "trivialaugment":
        return _TrivialAugment(**more)
    return _AutoAugment(_POLICIES[name], **more)


class RandomResizedCrop(transforms.RandomResizedCrop):
    """torchvision's, for PIL images alone: the same draws and the same pixels in half the time.

    Of an image of 32 px torchvision's takes longer to choose the rectangle than to cut it out and to scale it.
    """

    def __init__(self, size: int, area: Sequence[float], aspect: Sequence[float]):
        """
        Args:
            size: px of the square that comes out.
            area: smallest and largest area of the rectangle as fractions of the image's, in (0, 1].
            aspect: smallest and largest width / height of the rectangle.
        """
        super().__init__(size, tuple(area), tuple(aspect))
        self._log_ratio = torch.tensor(self.ratio).log().tolist()
        self._real, self._whole = torch.empty(1), torch.empty(1, dtype=torch.int64)  # what is drawn

    def forward(self, image: Image.Image) -> Image.Image:
        return image.crop(self.rectangle(*image.size)).resize(self.size, Image.Resampling.BILINEAR)

    def rectangle(self, width: int, height: int) -> Tuple[int, int, int, int]:
        """A random one in an image of (width, height): left, top, right, bottom in px."""
        for _ in range(SAMPLING_ATTEMPTS):
            area = width * height * self._real.uniform_(*self.scale).item()
            aspect = self._real.uniform_(*self._log_ratio).exp_().item()
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                y = int(self._whole.random_(0, height - h + 1).item())
                x = int(self._whole.random_(0, width - w + 1).item())
                return x, y, x + w, y + h
        # The largest central one whose aspect is allowed.
        w = min(width, max(round(height * self.ratio[1]), 1))
        h = min(height, max(round(width / self.ratio[0]), 1))
        x, y = (width - w) // 2, (height - h) // 2
        return x, y, x + w, y + h


class RandomFlip(torch.nn.Module):
    """torchvision's, with the same draws, of PIL images; every second image is flipped."""

    def __init__(self, method: Image.Transpose):
        super().__init__()
        self.method, self._real = method, torch.empty(1)

    def forward(self, image: Image.Image) -> Image.Image:
        return image.transpose(self.method) if self._real.uniform_().item() < 0.5 else image


class _SpaceOnce:
    """Keeps the table of strengths, which torchvision makes anew for each operation and which takes as long as one."""

    def _augmentation_space(self, *key: Any) -> Dict[str, Any]:
        spaces: Dict[Tuple[Any, ...], Dict[str, Any]] = self.__dict__.setdefault("_spaces", {})
        if key not in spaces:
            spaces[key] = super()._augmentation_space(*key)
        return spaces[key]


class _AutoAugment(_SpaceOnce, transforms.AutoAugment):
    pass


class _RandAugment(_SpaceOnce, transforms.RandAugment):
    pass


class _TrivialAugment(_SpaceOnce, transforms.TrivialAugmentWide):
    pass
