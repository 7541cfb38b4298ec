"""One process at a time writes a run's store."""

from __future__ import annotations

import os
from typing import IO, Optional, Set

from .errors import NARSError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

_held: Set[str] = set()  # by this process, which the system would let have a lock twice


class WriterLock:
    """Held until ``release``, or until the process ends in whatever way; processes that it forks do not hold it."""

    def __init__(self, path: str):
        """
        Args:
            path: of the store; the lock is a file beside it.

        Raises:
            NARSError: another process, or this one, has it.
        """
        self._path = f"{os.path.abspath(path)}.lock"
        if self._path in _held:
            raise NARSError(f"{path} is already open for writing in this process")
        self._file: Optional[IO[str]] = None
        while fcntl is not None and self._file is None:
            self._file = self._take(path)
        _held.add(self._path)

    def _take(self, path: str) -> Optional[IO[str]]:
        """The locked file, None where its owner removed it at the same time."""
        try:
            file = open(self._path, "a+")
        except OSError as error:
            raise NARSError(f"{path} cannot be written: {error}") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # flock would be inherited by forked processes
        except OSError:
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise NARSError(f"{path}: another process (id {owner or 'unknown'}) is running this search") from None
        if not os.path.exists(self._path) or not os.path.samestat(os.stat(self._path), os.fstat(file.fileno())):
            file.close()
            return None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

    def release(self) -> None:
        """Gives it back; a second time does nothing."""
        if self._path in _held:
            _held.discard(self._path)
            if self._file is not None:
                os.unlink(self._path)
                self._file.close()
