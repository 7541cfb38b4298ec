"""tools/scale_space.py, and what is done with its files."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbnet_plugin.arch import load_space, scale_space
from fbnet_plugin.latency import Entry, LatencyTable, Setting
from fbnet_plugin.latency.coverage import space_operators

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def tool(name: str = "scale_space") -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scaled(tmp_path: Path, capsys: pytest.CaptureFixture) -> Path:
    """The file of FBNet's space at width 0.35 and 96 px."""
    path = tmp_path / "small.yaml"
    tool().main(["fbnet", "--width-mult", "0.35", "--resolution", "96", "--output", str(path)])
    return path


def test_the_file_and_what_is_printed(scaled: Path, capsys: pytest.CaptureFixture) -> None:
    space, expected = load_space(scaled), scale_space(load_space("fbnet"), 0.35, 96)
    assert (space.name, space.variables, space.template) == ("fbnet_r96_w0.35", expected.variables, expected.template)
    assert "scale_space.py fbnet --width-mult 0.35 --resolution 96 --output" in scaled.read_text().splitlines()[0]
    again = scaled.with_name("wide.yaml")
    capsys.readouterr()
    tool().main([str(scaled), "--width-mult", "2", "--name", "wide", "--output", str(again)])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "wide: 96 px, 22 layers to choose, 9 candidates each, 9.8e+20 networks",
        "channels per stage: 16 | 32 | 32 | 48 80 | 144 256",
        "channels of the head (not scaled): 1504",
        f"{again}: written",
    ]
    assert printed.err == ""


def test_a_small_map_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tool().main(["fbnet", "--resolution", "32", "--output", str(tmp_path / "s.yaml")])
    printed = capsys.readouterr()
    assert re.match(r"WARNING: fbnet_r32 at 32 px: the last map has only 1x1 px; .* fbnet_cifar", printed.err)
    assert load_space(tmp_path / "s.yaml").frame({}).resolution == 32
    tool().main(["fbnet_cifar", "--width-mult", "0.5", "--output", str(tmp_path / "t.yaml")])
    assert capsys.readouterr().err == ""


def test_the_summary_of_a_space_with_variable_widths(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tool().main(["fbnet_v3", "--output", str(tmp_path / "v3.yaml")])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "fbnet_v3: 224 to 272 px, 13 layers to choose, 2 to 13 choices per variable, 1.6e+20 networks"
    assert second == "channels per stage: 16-24 | 20-32 | 24-48 | 56-84 96-144 | 180-224"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["fbnet_v9"], "error: space: got 'fbnet_v9', expected a .yaml path or one of fbnet, fbnet_cifar"),
        (["fbnet", "--width-mult", "-1"], "error: width factor: got -1.0, expected a number from 0.01 to 64"),
        (["fbnet", "--resolution", "0"], "error: resolution: got 0, expected an integer from 1 to 8192"),
        (["fbnet_v3", "--resolution", "96"], "error: fbnet_v3: architecture.resolution: is chosen by $resolution"),
        (["fbnet", "--output", "space.json"], "error: path: got 'space.json', expected the name of a .yaml file"),
        (["fbnet", "--output", "file/s.yaml"], "error: file/s.yaml: cannot be written: "),
        (["fbnet", "--rounding", "floor"], "error: argument --rounding: invalid choice: 'floor'"),
    ],
)
def test_mistakes_are_one_message_and_write_nothing(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    output = [] if "--output" in arguments else ["--output", "s.yaml"]
    with pytest.raises(SystemExit) as stopped:
        tool().main([*arguments, *output])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and message in printed.err and printed.err.count("error:") == 1 and not printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_as_a_command(tmp_path: Path) -> None:
    path = os.pathsep.join([str(TOOLS.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(TOOLS / "scale_space.py"), "--help"]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--width-mult FACTOR" in done.stdout, done.stderr


def test_the_file_can_be_measured(scaled: Path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(scaled.parent)
    tool("benchmark_latency").main(["--space", scaled.name, "--dry-run"])
    said = capsys.readouterr().out
    space = load_space(scaled)
    operators = space_operators(space)
    assert re.search(rf"^{len(operators)} operators to measure in \d+ networks", said, re.MULTILINE), said

    entries = {operator: Entry(1.0 + number) for number, operator in enumerate(operators)}
    table = LatencyTable(Setting("cpu", "a processor", "eager"), entries)
    matrix = table.matrix(space)
    assert matrix.us.shape == (22, 9) and np.isfinite(matrix.us).all()
    point = space.sample(1, np.random.default_rng(0))[0]
    assert table.latency(space.arch(point)).total_us == pytest.approx(
        matrix.fixed_us + matrix.us[np.arange(22), point].sum()
    )
