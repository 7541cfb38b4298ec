"""A small search with real trainings on digits, by the command line, and all that can be done with its result."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fbnet_plugin.nars.opened import open_run

TOOL = Path(__file__).resolve().parents[2] / "tools" / "nars.py"
SMALL = [
    "MODEL.DEVICE", "cpu", "NARS.POOL_SIZE", "400", "NARS.BATCH", "4", "NARS.ROUNDS", "2", "SOLVER.EPOCHS", "2",
    "NARS.VALIDATION_IMAGES", "1150", "NARS.EVOLUTION.TARGETS", "['macs <= 600K', 'macs <= 1.2M']",
    "NARS.WINNERS.SEEDS", "1", "NARS.WINNERS.EPOCHS", "1", "NARS.EVALUATION.EXECUTOR", "InProcessExecutor",
    "NARS.PREDICTOR.FORM", "plain", "NARS.EVOLUTION.CHILDREN", "3", "NARS.EVOLUTION.VERIFY", "0",
]  # fmt: skip


def tool(*args: str) -> None:
    """``tools/nars.py`` in this process."""
    before = sys.argv
    sys.argv = [str(TOOL), *args]
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """The folder of a finished search."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    tool("search", "--config-file", "nars/digits.yaml", *SMALL, "OUTPUT_DIR", str(folder))
    return folder


def test_candidates_are_trained(searched):
    with open_run(str(searched), read_only=True) as (run, store):
        found = store.candidates()
        assert [one.phase for one in found] == ["search"] * 8 + ["winner"] * 2
        assert all(one.state == "done" for one in found), [one.reason for one in found]
        assert all(len(one.curve) == one.epochs for one in found)
        for one in found:
            values = store.values(one.id)
            group = "classification_ema" if one.recipe["ema"] else "classification"
            assert one.accuracy == values[f"{group}/top1"] == one.curve[-1][1]
        log = (searched / "candidates" / "search-r1-001" / "log.txt").read_text()
        assert "images" in log
        weights = [path.parent.name for path in searched.glob("candidates/*/model_final.pth")]
        assert sorted(weights) == ["winner-macs1.2M-1", "winner-macs600k-1"]


def test_trained_again_it_gives_the_same(searched, tmp_path, capsys):
    """The config beside a candidate, run by tools/train_net.py, is what the search ran."""
    folder = searched / "candidates" / "winner-macs600k-1"
    command = [sys.executable, str(TOOL.parent / "train_net.py"), "--config-file", str(folder / "config.yaml")]
    done = subprocess.run([*command, "OUTPUT_DIR", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    again = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()][-1]
    with open_run(str(searched), read_only=True) as (_, store):
        winner = next(one for one in store.candidates(phase="winner") if one.name == "macs600k-1")
        assert again["classification/top1"] == store.values(winner.id)["classification/top1"]


def test_status_and_report(searched, capsys):
    tool("status", str(searched))
    text = capsys.readouterr().out
    assert "stage 3 of 3" in text and "macs600k-1" in text
    tool("report", str(searched), "--quick")
    page = (searched / "report.html").read_text()
    assert "macs1.2M-1" in page and "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_evolve(searched, capsys, tmp_path):
    tool("evolve", str(searched), "--target", "macs <= 500K", "--count", "2", "--output", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        f"macs500k-{number}{ending}" for number in (1, 2) for ending in (".arch.yaml", ".recipe.yaml", ".yaml")
    }


def test_swap_and_without_evolution(searched, capsys):
    tool("swap", str(searched))
    assert "recipe of macs600k-1" in capsys.readouterr().out
    rows = json.loads((searched / "swap.json").read_text())
    assert [(row["arch"], row["recipe"]) for row in rows] == [
        (arch, recipe) for arch in ("macs600k-1", "macs1.2M-1") for recipe in ("macs600k-1", "macs1.2M-1")
    ]
    with open_run(str(searched), read_only=True) as (_, store):
        own = {one.name: one.accuracy for one in store.candidates(phase="winner")}
        assert len(store.candidates(phase="swap")) == 2
    assert rows[0]["accuracy"] == [own["macs600k-1"]] and rows[3]["accuracy"] == [own["macs1.2M-1"]]

    tool("without-evolution", str(searched))
    rows = json.loads((searched / "without-evolution.json").read_text())
    assert {row["recipe"] for row in rows} == {"Y", "N"}
    tool("status", str(searched))  # the new phases do not disturb it


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["status", "nowhere"], "expected the OUTPUT_DIR of a NARS search"),
        (["search", "--config-file", "Digits/dnas_digits.yaml"], "LATENCY.TABLE|TRAINER is 'DNASTrainer'"),
        (["pool", "digits", "--constraints", "macs <= 10"], "the smallest network"),
        (["pool", "nospace"], "expected a .yaml path or one of"),
        (["scale", "fbnet_v3_a", "--macs", "1K"], "the nearest"),
    ],
)
def test_mistakes_end_with_one_message(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        tool(*args)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("error:") == 1
    assert any(part in error for part in message.split("|"))


def test_parts_by_themselves(tmp_path, capsys):
    tool("spaces")
    assert "fbnet_v3_ema" in capsys.readouterr().out
    tool("spaces", "digits")
    assert "stochastic_depth" in capsys.readouterr().out
    tool("pool", "digits", "--num", "200", "--constraints", "macs <= 1M", "--output", str(tmp_path / "pool.npz"))
    assert "rejected" in capsys.readouterr().out and (tmp_path / "pool.npz").is_file()
    tool("pretrain", "digits", "--num", "200", "--output", str(tmp_path / "predictor.pt"))
    assert "params" in capsys.readouterr().out and (tmp_path / "predictor.pt").is_file()
    tool("scale", "fbnet_v3_b", "--macs", "357M", "--output", str(tmp_path / "a.yaml"))
    assert "fbnet_v3_b" in capsys.readouterr().out and (tmp_path / "a.yaml").is_file()
