"""The real tools/ablate.py, in this process, with trainings that take no time."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from small_ablation import fake_command, small_config

from fbnet_plugin.ablation.schedule import Schedule

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ablate.py"


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location("ablate", TOOL)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ablate", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "Schedule", functools.partial(Schedule, command=fake_command))
    return module


@pytest.fixture
def techniques(tmp_path):
    return ["techniques", "--config-file", str(small_config(tmp_path)), "--output", str(tmp_path / "out")]


def ends(tool, capsys, *argv):
    """Exit code, and what was printed to stdout and stderr."""
    try:
        code = tool.main(list(argv)) or 0
    except SystemExit as end:
        code = end.code
    return (code, *capsys.readouterr())


def test_table_8_from_beginning_to_end(tool, techniques, tmp_path, capsys):
    code, out, _ = ends(tool, capsys, *techniques, "--seeds", "2", "SOLVER.BASE_LR", "0.1")
    assert code == 0 and "[5/5] distilled-seed4 done" in out and "Dist* 86.00, Dist*+EMA 87.00" in out
    assert "83.50 ± 0.71 | 84.50 ± 0.71 | 85.50 ± 0.71 | 86.50 ± 0.71 |" in out
    folder = tmp_path / "out"
    assert all((folder / f"ablation.{kind}").stat().st_size for kind in ("md", "json", "png"))
    assert "BASE_LR: 0.1" in (folder / "labels-seed3" / "config.yaml").read_text()
    code, out, err = ends(tool, capsys, *techniques, "--seeds", "3", "SOLVER.BASE_LR", "0.2")
    assert code == 2 and "- SOLVER.BASE_LR: 0.1\n" in err and "+ SOLVER.BASE_LR: 0.2\n" in err
    code, out, _ = ends(tool, capsys, *techniques, "--seeds", "3", "SOLVER.BASE_LR", "0.1")
    assert code == 0 and "5 of 7 trainings are done already" in out and "84.00 ± 1.00" in out


def test_table_3_with_options_of_one_side(tool, tmp_path, capsys):
    argv = ["recipes", "--config-file", str(small_config(tmp_path)), "--output", str(tmp_path / "out"), "--seeds", "2"]
    argv += [
        "--networks",
        "alexnet",
        "resnet18",
        "--plain",
        "Recipes/plain_90e.yaml",
        "--recipe-opts",
        "SOLVER.BASE_LR 0.3",
    ]
    code, out, _ = ends(tool, capsys, *argv, "SOLVER.IMS_PER_BATCH", "4")
    assert code == 0 and "| resnet18 | 83.50 ± 0.71 | 85.50 ± 0.71 | +2.00 ± 0.00 [+2.00, +2.00] |" in out.replace(
        "  ", " "
    )
    plain, recipe = (tmp_path / "out" / f"alexnet-{side}-seed3" / "config.yaml" for side in ("plain", "recipe"))
    assert "EPOCHS: 90" in plain.read_text() and "BASE_LR: 0.3" in recipe.read_text()


def test_a_failure_is_exit_code_1_and_stands_in_the_table(tool, techniques, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fail").write_text("labels-seed3")
    code, out, _ = ends(tool, capsys, *techniques, "--seeds", "2")
    assert code == 1 and "84.00 (failed)" in out and "[5/5]" in out
    assert "- labels-seed3: exit code 1: error: no memory left" in (tmp_path / "out" / "ablation.md").read_text()


def test_ctrl_c_is_exit_code_130_and_a_report_can_be_had_then(tool, techniques, tmp_path, capsys, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "hang").write_text("labels-seed4")
    step = Schedule._step

    def interrupted(self):
        if (tmp_path / "out" / "labels-seed4" / "metrics.json").exists() and not self._signals.received:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    monkeypatch.setattr(Schedule, "_step", interrupted)
    code, _, err = ends(tool, capsys, *techniques, "--seeds", "2")
    assert code == 130 and "stopped by SIGINT; the same command goes on" in err
    code, out, _ = ends(tool, capsys, "report", str(tmp_path / "out"))
    assert code == 0 and "83.00 (1 to come) | 84.00 (1 to come)" in out
    (tmp_path / "out" / "hang").unlink()
    monkeypatch.setattr(Schedule, "_step", step)
    assert ends(tool, capsys, *techniques, "--seeds", "2")[0] == 0


def test_another_figure_may_be_reported(tool, techniques, tmp_path, capsys):
    assert ends(tool, capsys, *techniques, "--seeds", "1")[0] == 0
    code, out, _ = ends(tool, capsys, "report", str(tmp_path / "out"), "--metric", "classification/top5")
    assert code == 0 and out.count("| - ") == 4
    assert ends(tool, capsys, "report", str(tmp_path / "out"), "--metric", "top5")[0] == 2


@pytest.mark.parametrize(
    "more, message",
    [
        (["SOLVER.BASE_LRR", "1"], "unknown key SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR"),
        (["MODEL.FBNET.ARCH", "fbnet_z"], "architecture 'fbnet_z'"),
        (["DATASETS.TEST", "('small_test','small_train')"], "expected one dataset"),
        (["DATASETS.TRAIN", "('nothing',)"], "DATASETS.TRAIN is 'nothing'"),
        (["MODEL.CLASSIFIER.MIXUP", "-1.0"], "MODEL.CLASSIFIER.MIXUP is -1.0"),
        (["--metric", "top1"], "--metric is 'top1', expected group/name"),
        (["--teacher-weights", "nowhere.pth"], "TEACHER_WEIGHTS is 'nowhere.pth': no such file"),
        (["--teacher-config", "nowhere.yaml"], "'nowhere.yaml': no such file"),
        (["--seeds", "0"], "--seeds: 0 is not above 0"),
        (["--num-gpus", "99"], "--num-gpus 99: PyTorch finds"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(tool, techniques, tmp_path, capsys, more, message):
    code, _, err = ends(tool, capsys, *techniques, *more)
    assert code == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--networks", "resnet19", "--recipe", "Recipes/fbnet_v3_400e.yaml"], "'resnet19'; did you mean resnet18"),
        (["--networks", "resnet18", "SOLVER.MAX_ITER", "3"], "--networks: SOLVER.MAX_ITER is no network"),
        (["--networks", "resnet18"], "make the same config of resnet18"),
        (["--networks", "resnet18", "--plain-opts", "SOLVER.MAX_ITER '3"], "No closing quotation"),
        (["--networks", "resnet18", "--plain-opts", "SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value"),
    ],
)
def test_bad_recipes_are_one_message_and_write_nothing(tool, tmp_path, capsys, more, message):
    argv = ["recipes", "--config-file", str(small_config(tmp_path)), "--output", str(tmp_path / "out")]
    code, _, err = ends(tool, capsys, *argv, *more)
    assert code == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_the_trainings_and_writes_nothing(tool, techniques, tmp_path, capsys):
    code, out, _ = ends(tool, capsys, *techniques, "--seeds", "1", "--dry-run")
    assert code == 0 and out.split() == ["teacher", "labels-seed3", "distilled-seed3"]
    assert not (tmp_path / "out").exists()


def test_help_says_what_there_is(tool, capsys):
    code, out, _ = ends(tool, capsys, "--help")
    assert code == 0 and all(name in out for name in ("techniques", "recipes", "report", "Table 8", "Table 3"))
    for command in ("techniques", "recipes", "report"):
        assert ends(tool, capsys, command, "--help")[0] == 0
    assert ends(tool, capsys)[0] == 2
    code, _, err = ends(tool, capsys, "report", "nowhere")
    assert code == 2 and "nowhere holds no ablation" in err
