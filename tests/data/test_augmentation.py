"""Training and testing images are torchvision's, to the pixel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchvision.transforms as tv
from PIL import Image

from fbnet_plugin.data import augmentation
from fbnet_plugin.data.augmentation import AUTO_AUGMENTS, auto_augment, training_transform

FILL = [124, 116, 104]
BILINEAR = tv.InterpolationMode.BILINEAR
REFERENCES = {
    "autoaugment": tv.AutoAugment(tv.AutoAugmentPolicy.IMAGENET, BILINEAR, FILL),
    "autoaugment-cifar10": tv.AutoAugment(tv.AutoAugmentPolicy.CIFAR10, BILINEAR, FILL),
    "autoaugment-svhn": tv.AutoAugment(tv.AutoAugmentPolicy.SVHN, BILINEAR, FILL),
    "randaugment": tv.RandAugment(interpolation=BILINEAR, fill=FILL),
    "trivialaugment": tv.TrivialAugmentWide(interpolation=BILINEAR, fill=FILL),
}
FLIPS = {"none": tv.Compose([]), "horizontal": tv.RandomHorizontalFlip(), "vertical": tv.RandomVerticalFlip()}


def photo(height: int, width: int, channels: int = 3) -> Image.Image:
    """Smooth enough for interpolation to matter."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    return Image.fromarray(noise if channels > 1 else noise[:, :, 0]).resize((width, height), Image.Resampling.BICUBIC)


def same_pixels(ours, reference, image: Image.Image, seeds: int) -> int:
    """Compares ``seeds`` results; how many different ones there were."""
    seen = set()
    for seed in range(seeds):
        torch.manual_seed(seed)
        expected = np.asarray(reference(image))
        drawn = torch.get_rng_state()
        torch.manual_seed(seed)
        np.testing.assert_array_equal(np.asarray(ours(image)), expected)
        assert torch.equal(torch.get_rng_state(), drawn)
        seen.add(expected.tobytes())
    return len(seen)


@pytest.mark.parametrize("size", [(64, 64), (51, 77), (90, 47), (33, 200), (300, 31), (20, 21)])
@pytest.mark.parametrize("resize, crop", [(40, 32), (37, 32), (32, 32), (24, 33)])
def test_testing_is_torchvisions(size: tuple, resize: int, crop: int) -> None:
    image = photo(*size)
    reference = tv.Compose([tv.Resize(resize), tv.CenterCrop(crop)])
    same_pixels(augmentation.testing_transform(crop, resize), reference, image, 1)


@pytest.mark.parametrize("size", [(60, 80), (10, 400), (1, 1)])
@pytest.mark.parametrize("flip", FLIPS)
def test_training_is_torchvisions(size: tuple, flip: str) -> None:
    area, aspect = [0.2, 0.6], [0.5, 2.0]
    reference = tv.Compose([tv.RandomResizedCrop(24, area, aspect), FLIPS[flip]])
    different = same_pixels(training_transform(24, area, aspect, flip), reference, photo(*size), 20)
    assert different == 20 or size != (60, 80)


@pytest.mark.parametrize("area, aspect", [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (0.5, 3.0)), ((1, 1), (1, 1))])
def test_rectangles_are_torchvisions(area: tuple, aspect: tuple) -> None:
    crop = augmentation.RandomResizedCrop(24, area, aspect)
    for seed in range(500):
        width, height = np.random.default_rng(seed).integers(1, 500, 2).tolist()
        torch.manual_seed(seed)
        y, x, h, w = tv.RandomResizedCrop.get_params(Image.new("1", (width, height)), area, aspect)
        drawn = torch.rand(())
        torch.manual_seed(seed)
        assert crop.rectangle(width, height) == (x, y, x + w, y + h)
        assert torch.rand(()) == drawn


@pytest.mark.parametrize("name", AUTO_AUGMENTS)
def test_augmentations_are_torchvisions(name: str) -> None:
    ours = training_transform(24, [0.5, 1], [0.8, 1.2], "horizontal", auto_augment(name, FILL))
    reference = tv.Compose([tv.RandomResizedCrop(24, [0.5, 1], [0.8, 1.2]), FLIPS["horizontal"], REFERENCES[name]])
    assert same_pixels(ours, reference, photo(40, 50), 60) > 50
    assert same_pixels(pickle.loads(pickle.dumps(ours)), reference, photo(40, 50), 3) == 3  # for spawned workers


@pytest.mark.parametrize("operations, magnitude", [(1, 15), (3, 30)])
def test_strength_of_randaugment(operations: int, magnitude: int) -> None:
    ours = auto_augment("randaugment", FILL, operations=operations, magnitude=magnitude)
    reference = tv.RandAugment(operations, magnitude, interpolation=BILINEAR, fill=FILL)
    assert same_pixels(ours, reference, photo(24, 24), 40) > 5


@pytest.mark.parametrize("name", AUTO_AUGMENTS)
def test_one_channel(name: str) -> None:
    image = photo(24, 24, channels=1)
    for seed in range(40):
        torch.manual_seed(seed)
        augmented = auto_augment(name, [120])(image)
        assert augmented.mode == "L" and augmented.size == (24, 24)


def test_the_strengths_are_tabulated_once_per_size(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    tabulate = tv.RandAugment._augmentation_space
    monkeypatch.setattr(
        tv.RandAugment, "_augmentation_space", lambda self, *key: (calls.append(key), tabulate(self, *key))[1]
    )
    transform = auto_augment("randaugment", FILL)
    for height in (24, 24, 30, 24):
        transform(photo(height, 24))
    assert calls == [(31, (24, 24)), (31, (30, 24))]
