"""The teacher's logits of a training set in a folder: computed once, read by every training after that.

They are of one fixed view of each image, that of the teacher's test: resized, the central square cut out. The student
sees crops, flips and colours of its own, so that a cache distils less well than a teacher that sees the same.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import logging
import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock
from tqdm import tqdm

from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.data import ClassificationMapper, training_dicts
from fbnet_plugin.data.batch import pack
from fbnet_plugin.modeling import ImageClassifier
from fbnet_plugin.modeling.mixup import Mixup

from .errors import ConfigError
from .identity import config_lines

_logger = logging.getLogger(__name__)
LOGITS, RECORD = "logits.npy", "cache.json"
# Images, at least, between two records of how far a fill has come.
BLOCK = 4096
# Beginnings of the keys of a teacher's config that its logits follow from, and exceptions, of effect in training alone.
_OF_LOGITS = (
    "INPUT.FORMAT:", "INPUT.CLASSIFICATION.TEST_", "MODEL.BACKBONE.NAME:", "MODEL.CLASSIFIER.NUM_CLASSES:",
    "MODEL.FBNET.", "MODEL.PIXEL_", "MODEL.RESNETS.", "MODEL.TORCHVISION.", "MODEL_EMA.ENABLED:",
)  # fmt: skip
_OF_TRAINING = ("MODEL.FBNET.DROP_PATH", "MODEL.FBNET.FREEZE_AT", "MODEL.FBNET.RPN_REPEAT")
Dicts = List[Dict[str, Any]]


class CachedTeacher:
    """A teacher whose logits lie in a table.

    Args:
        logits: (images, num_classes), of the images as they are in the teacher's test.
        rows: image ids to rows.
    """

    def __init__(self, logits: np.ndarray, rows: Mapping[Any, int]):
        self._logits, self._rows = logits, rows

    def __call__(self, images: torch.Tensor, inputs: Dicts, mixup: Optional[Mixup]) -> torch.Tensor:
        """See ``fbnet_plugin.modeling.distillation.Teacher``; the probabilities of mixed images are mixed alike.

        Raises:
            ConfigError: an image that the cache does not have.
        """
        try:
            rows = [self._rows[one["image_id"]] for one in inputs]
        except KeyError as error:
            raise ConfigError(f"MODEL.DISTILLATION.CACHE has no image with the image_id {error}") from None
        logits = torch.from_numpy(np.asarray(self._logits[rows], np.float32)).to(images.device)
        return logits if mixup is None else mixup.logits(logits)


def cached_teacher(cfg: CfgNode, teacher_cfg: CfgNode, build: Callable[[], ImageClassifier]) -> CachedTeacher:
    """The teacher in ``MODEL.DISTILLATION.CACHE``, of which the main process computes first what is missing.

    Args:
        cfg, teacher_cfg: of the student and of the teacher.
        build: makes the teacher's network; not called where the cache is complete.

    Raises:
        ConfigError: the cache is of other images or of another teacher, or image ids are not unique.
        FloatingPointError: logits that are not finite in float16.
    """
    dicts = training_dicts(cfg)
    rows = rows_of(dicts)
    cache = LogitsCache(cfg.MODEL.DISTILLATION.CACHE, identity(cfg, teacher_cfg, dicts))
    batch_size, workers = max(cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(), 1), cfg.DATALOADER.NUM_WORKERS

    def compute(missing: Dicts) -> Iterator[np.ndarray]:
        return logits_of(build(), missing, teacher_cfg, batch_size, workers)

    if _from_main(cache.done()) < len(dicts):
        with cache.lock() if comm.is_main_process() else contextlib.nullcontext():
            fill(cache, dicts, batch_size, compute)
    return CachedTeacher(cache.read(), rows)


def rows_of(dicts: Dicts) -> Dict[Any, int]:
    """Image ids to positions.

    Raises:
        ConfigError: an id is missing or not unique.
    """
    rows: Dict[Any, int] = {}
    for row, one in enumerate(dicts):
        if "image_id" not in one:
            raise ConfigError(f"MODEL.DISTILLATION.CACHE needs image ids; {one.get('file_name')} has none")
        first = rows.setdefault(one["image_id"], row)
        if first != row:
            raise ConfigError(
                f"MODEL.DISTILLATION.CACHE: {dicts[first].get('file_name')} and {one.get('file_name')} in "
                f"DATASETS.TRAIN have the same image_id {one['image_id']!r}; distil without a cache"
            )
    return rows


def identity(cfg: CfgNode, teacher_cfg: CfgNode, dicts: Dicts) -> Dict[str, Any]:
    """What a cache is of, as plain data: these images in this order, and this teacher."""
    images = hashlib.sha256()
    for one in dicts:  # where the dataset lies does not matter
        name = "/".join(str(one.get("file_name", "")).replace(os.sep, "/").split("/")[-2:])
        images.update(f"{one['image_id']!r} {name}\n".encode())
    lines = config_lines(teacher_cfg, free=_OF_TRAINING)
    return {
        "datasets": list(cfg.DATASETS.TRAIN),
        "images": len(dicts),
        "images_sha256": images.hexdigest(),
        "classes": teacher_cfg.MODEL.CLASSIFIER.NUM_CLASSES,
        "weights_sha256": _sha256(PathManager.get_local_path(teacher_cfg.MODEL.WEIGHTS.split("?")[0])),
        "teacher": [line for line in lines if line.startswith(_OF_LOGITS)],
    }


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


class LogitsCache:
    """The files of a cache: a table of float16 with one row per image, and the record of what is in it.

    Args:
        folder: made at the first write.
        identity: as of the function of this name.
    """

    def __init__(self, folder: str, identity: Mapping[str, Any]):
        self.folder, self.identity = folder, dict(identity)
        self._record, self._table = os.path.join(folder, RECORD), os.path.join(folder, LOGITS)

    def lock(self) -> Any:
        """A context in which no other run writes to the folder."""
        return file_lock(self._record)

    def done(self) -> int:
        """Rows that are there, the first ones.

        Raises:
            ConfigError: the cache is of something else, or damaged.
        """
        if not os.path.exists(self._record):
            return 0
        try:
            with open(self._record, encoding="utf-8") as file:
                content = json.load(file)
            found, rows = content["identity"], int(content["rows"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"MODEL.DISTILLATION.CACHE: {self._record} is damaged; {self._remove()}") from None
        changed = _changes(found, self.identity)
        if changed:
            raise ConfigError(
                f"MODEL.DISTILLATION.CACHE: {self.folder} holds the logits of something else; name another folder, or "
                f"{self._remove()} (- in the cache, + now):\n" + "\n".join(changed)
            )
        self._open("r")
        return rows

    def begin(self) -> int:
        """Makes an empty table where none is recorded; returns ``done``."""
        if not os.path.exists(self._record):
            os.makedirs(self.folder, exist_ok=True)
            shape = (self.identity["images"], self.identity["classes"])
            np.lib.format.open_memmap(self._table, "w+", np.float16, shape).flush()
            self._write_record(0)
        return self.done()

    def write(self, first: int, logits: np.ndarray) -> None:
        """Writes rows from ``first`` on, and then that they are there: a fill that is killed goes on behind them."""
        table = self._open("r+")
        table[first : first + len(logits)] = logits
        table.flush()
        self._write_record(first + len(logits))

    def read(self) -> np.ndarray:
        """(images, classes), mapped from the file.

        Raises:
            ConfigError: it is not complete.
        """
        rows, images = self.done(), self.identity["images"]
        if rows < images:
            raise ConfigError(
                f"MODEL.DISTILLATION.CACHE: {self.folder} has {rows} of {images} images after it was filled; expected "
                "a folder that all machines share"
            )
        return self._open("r")

    def _open(self, mode: str) -> np.ndarray:
        expected = (self.identity["images"], self.identity["classes"])
        try:
            table = np.lib.format.open_memmap(self._table, mode)
        except (OSError, ValueError) as error:
            raise ConfigError(f"MODEL.DISTILLATION.CACHE: {self._table} ({error}); {self._remove()}") from None
        if table.shape != expected or table.dtype != np.float16:
            raise ConfigError(
                f"MODEL.DISTILLATION.CACHE: {self._table} is a table of {table.dtype} {table.shape}, expected float16 "
                f"{expected}; {self._remove()}"
            )
        return table

    def _write_record(self, rows: int) -> None:
        with atomic_write(self._record) as file:
            file.write(json.dumps({"rows": rows, "identity": self.identity}, indent=1).encode())

    def _remove(self) -> str:
        return f"remove {RECORD} in {self.folder} to fill it anew"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> List[str]:
    lines = []
    for key, value in now.items():
        old = before.get(key)
        if old == value:
            continue
        if key == "teacher" and isinstance(old, list):
            lines += [line for line in difflib.ndiff(old, value) if line[0] in "+-"]
        else:
            lines += [f"- {key}: {old}", f"+ {key}: {value}"]
    return lines


def fill(cache: LogitsCache, dicts: Dicts, batch_size: int, compute: Callable[[Dicts], Iterator[np.ndarray]]) -> None:
    """Computes the rows that are missing, in the main process.

    The others wait for each block, not for the whole, which may take longer than processes wait for each other.

    Args:
        cache: to which no other run writes.
        dicts: of the dataset, one per row.
        batch_size: of ``compute``, N.
        compute: from some dicts to their logits, (N, num_classes) at a time.
    """
    main = comm.is_main_process()
    done = _from_main(cache.begin() if main else 0)
    step = batch_size * max(1, BLOCK // batch_size)
    if main and done < len(dicts):  # another run may have come first, while this one waited for the lock
        _logger.info(f"Computing the teacher's logits of {len(dicts) - done} images for {cache.folder}")
        batches = compute(dicts[done:])
    with tqdm(total=len(dicts), initial=done, unit="image", disable=not main) as bar:
        for first in range(done, len(dicts), step):
            if main:
                rows: List[np.ndarray] = []
                while sum(map(len, rows)) < min(step, len(dicts) - first):
                    rows.append(next(batches))
                    bar.update(len(rows[-1]))
                cache.write(first, np.concatenate(rows))
            comm.synchronize()


def logits_of(
    model: ImageClassifier, dicts: Dicts, cfg: CfgNode, batch_size: int, workers: int
) -> Iterator[np.ndarray]:
    """The logits of images as ``cfg`` tests them, in their order: (N, num_classes) of float16 for each batch.

    Raises:
        FloatingPointError: some are not finite.
        DatasetError: an image cannot be read.
    """
    loader = torch.utils.data.DataLoader(
        MapDataset(DatasetFromList(dicts, copy=False), ClassificationMapper(cfg, False)),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=pack,
    )
    for batch in loader:
        with torch.no_grad():
            logits = model.logits(batch).half().cpu()
        finite = logits.isfinite().all(dim=1)
        if not finite.all():
            bad = batch[int((~finite).nonzero()[0])]
            raise FloatingPointError(
                f"the teacher's logits of image {bad['image_id']!r} ({bad.get('file_name')}) are not finite in "
                f"float16; MODEL.DISTILLATION.TEACHER_WEIGHTS {cfg.MODEL.WEIGHTS}"
            )
        yield logits.numpy()


def _from_main(value: int) -> int:
    """The main process's value, in all processes."""
    return comm.all_gather(value)[0]
