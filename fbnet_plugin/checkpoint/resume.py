"""Which checkpoint a run continues from, also when the newest one is damaged."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from pathlib import Path
from typing import List, Optional

from .errors import CheckpointError
from .file_formats import read_checkpoint
from .safe_files import POINTER

# What the periodic and the best checkpointer of Detectron2 write.
_TRAINING_STATE = re.compile(r"model_(\d+|final|best)\.pth")

_logger = logging.getLogger(__name__)


def training_checkpoints(folder: str) -> List[str]:
    """Paths of the checkpoints of training runs in ``folder``, the newest first.

    By modification time (a folder may hold the files of an earlier, longer run), at equal times by name.
    """
    files = [path for path in Path(folder).glob("model_*.pth") if _TRAINING_STATE.fullmatch(path.name)]
    return [str(path) for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)]


def has_training_state(folder: str) -> bool:
    """Whether a run has left a checkpoint, or at least the pointer to one, in ``folder``."""
    return bool(folder) and (os.path.exists(os.path.join(folder, POINTER)) or bool(training_checkpoints(folder)))


def newest_readable(folder: str) -> str:
    """Path of the checkpoint to continue from: the one that ``last_checkpoint`` names, else the newest good one.

    Every file that is passed over is named in a warning.

    Raises:
        CheckpointError: there is no readable checkpoint; starting from nothing is never the answer.
    """
    pointed = _pointed(folder)
    problems = []
    for path in ([pointed] if pointed else []) + [path for path in training_checkpoints(folder) if path != pointed]:
        problem = _problem(path)
        if problem is None:
            if path != pointed:
                _logger.warning(f"Falling back to checkpoint {path}")
            return path
        _logger.warning(problem)
        problems.append(problem)
    raise CheckpointError(
        f"{folder}: no checkpoint in it can be resumed from; start without --resume, or name another OUTPUT_DIR.\n"
        + "\n".join(f"  {problem}" for problem in problems or [f"{POINTER} names no file, and there is no other"])
    )


def _pointed(folder: str) -> Optional[str]:
    """Path of the file that the pointer names, or None, with a warning, where it names none."""
    pointer = Path(folder, POINTER)
    if not pointer.is_file():
        _logger.warning(f"{pointer} is missing; looking for the newest checkpoint in {folder}")
        return None
    name = pointer.read_bytes()[:4096].decode(errors="replace").strip()
    if not name:
        _logger.warning(f"{pointer} is empty; looking for the newest checkpoint in {folder}")
        return None
    path = os.path.join(folder, name)
    if os.path.basename(name) != name or not os.path.isfile(path):
        _logger.warning(f"{pointer} names {name[:80]!r}, which is not there; looking for the newest checkpoint")
        return None
    return path


def _problem(path: str) -> Optional[str]:
    """What keeps a run from continuing from ``path``, or None."""
    try:
        content = read_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    if zipfile.is_zipfile(path):  # PyTorch writes checksums but does not look at them
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
        if record is not None:
            return f"checkpoint {path}: is damaged (checksum of {record})"
    missing = [key for key in ("model", "trainer", "iteration") if key not in content]
    return f"checkpoint {path}: has no {' and no '.join(missing)}, so it is not a training state" if missing else None
