"""What can be read from a run's store, by the process that searches and by others."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .errors import NARSError
from .run_data import CandidateData
from .store_data import AttemptData, candidate_of, from_npz
from .store_schema import STATES, clear_errors


class StoreReader:
    """The queries; see ``Store``.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: "str | os.PathLike[str]", connection: sqlite3.Connection):
        self.path = os.fspath(path)
        self._db = connection
        self._db.row_factory = sqlite3.Row

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``."""
        rows = self._rows("SELECT value FROM entries WHERE key = ?", (key,))
        return json.loads(rows[0]["value"]) if rows else default

    def get_arrays(self, key: str) -> Optional[Dict[str, np.ndarray]]:
        """The arrays under ``key``, None where there are none."""
        rows = self._rows("SELECT npz FROM arrays WHERE key = ?", (key,))
        return from_npz(rows[0]["npz"]) if rows else None

    def candidates(
        self, phase: Optional[str] = None, round: Optional[int] = None, state: Optional[str] = None
    ) -> List[CandidateData]:
        """Those of a phase, of a round and in a state, each where given, in order of their ids."""
        where, values = _where(phase=phase, round=round, state=state)
        with self._snapshot():
            rows = self._rows(f"SELECT * FROM candidates{where} ORDER BY id", values)
            points = self._rows(
                "SELECT candidate, epoch, accuracy FROM curve WHERE accuracy IS NOT NULL "
                f"AND candidate IN (SELECT id FROM candidates{where}) ORDER BY candidate, epoch",
                values,
            )
        curves: Dict[int, List[Tuple[int, float]]] = {}
        for point in points:
            curves.setdefault(point["candidate"], []).append((point["epoch"], point["accuracy"]))
        return [candidate_of(row, curves.get(row["id"], ())) for row in rows]

    def candidate(self, candidate: int) -> CandidateData:
        """One of them.

        Raises:
            NARSError: there is none with this id.
        """
        sql = "SELECT epoch, accuracy FROM curve WHERE candidate = ? AND accuracy IS NOT NULL ORDER BY epoch"
        with self._snapshot():
            curve = [(row["epoch"], row["accuracy"]) for row in self._rows(sql, (candidate,))]
            return candidate_of(self._row(candidate), curve)

    def counts(self, phase: Optional[str] = None, round: Optional[int] = None) -> Dict[str, int]:
        """State -> number of candidates, all four states."""
        where, values = _where(phase=phase, round=round)
        rows = self._rows(f"SELECT state, count(*) AS n FROM candidates{where} GROUP BY state", values)
        return {**dict.fromkeys(STATES, 0), **{row["state"]: row["n"] for row in rows}}

    def point(self, candidate: int) -> Optional[Tuple[int, ...]]:
        """Choice indices in the joint space, None for a candidate that is no point of it."""
        text = self._row(candidate)["point"]
        return None if text is None else tuple(json.loads(text))

    def seed(self, candidate: int) -> int:
        """Seed of its training."""
        return self._row(candidate)["seed"]

    def extra(self, candidate: int) -> Dict[str, Any]:
        """What ``NewCandidate.extra`` was."""
        return json.loads(self._row(candidate)["extra"])

    def kind(self, candidate: int) -> str:
        """Kind of failure, "" for one that has not failed."""
        return self._row(candidate)["kind"]

    def traceback(self, candidate: int) -> str:
        """Of a failure, "" where there is none."""
        return self._row(candidate)["traceback"]

    def values(self, candidate: int) -> Dict[str, float]:
        """All figures of the last evaluation of a candidate that is done."""
        return json.loads(self._row(candidate)["vals"])

    def epochs(self, candidate: int) -> Dict[int, Dict[str, float]]:
        """Epoch -> all figures that were recorded after it."""
        rows = self._rows("SELECT epoch, vals FROM curve WHERE candidate = ? ORDER BY epoch", (candidate,))
        return {row["epoch"]: json.loads(row["vals"]) for row in rows}

    def attempts(self, candidate: Optional[int] = None) -> List[AttemptData]:
        """The ledger: every start of every candidate, or of one, in order."""
        where, values = _where(candidate=candidate)
        rows = self._rows(f"SELECT * FROM attempts{where} ORDER BY started, candidate, attempt", values)
        return [AttemptData(*row) for row in rows]

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> List[sqlite3.Row]:
        with clear_errors(self.path):
            return self._db.execute(sql, values).fetchall()

    def _row(self, candidate: int) -> sqlite3.Row:
        rows = self._rows("SELECT * FROM candidates WHERE id = ?", (candidate,))
        if not rows:
            raise NARSError(f"{self.path}: there is no candidate {candidate}")
        return rows[0]

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several queries that see the same state."""
        with clear_errors(self.path):
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")


def _where(**columns: Any) -> Tuple[str, Tuple[Any, ...]]:
    """The condition that columns have these values, those that are None left out."""
    given = {name: value for name, value in columns.items() if value is not None}
    text = " AND ".join(f"{name} = ?" for name in given)
    return (f" WHERE {text}" if text else ""), tuple(given.values())
