"""Published matrices of layers by candidates become tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_spaces import space_of

from fbnet_plugin.arch import ArchSpec, load_space
from fbnet_plugin.latency import LatencyError, LatencyTable, Operator, Setting, load_table, save_table
from fbnet_plugin.latency.importers import candidate_name, detect_format, import_published
from fbnet_plugin.latency.layerwise import layerwise
from fbnet_plugin.latency.matrix_import import import_matrix

SETTING = Setting("board", "Some Board", "some runtime", batch_size=1, method="import")
FBNET, STRIDE4 = load_space("fbnet"), load_space("fbnet_cifar_stride4")
NAMES = "ir_k3_e1 ir_k3_s2 ir_k3_e3 ir_k3_e6 ir_k5_e1 ir_k5_s2 ir_k5_e3 ir_k5_e6 skip"
SHAPE_CHANGES = (2, 6, 10, 14, 18, 22)  # layers, counted from 1
# Layer l has 1000 l + c for candidate c, so that every sum tells which cells it is made of.
CELLS = [[1000 * layer + choice for choice in range(9)] for layer in range(1, 23)]
# The skip column of the Raspberry Pi 3B table in seconds: github.com/hpnair/18663_Project_FBNet, MIT,
# (c) 2019 Harideep Nair. Its script has no skip in layer 1 and where the shape changes.
SKIP_3B = """
0.128105401993 0.128105401993 0.128105401993 0.127271175385 0.123207616806 0.08316822052 0.08316822052 0.0876873970032
0.0795945644379 0.0762333869934 0.0762333869934 0.0729579925537 0.0748125553131 0.0762333869934 0.0942719936371
0.0760412216187 0.0795097827911 0.0762333869934 0.0739340305328 0.075393819809 0.0750440120697 0.0762333869934
""".split()


def rows_text(rows: list[list[float]], head: str = "") -> str:
    return head + "".join(" ".join(map(str, row)) + "\n" for row in rows)


def load(tmp_path: Path, text: str, **options: object) -> LatencyTable:
    path = tmp_path / "lut.txt"
    path.write_text(text)
    return import_published(path, SETTING, **options)


def all_of(choice: int, space=FBNET) -> ArchSpec:
    return space.arch([choice] * 22)


def test_header_text_is_a_table_of_fbnet_in_microseconds(tmp_path: Path) -> None:
    table = load(tmp_path, rows_text(CELLS, NAMES + "\n"), constant_us=500.0)
    first = Operator.from_dict({"op": "mb", "input": [16, 112, 112], "kernel": 3, "mid": 16, "out": 16, "act": "relu"})
    assert table.entries[first] == (1000.0, None, 0, False)
    # Candidate 7 (k5 e6) of the equal layers 3, 4 and 5: 3007, 4007, 5007; quartiles 3507 and 4507.
    fields = {"op": "mb", "input": [24, 56, 56], "kernel": 5, "mid": 144, "out": 24, "act": "relu"}
    assert table.entries[Operator.from_dict(fields)] == (4007.0, 1000.0, 0, False)
    assert table.setting == SETTING and "lut.txt" in table.notes


def test_sums_of_whole_networks(tmp_path: Path) -> None:
    """The mean over equal layers keeps the sum over all layers: 1000 (1 + ... + 22) + 22 c."""
    table = load(tmp_path, rows_text(CELLS, NAMES + "\n"), constant_us=500.0)
    for choice in range(9):
        found = table.latency(all_of(choice))
        assert found.total_us == pytest.approx(253_000 + 22 * choice + 500)
        assert [layer.place for layer in found.layers if layer.entry.in_constant] == [
            "stages[0].0",
            "head.0",
            "head.fc",
        ]
    assert table.matrix(FBNET).fixed_us == 500 and table.matrix(FBNET).us[21].tolist() == CELLS[21]


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    straight = load(tmp_path, rows_text(CELLS, NAMES + "\n"))
    turned = rows_text([row[::-1] for row in CELLS], " ".join(NAMES.split()[::-1]) + "\n")
    assert load(tmp_path, turned).entries == straight.entries
    assert [candidate_name(choice) for choice in FBNET.variables[0].choices] == NAMES.split()


def json_text() -> str:
    rows = [row[: 8 if layer in SHAPE_CHANGES else 9] for layer, row in enumerate(CELLS, 1)]
    return json.dumps([None, None, *rows, None, None, None, None])


def test_json_skips_what_is_not_searched(tmp_path: Path) -> None:
    table = load(tmp_path, json_text())
    assert table.latency(all_of(3, STRIDE4)).total_us == pytest.approx(253_000 + 22 * 3)
    heights = [candidates[0][0].input[1] for candidates in layerwise(STRIDE4).candidates]
    assert heights == [32, 32, *[16] * 4, *[8] * 16]
    assert {operator.input for operator in table.entries} >= {(16, 32, 32), (24, 16, 16), (32, 8, 8), (184, 8, 8)}


def test_a_skip_without_a_value_is_missing_not_free(tmp_path: Path) -> None:
    table = load(tmp_path, json_text())
    point = [0] * 22
    point[2] = 8
    assert table.latency(STRIDE4.arch(point)).layers[3].operator.op == "skip"
    point[1] = 8
    with pytest.raises(LatencyError, match=r"lacks 1 operator:\n  skip stride=2 out=24 on 16x32x32"):
        table.latency(STRIDE4.arch(point))
    with pytest.raises(LatencyError, match="lacks 6 operators"):
        table.matrix(STRIDE4)
    assert "6 operators of fbnet_cifar_stride4 have no value" in table.notes


@pytest.mark.parametrize("unit, factor", [("s", 1e6), ("ms", 1e3), ("us", 1.0)])
def test_plain_text_needs_a_unit(tmp_path: Path, unit: str, factor: float) -> None:
    text = rows_text(CELLS)
    assert load(tmp_path, text, unit=unit).latency(all_of(0)).total_us == pytest.approx(253_000 * factor)
    with pytest.raises(LatencyError, match="lut.txt: no unit is given, .* expected one of s, ms, us"):
        load(tmp_path, text)
    with pytest.raises(LatencyError, match="unit J; expected one of s, ms, us"):
        load(tmp_path, text, unit="J")


def test_skips_that_a_file_filled_in_are_left_out(tmp_path: Path) -> None:
    """A convolution and an identity do not take the same time to the last digit."""
    cells = [[*row[:8], float(skip) * 1e6] for row, skip in zip(CELLS, SKIP_3B)]
    table = load(tmp_path, rows_text(cells), unit="us")
    skips = {operator.input: entry.us for operator, entry in table.entries.items() if operator.op == "skip"}
    assert skips == pytest.approx({
        (24, 56, 56): (127_271.175385 + 123_207.616806) / 2,
        (32, 28, 28): (87_687.3970032 + 79_594.5644379) / 2,
        (64, 14, 14): (72_957.9925537 + 74_812.5553131) / 2,
        (112, 14, 14): (94_271.9936371 + 76_041.2216187 + 79_509.7827911) / 3,
        (184, 7, 7): (73_934.0305328 + 75_393.819809 + 75_044.0120697) / 3,
    })  # fmt: skip
    assert "Skip in layers 1, 2, 3, 6, 7, 10, 11, 14, 18, 22 was filled in" in table.notes


def test_an_energy_table_is_no_latency_table(tmp_path: Path) -> None:
    """The published one has 0 J for skip, also where the shape changes."""
    cells = [[*row[:8], 0.0 if layer in (1, *SHAPE_CHANGES) else 5e-5] for layer, row in enumerate(CELLS, 1)]
    with pytest.raises(LatencyError, match="lut.txt: layer1, candidate 8: got 0 µs.* holds times, not energies"):
        load(tmp_path, rows_text(cells), unit="s")


def test_space_and_resolution_can_be_given(tmp_path: Path) -> None:
    cifar = load(tmp_path, rows_text(CELLS), unit="us", space=load_space("fbnet_cifar"))
    assert cifar.latency(load_space("fbnet_cifar").arch([0] * 22)).total_us == pytest.approx(253_000)
    small = load(tmp_path, rows_text(CELLS), unit="us", resolution=108)
    assert small.latency(all_of(0), 108).total_us == pytest.approx(253_000)
    with pytest.raises(LatencyError, match="on 16x112x112"):
        small.latency(all_of(0))


BAD = {
    "21 layers, expected the 22 of fbnet": rows_text(CELLS[:21]),
    "line 1: 7 values, expected one for each of ir_k3_e1, .*only skip": rows_text([CELLS[0][:7], *CELLS[1:]]),
    "line 2: 10 values": rows_text([CELLS[0], [*CELLS[1], 1], *CELLS[2:]]),
    "line 3: got 'fast', expected numbers": rows_text([*CELLS[:2], ["fast"], *CELLS[3:]]),
    "line 1: candidate 'ir_k7_e1', expected ir_k3_e1,": rows_text(CELLS, NAMES.replace("ir_k3_e6", "ir_k7_e1") + "\n"),
    "line 1: a candidate that is named twice": rows_text(CELLS, NAMES.replace("k5", "k3") + "\n"),
    "line 2: 9 values, expected one for each of ir": rows_text(CELLS, NAMES.replace("ir_k3_e6 ", "") + "\n"),
    "layer1, candidate 0: got inf µs": rows_text([[float("inf"), *CELLS[0][1:]], *CELLS[1:]]),
    "layer2, candidate 1: got -5 µs": rows_text([CELLS[0], [1, -5, *CELLS[1][2:]], *CELLS[2:]]),
    "0 layers, expected the 22": "",
    "not JSON": "[[1, 2",
    r"entry 1: got 'x', expected null or a list": json.dumps([None, "x"]),
    r"entry 0: got \[1, None\], expected null or a list": json.dumps([[1, None]]),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, message: str) -> None:
    with pytest.raises(LatencyError, match=f"lut.txt: {message}"):
        load(tmp_path, BAD[message], unit="us")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match="none.txt: No such file"):
        import_published(tmp_path / "none.txt", SETTING)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LatencyError, match="bytes.txt: not a text file"):
        import_published(tmp_path / "bytes.txt", SETTING)
    with pytest.raises(LatencyError, match="format xml, expected one of header-text, json, text"):
        load(tmp_path, rows_text(CELLS), format="xml")


def test_formats_are_told_apart() -> None:
    texts = {NAMES + "\n1 2\n": "header-text", " [null]": "json", "0.5 1e3\n": "text", "layer,candidate\n1,2\n": "csv"}
    assert [detect_format(text) for text in texts] == list(texts.values())


# ---------------------------------------------------------------------------------------------
# The matrix itself: two equal layers and one of stride 2, three candidates each
# ---------------------------------------------------------------------------------------------

CHOICES = [{"op": "mb", "kernel": 3}, {"op": "mb", "kernel": 5}, {"op": "skip"}]
SMALL = space_of(
    {"one": CHOICES, "two": CHOICES, "three": CHOICES},
    stages=[[{"op": "conv", "kernel": 3, "out": 8}, *({"use": f"${name}", "out": 8} for name in ("one", "two")),
             {"use": "$three", "out": 8, "stride": 2}]],
)  # fmt: skip
NAN = float("nan")


def test_spread_and_runs() -> None:
    us = np.array([[10.0, 20.0, NAN], [14.0, NAN, NAN], [5.0, NAN, 7.0]])
    spread = np.array([[1.0, 2.0, NAN], [1.0, NAN, NAN], [NAN, NAN, 3.0]])
    runs = np.array([[5, 6, 0], [7, 0, 0], [0, 0, 9]])
    table = import_matrix(us, SMALL, SETTING, spread_us=spread, runs=runs, notes="By hand.")
    layers = layerwise(SMALL).candidates
    found = [[table.entries.get(operators[0]) for operators in layer] for layer in layers]
    assert found[0] == found[1] == [(12.0, 2.0, 12, False), (20.0, 2.0, 6, False), None]
    assert found[2] == [(5.0, None, 0, False), None, (7.0, 3.0, 9, False)]
    assert table.notes.startswith("By hand. 2 operators of small have no value.")


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table = import_matrix(np.full((3, 3), 1.5), SMALL, SETTING, constant_us=2.5)
    save_table(table, tmp_path / "t.json")
    again = load_table(tmp_path / "t.json")
    assert (again.entries, again.constant_us, again.setting) == (table.entries, 2.5, SETTING)
    assert again.latency(SMALL.arch([0, 1, 2])).total_us == 2.5 + 3 * 1.5


@pytest.mark.parametrize(
    "us, message",
    [
        (np.ones((2, 3)), "a matrix of 2 x 3, expected 3 x 3, the layers and candidates of small"),
        (np.full((3, 3), NAN), "no value at all"),
        (np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1.0]]), "two, candidate 1: got 0 µs, expected a number above 0"),
    ],
)
def test_bad_matrices(us: np.ndarray, message: str) -> None:
    with pytest.raises(LatencyError, match=message):
        import_matrix(us, SMALL, SETTING)


def test_values_where_no_candidate_is() -> None:
    space = space_of({"one": CHOICES, "two": CHOICES[:2]},
                     stages=[[{"use": "$one", "out": 3}, {"use": "$two", "out": 3}]])  # fmt: skip
    with pytest.raises(LatencyError, match="two, candidate 2: got 1 µs, expected none, as this layer has 2"):
        import_matrix(np.ones((2, 3)), space, SETTING)


def test_one_value_for_two_operators_is_refused() -> None:
    space = space_of({"one": CHOICES[:2]}, stages=[[{"use": "$one", "out": 8, "stride": 2, "repeat": 2}]])
    with pytest.raises(LatencyError, match="one, candidate 0: runs 2 operators, expected one per candidate"):
        import_matrix(np.ones((1, 2)), space, SETTING)


@pytest.mark.parametrize("constant", [-1.0, NAN])
def test_bad_constants(constant: float) -> None:
    with pytest.raises(LatencyError, match="the constant: got"):
        import_matrix(np.ones((3, 3)), SMALL, SETTING, constant_us=constant)
