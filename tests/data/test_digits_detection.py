from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from fbnet_plugin.data import DatasetError, digits_detection
from fbnet_plugin.data.digit_scenes import PHOTOS, SceneSettings, _ink, _iou, draw_scene, load_photos
from fbnet_plugin.data.digits import load_split
from fbnet_plugin.data.digits_detection import DigitsDetSettings, files_folder, make_files, register_digits_det

SMALL = DigitsDetSettings(train_images=30, test_images=12)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("datasets")
    make_files(str(path), SMALL)
    return path


def annotations(root: Path, split: str) -> Dict[str, Any]:
    return json.loads((Path(files_folder(str(root), SMALL)) / f"{split}.json").read_text())


def content(root: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_standard_sizes() -> None:
    default = DigitsDetSettings()
    assert (default.train_images, default.test_images, default.scene.size) == (1000, 200, 128)


@pytest.mark.parametrize("split, count", [("train", 30), ("test", 12)])
def test_boxes_lie_inside_apart_and_in_the_size_range(root: Path, split: str, count: int) -> None:
    found = annotations(root, split)
    assert len(found["images"]) == count
    for image in found["images"]:
        path = Path(files_folder(str(root), SMALL)) / split / image["file_name"]
        assert Image.open(path).size == (128, 128) and Image.open(path).mode == "RGB"
        boxes = [a["bbox"] for a in found["annotations"] if a["image_id"] == image["id"]]
        assert 1 <= len(boxes) <= 4
        for i, (x, y, width, height) in enumerate(boxes):
            assert 0 <= x and 0 <= y and x + width <= 128 and y + height <= 128
            assert 16 <= height <= 72 and width >= 3
            assert all(_iou(boxes[i], other) <= 0.02 for other in boxes[:i])


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_ink_is_in_the_boxes_alone_and_contrasts(grey: int) -> None:
    photo = Image.new("RGB", (300, 300), (grey, grey, grey))
    for seed in range(20):
        pixels, placed = draw_scene(np.random.default_rng(seed), [photo], load_split("train"), SceneSettings())
        luminance = pixels @ np.array([0.299, 0.587, 0.114])
        outside = np.ones(luminance.shape, bool)
        for x, y, width, height in (digit.box for digit in placed):
            outside[y : y + height, x : x + width] = False
            # The ink's opacity is at least 0.8, its luminance at least 90 from the photograph's.
            assert np.abs(luminance[y : y + height, x : x + width] - grey).max() > 0.8 * 90 - 1
        assert (pixels[outside] == grey).all()


def test_box_is_tight_for_every_digit() -> None:
    digits = load_split("test")
    rng = np.random.default_rng(0)
    for image in digits.images:
        opaque = _ink(rng, image, SceneSettings()) > 0.5
        assert opaque[0].any() and opaque[-1].any() and opaque[:, 0].any() and opaque[:, -1].any()


def test_train_and_test_share_no_digit_and_no_photograph(root: Path) -> None:
    rows = {split: {a["load_digits_row"] for a in annotations(root, split)["annotations"]} for split in PHOTOS}
    assert rows["train"] <= set(load_split("train").rows.tolist())
    assert rows["test"] <= set(load_split("test").rows.tolist())
    assert not set(PHOTOS["train"]) & set(PHOTOS["test"])
    labels = dict(zip(load_split("train").rows.tolist(), load_split("train").labels.tolist()))
    for a in annotations(root, "train")["annotations"]:
        assert a["category_id"] == labels[a["load_digits_row"]] + 1


def test_same_bytes_again_whatever_the_global_generators_do(root: Path, tmp_path: Path) -> None:
    np.random.seed(7)
    make_files(str(tmp_path), SMALL)
    assert content(tmp_path) == content(root)
    assert len(content(root)) == 30 + 12 + 2


def test_another_seed_gives_other_images_in_another_folder(root: Path, tmp_path: Path) -> None:
    other = DigitsDetSettings(train_images=1, test_images=1, seed=1)
    folder = Path(make_files(str(tmp_path), other))
    assert folder.name != Path(files_folder(str(root), SMALL)).name
    first = Path(files_folder(str(root), SMALL)) / "train" / "000001.png"
    assert (folder / "train" / "000001.png").read_bytes() != first.read_bytes()


def test_made_at_first_use_and_loaded_as_coco(tmp_path: Path) -> None:
    register_digits_det("tiny_digits", str(tmp_path), "test", SMALL)
    assert not list(tmp_path.iterdir())
    dicts = DatasetCatalog.get("tiny_digits")
    metadata = MetadataCatalog.get("tiny_digits")
    assert len(dicts) == 12 and metadata.evaluator_type == "coco"
    assert metadata.thing_classes == list("0123456789")
    assert Path(metadata.json_file).is_file() and Path(dicts[0]["file_name"]).parent == Path(metadata.image_root)
    assert {a["category_id"] for d in dicts for a in d["annotations"]} <= set(range(10))


def test_two_at_once_make_one_folder(root: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: make_files(str(tmp_path), SMALL), range(2)))
    assert folders[0] == folders[1] and content(tmp_path) == content(root)
    assert [path.name for path in Path(folders[0]).parent.iterdir()] == [Path(folders[0]).name]


def test_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = digits_detection.draw_scene
    calls = []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 35:  # in the second split
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(digits_detection, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_files(str(tmp_path), SMALL)
    assert not content(tmp_path) and not list((tmp_path / digits_detection.FOLDER).iterdir())


def test_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot write the digit detection set to .*DETECTRON2_DATASETS"):
        make_files(str(tmp_path / "file"), SMALL)


def test_missing_scikit_image_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DatasetError, match=r"need skimage: pip install 'fbnet_plugin\[demo\]'$"):
        load_photos("train")
