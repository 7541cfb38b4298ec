"""Several tables side by side."""

from __future__ import annotations

from typing import Any

import pytest
from small_spaces import space_of

from fbnet_plugin.arch import get_arch
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Operator, Setting, arch_operators
from fbnet_plugin.latency.compare import compare_tables, cross_device, table_names


def skip(channels: int) -> Operator:
    return Operator.from_dict({"op": "skip", "input": [channels, 4, 4], "stride": 2, "out": channels})


def table(processor: str, us: dict[int, float], runtime: str = "eager", **options: Any) -> LatencyTable:
    return LatencyTable(Setting("cpu", processor, runtime), {skip(key): Entry(value) for key, value in us.items()},
                        **options)  # fmt: skip


A = table("a", {1: 100, 2: 100, 3: 100, 4: 100, 5: 100})
B = table("b", {1: 200, 2: 800, 3: 100, 4: 200, 6: 100})


def channels(rows: Any) -> list[int]:
    return [row.operator.input[0] for row in rows]


def test_ratios_are_relative_to_their_median() -> None:
    """Ratios 2, 8, 1, 2 with the median 2: 8 is 4 times slower than usual on b, 1 is 2 times faster."""
    comparison = compare_tables([A, B])
    assert comparison.names == ("a", "b") and comparison.median_ratio == (1, 2) and comparison.left_out == 0
    assert channels(comparison.rows) == [2, 3, 1, 4]
    assert comparison.rows[0].us == (100, 800) and comparison.rows[0].relative == (1, 4)
    assert [row.disagreement for row in comparison.rows] == [4, 2, 1, 1]
    assert [row.favours for row in comparison.rows[:2]] == [0, 1]


def test_a_device_that_is_faster_throughout_changes_nothing() -> None:
    slow = LatencyTable(B.setting, {operator: Entry(entry.us * 64) for operator, entry in B.entries.items()})
    plain, scaled = compare_tables([A, B]), compare_tables([A, slow])
    assert scaled.median_ratio == (1, 128)
    assert [row.relative for row in scaled.rows] == [row.relative for row in plain.rows]


def test_three_devices() -> None:
    c = table("c", {1: 10, 2: 10, 3: 10, 4: 1})
    comparison = compare_tables([A, B, c])
    assert comparison.median_ratio == (1, 2, 0.1)
    worst = comparison.rows[0]
    assert (channels([worst]), worst.favours, worst.disagreement) == ([4], 2, pytest.approx(10))


def test_what_has_no_time_of_its_own_is_left_out() -> None:
    entries = {**B.entries, skip(1): Entry(0.0, in_constant=True), skip(4): Entry(-3.0)}
    comparison = compare_tables([A, LatencyTable(B.setting, entries)])
    assert channels(comparison.rows) == [3, 2] and comparison.left_out == 2
    identity = Operator.from_dict({"op": "skip", "input": [7, 4, 4], "out": 7})
    both = [LatencyTable(one.setting, {**one.entries, identity: Entry(1.0)}) for one in (A, B)]
    assert channels(compare_tables(both).rows) == channels(compare_tables([A, B]).rows)
    assert comparison.median_ratio == (1, 4.5)
    assert "2 more compute nothing, or have no time of their own" in comparison.to_text()


def test_figure_order() -> None:
    """Upper rows suit the first device, lower rows the last, the clearest cases at both ends."""
    a = table("a", dict.fromkeys(range(1, 8), 100))
    b = table("b", {1: 400, 2: 300, 3: 200, 4: 100, 5: 50, 6: 20, 7: 10})
    comparison = compare_tables([a, b])
    assert channels(comparison.grouped(4)) == [1, 2, 6, 7]
    assert [row.favours for row in comparison.grouped(4)] == [0, 0, 1, 1]
    assert channels(comparison.grouped(1)) == [1, 7] and len(comparison.grouped(99)) == 7


def test_text() -> None:
    text = compare_tables([A, B]).to_text(top=2)
    head, _, first, second, _, note = text.splitlines()
    assert head.split() == ["operator", "a", "(µs)", "b", "(µs)", "b", "/", "a", "suits"]
    assert first.split() == [*"skip stride=2 out=2 on 2x4x4 100.0 800.0 8.00 a, 4.00x".split()]
    assert second.endswith("1.00  b, 2.00x")
    assert note.startswith("4 common operators; the 2 that differ most are shown. Median ratio: b / a 2.00.")
    markdown = compare_tables([A, B]).to_text(markdown=True).splitlines()
    assert all(line.startswith("|") and line.endswith("|") for line in markdown[:6]) and "|--" in markdown[1]


def test_kinds_of_operators() -> None:
    other = Operator.from_dict({"op": "classifier", "input": [8, 1, 1], "out": 10})
    tables = [LatencyTable(one.setting, {**one.entries, other: Entry(5.0)}) for one in (A, B)]
    assert len(compare_tables(tables).rows) == 5
    assert [row.operator for row in compare_tables(tables, ["classifier"]).rows] == [other]
    with pytest.raises(LatencyError, match="no operator of mb, pool with a time in every table"):
        compare_tables(tables, ["mb", "pool"])


def test_tables_that_have_nothing_in_common() -> None:
    message = r"no operator with a time in every table \(operators in a: 5, z: 1\); expected tables of the same layers"
    with pytest.raises(LatencyError, match=message):
        compare_tables([A, table("z", {9: 1.0})])
    with pytest.raises(LatencyError, match="1 table to compare, expected two or more"):
        compare_tables([A])


def test_names_are_as_short_as_they_can_be() -> None:
    def names(*tables: LatencyTable) -> tuple[str, ...]:
        return table_names(tables)

    us = {1: 1.0}
    assert names(table("a", us), table("b", us)) == ("a", "b")
    assert names(table("a", us), table("a", us, "onnxruntime")) == ("a eager", "a onnxruntime")
    same = [table("a", us, file=f"x/{name}.json") for name in "pq"]
    assert names(*same) == ("p.json", "q.json")
    assert names(table("a", us), table("a", us)) == ("1: the table of a", "2: the table of a")


# ---------------------------------------------------------------------------------------------
# Architectures by devices
# ---------------------------------------------------------------------------------------------

CHOICES = [{"op": "mb", "kernel": kernel, "divisor": 1} for kernel in (3, 5)]
SPACE = space_of({"one": CHOICES}, stages=[[{"use": "$one", "out": 3}]])
K3, K5 = (SPACE.arch([choice], name=f"k{kernel}") for choice, kernel in enumerate((3, 5)))


def device(processor: str, us3: float, us5: float) -> LatencyTable:
    operators = [operator for arch in (K3, K5) for _, operator in arch_operators(arch)]
    return LatencyTable(Setting("cpu", processor, "eager"), dict(zip(operators, (Entry(us3), Entry(us5)))), 1000.0)


def test_cross_device_matrix() -> None:
    cross = cross_device([device("x", 1000, 2000), device("y", 90_000, 59_000)], [K3, K5])
    assert cross.names == ("x", "y") and cross.fastest == (0, 1)
    # Depthwise conv of 3 channels on 32x32 and a 1x1 conv from 3 to 3 channels; expansion 1 has no first conv.
    macs = [32 * 32 * (3 * side * side + 3 * 3) for side in (3, 5)]
    assert [(row.arch, row.macs, row.us) for row in cross.rows] == [
        ("k3", macs[0], (2000.0, 91_000.0)),
        ("k5", macs[1], (3000.0, 60_000.0)),
    ]
    assert [row.params for row in cross.rows] == [arch.cost().params for arch in (K3, K5)]


def test_cross_device_text_marks_the_fastest() -> None:
    cross = cross_device([device("x", 1000, 2000), device("y", 90_000, 59_000)], [K3, K5], names=["three", "five"])
    _, _, first, second = cross.to_text().splitlines()
    assert first.split()[0] == "three" and first.split()[-2:] == ["*2.00", "91.0"]
    assert second.split()[0] == "five" and second.split()[-2:] == ["3.00", "*60.0"]
    assert cross.to_text(markdown=True).splitlines()[3].endswith("|     3.00 | **60.0** |")


def test_cross_device_at_another_resolution_needs_its_operators() -> None:
    tables = [device("x", 1, 2)]
    with pytest.raises(LatencyError, match="the table of x lacks 2 operators:\n .* on 3x16x16"):
        cross_device(tables, [K3, K5], 16)
    with pytest.raises(LatencyError, match="lacks"):
        cross_device(tables, [get_arch("fbnet_a")])
    with pytest.raises(LatencyError, match="1 tables and 0 architectures, expected at least one of each"):
        cross_device(tables, [])
