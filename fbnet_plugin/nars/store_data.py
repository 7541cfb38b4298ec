"""What goes into a run's store and comes out of it, as plain data."""

from __future__ import annotations

import io
import json
import math
import sqlite3
import zipfile
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from .errors import NARSError
from .run_data import CandidateData


@dataclass(frozen=True)
class NewCandidate:
    """A candidate that has been chosen and not yet been trained; see ``CandidateData`` for what the fields mean.

    Attributes:
        point: its choice indices in the joint space; None for one that is no point of it.
        seed: of its training.
        extra: anything else that belongs to it, JSON-able.
    """

    phase: str
    round: int
    name: str
    origin: str
    point: Optional[Tuple[int, ...]]
    arch: Dict[str, Any]
    recipe: Dict[str, Any]
    costs: Dict[str, float]
    predicted: Optional[float] = None
    predicted_std: Optional[float] = None
    epochs: int = 0
    seed: int = 0
    extra: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttemptData:
    """One line of the ledger: a time that a candidate was started.

    Attributes:
        candidate: id.
        attempt: from 1.
        worker: who had it.
        started, ended: seconds since 1970; ``ended`` is None while it runs.
        outcome: "running", "done", a kind of failure ("error", "diverged", "memory", "timeout", "killed"),
            "interrupted" where the search was asked to stop, "lost" where the search itself was killed.
    """

    candidate: int
    attempt: int
    worker: str
    started: float
    ended: Optional[float]
    outcome: str


def to_json(value: Any, what: str) -> str:
    """
    Args:
        value: plain data, or numpy's numbers and arrays in it.
        what: it is, for the message.

    Raises:
        NARSError: it is no plain data, or has a number that is not finite.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise NARSError(f"{what} cannot be stored: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not plain data")


def finite(value: Optional[float], what: str) -> Optional[float]:
    """
    Raises:
        NARSError: it is a number that is not finite.
    """
    if value is None:
        return None
    if not math.isfinite(value):
        raise NARSError(f"{what} is {value}, which is not a finite number")
    return float(value)


def only_finite(values: Mapping[str, float]) -> Dict[str, float]:
    """The values without those that are not finite."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def to_npz(arrays: Mapping[str, np.ndarray], what: str) -> bytes:
    """
    Raises:
        NARSError: an array is of objects, which only pickle could keep.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            if np.asarray(array).dtype.hasobject:
                raise NARSError(f"{what}: array {name!r} is of Python objects, which are not stored")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def from_npz(data: bytes) -> Dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


INSERTED = (
    "id", "phase", "round", "name", "origin", "point", "arch", "recipe", "costs",
    "predicted", "predicted_std", "epochs", "seed", "extra",
)  # fmt: skip


def row_of(number: int, candidate: NewCandidate) -> Tuple[Any, ...]:
    """The values of ``INSERTED``.

    Raises:
        NARSError: something in it cannot be stored.
    """
    what = f"candidate {candidate.name!r}"
    return (
        number,
        candidate.phase,
        int(candidate.round),
        candidate.name,
        candidate.origin,
        None if candidate.point is None else json.dumps([int(index) for index in candidate.point]),
        to_json(candidate.arch, f"{what}: its architecture"),
        to_json(candidate.recipe, f"{what}: its recipe"),
        to_json(dict(candidate.costs), f"{what}: its costs"),
        finite(candidate.predicted, f"{what}: its predicted accuracy"),
        finite(candidate.predicted_std, f"{what}: the deviation of its predicted accuracy"),
        int(candidate.epochs),
        int(candidate.seed),
        to_json(candidate.extra, f"{what}: extra"),
    )


def candidate_of(row: sqlite3.Row, curve: Sequence[Tuple[int, float]]) -> CandidateData:
    """A row of the table of candidates with its curve."""
    return CandidateData(
        id=row["id"],
        phase=row["phase"],
        round=row["round"],
        name=row["name"],
        origin=row["origin"],
        state=row["state"],
        costs=json.loads(row["costs"]),
        arch=json.loads(row["arch"]),
        recipe=json.loads(row["recipe"]),
        predicted=row["predicted"],
        predicted_std=row["predicted_std"],
        accuracy=row["accuracy"],
        epochs=row["epochs"],
        curve=tuple(curve),
        attempts=row["attempts"],
        reason=row["reason"],
        kind=row["kind"],
        seconds=row["seconds"],
    )
