from __future__ import annotations

import numpy as np
import pytest
import torchvision.transforms as tv
from detectron2.data import transforms as T
from PIL import Image

from fbnet_plugin.data.augmentation import CenterCrop, RandomResizedCrop, ResizeShortSide


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def augment(image: np.ndarray, *augmentations: T.Augmentation) -> np.ndarray:
    augmented = T.AugInput(image)
    T.AugmentationList(augmentations)(augmented)
    return augmented.image


@pytest.mark.parametrize("size", [(64, 64), (51, 77), (90, 47), (33, 200), (300, 31), (20, 21)])
@pytest.mark.parametrize("resize, crop", [(40, 32), (37, 32), (32, 32), (24, 33)])
def test_testing_geometry_is_torchvisions(size: tuple, resize: int, crop: int) -> None:
    image = photo(*size)
    expected = tv.Compose([tv.Resize(resize), tv.CenterCrop(crop)])(Image.fromarray(image))
    actual = augment(image, ResizeShortSide(resize), CenterCrop(crop))
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, np.asarray(expected))


def test_center_crop_takes_the_middle() -> None:
    image = photo(11, 9)
    np.testing.assert_array_equal(augment(image, CenterCrop(5)), image[3:8, 2:7])


def test_random_resized_crop_stays_in_its_ranges() -> None:
    np.random.seed(0)
    crop = RandomResizedCrop(16, [0.2, 0.6], [0.5, 2.0])
    samples = np.array([crop._sample(120, 160) for _ in range(500)])
    x, y, width, height = samples.T
    assert (x >= 0).all() and (y >= 0).all() and (x + width <= 160).all() and (y + height <= 120).all()
    area, aspect = width * height / (120 * 160), width / height
    assert area.min() > 0.19 and area.max() < 0.61 and aspect.min() > 0.48 and aspect.max() < 2.06
    # Both ranges are used to their ends, and on both sides of a square.
    assert area.min() < 0.23 and area.max() > 0.57 and aspect.min() < 0.55 and aspect.max() > 1.8
    assert 0.4 < (aspect < 1).mean() < 0.6


@pytest.mark.parametrize("height, width", [(10, 400), (400, 10), (1, 1), (3, 1000)])
def test_random_resized_crop_of_long_images_is_central(height: int, width: int) -> None:
    np.random.seed(0)
    crop = RandomResizedCrop(16, [1.0, 1.0], [0.75, 1.3333])
    expected = tv.RandomResizedCrop.get_params(Image.new("RGB", (width, height)), [1.0, 1.0], [0.75, 1.3333])
    y, x, crop_height, crop_width = expected
    assert crop._sample(height, width) == (x, y, crop_width, crop_height)
    assert augment(photo(height, width), crop).shape == (16, 16, 3)


def test_whole_square_image_is_unchanged() -> None:
    image = photo(16, 16)
    np.testing.assert_array_equal(augment(image, RandomResizedCrop(16, [1.0, 1.0], [1.0, 1.0])), image)


@pytest.mark.parametrize("area, aspect", [([0.0, 1.0], [1, 1]), ([0.5, 1.5], [1, 1]), ([0.5, 0.1], [1, 1])])
def test_impossible_area(area: list, aspect: list) -> None:
    with pytest.raises(ValueError, match="crop area: got"):
        RandomResizedCrop(16, area, aspect)


@pytest.mark.parametrize("aspect", [[0, 1], [2, 1], [1]])
def test_impossible_aspect(aspect: list) -> None:
    with pytest.raises(ValueError, match="crop aspect: got"):
        RandomResizedCrop(16, [0.1, 1.0], aspect)
