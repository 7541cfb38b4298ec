"""CSV files read strictly: every message names file, line and column."""

from __future__ import annotations

import csv
import io
import math
from typing import NamedTuple

from ..arch.errors import short_repr
from .errors import LatencyError
from .text_file import read_text


class Row(NamedTuple):
    """One line of a file: cell by column, empty cells left out."""

    file: str
    line: int
    cells: dict[str, str]

    def fail(self, column: str, accepted: str) -> LatencyError:
        got = short_repr(self.cells[column]) if column in self.cells else "nothing"
        return LatencyError(f"{self.file}:{self.line}: {column}: got {got}, expected {accepted}")

    def number(self, column: str) -> float:
        """A finite number. Raises LatencyError: it is none, or is not there."""
        try:
            value = float(self.cells[column])
        except (KeyError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise self.fail(column, "a number")
        return value

    def whole(self, column: str, accepted: str, low: int = 0) -> int:
        """A whole number of at least ``low``. Raises LatencyError: it is none, or is not there."""
        text = self.cells.get(column, "")
        value = whole_number(text)
        if value is None or value < low:
            raise self.fail(column, accepted)
        return value


def whole_number(text: str) -> int | None:
    """The number that a few digits are, None for other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def read_rows(file: str) -> tuple[list[str], list[Row]]:
    """Columns and rows of a file, at least one of each; empty lines are passed over."""
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    columns: list[str] = []
    rows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not columns:
                columns = cells
                if "" in columns or len(set(columns)) != len(columns):
                    raise LatencyError(f"{file}:1: columns {', '.join(columns)}; expected a name each, none twice")
                continue
            if len(cells) != len(columns):
                raise LatencyError(f"{file}:{reader.line_num}: {len(cells)} cells, expected {len(columns)}")
            rows.append(Row(file, reader.line_num, {key: cell for key, cell in zip(columns, cells) if cell}))
    except csv.Error as error:
        raise LatencyError(f"{file}:{reader.line_num}: not CSV ({error})") from None
    if not rows:
        raise LatencyError(f"{file}: no rows, expected a line of column names and at least one row")
    return columns, rows
