"""tools/latency_table.py as a command."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fbnet_plugin.arch import load_space
from fbnet_plugin.latency import Setting, load_table, save_table
from fbnet_plugin.latency.matrix_import import import_matrix

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "latency_table.py"
SPACE = load_space("fbnet_cifar")
US = 1000.0 * np.arange(1, 23)[:, None] + np.arange(9)  # candidate c of layer l: 1000 l + c
ALL_0, ALL_8 = "fbnet_cifar:" + "0" * 22, "fbnet_cifar:" + "8" * 22
DEVICE = ["--device-name", "board", "--processor", "Some Board", "--runtime", "some", "--threads", "4"]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("latency_table", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tables") / "board.json"
    save_table(import_matrix(US, SPACE, Setting("board", "Some Board", "some"), constant_us=500.0), path)
    return str(path)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three times as fast, but for candidates 6 and 7, and without layer 22."""
    us = US / 3
    us[:, 6:8] *= 4
    us[21] = np.nan
    path = tmp_path_factory.mktemp("tables") / "other.json"
    save_table(import_matrix(us, SPACE, Setting("other", "Other", "some")), path)
    return str(path)


def test_as_a_command(tmp_path: Path, table: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(TOOL), "lookup", table, ALL_0]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert done.stdout == f"{ALL_0}: 253,500.0 µs, of which the constant 500.0 µs\n", done.stderr
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_show(tool: ModuleType, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(["show", table, "--top", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert "processor     Some Board" in lines and "constant_us   500.0" in lines
    found = load_table(table).entries
    assert f"operators     {len(found)}, 3 of them in the constant; together" in "\n".join(lines)
    assert [line.split()[-1] for line in lines[-2:]] == ["22,008.0", "22,007.0"]


def test_lookup_by_layer(tool: ModuleType, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(["lookup", table, ALL_0, ALL_8, "--layers"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{ALL_0}: 253,500.0 µs")
    assert lines[3].split()[-3:] == ["in", "constant", "0.0%"] and lines[4].split()[-2:] == ["1,000.0", "0.4%"]
    tool.main(["lookup", table, ALL_8, "--json"])
    (data,) = json.loads(capsys.readouterr().out)
    assert data["arch"] == ALL_8 and data["total_us"] == 253_500 + 22 * 8 and len(data["layers"]) == 25
    assert data["layers"][1] == {"place": "stages[0].1", "op": "skip", "input": [16, 32, 32], "out": 16, "us": 1008.0,
                                 "in_constant": False}  # fmt: skip


def test_matrix(tool: ModuleType, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(["matrix", table, "--space", "fbnet_cifar", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["variables"][21] == "layer22" and data["fixed_us"] == 500 and data["us"][21] == US[21].tolist()
    assert data["us"][3][0] == pytest.approx(4000)  # the mean of the equal layers 3 to 5
    tool.main(["matrix", table, "--space", "fbnet_cifar"])
    assert capsys.readouterr().out.splitlines()[3].split()[:3] == ["layer1", "1,000.0", "1,001.0"]


def test_import_and_export(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw.txt").write_text("\n".join(" ".join(map(str, row / 1e6)) for row in US))
    first, exported, second = (str(tmp_path / name) for name in ("a.json", "a.csv", "b.json"))
    flags = ["--unit", "s", "--space", "fbnet_cifar", "--constant-us", "500"]
    tool.main(["import", str(tmp_path / "raw.txt"), *flags, *DEVICE, "--output", first])
    assert "operators, 3 of them in the constant of 500.0 µs" in capsys.readouterr().out
    table = load_table(first)
    assert table.latency(SPACE.arch([0] * 22)).total_us == pytest.approx(253_500)
    assert table.setting == Setting("board", "Some Board", "some", threads=4, method="import")
    tool.main(["export", first, "--output", exported])
    tool.main(["import", exported, *DEVICE, "--output", second])
    again = load_table(second)
    assert again.entries == table.entries and again.constant_us == 500 and again.digest() == table.digest()


def test_compare(tool: ModuleType, table: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "f.png"
    tool.main(["compare", table, other, "--op", "mb", "--top", "4", "--plot", str(figure)])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[-3:] == ["Some", "Board,", "4.00x"] for line in lines[2:6])
    assert "Median ratio: Other / Some Board 0.33." in lines[-1] and figure.stat().st_size > 10_000


def test_cross(tool: ModuleType, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(["cross", table, "--arch", ALL_0, ALL_8, "--markdown"])
    first, second = capsys.readouterr().out.splitlines()[2:]
    assert first.startswith(f"| {ALL_0} ") and "**254**" in first and "**" not in second


def test_fit(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = SPACE.sample(150, np.random.default_rng(0))
    ms = [2 + US[np.arange(22), point].sum() / 1e3 for point in points]
    lines = ["ops,phone", *(f"{''.join(map(str, point))},{value!r}" for point, value in zip(points, map(float, ms)))]
    (tmp_path / "nets.csv").write_text("\n".join(lines))
    output = str(tmp_path / "fit.json")
    flags = ["--space", "fbnet_cifar", "--column", "phone", "--unit", "ms"]
    tool.main(["fit", str(tmp_path / "nets.csv"), *flags, *DEVICE, "--output", output])
    assert "each network predicted from the others: R2 " in capsys.readouterr().out
    found = load_table(output)
    assert found.setting.method == "fit" and found.setting.processor == "Some Board"
    assert found.latencies([SPACE.arch(point) for point in points[:5]]) == pytest.approx(
        1e3 * np.array(ms[:5]), rel=1e-3
    )


BAD = {
    "none.json: No such file or directory": ["show", "none.json"],
    "unknown architecture 'fbnet_z'": ["lookup", "TABLE", "fbnet_z"],
    "got '123', expected 22 choices of fbnet_cifar": ["lookup", "TABLE", "fbnet_cifar:123"],
    "lacks 15 operators": ["lookup", "TABLE", "fbnet:" + "8" * 22],
    "no unit is given": ["import", "RAW", *DEVICE, "--output", "x.json"],
    "--unit ms is not for CSV": ["import", "CSV", "--unit", "ms", *DEVICE, "--output", "x.json"],
    "expected a space that names the layers (--space)": ["import", "CSV", *DEVICE, "--output", "x.json"],
    "1 table to compare": ["compare", "TABLE"],
    "expected one of ops, phone": ["fit", "NETS", "--space", "fbnet_cifar", "--column", "ms", "--unit", "s", *DEVICE,
                                   "--output", "x.json"],
    "folder: Is a directory": ["export", "TABLE", "--output", "folder"],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_message(
    tool: ModuleType, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    files = {"RAW": "1 2 3\n", "CSV": "layer,candidate,latency_us\n1,0,5\n", "NETS": "ops,phone\n00,1\n"}
    Path("folder").mkdir()
    for name, text in files.items():
        Path(name).write_text(text)
    with pytest.raises(SystemExit) as stopped:
        tool.main([table if word == "TABLE" else word for word in BAD[message]])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and message in printed.err and "Traceback" not in printed.err
    assert not Path("x.json").exists()


@pytest.mark.parametrize("command", ["show", "lookup", "matrix", "import", "export", "compare", "cross", "fit"])
def test_help_has_an_example(tool: ModuleType, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        tool.main([command, "--help"])
    assert stopped.value.code == 0 and f"example:\n  latency_table.py {command} " in capsys.readouterr().out
