"""Latency tables as CSV files, in and out.

Two forms, told apart by their columns; an empty cell holds nothing:

operators
    ``op, in_channels, in_height, in_width``, the fields of operators as in table files (``out``, ``kernel``,
    ``mid``, ...), ``us``, and optionally ``spread_us``, ``runs`` and ``in_constant`` (true or false). A row whose op
    is "constant" and that has only ``us`` besides holds the table's constant. What ``export_csv`` writes.
layers
    ``layer``: the name of a variable of a layer-wise space, or its number from 1; ``candidate``: the index of one of
    its choices, from 0; one of ``latency_us``, ``latency_ms`` and ``latency_s``; optionally ``spread_us``,
    ``spread_ms`` or ``spread_s`` (interquartile range) and ``runs``.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arch import SearchSpace
from ..arch.spec import Resolution
from ..atomic_file import atomic_write
from .csv_rows import Row, read_rows, whole_number
from .errors import LatencyError
from .matrix_import import US_PER, import_matrix
from .operators import Operator
from .setting import Setting
from .table import Entry, LatencyTable

CONSTANT = "constant"
_SHAPE = ("in_channels", "in_height", "in_width")
_MEASURED = ("us", "spread_us", "runs", "in_constant")


def export_csv(table: LatencyTable, path: str | os.PathLike[str]) -> None:
    """Writes entries and constant of a table in the operators form; read back they are the same to the last bit.

    Setting, date, environment and notes are not in the file.

    Raises:
        OSError: the file cannot be written.
    """
    fields = list(dict.fromkeys(key for operator in table.entries for key, _ in operator.fields))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["op", *_SHAPE, *fields, *_MEASURED], restval="", lineterminator="\n")
    writer.writeheader()
    if table.constant_us:
        writer.writerow({"op": CONSTANT, "us": _cell(float(table.constant_us))})
    for operator, entry in table.entries.items():
        row = {"op": operator.op, **dict(zip(_SHAPE, operator.input)), **dict(operator.fields), "us": float(entry.us)}
        row["spread_us"] = None if entry.spread_us is None else float(entry.spread_us)
        row["runs"], row["in_constant"] = entry.runs or None, entry.in_constant or None
        writer.writerow({key: _cell(value) for key, value in row.items()})
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(stream.getvalue().encode("utf-8"))


def import_csv(
    path: str | os.PathLike[str],
    setting: Setting,
    *,
    space: SearchSpace | None = None,
    resolution: Resolution | None = None,
    constant_us: float | None = None,
    notes: str = "",
) -> LatencyTable:
    """Reads a CSV file in the operators or the layers form.

    Args:
        path: of the file.
        setting: what the numbers hold for.
        space, resolution: of the layers form, which needs a space; image px, default: that of the space.
        constant_us: what a network costs besides, µs; default: the file's own, else 0.
        notes: where the numbers come from.

    Raises:
        LatencyError: names file, line, column, value and what is accepted.
        ArchError: the space is not layer-wise.
    """
    file = os.fspath(path)
    columns, rows = read_rows(file)
    notes = " ".join([f"From {os.path.basename(file)}.", notes]).strip()
    if "op" in columns:
        if space is not None:
            raise LatencyError(f"{file}: has a column op, so it is told by itself what it measures; give no space")
        return _from_operators(rows, columns, setting, constant_us, notes)
    if "layer" not in columns:
        raise LatencyError(f"{file}:1: columns {', '.join(columns)}; expected op, {', '.join(_SHAPE)}, ... or layer, "
                           "candidate, latency_us")  # fmt: skip
    if space is None:
        raise LatencyError(f"{file}: has a column layer; expected a space that names the layers (--space)")
    us, spread_us, runs = _layer_matrix(rows, columns, space)
    try:
        return import_matrix(us, space, setting, resolution=resolution, spread_us=spread_us, runs=runs,
                             constant_us=constant_us or 0.0, notes=notes)  # fmt: skip
    except LatencyError as error:
        raise LatencyError(f"{file}: {error}") from None


def _from_operators(
    rows: Sequence[Row], columns: Sequence[str], setting: Setting, constant_us: float | None, notes: str
) -> LatencyTable:
    for column in (*_SHAPE, "us"):
        if column not in columns:
            raise LatencyError(f"{rows[0].file}:1: column {column} is missing, expected op, {', '.join(_SHAPE)} and us")
    entries: dict[Operator, Entry] = {}
    constants = []
    for row in rows:
        if row.cells.get("op") == CONSTANT:
            constants.append(row.number("us"))
            continue
        operator = _operator(row)
        if operator in entries:
            raise LatencyError(f"{row.file}:{row.line}: {operator} is there twice")
        entries[operator] = _entry(row)
    if len(constants) > 1 or (constants and constant_us is not None):
        raise LatencyError(f"{rows[0].file}: more than one constant, expected one: a row of the file or --constant-us")
    constant = constants[0] if constants else constant_us or 0.0
    return LatencyTable(setting, entries, constant_us=constant, notes=notes)


def _operator(row: Row) -> Operator:
    cells = {key: _value(cell) for key, cell in row.cells.items() if key not in (*_SHAPE, *_MEASURED)}
    cells["input"] = [row.whole(column, "a number of at least 1", 1) for column in _SHAPE]
    try:
        return Operator.from_dict(cells)
    except LatencyError as error:
        raise LatencyError(f"{row.file}:{row.line}: {error}") from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(cell: str) -> Any:
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    number = whole_number(cell)
    return cell if number is None else number


def _entry(row: Row) -> Entry:
    spread = row.number("spread_us") if "spread_us" in row.cells else None
    runs = row.whole("runs", "a number of runs") if "runs" in row.cells else 0
    in_constant = row.cells.get("in_constant", "false").lower()
    if in_constant not in ("true", "false"):
        raise row.fail("in_constant", "true or false")
    return Entry(row.number("us"), spread, runs, in_constant == "true")


def _layer_matrix(
    rows: Sequence[Row], columns: Sequence[str], space: SearchSpace
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """µs, interquartile ranges in µs, and runs, each of shape (layers, candidates), NaN or 0 where there are none."""
    file = rows[0].file
    known = ["layer", "candidate", "runs", *(f"{kind}_{unit}" for kind in ("latency", "spread") for unit in US_PER)]
    unknown = [column for column in columns if column not in known]
    if unknown or "candidate" not in columns:
        problem = f"column {unknown[0]}" if unknown else "column candidate is missing"
        raise LatencyError(f"{file}:1: {problem}; expected {', '.join(known)}")
    latency, factor = _unit(file, columns, "latency")
    spread, spread_factor = _unit(file, columns, "spread")
    shape = (len(space.variables), max(len(variable.choices) for variable in space.variables))
    us, spread_us, runs = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
    names = [variable.name for variable in space.variables]
    for row in rows:
        text = row.cells.get("layer", "")
        layer = names.index(text) if text in names else (whole_number(text) or 0) - 1
        if not 0 <= layer < len(names):
            raise row.fail("layer", f"a variable of {space.name}, or its number from 1 to {len(names)}")
        last = len(space.variables[layer].choices) - 1
        choice = row.whole("candidate", f"a number from 0 to {last}")
        if choice > last:
            raise row.fail("candidate", f"a number from 0 to {last}")
        if not math.isnan(us[layer, choice]):
            raise LatencyError(f"{file}:{row.line}: layer {text}, candidate {choice} is there twice")
        us[layer, choice] = row.number(latency) * factor
        if us[layer, choice] <= 0:
            raise row.fail(latency, "a number above 0; leave out the row of what was not measured")
        if spread in row.cells:
            spread_us[layer, choice] = row.number(spread) * spread_factor
        if "runs" in row.cells:
            runs[layer, choice] = row.whole("runs", "a number of runs")
    return us, spread_us, runs


def _unit(file: str, columns: Sequence[str], kind: str) -> tuple[str, float]:
    """The one column such as ``latency_ms`` and the µs in its unit; there need not be a spread."""
    found = [(f"{kind}_{unit}", factor) for unit, factor in US_PER.items() if f"{kind}_{unit}" in columns]
    if len(found) > 1 or (not found and kind == "latency"):
        names = ", ".join(name for name, _ in found) or "none"
        raise LatencyError(f"{file}:1: columns of {kind}: {names}; expected one of {kind}_us, {kind}_ms, {kind}_s")
    return found[0] if found else ("", 1.0)
