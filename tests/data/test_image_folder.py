from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from fbnet_plugin.data import DatasetError, register_image_folder


def save(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5, 3), colour, np.uint8)).save(path)


def test_classes_are_sorted_folders_and_entries_sorted_files(tmp_path: Path) -> None:
    for name in ("dog/2.png", "dog/1.PNG", "cat/deeper/0.jpg", "ant/7.bmp"):
        save(tmp_path / name)
    (tmp_path / "dog/notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    register_image_folder("pets", str(tmp_path))

    dicts = DatasetCatalog.get("pets")

    assert MetadataCatalog.get("pets").thing_classes == ["ant", "cat", "dog"]
    assert MetadataCatalog.get("pets").evaluator_type == "image_classification"
    assert [(Path(d["file_name"]).relative_to(tmp_path).as_posix(), d["label"], d["image_id"]) for d in dicts] == [
        ("ant/7.bmp", 0, 0),
        ("cat/deeper/0.jpg", 1, 1),
        ("dog/1.PNG", 2, 2),
        ("dog/2.png", 2, 3),
    ]


def test_order_is_that_of_the_names(tmp_path: Path) -> None:
    for number in np.random.default_rng(0).permutation(30):
        save(tmp_path / f"cat/{number:02d}.png")
    register_image_folder("pets", str(tmp_path))
    assert [Path(d["file_name"]).stem for d in DatasetCatalog.get("pets")] == [f"{i:02d}" for i in range(30)]


def test_missing_folder_is_told_at_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/somewhere/else")
    register_image_folder("pets", str(tmp_path / "none"))
    with pytest.raises(DatasetError, match=r"'pets'.*none.*DETECTRON2_DATASETS.*/somewhere/else"):
        DatasetCatalog.get("pets")


def test_class_folder_without_images(tmp_path: Path) -> None:
    save(tmp_path / "cat/0.png")
    (tmp_path / "dog").mkdir()
    register_image_folder("pets", str(tmp_path))
    with pytest.raises(DatasetError, match=r"'pets'.*dog has no images.*\.png"):
        DatasetCatalog.get("pets")


def test_folder_without_class_folders(tmp_path: Path) -> None:
    save(tmp_path / "0.png")
    register_image_folder("pets", str(tmp_path))
    with pytest.raises(DatasetError, match="has no class folders"):
        DatasetCatalog.get("pets")


def test_same_registration_again_changes_nothing_and_another_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "cat/0.png")
    register_image_folder("pets", str(tmp_path))
    register_image_folder("pets", str(tmp_path))
    assert len(DatasetCatalog.get("pets")) == 1
    with pytest.raises(DatasetError, match="'pets' is already registered, with image_root .* instead of '/other'"):
        register_image_folder("pets", "/other")
