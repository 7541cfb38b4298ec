"""Which datasets exist: those that come with the project, and those that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

from .catalog import below_root, datasets_root
from .cifar10 import TEST_FILES, TRAIN_FILES, register_cifar10
from .coco_json import register_coco_json
from .digits import register_digits
from .digits_detection import register_digits_det
from .errors import DatasetError
from .image_folder import register_image_folder

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def register_builtin() -> None:
    """Registers the project's own datasets; a second call changes nothing.

    imagenet_train, imagenet_val, cifar10_train, cifar10_test, digits_train, digits_test, digits_det_train
    and digits_det_test, below the folder that DETECTRON2_DATASETS names at the time of the call.

    Raises:
        DatasetError: that variable has changed since the first call.
    """
    root = datasets_root()
    for split in ("train", "val"):
        register_image_folder(f"imagenet_{split}", below_root(f"imagenet/{split}"))
    register_cifar10("cifar10_train", root, TRAIN_FILES)
    register_cifar10("cifar10_test", root, TEST_FILES)
    for split in ("train", "test"):
        register_digits(f"digits_{split}", split)
        register_digits_det(f"digits_det_{split}", root, split)


def register_from_config(cfg: CfgNode) -> None:
    """Registers the datasets of ``cfg.DATASETS.IMAGE_FOLDERS`` and ``cfg.DATASETS.COCO_JSON``.

    Entries are "name=path" and "name=annotations.json:image_folder". Paths that are not absolute are below the
    folder that DETECTRON2_DATASETS names. The same entry again changes nothing.

    Raises:
        DatasetError: an entry is malformed, or its name is taken by a dataset elsewhere.
    """
    for entry in cfg.DATASETS.IMAGE_FOLDERS:
        name, path = _split(entry, "=", "DATASETS.IMAGE_FOLDERS", entry, "name=path")
        register_image_folder(name, below_root(path))
    for entry in cfg.DATASETS.COCO_JSON:
        accepted = "name=annotations.json:image_folder"
        name, paths = _split(entry, "=", "DATASETS.COCO_JSON", entry, accepted)
        json_file, image_root = _split(paths, ":", "DATASETS.COCO_JSON", entry, accepted)
        register_coco_json(name, below_root(json_file), below_root(image_root))


def _split(text: str, separator: str, key: str, entry: str, accepted: str) -> Tuple[str, str]:
    """The two non-empty parts of ``text`` around the first ``separator``, without spaces around them."""
    left, found, right = (part.strip() for part in str(text).partition(separator))
    if not (left and found and right):
        raise DatasetError(f"{key}: got {entry!r}, expected {accepted!r}")
    return left, right
