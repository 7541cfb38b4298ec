"""Table files: what goes in comes out, and whatever is wrong with a file is named."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import SETTING, table_of

from fbnet_plugin.arch import get_arch, load_space
from fbnet_plugin.latency import (
    Entry,
    LatencyError,
    LatencyTable,
    Operator,
    Setting,
    arch_operators,
    load_table,
    save_table,
)
from fbnet_plugin.latency.coverage import space_operators

OPERATORS = [operator for name in ("fbnet_c", "fbnet_v3_e_gpu") for _, operator in arch_operators(get_arch(name))]


@pytest.fixture
def table() -> LatencyTable:
    facts = {"system": "Linux", "cores": 2, "note": "é"}
    return table_of(OPERATORS, constant_us=12.5, date="2024-02-03T04:05:06+00:00", environment=facts, notes="naïve µs")


def test_round_trip(table: LatencyTable, tmp_path: Path) -> None:
    first, *_, skip = table.entries
    table.entries[first] = Entry(1.25)
    table.entries[skip] = Entry(0.0, in_constant=True)
    path = tmp_path / "new" / "table.json"
    save_table(table, path)
    again = load_table(path)
    assert again.entries == table.entries and list(again.entries) == list(table.entries)
    assert (again.setting, again.constant_us, again.date) == (table.setting, 12.5, table.date)
    assert (again.environment, again.notes, again.file) == (table.environment, "naïve µs", str(path))
    assert again.digest() == table.digest()
    save_table(again, path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["again.json", "table.json"]


def test_an_imported_setting_and_an_empty_table(tmp_path: Path) -> None:
    empty = LatencyTable(Setting("raspi4", "ARM Cortex-A72", "TFLite", method="import"), {})
    save_table(empty, tmp_path / "empty.json")
    again = load_table(str(tmp_path / "empty.json"))
    assert (again.setting, again.entries, again.constant_us) == (empty.setting, {}, 0.0)


def test_a_file_reads_one_operator_per_line(table: LatencyTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "table.json")
    lines = (tmp_path / "table.json").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith('  {"op": ')]
    assert len(rows) == len(table.entries) and all(len(line) < 200 for line in rows)
    assert json.loads(rows[0].rstrip(",")) == {**OPERATORS[0].to_dict(), "us": table.entries[OPERATORS[0]].us,
                                               "spread_us": 0.5, "runs": 20}  # fmt: skip


def test_numbers_from_numpy(tmp_path: Path) -> None:
    entries = {OPERATORS[0]: Entry(np.float64(1.5), np.float64(0.25), 3)}
    save_table(LatencyTable(SETTING, entries, constant_us=np.float64(2)), tmp_path / "table.json")
    assert load_table(tmp_path / "table.json").entries == {OPERATORS[0]: Entry(1.5, 0.25, 3)}


def test_all_of_fbnet_v3(tmp_path: Path) -> None:
    table = table_of(space_operators(load_space("fbnet_v3"), 224))
    save_table(table, tmp_path / "table.json")
    assert load_table(tmp_path / "table.json").entries == table.entries


def test_the_digest_is_of_the_contents(table: LatencyTable) -> None:
    rows = list(table.entries.items())
    turned = LatencyTable(table.setting, dict(reversed(rows)), 12.5, notes="another note")
    assert turned.digest() == table.digest() and re.fullmatch("[0-9a-f]{64}", table.digest())
    others = [
        LatencyTable(table.setting, dict(rows), 12.6),
        LatencyTable(table.setting, dict(rows[1:]), 12.5),
        LatencyTable(table.setting, {**dict(rows), rows[0][0]: Entry(rows[0][1].us + 0.01)}, 12.5),
        LatencyTable(Setting("cpu", "Ryzen 7", "eager"), dict(rows), 12.5),
    ]
    assert len({table.digest(), *(other.digest() for other in others)}) == 5


# ---------------------------------------------------------------------------------------------
# Writing what cannot be read
# ---------------------------------------------------------------------------------------------

BAD_TABLES: list[tuple[dict[str, Any], str]] = [
    ({"entries": {OPERATORS[0]: Entry(math.nan)}}, f"^{OPERATORS[0]}: us: got nan, expected a number"),
    ({"entries": {OPERATORS[0]: Entry(math.inf)}}, ": us: got inf"),
    ({"entries": {OPERATORS[0]: Entry(1.0, math.nan)}}, ": spread_us: got nan"),
    ({"constant_us": math.nan}, "^constant_us: got nan"),
]


@pytest.mark.parametrize("fields, message", BAD_TABLES)
def test_what_could_not_be_read_is_not_written(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("before")
    with pytest.raises(LatencyError, match=message):
        save_table(table_of([], **fields), path)
    assert path.read_text() == "before" and [file.name for file in tmp_path.iterdir()] == ["table.json"]


def test_an_interrupted_write_leaves_the_old_file(
    table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.json"
    save_table(table, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_table(table_of(OPERATORS[:1]), path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["table.json"]


# ---------------------------------------------------------------------------------------------
# Reading what is wrong
# ---------------------------------------------------------------------------------------------

ROW = {"op": "skip", "input": [16, 56, 56], "out": 24, "us": 3.5}
GOOD: dict[str, Any] = {
    "format": "fbnet_plugin latency table", "version": 1, "setting": SETTING.to_dict(), "operators": [ROW],
}  # fmt: skip


def load(text: str, folder: Path) -> LatencyTable:
    path = folder / "table.json"
    path.write_text(text, encoding="utf-8")
    return load_table(path)


def test_the_smallest_file(tmp_path: Path) -> None:
    table = load(json.dumps(GOOD), tmp_path)
    assert table.entries == {Operator("skip", (16, 56, 56), (("out", 24),)): Entry(3.5)} and table.setting == SETTING


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"format": "a latency table"}, "format: got 'a latency table', expected 'fbnet_plugin latency table'"),
    ({"version": 2}, "version: got 2, expected 1"),
    ({"version": None}, "version: got None, expected 1"),
    ({"unit": "ms"}, "unit: unknown key, expected one of format, version, date, setting"),
    ({"date": 2024}, "date: got 2024, expected a text"),
    ({"environment": []}, "environment: got [], expected a mapping"),
    ({"operators": {}}, "operators: got {}, expected a list of operators"),
    ({"operators": None}, "operators: got None, expected a list of operators"),
    ({"setting": None}, "setting: got None, expected a mapping"),
    ({"setting": {**SETTING.to_dict(), "threads": 1.5}}, "setting.threads: got 1.5, expected null or an integer"),
    ({"constant_us": "3"}, "constant_us: got '3', expected a number of µs"),
    ({"constant_us": True}, "constant_us: got True, expected a number of µs"),
    ({"operators": [ROW, 3]}, "operators[1]: got 3, expected a mapping"),
    ({"operators": [ROW, ROW]}, "operators[1]: skip out=24 on 16x56x56 is there twice"),
    ({"operators": [ROW, {**ROW, "stride": 1}]}, "operators[1]: skip out=24 on 16x56x56 is there twice"),
    ({"operators": [{**ROW, "us": None}]}, "operators[0].us: got None, expected a number of µs"),
    ({"operators": [{**ROW, "us": 10**400}]}, "operators[0].us: got"),
    ({"operators": [{**ROW, "spread_us": "0.5"}]}, "operators[0].spread_us: got '0.5', expected a number of µs"),
    ({"operators": [{**ROW, "runs": -1}]}, "operators[0].runs: got -1, expected an integer of at least 0"),
    ({"operators": [{**ROW, "in_constant": 1}]}, "operators[0].in_constant: got 1, expected true or false"),
    ({"operators": [{**ROW, "kernel": 3}]}, "operators[0].kernel: unknown key of skip, expected one of stride, out"),
    ({"operators": [{**ROW, "op": "skip2"}]}, "operators[0].op: got 'skip2', expected one of conv, mb, skip"),
]


@pytest.mark.parametrize("change, message", WRONG)
def test_errors_name_file_place_and_value(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LatencyError) as caught:
        load(json.dumps({**GOOD, **change}), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'table.json'}: {message}"), str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 300


TEXTS = [
    ("", "not a latency table"),
    ("latency: 3", "not a latency table"),
    ("[1, 2]", "format: got [1, 2], expected 'fbnet_plugin latency table'"),
    ("3", "format: got 3"),
    (json.dumps(GOOD).replace("3.5", "NaN"), "not a latency table (NaN is not JSON)"),
    (json.dumps(GOOD).replace("3.5", "-Infinity"), "not a latency table (-Infinity is not JSON)"),
    (json.dumps(GOOD).replace("3.5", "1e999"), "operators[0].us: got inf, expected a number of µs"),
    ("[" * 100_000, "not a latency table"),
]


@pytest.mark.parametrize("text, message", TEXTS, ids=range(len(TEXTS)))
def test_other_texts(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LatencyError) as caught:
        load(text, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'table.json'}: {message}")


@given(st.data())
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    save_table(table_of(OPERATORS[:3]), folder / "table.json")
    text = (folder / "table.json").read_text(encoding="utf-8").rstrip()
    with pytest.raises(LatencyError, match="not a latency table"):
        load(text[: data.draw(st.integers(0, len(text) - 1))], folder)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match=re.escape(f"{tmp_path}: Is a directory")):
        load_table(tmp_path)
    with pytest.raises(LatencyError, match=re.escape(f"{tmp_path / 'none.json'}: No such file or directory")):
        load_table(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(LatencyError, match="binary.json: not a latency table"):
        load_table(tmp_path / "binary.json")
