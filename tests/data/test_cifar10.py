from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from fbnet_plugin.data import DatasetError
from fbnet_plugin.data.cifar10 import TEST_FILES, TRAIN_FILES, register_cifar10

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
PER_FILE = 20


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its texts, which is what CIFAR-10's files hold."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_text


def write(path: Path, content: Dict[bytes, Any]) -> None:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    # The files name NumPy's module as NumPy 1 did.
    path.write_bytes(buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, file in enumerate((*TRAIN_FILES, *TEST_FILES)):
        data = rng.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
        labels = rng.integers(0, 10, PER_FILE).tolist()
        label = b"training batch %d of 5" % (number + 1)
        write(folder / file, {b"batch_label": label, b"labels": labels, b"data": data, b"filenames": [b"x.png"]})
    write(folder / "batches.meta", {b"num_cases_per_batch": PER_FILE, b"label_names": NAMES, b"num_vis": 3072})
    return tmp_path


def stored(root: Path, file: str) -> Tuple[np.ndarray, list]:
    content = pickle.loads((root / "cifar-10-batches-py" / file).read_bytes(), encoding="bytes")
    return content[b"data"], content[b"labels"]


def test_files_are_in_the_old_format(root: Path) -> None:
    raw = (root / "cifar-10-batches-py" / "test_batch").read_bytes()
    assert b"cnumpy.core.multiarray\n_reconstruct" in raw and b"_codecs" not in raw


def test_train_images_and_labels(root: Path) -> None:
    register_cifar10("small", str(root), TRAIN_FILES)
    dicts = DatasetCatalog.get("small")
    assert len(dicts) == 5 * PER_FILE and [d["image_id"] for d in dicts] == list(range(5 * PER_FILE))
    assert MetadataCatalog.get("small").thing_classes == [name.decode() for name in NAMES]
    data, labels = stored(root, "data_batch_3")
    third = dicts[2 * PER_FILE : 3 * PER_FILE]
    assert [d["label"] for d in third] == labels
    for row, entry in enumerate(third):
        assert entry["image"].dtype == np.uint8 and entry["image"].shape == (32, 32, 3)
        # A row holds 1024 red values, then 1024 green, then 1024 blue, each row by row.
        assert entry["image"][5, 7].tolist() == [data[row, plane * 1024 + 5 * 32 + 7] for plane in range(3)]
    assert third[4]["file_name"] == "cifar-10-batches-py/data_batch_3[4]"


def test_test_split(root: Path) -> None:
    register_cifar10("small", str(root), TEST_FILES)
    assert [d["label"] for d in DatasetCatalog.get("small")] == stored(root, "test_batch")[1]


class Malicious:
    def __reduce__(self) -> Any:
        return os.system, ("echo run > run_by_pickle",)


def test_pickle_that_runs_code_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps({"data": Malicious()}, protocol=2))
    register_cifar10("small", str(root), TEST_FILES)
    with pytest.raises(DatasetError, match=r"'small'.*test_batch.*system, which CIFAR-10's files do not need"):
        DatasetCatalog.get("small")
    assert not (root / "run_by_pickle").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ({b"labels": [0]}, "no uint8 array"),
        ({b"labels": [0], b"data": np.zeros((1, 3072), np.float32)}, "no uint8 array"),
        ({b"labels": [0, 1], b"data": np.zeros((1, 3072), np.uint8)}, "no list of 1 labels"),
        ({b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)}, "label 10, expected 0 to 9"),
        ([1, 2], "holds a list, expected a dict"),
    ],
)
def test_unusable_content(root: Path, content: Any, message: str) -> None:
    write(root / "cifar-10-batches-py" / "test_batch", content)
    register_cifar10("small", str(root), TEST_FILES)
    with pytest.raises(DatasetError, match=message):
        DatasetCatalog.get("small")


def test_truncated_and_missing_files(root: Path) -> None:
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:1000])
    register_cifar10("small", str(root), TEST_FILES)
    with pytest.raises(DatasetError, match="'small': cannot read .*test_batch"):
        DatasetCatalog.get("small")
    path.unlink()
    with pytest.raises(DatasetError, match="'small': no such file: .*test_batch.*DETECTRON2_DATASETS"):
        DatasetCatalog.get("small")
