from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from fbnet_plugin.data import DatasetError, register_from_config

BUILTIN = {
    "image_classification": ("imagenet_train", "imagenet_val", "cifar10_train", "cifar10_test")
    + ("digits_train", "digits_test"),
    "coco": ("digits_det_train", "digits_det_test"),
}


def make_sets(root: Path) -> None:
    (root / "pets/cat").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "pets/cat/0.png")
    content = {
        "info": {},
        "images": [{"id": 5, "file_name": "0.png", "height": 9, "width": 9}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (root / "pets.json").write_text(json.dumps(content))


def test_builtin_sets_and_nothing_else_happens_at_import(tmp_path: Path) -> None:
    code = """
import json, sys
import fbnet_plugin.data
from detectron2.data import MetadataCatalog
print(json.dumps([{name: MetadataCatalog.get(name).as_dict() for name in %r},
                  sorted({"sklearn", "skimage"} & set(sys.modules))]))
""" % [name for names in BUILTIN.values() for name in names]
    env = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, stdout=subprocess.PIPE, check=True)
    metadata, imported = json.loads(result.stdout)
    for kind, names in BUILTIN.items():
        assert [metadata[name]["evaluator_type"] for name in names] == [kind] * len(names)
    assert metadata["imagenet_val"]["image_root"] == str(tmp_path / "imagenet/val")
    assert metadata["cifar10_test"]["batches"] == [str(tmp_path / "cifar-10-batches-py/test_batch")]
    assert metadata["digits_det_test"]["json_file"].startswith(str(tmp_path))
    assert imported == [] and not list(tmp_path.iterdir())


def test_entries_of_a_config(cfg: CfgNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    make_sets(tmp_path)
    cfg.DATASETS.IMAGE_FOLDERS = ["pets=pets", f"pets_again = {tmp_path}/pets"]
    cfg.DATASETS.COCO_JSON = ["pets_det=pets.json:pets/cat"]
    register_from_config(cfg)
    register_from_config(cfg)
    assert [entry["label"] for entry in DatasetCatalog.get("pets")] == [0]
    assert DatasetCatalog.get("pets") == DatasetCatalog.get("pets_again")
    (entry,) = DatasetCatalog.get("pets_det")
    assert entry["file_name"] == str(tmp_path / "pets/cat/0.png") and entry["annotations"][0]["category_id"] == 0
    assert MetadataCatalog.get("pets_det").thing_classes == ["cat"]
    assert MetadataCatalog.get("pets_det").evaluator_type == "coco"


@pytest.mark.parametrize("entry", ["pets", "=pets", "pets=", " = "])
def test_malformed_image_folder(cfg: CfgNode, entry: str) -> None:
    cfg.DATASETS.IMAGE_FOLDERS = [entry]
    with pytest.raises(DatasetError, match=f"DATASETS.IMAGE_FOLDERS: got '{entry}', expected 'name=path'"):
        register_from_config(cfg)


@pytest.mark.parametrize("entry", ["a.json:b", "name=a.json", "name=:b", "name=a.json:"])
def test_malformed_coco_json(cfg: CfgNode, entry: str) -> None:
    cfg.DATASETS.COCO_JSON = [entry]
    with pytest.raises(DatasetError, match=f"DATASETS.COCO_JSON: got '{entry}', expected 'name=annot"):
        register_from_config(cfg)


@pytest.mark.parametrize("name", ["digits_train", "coco_2017_val", "imagenet_val"])
def test_name_of_another_set(cfg: CfgNode, name: str) -> None:
    cfg.DATASETS.IMAGE_FOLDERS = [f"{name}=/elsewhere"]
    with pytest.raises(DatasetError, match=f"'{name}' is already registered, with image_root .*'/elsewhere'"):
        register_from_config(cfg)


def test_missing_coco_files_are_told_at_first_use(cfg: CfgNode, tmp_path: Path) -> None:
    cfg.DATASETS.COCO_JSON = [f"none={tmp_path}/none.json:{tmp_path}"]
    register_from_config(cfg)
    with pytest.raises(DatasetError, match="'none': no such file: .*none.json"):
        DatasetCatalog.get("none")
    make_sets(tmp_path)
    cfg.DATASETS.COCO_JSON = [f"half={tmp_path}/pets.json:{tmp_path}/none"]
    register_from_config(cfg)
    with pytest.raises(DatasetError, match="'half': no such folder: .*none"):
        DatasetCatalog.get("half")
