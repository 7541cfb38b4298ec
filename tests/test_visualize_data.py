"""tools/visualize_data.py: what a dataset holds, and what arrives in training."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "visualize_data.py"
DETECTOR = "COCO-InstanceSegmentation/mask_rcnn_fbnet_v3_a_FPN_3x.yaml"
CLASSIFIER = "Digits/fbnet_v3_a_dsmask_tiny_digits.yaml"
RED, BLUE = (250, 10, 20), (20, 30, 240)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("visualize_data", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def coco(tmp_path) -> list[str]:
    """KEY VALUE pairs of six gray images of 320 x 240 px, each with one box that is a mask too."""
    images, annotations = [], []
    (tmp_path / "images").mkdir()
    for number in range(1, 7):
        Image.new("RGB", (320, 240), (128, 128, 128)).save(tmp_path / "images" / f"n{number}.png")
        images.append({"id": number, "file_name": f"n{number}.png", "height": 240, "width": 320})
        x, y, w, h = 20, 60, 100, 120
        outline = [x, y, x + w, y, x + w, y + h, x, y + h]
        one = {"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
        annotations.append({**one, "segmentation": [outline]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "pane"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    sets = f'["panes={tmp_path}/all.json:{tmp_path}/images"]'
    opts = ["DATASETS.COCO_JSON", sets, "DATASETS.TRAIN", "('panes',)", "DATASETS.TEST", "('panes',)"]
    opts += ["SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "INPUT.RANDOM_FLIP", "none"]
    return [*opts, "INPUT.MIN_SIZE_TRAIN", "(480,)", "SEED", "1"]


def show(tool: ModuleType, config: str, source: str, folder: Path, *rest: str) -> list[np.ndarray]:
    """The pictures that the tool writes, in their order."""
    tool.main(["--config-file", config, "--source", source, "--output-dir", str(folder), *rest])
    return [np.asarray(Image.open(folder / name).convert("RGB")) for name in sorted(os.listdir(folder))]


def test_annotations_on_the_images_of_the_files(tool, tmp_path, coco, capsys):
    pictures = show(tool, DETECTOR, "annotation", tmp_path / "out", "--count", "3", *coco)
    assert sorted(os.listdir(tmp_path / "out")) == ["000_n1.png", "001_n3.png", "002_n5.png"]  # evenly spaced
    for picture in pictures:
        assert picture.shape == (240, 320, 3)
        drawn = (picture != 128).any(axis=2)
        assert drawn[65:175, 25:115].mean() > 0.99 and not drawn[190:].any() and not drawn[:, 200:].any()
    assert capsys.readouterr().out.count("1 object\n") == 3


def test_what_the_training_loader_gives(tool, tmp_path, coco):
    """Images of twice the size; the box has moved along."""
    pictures = show(tool, DETECTOR, "dataloader", tmp_path / "out", "--count", "3", *coco)
    assert [picture.shape for picture in pictures] == [(480, 640, 3)] * 3
    for picture in pictures:
        drawn = (picture != 128).any(axis=2)
        assert drawn[130:350, 50:230].mean() > 0.99 and not drawn[380:].any() and not drawn[:, 400:].any()
    flips = ["--count", "6", *coco, "INPUT.RANDOM_FLIP", "horizontal"]
    flipped = show(tool, DETECTOR, "dataloader", tmp_path / "flip", *flips)
    left = [(picture[:, 50:230] != 128).any() for picture in flipped]
    right = [(picture[:, 410:590] != 128).any() for picture in flipped]
    assert 0 < sum(left) < 6 and right == [not side for side in left]
    plain = show(tool, DETECTOR, "dataloader", tmp_path / "test", "--dataset", "test", "--count", "2", *coco)
    assert len(plain) == 2 and all((picture == 128).all() for picture in plain)


@pytest.fixture
def colours(tmp_path) -> list[str]:
    """KEY VALUE pairs of eight images of one colour each, a class per colour."""
    for name, colour in (("red", RED), ("blue", BLUE)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (64, 64), colour).save(tmp_path / "set" / name / f"{name}{number}.png")
    sets = ["DATASETS.IMAGE_FOLDERS", f'["colours={tmp_path / "set"}"]', "DATASETS.TRAIN", "('colours',)"]
    return [*sets, "DATASETS.TEST", "('colours',)", "SOLVER.IMS_PER_BATCH", "8", "INPUT.FORMAT", "BGR"]


def test_classes(tool, tmp_path, colours, capsys):
    pictures = show(tool, CLASSIFIER, "annotation", tmp_path / "out", "--count", "2", *colours)
    assert sorted(os.listdir(tmp_path / "out")) == ["000_blue0.png", "001_red0.png"]
    assert capsys.readouterr().out.split() == [
        f"{tmp_path}/out/000_blue0.png:", "blue", f"{tmp_path}/out/001_red0.png:", "red",
    ]  # fmt: skip
    for picture, colour in zip(pictures, (BLUE, RED)):
        assert picture.shape == (256, 256, 3) and (picture[100:] == colour).all()
        assert (picture[:12] != colour).any()
    pictures = show(tool, CLASSIFIER, "dataloader", tmp_path / "loaded", "--dataset", "test", "--count", "99", *colours)
    assert [tuple(picture[-1, -1]) for picture in pictures] == [BLUE] * 4 + [RED] * 4


def test_mixtures(tool, tmp_path, colours, capsys):
    """The colour is the mixture of the classes' colours in the shares that the line says."""
    args = ["--count", "12", *colours, "MODEL.CLASSIFIER.MIXUP", "1.0", "INPUT.CLASSIFICATION.CROP_AREA", "[1.0,1.0]"]
    pictures = show(tool, CLASSIFIER, "dataloader", tmp_path / "out", *args)
    lines = [line.partition(".png: ")[2] for line in capsys.readouterr().out.splitlines() if ".png: " in line]
    assert len(pictures) == len(lines) == 12
    two = 0
    for picture, line in zip(pictures, lines):
        expected = np.zeros(3)
        for part in line.split(", "):
            share, name = part.split()
            expected += float(share[:-1]) / 100 * np.array({"red": RED, "blue": BLUE}[name])
        two += "red" in line and "blue" in line
        np.testing.assert_allclose(picture[-1, -1], expected, atol=3)
    assert two


@pytest.mark.parametrize(
    "more, message",
    [
        (["DATASETS.TRAIN", "('nowhere',)"], "DATASETS.TRAIN names 'nowhere'"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["DATASETS.COCO_JSON", '["gone=a.json:b"]', "DATASETS.TRAIN", "('gone',)"], "dataset 'gone': no such file"),
    ],
)
@pytest.mark.parametrize("source", ["annotation", "dataloader"])
def test_mistakes(tool, tmp_path, capsys, source, more, message):
    with pytest.raises(SystemExit) as end:
        show(tool, DETECTOR, source, tmp_path / "out", *more)
    assert end.value.code == 2 and message in capsys.readouterr().err and not (tmp_path / "out").exists()
