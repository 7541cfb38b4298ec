"""One process at a time writes into a folder."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from .errors import AblationError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


@contextlib.contextmanager
def sole_writer(folder: str, wait: bool) -> Iterator[None]:
    """Holds a folder for the time of a ``with`` block; a process that ends in whatever way lets it go.

    Args:
        folder: is made where it is missing.
        wait: until another process has let it go.

    Raises:
        AblationError: another process has it, and this one is not to wait.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, LOCK_FILE), "a+") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # flock would be inherited by forks
            except OSError:
                raise AblationError(f"{folder}: another process is running this ablation") from None
        yield
