"""Real images: named, of datasets, or those of an installed package."""

from __future__ import annotations

import pytest
from PIL import Image

from fbnet_plugin.data.catalog import spread
from fbnet_plugin.engine import load_config
from fbnet_plugin.export import samples
from fbnet_plugin.export.errors import ExportInputError
from fbnet_plugin.export.samples import named_images, sample_images


@pytest.fixture
def folder(tmp_path):
    """Two classes of five images, gray levels 0, 10, ..., 90."""
    for number in range(10):
        path = tmp_path / "photos" / f"class{number // 5}"
        path.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number * 10,) * 3).save(path / f"{number}.png")
    return tmp_path / "photos"


def levels(found):
    return [int(image.float().mean()) for image in found.images]


def test_named_images_are_those_of_the_test(trained, folder):
    """A folder gives images of all its classes; files are all taken."""
    found = named_images(trained.cfg, [str(folder)], 4)
    assert [tuple(image.shape) for image in found.images] == [(3, 32, 32)] * 4
    assert levels(found) == [0, 20, 50, 70]
    files = [str(folder / "class1" / f"{number}.png") for number in (9, 5, 7)]
    assert levels(named_images(trained.cfg, files, 1)) == [90, 50, 70]
    assert named_images(trained.cfg, ["digits_test"], 5).origin == "5 images of digits_test"


def test_a_detector_gets_its_own_mapper(folder):
    cfg = load_config("COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml", ["INPUT.MIN_SIZE_TEST", 60])
    (image,) = named_images(cfg, [str(folder)], 1).images
    assert image.shape == (3, 60, 80)


def test_without_names(trained, monkeypatch, tmp_path):
    assert "digits_test" in sample_images(trained.cfg).origin
    cfg = trained.cfg.clone()
    cfg.DATASETS.TEST = ("imagenet_val", "nobody_registered_this")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    pytest.importorskip("skimage")
    found = sample_images(cfg, count=2)
    assert found.origin == "2 photographs of scikit-image"
    assert all(image.float().std() > 10 for image in found.images)
    monkeypatch.setattr(samples, "_bundled_folder", lambda: "")
    with pytest.raises(ExportInputError, match=r"DATASETS.TEST \(imagenet_val.*--sample-images"):
        sample_images(cfg)


def test_names_that_lead_to_nothing(trained, tmp_path):
    with pytest.raises(ExportInputError, match="none: no such file, folder or dataset"):
        named_images(trained.cfg, ["none"], 4)
    with pytest.raises(ExportInputError, match="no images in this folder"):
        named_images(trained.cfg, [str(tmp_path)], 4)


@pytest.mark.parametrize("count, expected", [(2, [0, 5]), (4, [0, 2, 5, 7]), (9, [0, 1, 2, 3, 4, 5, 6, 7, 8])])
def test_spread(count, expected):
    assert spread(list(range(10)), count) == expected
    assert spread(expected, 10) == expected
