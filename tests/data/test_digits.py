from __future__ import annotations

import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from sklearn.datasets import load_digits

from fbnet_plugin.data import DatasetError
from fbnet_plugin.data.digits import load_split, register_digits


def test_splits_are_stratified_and_share_nothing() -> None:
    train, test = load_split("train"), load_split("test")
    assert (len(train.labels), len(test.labels)) == (1438, 359)
    assert sorted([*train.rows, *test.rows]) == list(range(1797))
    shares = np.bincount(test.labels) / (np.bincount(train.labels) + np.bincount(test.labels))
    assert np.abs(shares - 0.2).max() < 0.003
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_dicts_hold_scikit_learns_images() -> None:
    raw = load_digits()
    dicts = DatasetCatalog.get("digits_test")
    assert MetadataCatalog.get("digits_test").thing_classes == list("0123456789")
    for entry in dicts:
        row = entry["image_id"]
        assert entry["file_name"] == f"sklearn.datasets.load_digits[{row}]" and entry["label"] == raw.target[row]
        assert entry["image"].shape == (8, 8, 3) and entry["image"].dtype == np.uint8
        assert np.abs(entry["image"] / (255 / 16) - raw.images[row][:, :, None]).max() < 0.05


def test_missing_scikit_learn_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    register_digits("no_sklearn", "train")
    with pytest.raises(DatasetError, match=r"need scikit-learn: pip install 'fbnet_plugin\[demo\]'$"):
        DatasetCatalog.get("no_sklearn")
