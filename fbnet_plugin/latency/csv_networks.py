"""CSV files of whole networks' latencies, what a table is fitted to when the device gives nothing else.

Columns: ``ops``, the choice of each variable of a space as text, one digit each (or numbers between spaces); or a
column per variable, named like it. Any further columns, at least one of which holds latencies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ..arch import ArchSpec, SearchSpace, get_arch, load_space
from .csv_rows import Row, read_rows, whole_number
from .errors import LatencyError
from .matrix_import import US_PER


def parse_ops(text: str, space: SearchSpace) -> list[int]:
    """A point of a space from text such as "7818488874147327324245": one digit per variable, or numbers and spaces.

    Raises:
        LatencyError: another number of choices, or a choice that a variable does not have.
    """
    return _choices(text.split() if " " in text.strip() else list(text.strip()), space, repr(text))


def _choices(words: Sequence[str], space: SearchSpace, got: str) -> list[int]:
    choices = [whole_number(word) for word in words]
    if len(choices) != len(space.variables) or None in choices:
        raise LatencyError(f"got {got}, expected {len(space.variables)} choices of {space.name}, one digit each")
    kept = [choice for choice in choices if choice is not None]
    for choice, variable in zip(kept, space.variables):
        if choice >= len(variable.choices):
            raise LatencyError(f"got {got}: {choice} for {variable.name}, expected 0 to {len(variable.choices) - 1}")
    return kept


def read_networks(
    path: str | os.PathLike[str], space: SearchSpace, column: str, unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Whole networks and their latencies.

    Args:
        path: of the file.
        space: whose points the networks are.
        column: that holds the latencies.
        unit: of the latencies, "s", "ms" or "us".

    Returns:
        points, int64 of shape (n, len(space.variables)), and latencies in µs, float64 of shape (n,).

    Raises:
        LatencyError: names file, line, column, value and what is accepted.
    """
    file = os.fspath(path)
    if unit not in US_PER:
        raise LatencyError(f"{file}: unit {unit}, expected one of {', '.join(US_PER)}")
    columns, rows = read_rows(file)
    names = [variable.name for variable in space.variables]
    if column not in columns:
        raise LatencyError(f"{file}:1: no column {column!r}, expected one of {', '.join(columns)}")
    if "ops" not in columns and not set(names) <= set(columns):
        raise LatencyError(f"{file}:1: no column ops; expected it, or a column for each of {', '.join(names)}")
    points = np.array([_point(row, space, names, "ops" in columns) for row in rows], dtype=np.int64)
    return points, np.array([row.number(column) * US_PER[unit] for row in rows])


def _point(row: Row, space: SearchSpace, names: Sequence[str], together: bool) -> list[int]:
    try:
        if together:
            return parse_ops(row.cells.get("ops", ""), space)
        words = [row.cells.get(name, "") for name in names]
        return _choices(words, space, repr(" ".join(words)))
    except LatencyError as error:
        raise LatencyError(f"{row.file}:{row.line}: {'ops' if together else 'layers'}: {error}") from None


def read_arch(text: str) -> ArchSpec:
    """An architecture by its name in the zoo, by its file, or as a point of a space: ``SPACE:CHOICES``.

    Raises:
        ArchError: no such architecture or space, or an unusable file.
        LatencyError: choices that the space does not have.
    """
    name, colon, choices = text.partition(":")
    if not colon or text.endswith((".yaml", ".yml")):
        return get_arch(text)
    space = load_space(name)
    return space.arch(parse_ops(choices, space))
