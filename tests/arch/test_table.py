"""The table of architectures, and the tool that prints it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from fbnet_plugin.arch import get_arch, list_archs, save_arch
from fbnet_plugin.arch.table import CONVENTIONS, arch_row, describe, format_archs, format_blocks

TOOL = Path(__file__).resolve().parents[2] / "tools" / "list_archs.py"


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["list_archs.py", *args])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name="__main__")
    return ended.value.code


def test_table() -> None:
    lines = format_archs([arch_row(get_arch(name)) for name in ("fbnet_a", "fbnet_v3_20g")]).splitlines()
    assert lines[0].split("  ")[0] == "name" and lines[0].endswith("published top-1 (%)")
    assert lines[1].split() == ["fbnet_a", "224", "249.9", "4.323", "4.286", "73.0"]
    assert lines[2].split() == ["fbnet_v3_20g", "256", "20,387.5", "104.566", "104.407", "-"]
    assert len(lines[1]) == len(lines[2]) == len(lines[0])


def test_blocks() -> None:
    lines = format_blocks(get_arch("fbnet_a")).splitlines()
    assert len(lines) == 1 + 23 + 1 + 1 + 1  # head, blocks, last 1x1 conv, classifier, total
    assert lines[1].split() == "stages[0].0 conv k3 s2 relu 3x224x224 16x112x112 5,419,008 480 432".split()
    assert [line.split()[0] for line in lines[19:25]] == [*(f"stages[4].{i}" for i in range(5)), "head.0"]
    assert lines[-1].split() == ["fbnet_a", "total", "249,921,848", "4,322,984", "4,286,480"]
    macs = [int(line.split()[-3].replace(",", "")) for line in lines[1:]]
    assert sum(macs[:-1]) == macs[-1] == 249_921_848
    assert len(format_blocks(get_arch("fbnet_v3_a_det")).splitlines()) == 1 + 27 + 1


def test_short_form_of_blocks() -> None:
    ops = {describe(layer.block) for name in ("fbnet_a", "fbnet_b", "fbnet_v3_a") for layer in get_arch(name).layers()}
    assert {"mb k5 e1 g2 relu", "mb k3 e6 x2 relu", "skip", "mb k5 e5 s2 se hswish", "pool e6 hswish"} <= ops


def test_tool_prints_the_zoo_and_the_conventions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1 : 1 + len(list_archs())]] == list_archs()
    assert out.endswith(CONVENTIONS + "\n")


def test_tool_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    save_arch(get_arch("fbnet_v3_a_det"), path)
    assert run(monkeypatch, "--json", "fbnet_s8", str(path)) == 0
    keys = ("name", "resolution", "macs", "params", "conv_fc_weights", "published_top1")
    assert [tuple(row.items()) for row in json.loads(capsys.readouterr().out)] == [
        tuple(zip(keys, ("fbnet_s8", 224, 292_922_680, 4_469_816, 4_431_040, 73.27))),
        tuple(zip(keys, ("fbnet_v3_a_det", 320, 654_188_864, 4_497_032, 4_468_232, None))),
    ]


def test_tool_prints_blocks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "--blocks", "fbnet_a", "fbnet_b") == 0
    out = capsys.readouterr().out
    assert out.count(" total ") == 2 and out.count(CONVENTIONS) == 1


def test_tool_says_what_is_wrong_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for name, message in (("fbnet_x", "unknown architecture 'fbnet_x'"), ("x.yaml", "x.yaml: cannot be read")):
        assert run(monkeypatch, name) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith(f"error: {message}")


def test_tool_has_a_help_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert "--json" in out and "--blocks" in out and "python tools/list_archs.py" in out
