"""tools/sample_archs.py, and what is done with its files."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbnet_plugin.arch import SearchSpace, get_arch, load_arch, load_space, scale_space
from fbnet_plugin.dnas.distribution import Distribution
from fbnet_plugin.dnas.distribution_file import save_distribution
from fbnet_plugin.dnas.sampling import most_probable
from fbnet_plugin.engine import load_config
from fbnet_plugin.latency import Entry, LatencyTable, Setting, save_table
from fbnet_plugin.latency.layerwise import layerwise
from fbnet_plugin.modeling.arch import arch_from_config

TOOL = Path(__file__).resolve().parents[1] / "tools" / "sample_archs.py"


def tool() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("sample_archs", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def latency_table(space: Any, file: Path, factor: float = 1.0) -> LatencyTable:
    """Made-up latencies of all operators of a space, also as a file."""
    operators = list(dict.fromkeys(layerwise(space).operators()))
    us = np.random.default_rng(3).uniform(20, 400, len(operators)).round(3) * factor
    entries = {operator: Entry(float(one)) for operator, one in zip(operators, us)}
    table = LatencyTable(Setting("cpu", "a processor", "eager"), entries, file=str(file))
    save_table(table, file)
    return table


@functools.lru_cache(maxsize=None)
def small_fbnet() -> SearchSpace:
    return scale_space(load_space("fbnet"), 0.35, 96)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a search over FBNet's space at width 0.35 and 96 px, with a target of 4.2 ms."""
    space = small_fbnet()
    theta = np.random.default_rng(0).normal(size=(22, 9))
    one = Distribution(space, theta, epoch=89, iteration=12_345).with_table(
        latency_table(space, tmp_path / "phone.json")
    )
    save_distribution(dataclasses.replace(one, target_us=4200.0), tmp_path / "run" / "search" / "distribution.json")
    return tmp_path / "run"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "archs.json").read_text())


def test_a_run_becomes_files(run: Path, capsys: pytest.CaptureFixture) -> None:
    tool().main([str(run), "--no-picture"])
    printed, folder = capsys.readouterr(), run / "search" / "archs"
    names = ["fbnet_r96_w0.35_argmax", *(f"fbnet_r96_w0.35_{i}" for i in range(1, 7))]
    rows = rows_of(folder)
    assert [row["name"] for row in rows] == names and [row["is_argmax"] for row in rows] == [True] + [False] * 6
    assert sorted(os.listdir(folder)) == sorted(["archs.json", *(f"{name}.yaml" for name in names)])
    assert len({tuple(row["point"]) for row in rows}) == 7 and printed.err == ""

    one = tool().load_distribution(str(run / "search" / "distribution.json"))
    table = tool().load_table(str(run.parent / "phone.json"))
    assert tuple(rows[0]["point"]) == most_probable(one, 0.95 * 4200, 1.05 * 4200)
    for row in rows:
        arch = load_arch(str(folder / row["file"]))
        assert arch.name == row["name"] and arch.resolution == row["resolution"] == 96
        assert arch.stages == one.arch(row["point"]).stages
        assert (arch.cost().macs, arch.cost().params) == (row["macs"], row["params"])
        assert row["latency_us"] == pytest.approx(table.latency(arch).total_us, rel=1e-9)
        assert 0.95 * 4200 <= row["latency_us"] <= 1.05 * 4200
        assert row["log_prob"] == one.log_prob(row["point"]) <= rows[0]["log_prob"]
        assert row["blocks"] == sum(name != "skip" for name in row["candidates"])
        figures = f"latency {row['latency_us'] / 1000:.3f} ms, {row['macs'] / 1e6:.1f}M MACs, "
        figures += f"{row['params'] / 1e6:.3f}M parameters, {row['blocks']} searched blocks besides skips, "
        figures += f"log-probability {row['log_prob']:.3f}"
        assert arch.notes == f"{figures}."
        assert arch.source.endswith(f"epoch 89; latencies by {run.parent / 'phone.json'} ({table.digest()[:12]})")
        header = [line for line in (folder / row["file"]).read_text().splitlines() if line.startswith("#")]
        assert f"# {figures}." in header and "tools/sample_archs.py" in header[0]


def test_what_is_printed(run: Path, capsys: pytest.CaptureFixture) -> None:
    tool().main([str(run), "--num", "2", "--no-picture", "--output", str(run / "two")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{run / 'search' / 'distribution.json'}: fbnet_r96_w0.35, epoch 89"
    assert lines[1] == (
        f"latencies: {run.parent / 'phone.json'}; bounds: within 5% of the target of 4.200 ms; --any-latency lifts them"
    )
    assert lines[2].split("  ")[0] == "name" and "latency (ms)  MACs (M)  params (M)  log-prob  blocks" in lines[2]
    first = rows_of(run / "two")[0]
    assert re.split(" +", lines[3]) == [
        "fbnet_r96_w0.35_argmax", f"{first['latency_us'] / 1000:.3f}", f"{first['macs'] / 1e6:.1f}",
        f"{first['params'] / 1e6:.3f}", f"{first['log_prob']:.2f}", str(first["blocks"]),
    ]  # fmt: skip
    assert lines[6:] == [f"{run / 'two'}: 3 architectures, archs.json"]


def test_seeds(run: Path) -> None:
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        tool().main([str(run), "--seed", str(seed), "--no-picture", "--output", str(run / name)])
    a, b, c = (rows_of(run / name) for name in "abc")
    assert a == b and a[0] == c[0] and a[1:] != c[1:]
    assert (run / "a" / "fbnet_r96_w0.35_1.yaml").read_bytes() == (run / "b" / "fbnet_r96_w0.35_1.yaml").read_bytes()


def test_bounds_and_tables(run: Path, capsys: pytest.CaptureFixture) -> None:
    file = str(run / "search" / "distribution.json")
    one = tool().load_distribution(file)

    def sampled(*options: str) -> tuple[list[dict[str, Any]], str]:
        capsys.readouterr()
        tool().main([file, "--no-picture", "--output", str(run / "x"), "--num", "3", *options])
        return rows_of(run / "x"), re.search(r"bounds: (.*)", capsys.readouterr().out).group(1)

    rows, origin = sampled("--any-latency")
    assert tuple(rows[0]["point"]) == one.argmax() and origin == "none"
    rows, origin = sampled("--max-us", "3000")
    assert max(row["latency_us"] for row in rows) <= 3000 and origin == "as asked"
    assert tuple(rows[0]["point"]) == most_probable(one, None, 3000)
    rows, origin = sampled("--min-us", "5200.5", "--max-us", "5300")
    assert all(5200.5 <= row["latency_us"] <= 5300 for row in rows)

    slow = run / "slow.json"
    table = latency_table(one.space, slow, factor=3)
    rows, origin = sampled("--table", str(slow))
    assert origin == "none; the target was for another latency table"
    assert tuple(rows[0]["point"]) == one.argmax()
    assert rows[0]["latency_us"] == pytest.approx(3 * one.latency_us_of(one.argmax()), rel=1e-6)
    assert f"latencies by {slow} ({table.digest()[:12]})" in (run / "x" / rows[0]["file"]).read_text()
    rows, _ = sampled("--table", str(slow), "--max-us", "9000")
    assert max(row["latency_us"] for row in rows) <= 9000
    rows, origin = sampled("--table", str(run.parent / "phone.json"))
    assert origin.startswith("within 5% of the target")


def test_a_file_trains(run: Path) -> None:
    """It goes where a zoo name would."""
    tool().main([str(run), "--num", "0", "--no-picture"])
    path = run / "search" / "archs" / "fbnet_r96_w0.35_argmax.yaml"
    cfg = load_config("ImageNet-Classification/fbnet_a_360e.yaml", ["MODEL.FBNET.ARCH", str(path)])
    assert arch_from_config(cfg) == get_arch(str(path))


def test_the_picture(run: Path, capsys: pytest.CaptureFixture) -> None:
    tool().main([str(run), "--num", "1"])
    picture = (run / "search" / "archs" / "archs.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert capsys.readouterr().out.endswith(": 2 architectures, archs.json, archs.png\n")


def test_where_files_are_found_and_put(run: Path, tmp_path: Path) -> None:
    module, file = tool(), run / "search" / "distribution.json"
    assert [module.find_distribution(str(path)) for path in (run, run / "search", file)] == [str(file)] * 3
    copy = run / "search" / "distribution_0049.json"
    file.rename(copy)
    module.main([str(copy), "--num", "0", "--no-picture"])
    assert (run / "search" / "archs_0049" / "archs.json").exists()
    copy.rename(tmp_path / "mine.json")
    module.main([str(tmp_path / "mine.json"), "--num", "0", "--no-picture"])
    assert (tmp_path / "archs" / "archs.json").exists()


def test_a_search_without_table_or_target(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    space = load_space("fbnet_cifar")
    one = Distribution(space, [[9.0, *[0.0] * 8]] * 22)
    save_distribution(one, tmp_path / "distribution.json")
    tool().main([str(tmp_path), "--num", "1", "--no-picture"])
    printed = capsys.readouterr().out
    assert "latencies: none; bounds: none\n" in printed
    rows = rows_of(tmp_path / "archs")
    assert [row["latency_us"] for row in rows] == [None, None]
    arch = load_arch(str(tmp_path / "archs" / "fbnet_cifar_argmax.yaml"))
    assert arch.notes.startswith(f"{arch.cost().macs / 1e6:.1f}M MACs, ") and arch.source.endswith("no latency table")


def test_a_space_with_an_odd_name(tmp_path: Path) -> None:
    space = load_space("fbnet_cifar")
    space = SearchSpace("../my space", space.variables, space.template)
    save_distribution(Distribution(space, [[0.0] * 9] * 22), tmp_path / "distribution.json")
    tool().main([str(tmp_path), "--num", "0", "--no-picture"])
    assert sorted(os.listdir(tmp_path / "archs")) == ["archs.json", "my_space_argmax.yaml"]


def failing(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """What a call says that ends with exit status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        tool().main(arguments)
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and not printed.out and printed.err.count("error:") == 1
    return printed.err


def test_mistakes_are_one_message(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, space = run / "search" / "distribution.json", load_space("fbnet")
    assert f"error: {tmp_path / 'no.json'}: No such file" in failing([str(tmp_path / "no.json")], capsys)
    said = failing([str(tmp_path)], capsys)
    assert f"error: {tmp_path}: neither search/distribution.json nor distribution.json is there" in said
    said = failing([str(run), "--max-us", "1"], capsys)
    assert re.search(
        r"no architecture takes 1\.0 µs or less; fbnet_r96_w0\.35 reaches from [\d,.]+ to [\d,.]+ µs", said
    )
    assert "any-latency" not in said
    assert "got 2.0 to 1.0 µs" in failing([str(run), "--min-us", "2", "--max-us", "1"], capsys)
    assert "invalid count value: 'many'" in failing([str(run), "--num", "many"], capsys)
    assert "-1 is below 0" in failing([str(run), "--num", "-1"], capsys)
    assert "nan is not a finite number" in failing([str(run), "--max-us", "nan"], capsys)
    latency_table(space, tmp_path / "other.json")
    said = failing([str(run), "--table", str(tmp_path / "other.json")], capsys)
    assert "other.json lacks " in said and "tools/benchmark_latency.py" in said
    (tmp_path / "taken").touch()
    said = failing([str(run), "--no-picture", "--output", str(tmp_path / "taken")], capsys)
    assert f"{tmp_path / 'taken'}: cannot be written: " in said

    one = tool().load_distribution(str(file))
    save_distribution(dataclasses.replace(one, target_us=1.0), file)
    assert failing([str(run)], capsys).endswith("µs; --any-latency lifts the bounds\n")
    save_distribution(Distribution(one.space, one.theta), file)
    assert "has no latencies to keep the bounds with; give --table" in failing([str(run), "--max-us", "9"], capsys)
    file.write_text(file.read_text()[:-100])
    assert f"error: {file}: not a distribution (" in failing([str(run)], capsys)
    assert not (run / "search" / "archs").exists()


def test_as_a_command(run: Path, tmp_path: Path) -> None:
    one = tool().load_distribution(str(run / "search" / "distribution.json"))
    peaked = [[99.0 * (i == 0) for i in range(9)]] * 22
    save_distribution(dataclasses.replace(one, theta=peaked, target_us=None), run / "search" / "distribution.json")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOOL.parents[1]), os.environ.get("PYTHONPATH", "")])}
    line = [sys.executable, str(TOOL), "run", "--no-picture"]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "run/search/archs: 1 architectures" in done.stdout, done.stderr
    assert "0 distinct architectures besides the most probable one, not 6" in done.stderr


def test_help(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        tool().main(["--help"])
    assert stopped.value.code == 0 and "--any-latency" in capsys.readouterr().out
