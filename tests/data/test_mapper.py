from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from fbnet_plugin.arch import ArchSpec, ConvSpec, Published, StageSpec, save_arch
from fbnet_plugin.data import ClassificationMapper, DatasetError, DetectionMapper
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
        np.random.seed(3)
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
        np.random.seed(0)
        results = [mapper(entry(image=image))["image"] for _ in range(40)]
        same = sum(torch.equal(result, upright) for result in results)
        if mirrored is None:
            assert same == 40
        else:
            assert same + sum(torch.equal(result, mirrored) for result in results) == 40 and 10 < same < 30


def test_training_follows_numpys_generator(cfg: CfgNode, image: np.ndarray) -> None:
    set_sizes(cfg, 12)
    mapper = ClassificationMapper(cfg, True)
    results = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        results.append(mapper(entry(image=image))["image"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


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


@pytest.mark.parametrize("flip", ["diagonal", ""])
def test_unknown_flip(cfg: CfgNode, flip: str) -> None:
    set_sizes(cfg, 16)
    cfg.INPUT.RANDOM_FLIP = flip
    with pytest.raises(ValueError, match=f"INPUT.RANDOM_FLIP: got '{flip}', expected one of none, horizontal"):
        ClassificationMapper(cfg, True)


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
