"""Latency table files: JSON with one operator per line, read strictly."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from ..atomic_file import atomic_write
from .errors import LatencyError
from .operators import Operator
from .setting import Setting
from .table import Entry, LatencyTable

FORMAT, VERSION = "fbnet_plugin latency table", 1
_KEYS = ("format", "version", "date", "setting", "environment", "notes", "constant_us", "operators")
_ENTRY_KEYS = Entry._fields


def save_table(table: LatencyTable, path: str | os.PathLike[str]) -> None:
    """Writes a table; the file appears complete or not at all.

    Raises:
        LatencyError: an entry is not a finite number, the file would not be readable.
        OSError: the file cannot be written.
    """
    for operator, entry in table.entries.items():
        if not math.isfinite(entry.us):
            raise LatencyError(f"{operator}: {entry.us} µs, expected a finite number")
    rows = [json.dumps({**operator.to_dict(), **_entry_dict(entry)}) for operator, entry in table.entries.items()]
    head = {
        "format": FORMAT,
        "version": VERSION,
        "date": table.date,
        "setting": table.setting.to_dict(),
        "environment": table.environment,
        "notes": table.notes,
        "constant_us": table.constant_us,
    }
    text = json.dumps(head, indent=1, ensure_ascii=False)
    text = text[: text.rindex("\n}")] + ',\n "operators": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def _entry_dict(entry: Entry) -> dict[str, Any]:
    data: dict[str, Any] = {"us": round(entry.us, 4)}
    if entry.spread_us is not None:
        data["spread_us"] = round(entry.spread_us, 4)
    if entry.runs:
        data["runs"] = entry.runs
    return {**data, "in_constant": True} if entry.in_constant else data


def load_table(path: str | os.PathLike[str]) -> LatencyTable:
    """Reads a table.

    Raises:
        LatencyError: no such file, not a table, a version from the future, an unknown key or a bad value; names the
            file and the place in it.
    """
    file = os.fspath(path)
    try:
        with open(file, encoding="utf-8") as stream:
            data = json.load(stream, parse_constant=_refuse)
    except OSError as error:
        raise LatencyError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise LatencyError(f"{file}: not a latency table ({error})") from None
    try:
        return _table_from_dict(data, file)
    except LatencyError as error:
        raise LatencyError(f"{file}: {error}") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _table_from_dict(data: Any, file: str) -> LatencyTable:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise LatencyError(f"format: got {found!r}, expected {FORMAT!r}")
    if data.get("version") != VERSION:
        raise LatencyError(f"version: got {data.get('version')!r}, expected {VERSION}")
    for key in data:
        if key not in _KEYS:
            raise LatencyError(f"{key}: unknown key, expected one of {', '.join(_KEYS)}")
    for key, kind in (("date", str), ("notes", str), ("environment", dict), ("operators", list)):
        if not isinstance(data.get(key, kind()), kind):
            raise LatencyError(f"{key}: got {data[key]!r}, expected a {kind.__name__}")
    entries: dict[Operator, Entry] = {}
    for number, row in enumerate(data.get("operators", [])):
        try:
            operator, entry = _read_row(row)
        except LatencyError as error:
            raise LatencyError(f"operators[{number}].{error}") from None
        if operator in entries:
            raise LatencyError(f"operators[{number}]: {operator} is there twice")
        entries[operator] = entry
    return LatencyTable(
        setting=Setting.from_dict(data.get("setting")),
        entries=entries,
        constant_us=_number("constant_us", data.get("constant_us", 0.0)),
        date=data.get("date", ""),
        environment=data.get("environment", {}),
        notes=data.get("notes", ""),
        file=file,
    )


def _read_row(row: Any) -> tuple[Operator, Entry]:
    if not isinstance(row, dict):
        raise LatencyError(f"got {row!r}, expected a mapping")
    operator = Operator.from_dict({key: value for key, value in row.items() if key not in _ENTRY_KEYS})
    runs, in_constant = row.get("runs", 0), row.get("in_constant", False)
    if type(runs) is not int or runs < 0:
        raise LatencyError(f"runs: got {runs!r}, expected a number of runs")
    if type(in_constant) is not bool:
        raise LatencyError(f"in_constant: got {in_constant!r}, expected true or false")
    spread = row.get("spread_us")
    spread = None if spread is None else _number("spread_us", spread)
    return operator, Entry(_number("us", row.get("us")), spread, runs, in_constant)


def _number(key: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise LatencyError(f"{key}: got {value!r}, expected a number")
    return float(value)
