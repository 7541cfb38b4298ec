"""Architecture files: round trips, defaults, error messages and safe writing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from fbnet_plugin.arch import (
    ArchError,
    ConvSpec,
    InvertedResidualSpec,
    SESpec,
    StageSpec,
    dump_arch,
    get_arch,
    list_archs,
    load_arch,
    parse_arch,
    save_arch,
)

SMALL = """
name: small
resolution: 32
defaults:
  mb: {act: hswish, se: {ratio: 0.5}, divisor: 1}
stages:
- - {op: conv, out: 8, stride: 2}
- - {op: mb, kernel: 5, expansion: 2.5, out: 12, stride: 2}
  - {op: mb, out: 12, se: null, act: relu, repeat: 2}
head: {num_classes: 10}
"""


def test_fields_come_from_the_row_then_the_defaults_then_the_kind() -> None:
    spec = parse_arch(SMALL)
    assert spec.stages[0].blocks == (ConvSpec(8, 2),)
    first, rest = spec.stages[1].blocks
    assert first == InvertedResidualSpec(12, 2, kernel=5, expansion=2.5, act="hswish", se=SESpec(ratio=0.5), divisor=1)
    assert rest == InvertedResidualSpec(12, repeat=2, divisor=1)
    assert spec.head.num_classes == 10 and spec.head.blocks == () and spec.box_head == ()


@pytest.mark.parametrize("name", list_archs())
def test_zoo_round_trips(name: str) -> None:
    spec = get_arch(name)
    text = dump_arch(spec, header="Two lines,\nnothing else.")
    assert text.startswith("# Two lines,\n# nothing else.\nname: ")
    again = parse_arch(text)
    assert again == spec
    for field in dataclasses.fields(spec):
        assert repr(getattr(again, field.name)) == repr(getattr(spec, field.name))  # 6 is not 6.0


def test_a_dump_has_a_line_per_row() -> None:
    lines = dump_arch(get_arch("fbnet_v3_a")).splitlines()
    assert sum(line.lstrip("- ").startswith("{op:") for line in lines) == len(list(get_arch("fbnet_v3_a").rows()))
    assert "  - {op: mb, kernel: 3, expansion: 3, out: 72, repeat: 4, se: null}" in lines


@pytest.mark.parametrize(
    "text",
    ["a\nb\n", "x\n...\n", "...", "---", "- a", "a: b", "a #b", "# a", " a ", "null", "1", "1e3", "2020-01-01", "yes",
     "=", "it's", '"', "\\", "\t", "\r\n", "\x00", "\x85", "a\u2028b", "\ufeff", "\uffff", "naïve", "\U0001f600", "{a}",
     "[", "*a", "!a", "%a", "@", "`", "|", ">", "? a", "<<", "~"],
)  # fmt: skip
def test_any_note_stands_on_one_line(text: str) -> None:
    spec = dataclasses.replace(parse_arch(SMALL), notes=text, source=text)
    dump = dump_arch(spec)
    assert parse_arch(dump) == spec
    assert len(dump.splitlines()) == len(dump_arch(parse_arch(SMALL)).splitlines()) + 2


ERRORS = {
    "kernel: 5": ("kernel: 4", "stages[1].blocks[0].kernel: got 4, expected an odd integer from 1 to 31"),
    "out: 8,": ("", "stages[0].blocks[0].out: is missing, expected the number of output channels"),
    "op: conv": ("op: cnov", "stages[0].blocks[0].op: got 'cnov', expected one of conv, mb, skip, fused, pool"),
    "op: conv, ": ("", "stages[0].blocks[0].op: got None, expected one of conv, mb, skip, fused, pool"),
    "out: 8, ": ("out: 8, pad: 1, ", "stages[0].blocks[0].pad: unknown key in a block of op conv, expected one of out"),
    "se: null": ("se: {gates: x}", "stages[1].blocks[1].se.gates: unknown key, expected one of gate, width, ratio"),
    "repeat: 2": ("se: {ratio: 0}", "key 'se' given twice"),
    "act: relu,": ("groups: 5,", "stages[1].blocks[1].groups: got 5, expected a divisor of the 12 input channels"),
    "ratio: 0.5": ("ratio: a", "defaults.mb.se.ratio: got 'a', expected a number from 0.001 to 16"),
    "mb: {": ("bm: {", "defaults.bm: unknown key, expected one of conv, mb, skip, fused, pool"),
    "resolution: 32": ("resolution: 9000", "resolution: got 9000, expected an integer from 1 to 8192"),
    "\nresolution: 32": ("", "resolution: is missing"),
    "name: small": ("name: 7", "name: got 7, expected a text of 1 to 100 printable characters"),
    "num_classes: 10": ("num_classes: ten", "head.num_classes: got 'ten', expected an integer from 1 to 16777216"),
    "{num_classes": ("{blocks: [{op: pool}], num_classes", "head.blocks[0].out: is missing"),
    "head: {num_classes: 10}": ("heads: 1", "heads: unknown key, expected one of name, resolution, stages, head"),
    "head:": ("published: {top1: 101}\nhead:", "published.top1: got 101, expected a number from 0 to 100"),
    "stages:": ("box_head: [1]\nstages:", "box_head[0]: got 1, expected a mapping such as {op: mb"),
    "- - {op: conv, out: 8, stride: 2}": ("- {}", "stages[0].blocks: got {}, expected a list of blocks"),
    "- - {op: conv": ("- []\n- - {op: conv", "stages[0]: is empty, expected at least one block"),
    "stages:\n": ("stages:\n  !!python/object:x\n", "not valid YAML: line 7: could not determine a constructor"),
    "defaults:": ("defaults: [", "not valid YAML: line 6: expected"),
}


@pytest.mark.parametrize("old", ERRORS)
def test_errors_say_where_and_what(old: str, tmp_path: Path) -> None:
    new, message = ERRORS[old]
    assert old in SMALL
    path = tmp_path / "net.yaml"
    path.write_text(SMALL.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ArchError) as caught:
        load_arch(str(path))
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and text.count(str(path)) == 1 and "\n" not in text


def test_saving_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "net.yaml"
    spec = parse_arch(SMALL)
    save_arch(spec, path, header="A \x00 header\x85 of three lines\u2028with odd characters")
    assert load_arch(path) == spec
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o644

    first = dataclasses.replace(spec.stages[1].blocks[0], groups=5)
    impossible = dataclasses.replace(spec, stages=(spec.stages[0], StageSpec((first,))))
    with pytest.raises(ArchError, match="groups: got 5"):
        save_arch(impossible, path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_arch(get_arch("fbnet_a"), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["net.yaml"]
