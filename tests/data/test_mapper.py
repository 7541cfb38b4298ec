from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
import torchvision.transforms as tv
from detectron2.config import CfgNode
from PIL import Image

from fbnet_plugin.arch import ArchSpec, ConvSpec, Published, StageSpec, save_arch
from fbnet_plugin.data import ClassificationMapper, DatasetError, DetectionMapper, check_augmentation
from fbnet_plugin.data.mapper import testing_sizes as sizes_for_testing


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def entry(**others: Any) -> Dict[str, Any]:
    return {"file_name": "memory[3]", "label": 3, "image_id": 17, **others}


def set_sizes(cfg: CfgNode, size: int, resize: int = 0) -> None:
    keys = cfg.INPUT.CLASSIFICATION
    keys.TRAIN_SIZE, keys.TEST_SIZE, keys.TEST_RESIZE = size, size, resize


def test_testing_cuts_the_exact_middle(cfg: CfgNode, image: np.ndarray) -> None:
    set_sizes(cfg, 10, 20)  # the short side is 20 px already
    mapped = ClassificationMapper(cfg, False)(entry(image=image))
    assert mapped["image"].dtype == torch.uint8 and mapped["image"].shape == (3, 10, 10)
    np.testing.assert_array_equal(mapped["image"].numpy().transpose(1, 2, 0), image[5:15, 10:20])
    assert {key: value for key, value in mapped.items() if key != "image"} == {
        **entry(),
        "height": 20,
        "width": 30,
    }


def test_entry_is_left_as_it_was(cfg: CfgNode, image: np.ndarray) -> None:
    set_sizes(cfg, 10, 20)
    original, copy = entry(image=image), image.copy()
    ClassificationMapper(cfg, True)(original)
    assert original["image"] is image and set(original) == {*entry(), "image"}
    np.testing.assert_array_equal(image, copy)


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("embedded", [True, False])
def test_bgr_is_rgb_reversed(cfg: CfgNode, image: np.ndarray, tmp_path: Path, is_train: bool, embedded: bool) -> None:
    set_sizes(cfg, 12)
    Image.fromarray(image).save(tmp_path / "a.png")
    source = entry(image=image) if embedded else entry(file_name=str(tmp_path / "a.png"))
    mapped = {}
    for order in ("RGB", "BGR"):
        cfg.INPUT.FORMAT = order
        torch.manual_seed(3)
        mapped[order] = ClassificationMapper(cfg, is_train)(source)["image"]
    assert mapped["RGB"].shape == (3, 12, 12)
    assert torch.equal(mapped["RGB"].flip(0), mapped["BGR"]) and not torch.equal(mapped["RGB"], mapped["BGR"])


def test_file_gives_the_same_as_memory(cfg: CfgNode, image: np.ndarray, tmp_path: Path) -> None:
    set_sizes(cfg, 12)
    Image.fromarray(image).save(tmp_path / "a.png")
    mapper = ClassificationMapper(cfg, False)
    from_file = mapper(entry(file_name=str(tmp_path / "a.png")))
    assert torch.equal(from_file["image"], mapper(entry(image=image))["image"])
    assert (from_file["height"], from_file["width"]) == (20, 30)


def test_training_flips_half_of_the_time(cfg: CfgNode) -> None:
    set_sizes(cfg, 8)
    cfg.INPUT.CLASSIFICATION.CROP_AREA, cfg.INPUT.CLASSIFICATION.CROP_ASPECT = [1.0, 1.0], [1.0, 1.0]
    image = np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    upright = torch.from_numpy(image.transpose(2, 0, 1).copy())
    for flip, mirrored in (("horizontal", upright.flip(2)), ("vertical", upright.flip(1)), ("none", None)):
        cfg.INPUT.RANDOM_FLIP = flip
        mapper = ClassificationMapper(cfg, True)
        torch.manual_seed(0)
        results = [mapper(entry(image=image))["image"] for _ in range(40)]
        same = sum(torch.equal(result, upright) for result in results)
        if mirrored is None:
            assert same == 40
        else:
            assert same + sum(torch.equal(result, mirrored) for result in results) == 40 and 10 < same < 30


def test_training_follows_pytorchs_generator(cfg: CfgNode, image: np.ndarray) -> None:
    set_sizes(cfg, 12)
    mapper = ClassificationMapper(cfg, True)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(mapper(entry(image=image))["image"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_the_keys_make_torchvisions_recipe(cfg: CfgNode) -> None:
    set_sizes(cfg, 12)
    keys = cfg.INPUT.CLASSIFICATION
    keys.CROP_AREA, keys.CROP_ASPECT, cfg.INPUT.RANDOM_FLIP = [0.3, 0.9], [0.6, 1.5], "vertical"
    keys.AUTO_AUGMENT, keys.RAND_AUGMENT_OPS, keys.RAND_AUGMENT_MAGNITUDE = "randaugment", 3, 20
    cfg.MODEL.PIXEL_MEAN = [250.2, 100.0, 3.7]
    augment = tv.RandAugment(3, 20, interpolation=tv.InterpolationMode.BILINEAR, fill=[250, 100, 4])
    reference = tv.Compose([tv.RandomResizedCrop(12, (0.3, 0.9), (0.6, 1.5)), tv.RandomVerticalFlip(), augment])
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mapper = ClassificationMapper(cfg, True)
    for seed in range(30):
        torch.manual_seed(seed)
        expected = np.asarray(reference(Image.fromarray(image))).transpose(2, 0, 1)
        torch.manual_seed(seed)
        np.testing.assert_array_equal(mapper(entry(image=image))["image"].numpy(), expected)


def test_augmentation_is_of_rgb_in_either_order(cfg: CfgNode, image: np.ndarray) -> None:
    set_sizes(cfg, 12)
    cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT = "autoaugment"
    results = {}
    for order, mean in (("RGB", [250, 100, 4]), ("BGR", [4, 100, 250])):
        cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN = order, mean
        mapper = ClassificationMapper(cfg, True)
        torch.manual_seed(1)
        results[order] = torch.stack([mapper(entry(image=image))["image"] for _ in range(40)])
    assert torch.equal(results["RGB"].flip(1), results["BGR"])


@pytest.mark.parametrize("is_train", [True, False])
def test_one_channel(cfg: CfgNode, image: np.ndarray, is_train: bool) -> None:
    set_sizes(cfg, 10, 20)
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT = "L", [120], "trivialaugment"
    mapped = ClassificationMapper(cfg, is_train)(entry(image=image))["image"]
    assert mapped.shape == (1, 10, 10) and mapped.dtype == torch.uint8
    if not is_train:
        grey = np.asarray(Image.fromarray(image).convert("L"))
        np.testing.assert_array_equal(mapped[0].numpy(), grey[5:15, 10:20])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_has_three_channels(cfg: CfgNode, image: np.ndarray, tmp_path: Path, mode: str) -> None:
    set_sizes(cfg, 16)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(image).convert(mode).save(path)
    assert ClassificationMapper(cfg, False)(entry(file_name=str(path)))["image"].shape == (3, 16, 16)


def test_exif_orientation(cfg: CfgNode, image: np.ndarray, tmp_path: Path) -> None:
    set_sizes(cfg, 20, 20)
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    mapped = ClassificationMapper(cfg, False)(entry(file_name=str(tmp_path / "a.png")))
    assert (mapped["height"], mapped["width"]) == (30, 20)
    upright = np.rot90(image, -1)[5:25]
    np.testing.assert_array_equal(mapped["image"].numpy().transpose(1, 2, 0), upright)


def test_image_smaller_than_the_crop(cfg: CfgNode, image: np.ndarray) -> None:
    set_sizes(cfg, 40, 20)
    mapped = ClassificationMapper(cfg, False)(entry(image=image))["image"]
    assert mapped.shape == (3, 40, 40)
    np.testing.assert_array_equal(mapped[:, 10:30, 5:35].numpy().transpose(1, 2, 0), image)
    assert int(mapped.sum()) == int(image.sum())


@pytest.mark.parametrize("kind", [ClassificationMapper, DetectionMapper])
def test_unreadable_images_are_named(kind: type, cfg: CfgNode, tmp_path: Path) -> None:
    set_sizes(cfg, 16)
    mapper = kind(cfg, False)
    path = tmp_path / "broken.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("broken.jpg", "text.jpg", "missing.jpg"):
        with pytest.raises(DatasetError, match=rf"{name} \(image_id 17, label 3\)"):
            mapper(entry(file_name=str(tmp_path / name)))


BAD_VALUES = [
    ("INPUT.FORMAT", "YUV-BT.601", "got 'YUV-BT.601', expected one of RGB, BGR, L"),
    ("INPUT.RANDOM_FLIP", "diagonal", "got 'diagonal', expected one of none, horizontal, vertical"),
    ("INPUT.RANDOM_FLIP", "", "got '', expected one of none, horizontal, vertical"),
    ("INPUT.CLASSIFICATION.AUTO_AUGMENT", "augmix", "got 'augmix', expected one of '', autoaugment, autoaugment-"),
    ("INPUT.CLASSIFICATION.RAND_AUGMENT_OPS", 0, "got 0, expected 1 or more"),
    ("INPUT.CLASSIFICATION.RAND_AUGMENT_MAGNITUDE", 31, "got 31, expected 0 to 30"),
    ("INPUT.CLASSIFICATION.RAND_AUGMENT_MAGNITUDE", -1, "got -1, expected 0 to 30"),
    ("INPUT.CLASSIFICATION.CROP_AREA", [0.0, 1.0], "got [0.0, 1.0], expected 0 < smallest <= largest <= 1"),
    ("INPUT.CLASSIFICATION.CROP_AREA", [0.5, 1.5], "got [0.5, 1.5], expected 0 < smallest <= largest <= 1"),
    ("INPUT.CLASSIFICATION.CROP_AREA", [0.5, 0.1], "got [0.5, 0.1], expected 0 < smallest <= largest <= 1"),
    ("INPUT.CLASSIFICATION.CROP_ASPECT", [0, 1], "got [0, 1], expected 0 < smallest <= largest"),
    ("INPUT.CLASSIFICATION.CROP_ASPECT", [2, 1], "got [2, 1], expected 0 < smallest <= largest"),
    ("INPUT.CLASSIFICATION.CROP_ASPECT", [1], "got [1], expected 0 < smallest <= largest"),
    ("INPUT.CLASSIFICATION.CROP_ASPECT", ["a", "b"], "got ['a', 'b'], expected 0 < smallest <= largest"),
    ("INPUT.CLASSIFICATION.TRAIN_SIZE", -8, "got -8, expected px, or 0 for the architecture's"),
    ("INPUT.CLASSIFICATION.TEST_SIZE", -8, "got -8, expected px, or 0 for the architecture's"),
    ("INPUT.CLASSIFICATION.TEST_RESIZE", -8, "got -8, expected px, or 0 for the architecture's"),
]


@pytest.mark.parametrize("key, value, message", BAD_VALUES)
def test_bad_values_are_named(cfg: CfgNode, key: str, value: Any, message: str) -> None:
    check_augmentation(cfg)
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node[part]
    node[name] = value
    for check in (lambda: check_augmentation(cfg), lambda: ClassificationMapper(cfg, True)):
        with pytest.raises(DatasetError, match=re.escape(f"{key}: {message}")):
            check()


@pytest.mark.parametrize("order, mean, expected", [("RGB", [1.0], "3 values"), ("L", [256.0], "1 values")])
def test_a_mean_that_is_no_colour_is_named(cfg: CfgNode, order: str, mean: list, expected: str) -> None:
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN = order, mean
    check_augmentation(cfg)  # nothing is filled
    cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT = "randaugment"
    with pytest.raises(DatasetError, match=rf"MODEL.PIXEL_MEAN: got \[{mean[0]}\], expected {expected} of 0 to 255"):
        check_augmentation(cfg)


@pytest.mark.parametrize(
    "size, resize, published, expected",
    [
        (0, 0, 242, (224, 242)),
        (0, 0, None, (224, 256)),
        (0, 300, 242, (224, 300)),
        (160, 0, 242, (160, 184)),
        (160, 170, 242, (160, 170)),
    ],
)
def test_sizes(cfg: CfgNode, tmp_path: Path, size: int, resize: int, published: Any, expected: Any) -> None:
    stage = StageSpec((ConvSpec(out=8, kernel=3, stride=2),))
    spec = ArchSpec("tiny", 224, (stage,), published=Published(test_resize=published))
    save_arch(spec, str(tmp_path / "tiny.yaml"))
    cfg.MODEL.FBNET.ARCH = str(tmp_path / "tiny.yaml")
    set_sizes(cfg, size, resize)
    assert sizes_for_testing(cfg) == expected
    if not size:
        image = np.zeros((9, 9, 3), np.uint8)
        assert ClassificationMapper(cfg, True)(entry(image=image))["image"].shape == (3, 224, 224)
