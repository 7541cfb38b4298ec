"""CIFAR-10 from its python files: ``cifar-10-batches-py/{data_batch_1..5, test_batch, batches.meta}``.

The files are pickles, so they are read by an unpickler that can make nothing but arrays, texts, lists and dicts.
"""

from __future__ import annotations

import functools
import os
import pickle
from typing import Any, Dict, List, Tuple

import numpy as np
from detectron2.data import MetadataCatalog

from .catalog import missing, register
from .errors import DatasetError

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST_FILES = ("test_batch",)
# The python files were written with numpy.core, which NumPy 2 renamed to numpy._core.
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def register_cifar10(name: str, root: str, files: Tuple[str, ...]) -> None:
    """Registers some of CIFAR-10's files as a classification dataset of 32x32 px RGB images in memory.

    Args:
        name: of the dataset.
        root: folder that holds ``cifar-10-batches-py``.
        files: ``TRAIN_FILES`` or ``TEST_FILES``.

    Raises:
        DatasetError: the name is taken by another dataset.
    """
    folder = os.path.join(root, FOLDER)
    load = functools.partial(load_cifar10, name, folder, files)
    register(name, load, batches=[os.path.join(folder, file) for file in files], evaluator_type="image_classification")


def load_cifar10(name: str, folder: str, files: Tuple[str, ...]) -> List[Dict[str, Any]]:
    """Dataset dicts with ``image`` (32, 32, 3) uint8 RGB, ``label``, ``image_id`` and a ``file_name`` "file[row]".

    Raises:
        DatasetError: a file is missing, or is not what CIFAR-10's files are.
    """
    classes = _class_names(name, os.path.join(folder, "batches.meta"))
    dicts: List[Dict[str, Any]] = []
    for file in files:
        images, labels = _batch(name, os.path.join(folder, file), len(classes))
        for row, (image, label) in enumerate(zip(images, labels)):
            file_name = f"{FOLDER}/{file}[{row}]"
            dicts.append({"file_name": file_name, "label": label, "image_id": len(dicts), "image": image})
    MetadataCatalog.get(name).set(thing_classes=classes)
    return dicts


def _class_names(name: str, path: str) -> List[str]:
    names = safe_unpickle(name, path).get(b"label_names")
    if not isinstance(names, list) or not names or not all(isinstance(label, bytes) for label in names):
        raise DatasetError(f"dataset {name!r}: {path} has no list of texts under b'label_names'")
    return [label.decode("ascii", "replace") for label in names]


def _batch(name: str, path: str, num_classes: int) -> Tuple[np.ndarray, List[int]]:
    """Images (N, 32, 32, 3) and labels (N) of one file; a row of the file is a 3x32x32 image."""
    content = safe_unpickle(name, path)
    data, labels = content.get(b"data"), content.get(b"labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * 32 * 32:
        raise DatasetError(f"dataset {name!r}: {path} has no uint8 array of N x 3072 under b'data'")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise DatasetError(f"dataset {name!r}: {path} has no list of {len(data)} labels under b'labels'")
    wrong = [label for label in labels if not isinstance(label, int) or not 0 <= label < num_classes]
    if wrong:
        raise DatasetError(f"dataset {name!r}: {path} has the label {wrong[0]!r}, expected 0 to {num_classes - 1}")
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def safe_unpickle(name: str, path: str) -> Dict[bytes, Any]:
    """The dict in one of CIFAR-10's files, without running anything that the file names.

    Args:
        name: of the dataset, for the error message.
        path: of the file.

    Raises:
        DatasetError: the file is missing, is no pickle of a dict, or asks for anything but plain data.
    """
    try:
        with open(path, "rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()
    except FileNotFoundError:
        raise missing(name, "file", path) from None
    except Exception as error:  # a broken pickle raises almost anything
        raise DatasetError(f"dataset {name!r}: cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"dataset {name!r}: {path} holds a {type(content).__name__}, expected a dict")
    return content


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in _ARRAY_MODULES and name == "_reconstruct":
            return _empty_array
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR-10's files do not need")


def _empty_array(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Stands for NumPy's own ``_reconstruct``, which makes the empty array that the pickled state then fills."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"it asks for an unusual array: {kind!r} of shape {shape!r}")
    return np.ndarray(shape, dtype)
