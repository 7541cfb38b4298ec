"""Files that are either there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO, Iterator

PREFIX, SUFFIX = ".", ".tmp"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under ``path`` when the block ends, and not before.

    What is written goes to ``.<name>.tmp`` in the same folder, is flushed to the disk and then renamed. When the
    block raises, the temporary file is removed and an older file under ``path`` stays as it was.

    Args:
        path: of the finished file; its folder must exist.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f"{PREFIX}{name}{SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def remove_leftovers(folder: str, suffix: str) -> None:
    """Removes the temporary files of writers that were killed.

    Args:
        folder: where they lie; nobody else may be writing there.
        suffix: of the finished files' names, such as ".pth".
    """
    for leftover in Path(folder).glob(f"{PREFIX}*{suffix}{SUFFIX}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _sync_folder(folder: str) -> None:
    """Makes a rename in ``folder`` survive a power failure, where the system lets a folder be synchronized."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
