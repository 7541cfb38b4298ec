"""Latency table files: JSON with one operator per line, read strictly."""

from __future__ import annotations

import json
import os
from typing import Any

from ..arch.errors import short_key, short_repr
from ..atomic_file import atomic_write
from .errors import LatencyError
from .operators import Operator
from .setting import Setting
from .table import Entry, LatencyTable

FORMAT, VERSION = "fbnet_plugin latency table", 1
MAX_US = 1e15  # 30 years
_KEYS = ("format", "version", "date", "setting", "environment", "notes", "constant_us", "operators")
_ENTRY_KEYS = Entry._fields


def save_table(table: LatencyTable, path: str | os.PathLike[str]) -> None:
    """Writes a table; the file appears complete or not at all.

    Raises:
        LatencyError: a number that ``load_table`` would refuse, such as NaN.
        OSError: the file cannot be written.
    """
    for operator, entry in table.entries.items():
        try:
            _number("us", entry.us)
            _number("spread_us", entry.spread_us or 0.0)
        except LatencyError as error:
            raise LatencyError(f"{operator}: {error}") from None
    _number("constant_us", table.constant_us)
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
    text = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False)
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
        found = data.get("format") if isinstance(data, dict) else data
        raise LatencyError(f"format: got {short_repr(found)}, expected {FORMAT!r}")
    if data.get("version") != VERSION:
        raise LatencyError(f"version: got {short_repr(data.get('version'))}, expected {VERSION}")
    for key in data:
        if key not in _KEYS:
            raise LatencyError(f"{short_key(key)}: unknown key, expected one of {', '.join(_KEYS)}")
    for key, kind, what in (("date", str, "a text"), ("notes", str, "a text"), ("environment", dict, "a mapping")):
        if not isinstance(data.get(key, kind()), kind):
            raise LatencyError(f"{key}: got {short_repr(data[key])}, expected {what}")
    if not isinstance(data.get("operators"), list):
        raise LatencyError(f"operators: got {short_repr(data.get('operators'))}, expected a list of operators")
    entries: dict[Operator, Entry] = {}
    for number, row in enumerate(data["operators"]):
        if not isinstance(row, dict):
            raise LatencyError(f"operators[{number}]: got {short_repr(row)}, expected a mapping")
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


def _read_row(row: dict[str, Any]) -> tuple[Operator, Entry]:
    operator = Operator.from_dict({key: value for key, value in row.items() if key not in _ENTRY_KEYS})
    runs, in_constant = row.get("runs", 0), row.get("in_constant", False)
    if type(runs) is not int or runs < 0:
        raise LatencyError(f"runs: got {short_repr(runs)}, expected an integer of at least 0")
    if type(in_constant) is not bool:
        raise LatencyError(f"in_constant: got {short_repr(in_constant)}, expected true or false")
    spread = row.get("spread_us")
    spread = None if spread is None else _number("spread_us", spread)
    return operator, Entry(_number("us", row.get("us")), spread, runs, in_constant)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_US:
        raise LatencyError(f"{key}: got {short_repr(value)}, expected a number of µs")
    return float(value)
