"""Tables and networks in CSV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_spaces import space_of

from fbnet_plugin.arch import get_arch, load_space
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Setting, arch_operators
from fbnet_plugin.latency.csv_networks import parse_ops, read_networks
from fbnet_plugin.latency.csv_table import export_csv, import_csv
from fbnet_plugin.latency.layerwise import layerwise

SETTING = Setting("board", "Some Board", "some runtime", method="import")
CHOICES = [{"op": "mb", "kernel": 3, "divisor": 1}, {"op": "mb", "kernel": 5, "divisor": 1}, {"op": "skip"}]
SMALL = space_of(
    {"one": CHOICES, "two": CHOICES}, stages=[[{"use": "$one", "out": 3}, {"use": "$two", "out": 3, "stride": 2}]]
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["fbnet_v3_a", "fbnet_a", "fbnet_v2_f1", "fbnet_v3_a_dsmask_tiny_det"])
def test_round_trip_is_exact(tmp_path: Path, name: str) -> None:
    operators = dict.fromkeys(operator for _, operator in arch_operators(get_arch(name)))
    kinds = [Entry(1 / 3, 0.1, 7), Entry(-2.5e-7), Entry(0.0, in_constant=True), Entry(1e9 / 7, 0.0, 1)]
    entries = {operator: kinds[number % 4] for number, operator in enumerate(operators)}
    table = LatencyTable(SETTING, entries, constant_us=22 / 7)
    export_csv(table, tmp_path / "deep" / "t.csv")
    again = import_csv(tmp_path / "deep" / "t.csv", SETTING)
    assert again.entries == entries and list(again.entries) == list(entries)
    assert again.constant_us == 22 / 7 and again.setting == SETTING


def test_the_file_is_what_the_documentation_says(tmp_path: Path) -> None:
    operators = [operator for _, operator in arch_operators(SMALL.arch([0, 2]))]
    table = LatencyTable(SETTING, {operators[0]: Entry(1.5, 0.25, 8), operators[1]: Entry(0.0, None, 0, True)}, 9.0)
    export_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "op,in_channels,in_height,in_width,kernel,mid,out,expand,act,stride,us,spread_us,runs,in_constant",
        "constant,,,,,,,,,,9.0,,,",
        "mb,3,32,32,3,3,3,false,relu,,1.5,0.25,8,",
        "skip,3,32,32,,,3,,,2,0.0,,,true",
    ]


def test_layers_by_name_and_number_in_milliseconds(tmp_path: Path) -> None:
    text = "layer,candidate,latency_ms,spread_ms,runs\none,0,1.5,0.5,3\n1,1,2,,\n\n2,0,4,1,5\ntwo,2,0.25,,\n"
    table = import_csv(write(tmp_path, text), SETTING, space=SMALL, constant_us=7.0, notes="By hand.")
    one, two = layerwise(SMALL).candidates
    measured = {one[0][0]: Entry(1500.0, 500.0, 3), one[1][0]: Entry(2000.0), two[0][0]: Entry(4000.0, 1000.0, 5),
                two[2][0]: Entry(250.0)}  # fmt: skip
    assert table.entries == measured and table.notes.startswith("From t.csv. By hand. 2 operators of small have no")
    assert table.latency(SMALL.arch([1, 2])).total_us == 7 + 2000 + 250
    with pytest.raises(LatencyError, match="lacks 1 operator:\n  skip out=3 on 3x32x32"):
        table.latency(SMALL.arch([2, 2]))


@pytest.mark.parametrize("unit, us", [("us", 2.0), ("ms", 2e3), ("s", 2e6)])
def test_units(tmp_path: Path, unit: str, us: float) -> None:
    table = import_csv(write(tmp_path, f"layer,candidate,latency_{unit}\n1,0,2\n"), SETTING, space=SMALL)
    assert [entry.us for entry in table.entries.values()] == [us]


def test_resolution(tmp_path: Path) -> None:
    table = import_csv(write(tmp_path, "layer,candidate,latency_us\n1,0,2\n"), SETTING, space=SMALL, resolution=(8, 16))
    assert [operator.input for operator in table.entries] == [(3, 8, 16)]


HEAD = "layer,candidate,latency_us\n"
BAD_LAYERS = {
    r":2: layer: got 'three', expected a variable of small, or its number from 1 to 2": HEAD + "three,0,1\n",
    r":2: layer: got '0', expected a variable": HEAD + "0,0,1\n",
    r":3: layer: got '3', expected a variable": HEAD + "1,0,1\n3,0,1\n",
    r":2: candidate: got '3', expected a number from 0 to 2": HEAD + "1,3,1\n",
    r":2: candidate: got nothing, expected a number from 0 to 2": HEAD + "1,,1\n",
    r":2: candidate: got '-1', expected": HEAD + "1,-1,1\n",
    r":2: latency_us: got 'fast', expected a number": HEAD + "1,0,fast\n",
    r":2: latency_us: got 'nan', expected a number": HEAD + "1,0,nan\n",
    r":2: latency_us: got '0', expected a number above 0; leave out the row": HEAD + "1,0,0\n",
    r":3: layer 1, candidate 0 is there twice": HEAD + "one,0,1\n1,0,1\n",
    r":2: 2 cells, expected 3": HEAD + "1,0\n",
    r": no rows, expected a line of column names": HEAD,
    r":1: column energy_j; expected layer, candidate, runs, latency_s,": "layer,candidate,energy_j\n1,0,1\n",
    r":1: columns of latency: none; expected one of latency_us": "layer,candidate\n1,0\n",
    r":1: columns of latency: latency_ms, latency_us; exp": "layer,candidate,latency_us,latency_ms\n1,0,1,1\n",
    r":1: column candidate is missing": "layer,latency_us\n1,1\n",
    r":1: columns layer, layer; expected a name each, none twice": "layer,layer\n1,1\n",
    r":1: columns a, b; expected op, in_channels": "a,b\n1,1\n",
    r":2: runs: got '1.5', expected a number of runs": "layer,candidate,latency_us,runs\n1,0,1,1.5\n",
    r":2: not CSV": 'layer,candidate,latency_us\n"1"x,0,1\n',
}  # fmt: skip


@pytest.mark.parametrize("message", BAD_LAYERS)
def test_bad_files_of_layers(tmp_path: Path, message: str) -> None:
    with pytest.raises(LatencyError, match=r"t\.csv" + message):
        import_csv(write(tmp_path, BAD_LAYERS[message]), SETTING, space=SMALL)


OPERATORS = "op,in_channels,in_height,in_width,out,stride,us\n"
SKIP = "skip,8,4,4,8,,1\n"
BAD_OPERATORS = {
    r":2: op: got 'hop', expected one of": OPERATORS + "hop,8,4,4,8,,1\n",
    r":2: op: got None, expected one of": OPERATORS + ",8,4,4,8,,1\n",
    r":2: in_height: got '0', expected a number of at least 1": OPERATORS + "skip,8,0,4,8,,1\n",
    r":2: out: is missing": OPERATORS + "skip,8,4,4,,,1\n",
    r":2: stride: got 'two', expected": OPERATORS + "skip,8,4,4,8,two,1\n",
    r":2: us: got nothing, expected a number": OPERATORS + "skip,8,4,4,8,2,\n",
    r":3: skip out=8 on 8x4x4 is there twice": OPERATORS + SKIP + SKIP,
    r":1: column us is missing": "op,in_channels,in_height,in_width,out\nskip,8,4,4,8\n",
    r":2: in_constant: got 'maybe', expected true or false":
        OPERATORS.replace("stride", "in_constant") + "skip,8,4,4,8,maybe,1\n",
    r": more than one constant": OPERATORS + "constant,,,,,,1\nconstant,,,,,,2\n",
}  # fmt: skip


@pytest.mark.parametrize("message", BAD_OPERATORS)
def test_bad_files_of_operators(tmp_path: Path, message: str) -> None:
    with pytest.raises(LatencyError, match=r"t\.csv" + message):
        import_csv(write(tmp_path, BAD_OPERATORS[message]), SETTING)


def test_a_space_goes_with_layers_alone(tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match="t.csv: has a column layer; expected a space that names"):
        import_csv(write(tmp_path, HEAD + "1,0,1\n"), SETTING)
    with pytest.raises(LatencyError, match="t.csv: has a column op, .*give no space"):
        import_csv(write(tmp_path, OPERATORS + SKIP), SETTING, space=SMALL)


def test_constants_of_files_of_operators(tmp_path: Path) -> None:
    assert import_csv(write(tmp_path, OPERATORS + SKIP), SETTING, constant_us=4.0).constant_us == 4
    with pytest.raises(LatencyError, match="more than one constant"):
        import_csv(write(tmp_path, OPERATORS + SKIP + "constant,,,,,,1\n"), SETTING, constant_us=4.0)


# ---------------------------------------------------------------------------------------------
# Whole networks
# ---------------------------------------------------------------------------------------------


def test_networks_as_text_of_digits(tmp_path: Path) -> None:
    path = write(tmp_path, "arch_id,ops,phone\n0,02,10.5\n1,21,7\n")
    points, us = read_networks(path, SMALL, "phone", "ms")
    assert points.dtype == np.int64 and points.tolist() == [[0, 2], [2, 1]] and us.tolist() == [10_500.0, 7_000.0]


def test_networks_as_a_column_per_variable(tmp_path: Path) -> None:
    points, us = read_networks(write(tmp_path, "two,one,t\n2,0,3\n"), SMALL, "t", "us")
    assert points.tolist() == [[0, 2]] and us.tolist() == [3.0]


def test_choices_of_two_digits_are_written_with_spaces() -> None:
    space = load_space("fbnet_v3")
    sizes = [len(variable.choices) for variable in space.variables]
    assert max(sizes) > 10
    assert parse_ops(" ".join(str(size - 1) for size in sizes), space) == [size - 1 for size in sizes]


BAD_NETWORKS = {
    r":2: ops: got '0', expected 2 choices of small, one digit each": "ops,t\n0,1\n",
    r":2: ops: got '0a', expected 2 choices": "ops,t\n0a,1\n",
    r":3: ops: got '03': 3 for two, expected 0 to 2": "ops,t\n00,1\n03,1\n",
    r":2: layers: got '0 ', expected 2 choices": "one,two,t\n0,,1\n",
    r":2: t: got 'slow', expected a number": "ops,t\n00,slow\n",
    r":1: no column 't', expected one of ops, u": "ops,u\n00,1\n",
    r":1: no column ops; expected it, or a column for each of one, two": "one,t\n0,1\n",
}


@pytest.mark.parametrize("message", BAD_NETWORKS)
def test_bad_networks(tmp_path: Path, message: str) -> None:
    with pytest.raises(LatencyError, match=r"t\.csv" + message):
        read_networks(write(tmp_path, BAD_NETWORKS[message]), SMALL, "t", "us")
