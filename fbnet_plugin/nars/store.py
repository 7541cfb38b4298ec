"""The store of a run: one SQLite file with every candidate, its curve and outcome, and the state of the search.

Only the process that searches writes; others, such as ``status`` and ``report``, read at the same time. Every method
that writes is one transaction, on the disk when it returns: after a crash the store is as it was between two calls.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from typing import Any, Iterator, List, Mapping, Sequence

import numpy as np

from .errors import NARSError
from .store_data import INSERTED, NewCandidate, only_finite, row_of, to_json, to_npz
from .store_lock import WriterLock
from .store_reader import StoreReader
from .store_schema import clear_errors, close, open_for_reading, open_for_writing

__all__ = ["NewCandidate", "Store"]


class Store(StoreReader):
    """Candidates go from "pending" to "running" to "done" or "failed"; a "done" one never changes again.

    Attributes:
        path: of the file.
        read_only: whether methods that write raise.
    """

    def __init__(self, path: "str | os.PathLike[str]", *, read_only: bool = False):
        """
        Args:
            path: of the file, made if it is to be written and does not exist; its folder must exist.
            read_only: to look at it while another process may be writing.

        Raises:
            NARSError: the file is missing (read only), damaged, another program's, of a newer version, or another
                process is writing it.
        """
        file, self.read_only = os.fspath(path), read_only
        self._lock = None if read_only else WriterLock(file)
        try:
            connection = open_for_reading(file) if read_only else open_for_writing(file)
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise
        super().__init__(file, connection)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the file; a second time does nothing."""
        if self.read_only:
            self._db.close()
        elif self._lock is not None:
            close(self._db)
            self._lock.release()
            self._lock = None

    def put(self, key: str, value: Any) -> None:
        """Keeps plain data under ``key``; an older value is replaced."""
        self.put_many({key: value})

    def put_many(self, values: Mapping[str, Any]) -> None:
        """Keeps several values in one transaction.

        Raises:
            NARSError: one is no plain data, or has a number that is not finite; nothing is kept.
        """
        rows = [(key, to_json(value, f"{key!r}")) for key, value in values.items()]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)

    def put_arrays(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps numpy arrays under ``key``.

        Raises:
            NARSError: one is of Python objects.
        """
        data = to_npz(arrays, f"{key!r}")
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?)", (key, data))

    def add(self, candidates: Sequence[NewCandidate]) -> List[int]:
        """Adds candidates, all or none.

        Returns:
            Their ids, which count on from the last candidate's, the first of all having 1.

        Raises:
            NARSError: a phase already has a candidate of that name, or something in one cannot be stored.
        """
        places = ", ".join("?" * len(INSERTED))
        with self._transaction() as db:
            first = db.execute("SELECT coalesce(max(id), 0) + 1 FROM candidates").fetchone()[0]
            rows = [row_of(number, one) for number, one in enumerate(candidates, first)]
            db.executemany(f"INSERT INTO candidates ({', '.join(INSERTED)}) VALUES ({places})", rows)
        return [row[0] for row in rows]

    def start(self, candidate: int, worker: str = "") -> int:
        """A worker begins with a pending candidate; the curve of an earlier attempt is removed.

        Returns:
            The number of the attempt, from 1.
        """
        with self._transaction() as db:
            attempt = self._in_state(candidate, "pending")["attempts"] + 1
            db.execute("DELETE FROM curve WHERE candidate = ?", (candidate,))
            self._update(candidate, state="running", attempts=attempt, kind="", reason="", traceback="", seconds=None)
            row = (candidate, attempt, worker, time.time(), None, "running")
            db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)", row)
        return attempt

    def record_epoch(self, candidate: int, epoch: int, values: Mapping[str, float]) -> None:
        """Keeps the figures after an epoch (from 1) of a running candidate, without those that are not finite.

        "accuracy" (%) is what its curve shows.
        """
        kept = only_finite(values)
        row = (candidate, epoch, kept.get("accuracy"), to_json(kept, f"epoch {epoch}"))
        with self._transaction() as db:
            self._in_state(candidate, "running")
            db.execute("INSERT OR REPLACE INTO curve VALUES (?, ?, ?, ?)", row)

    def finish(self, candidate: int, accuracy: float, values: Mapping[str, float], seconds: float) -> None:
        """A running candidate is done.

        Args:
            accuracy: %.
            values: other figures of its last evaluation; those that are not finite are left out.
            seconds: that it took.

        Raises:
            NARSError: the accuracy is not finite; such a candidate has failed.
        """
        if not math.isfinite(accuracy):
            raise NARSError(f"candidate {candidate}: accuracy is {accuracy}, which is a failure and no result")
        figures = to_json(only_finite(values), f"candidate {candidate}: values")
        with self._transaction():
            self._in_state(candidate, "running")
            self._update(candidate, state="done", accuracy=float(accuracy), vals=figures, seconds=float(seconds))
            self._end_attempt(candidate, "done")

    def fail(self, candidate: int, kind: str, reason: str, traceback: str, seconds: float) -> None:
        """A running candidate has failed for good.

        Args:
            kind: "error", "diverged", "memory", "timeout" or "killed".
            reason: one line.
            traceback: "" where there is none.
            seconds: that the last attempt took.
        """
        with self._transaction():
            self._in_state(candidate, "running")
            ending = {"kind": kind, "reason": reason, "traceback": traceback, "seconds": float(seconds)}
            self._update(candidate, state="failed", **ending)
            self._end_attempt(candidate, kind)

    def requeue(self, candidate: int, outcome: str = "interrupted") -> None:
        """A running or failed candidate becomes pending again; its attempts stay counted.

        Args:
            candidate: id.
            outcome: what the ledger says of the attempt that was running.
        """
        with self._transaction():
            self._in_state(candidate, "running", "failed")
            self._update(candidate, state="pending")
            self._end_attempt(candidate, outcome)

    def recover(self) -> List[int]:
        """After a crash: candidates that were running become pending again.

        Returns:
            Their ids.
        """
        with self._transaction() as db:
            rows = db.execute("SELECT id FROM candidates WHERE state = 'running' ORDER BY id").fetchall()
            for row in rows:
                self._update(row["id"], state="pending")
                self._end_attempt(row["id"], "lost")
        return [row["id"] for row in rows]

    def _in_state(self, candidate: int, *states: str) -> sqlite3.Row:
        row = self._row(candidate)
        if row["state"] not in states:
            raise NARSError(
                f"{self.path}: candidate {candidate} ({row['name']}) is {row['state']}, not {' or '.join(states)}"
            )
        return row

    def _update(self, candidate: int, **columns: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE candidates SET {names} WHERE id = ?", (*columns.values(), candidate))

    def _end_attempt(self, candidate: int, outcome: str) -> None:
        sql = "UPDATE attempts SET ended = ?, outcome = ? WHERE candidate = ? AND ended IS NULL"
        self._db.execute(sql, (time.time(), outcome, candidate))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """What is written inside is kept as a whole, or not at all when the block raises."""
        if self.read_only:
            raise NARSError(f"{self.path} was opened for reading only")
        with clear_errors(self.path):
            if self._db.in_transaction:  # a signal's exception came between BEGIN and the block
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
