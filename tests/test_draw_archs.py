"""tools/draw_archs.py as a command."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fbnet_plugin.arch import get_arch, save_arch
from fbnet_plugin.latency import Entry, LatencyTable, Setting, arch_operators, save_table

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "draw_archs.py"
FBNET_A = "fbnet:8208872427657356177677"  # its published choices as a point of the space
DISTRIBUTION = {
    "format": "fbnet_plugin distribution 1",
    "epoch": 12,
    "layers": [
        {"variable": "layer1", "candidates": ["k3_e1", "skip"], "theta": [0.0, 0.0], "probability": [0.5, 0.5]},
        {"variable": "layer2", "candidates": ["k3_e1"], "theta": [0.0], "probability": [1.0]},
    ],
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_archs", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def labels(figure: Figure) -> list[list[str]]:
    """Name and figures of each row; they are annotations, other texts are not."""
    rows = [[text for text in axes.texts if hasattr(text, "xyann") and text.get_text()] for axes in figure.axes]
    return [[text.get_text() for text in row if text.get_text() != "expansion"] for row in rows]


def distribution_file(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "distribution.json"
    path.write_text(json.dumps({**DISTRIBUTION, **changes}), encoding="utf-8")
    return str(path)


def test_as_a_command(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(TOOL), "fbnet_a", "fbnet_c", "--output", "out/f.png"]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 architectures drawn: out/f.png\n"
    with Image.open(tmp_path / "out" / "f.png") as image:
        image.load()
        assert image.format == "PNG"
    assert [entry.name for entry in tmp_path.rglob("*")] == ["out", "f.png"]


def test_a_point_of_a_space_looks_like_the_network(
    tool: ModuleType, figures: list[Figure], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "f.svg")
    tool.main(["fbnet_a", FBNET_A, "--output", file])
    assert capsys.readouterr().out == f"2 architectures drawn: {file}\n"
    one, other = ([(box.get_xy(), box.get_height(), box.get_facecolor()) for box in axes.patches]
                  for axes in figures[0].axes)  # fmt: skip
    assert one == other and len(one) == 23
    figures_of_a = "224 px, 249.9M MACs"
    assert labels(figures[0]) == [["fbnet_a", figures_of_a], [FBNET_A, figures_of_a]]
    assert Path(file).read_text(encoding="utf-8").startswith("<?xml")


def test_networks_of_one_name_are_told_apart_by_their_files(
    tool: ModuleType, figures: list[Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_arch(get_arch("fbnet_a"), "mine.yaml")
    save_arch(get_arch("fbnet_c"), "c.yaml")
    tool.main(["fbnet_a", "mine.yaml", "c.yaml", "--output", "f.png", "--resolution", "96"])
    assert [row[0] for row in labels(figures[0])] == ["fbnet_a", "mine.yaml", "fbnet_c"]
    assert labels(figures[0])[0][1] == "96 px, 47.1M MACs"
    assert "stride 4\n24 px" in [text.get_text() for text in figures[0].axes[0].texts]


def test_table(tool: ModuleType, figures: list[Figure], tmp_path: Path) -> None:
    """Each operator takes 1 ms: stem, 22 layers, last convolution, classifier."""
    operators = [operator for _, operator in arch_operators(get_arch("fbnet_a"))]
    table = LatencyTable(
        Setting("phone", "a phone", "some"), {one: Entry(1000.0) for one in operators}, constant_us=500.0
    )
    save_table(table, tmp_path / "phone.json")
    tool.main(["fbnet_a", "--output", str(tmp_path / "f.pdf"), "--table", str(tmp_path / "phone.json")])
    assert labels(figures[0]) == [["fbnet_a", "224 px, 249.9M MACs\n25.5 ms"]]


def test_a_distribution(
    tool: ModuleType, figures: list[Figure], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "d.png")
    tool.main([distribution_file(tmp_path), "--output", output])
    assert capsys.readouterr().out == f"2 layers drawn: {output}\n"
    axes = figures[0].axes[0]
    assert axes.collections[0].get_array().compressed().tolist() == [0.5, 1.0, 0.5]
    assert labels(figures[0])[0] == ["epoch 12"]


def fails(tool: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one message of a call with bad input."""
    with pytest.raises(SystemExit) as error:
        tool.main(arguments)
    assert error.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("error: ") == 1 and not printed.out and "Traceback" not in printed.err
    return printed.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["fbnet_z"], "error: unknown architecture 'fbnet_z'"),
        (["missing.yaml"], "missing.yaml: cannot be read: No such file"),
        (["fbnet:123"], "error: got '123', expected 22 choices of fbnet"),
        (["fbnett:1"], "error: space: got 'fbnett'"),
        (["fbnet_a", "--resolution", "0"], "argument --resolution: 0 is not above 0"),
        (["fbnet_a", "--resolution", "9999"], "error: resolution: got 9999, expected"),
        (["fbnet_a", "--table", "missing.json"], "error: missing.json: No such file"),
        (["fbnet_a"] * 101, "error: 101 architectures, expected 1 to 100"),
        (["missing.json"], "error: missing.json: No such file"),
        (["fbnet_a", "missing.json"], "error: missing.json: a distribution is drawn alone"),
        (["missing.json", "--table", "t.json"], "error: missing.json: a distribution is drawn alone"),
        (["missing.json", "--resolution", "96"], "error: missing.json: a distribution is drawn alone"),
        ([], "the following arguments are required: ARCH"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in fails(tool, capsys, ["--output", "f.png", *arguments])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": "fbnet_plugin latency table 1"}, "latency table 1', expected 'fbnet_plugin distribution"),
        ({"layers": []}, "layers: is empty or no list"),
        ({"layers": None}, "layers: is empty or no list"),
        ({"layers": [{**DISTRIBUTION["layers"][0], "probability": [2.0, -1.0]}]}, "layers[0].probability: expected 2"),
    ],
)
def test_bad_distributions(
    changes: dict[str, Any], message: str, tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = distribution_file(tmp_path, **changes)
    printed = fails(tool, capsys, [file, "--output", str(tmp_path / "f.png")])
    assert f"error: {file}: " in printed and message in printed
    assert [path.name for path in tmp_path.iterdir()] == ["distribution.json"]


@pytest.mark.parametrize("data", [b"[1, 2", b"\xff\xfe", b"[" * 100_000, b"[1]"])
def test_files_that_are_no_distribution(
    data: bytes, tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d.json"
    file.write_bytes(data)
    printed = fails(tool, capsys, [str(file), "--output", str(tmp_path / "f.png")])
    assert f"error: {file}: " in printed


def test_output(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "argument --output: f.gif: expected a file name that ends in .png, .pdf, .svg"
    assert message in fails(tool, capsys, ["fbnet_a", "--output", "f.gif"])
    assert "the following arguments are required: --output" in fails(tool, capsys, ["fbnet_a"])
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "f.png")
    assert f"error: {tmp_path / 'file'}" in fails(tool, capsys, ["fbnet_a", "--output", output])


def test_help(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        tool.main(["--help"])
    text = capsys.readouterr().out
    assert error.value.code == 0
    assert all(word in text for word in ("SPACE:CHOICES", FBNET_A, "--table", "--resolution", "distribution.json"))
