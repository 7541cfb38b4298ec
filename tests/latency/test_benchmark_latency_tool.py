"""tools/benchmark_latency.py as a user runs it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fbnet_plugin.latency import load_table

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark_latency.py"
SPACE = """
name: tiny
variables:
  block: {choices: [{op: mb, kernel: 3, expansion: 2}, {op: mb, kernel: 5, expansion: 2}, {op: skip}]}
  width: {choices: [8, 16]}
architecture:
  resolution: 32
  stages:
  - - {op: conv, out: 8, stride: 2}
    - {use: $block, out: $width}
  head: {num_classes: 10}
"""
QUICK = ["--rounds", "1", "--runs", "2", "--times", "1"]


def tool() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_latency", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    return tmp_path


def test_measure_validate_and_run_again(folder) -> None:
    first = run("--space", "tiny.yaml", "--output", "t.json", "--validate", "4", *QUICK, cwd=folder)
    assert first.returncode == 0, first.stderr
    table = load_table(folder / "t.json")
    assert len(table.entries) == 1 + 6 + 2  # stem; block x width; a classifier on each width
    figures = json.loads(first.stdout.splitlines()[-1])
    assert figures["networks"] == 4 and figures["digest"] == table.digest()
    assert (folder / "t.png").read_bytes()[:4] == b"\x89PNG"
    assert "network/s" in first.stderr  # progress
    assert not (folder / "t.json.partial").exists()

    second = run("--space", "tiny.yaml", "--output", "t.json", *QUICK, cwd=folder)
    assert second.returncode == 0 and "0 operators to measure" in second.stdout
    assert load_table(folder / "t.json").date == table.date

    wrong = run("--space", "tiny.yaml", "--output", "t.json", "--batch-size", "2", cwd=folder)
    assert wrong.returncode == 2 and wrong.stderr.count("error:") == 1
    assert "batch_size 1" in wrong.stderr and "batch_size 2" in wrong.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--output", "t.json"], ["--space", "--arch"]),
        (["--space", "fbnet_v9", "--output", "t.json"], ["fbnet_v9", "fbnet_cifar"]),
        (["--arch", "fbnet_z", "--output", "t.json"], ["fbnet_z", "fbnet_c"]),
        (["--space", "tiny.yaml", "--fix", "width=9", "--output", "t.json"], ["width", "8, 16"]),
        (["--arch", "fbnet_a", "--fix", "width=9", "--output", "t.json"], ["--fix", "--space"]),
        (["--space", "tiny.yaml"], ["--output"]),
        (["--arch", "fbnet_a", "--output", "t.json", "--runtime", "onnxruntime", "--channels-last"], ["ONNX Runtime"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_message_and_write_nothing(folder, monkeypatch, capsys, arguments, words) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stopped:
        tool().main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and all(word in said for word in words), said
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_dry_run_only_tells(folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    tool().main(["--space", "tiny.yaml", "--fix", "width=8", "--dry-run"])
    said = capsys.readouterr().out
    assert re.search(r"^5 operators to measure in 9 networks, 3 rounds", said, re.MULTILINE), said
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_stopped_and_killed_it_goes_on(folder) -> None:
    arguments = ["--space", "fbnet_cifar", "--output", "t.json", "--rounds", "1", "--runs", "2", "--times", "1"]
    for signum, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(
            [sys.executable, str(TOOL), *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_progress(process)
        os.kill(process.pid, signum)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(30) == code
        assert not (folder / "t.json").exists()
        if signum == signal.SIGINT:
            assert "stopped; the same command goes on from t.json.partial" in said
            assert (folder / "t.json.partial").exists()
    done = run(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(load_table(folder / "t.json").entries) == 111


def wait_for_progress(process: subprocess.Popen) -> None:
    """Until the first network is done."""
    seen, deadline = "", time.monotonic() + 60
    while not re.search(r"[1-9]\d*/\d+ \[", seen):
        assert time.monotonic() < deadline and process.poll() is None, seen
        seen += process.stderr.read(1)
