"""The real tools/train_net.py, in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import tiny_task
import torch

from fbnet_plugin.checkpoint import read_checkpoint

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_net", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_net"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["train_net"]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    cfg = tiny_task.tiny_cfg(tmp_path / "out")
    path.write_text(cfg.dump())
    return str(path)


def ends(tool, capsys, *argv):
    """Exit code and the lines on stderr that are not warnings of libraries."""
    with pytest.raises(SystemExit) as ended:
        tool.main(list(argv))
    return ended.value.code, capsys.readouterr().err


def test_train_resume_and_evaluate(tool, config, tmp_path, capsys):
    out = tmp_path / "out"
    tool.main(["--config-file", config, "SOLVER.MAX_ITER", "4"])
    assert read_checkpoint(str(out / "model_final.pth"))["iteration"] == 3
    assert (out / "config.yaml").is_file()
    tool.main(["--config-file", config, "--resume", "SOLVER.MAX_ITER", "5"])
    assert read_checkpoint(str(out / "model_final.pth"))["iteration"] == 4
    assert "Starting training from iteration 4" in (out / "log.txt").read_text()
    capsys.readouterr()
    weights = str(out / "model_final.pth")
    tool.main(["--config-file", config, "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(tmp_path / "eval")])
    printed = capsys.readouterr().out
    assert "copypaste: top1,top5" in printed
    assert f"{weights}: 9 tensors by name" in (tmp_path / "eval" / "log.txt").read_text()


def test_evaluation_checks_the_expected_results(tool, config, tmp_path, capsys):
    tool.main(["--config-file", config, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()"])
    argv = ["--config-file", config, "--eval-only", "MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth")]
    tool.main([*argv, "TEST.EXPECTED_RESULTS", "[['classification', 'top1', 50.0, 50.0]]"])
    with pytest.raises((SystemExit, AssertionError)):
        tool.main([*argv, "TEST.EXPECTED_RESULTS", "[['classification', 'top1', 500.0, 1.0]]"])


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.BACKBONE.NAME", "build_fbnet_backbone", "MODEL.FBNET.ARCH", "fbnet_z"], "architecture 'fbnet_z'"),
        (["SOLVER.MAX_ITERR", "1"], "unknown key SOLVER.MAX_ITERR; did you mean SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER is 'many', expected a value of type int"),
        (["DATASETS.TRAIN", "('tiny_trian',)"], "DATASETS.TRAIN is 'tiny_trian'; did you mean tiny_train"),
        (["DATASETS.TRAIN", "('imagenet_val',)"], "dataset 'imagenet_val': no such folder"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "MODEL.WEIGHTS is 'nowhere.pth': no such file"),
    ],
)
def test_bad_input_is_one_clear_error_and_writes_nothing(tool, config, tmp_path, capsys, opts, message):
    code, err = ends(tool, capsys, "--config-file", config, *opts)
    assert code == 2 and message in err and "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert not (tmp_path / "out").exists()


def test_bad_config_files_are_one_clear_error(tool, tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("MODEL: {FBNET: [\n")
    code, err = ends(tool, capsys, "--config-file", str(broken))
    assert code == 2 and f"error: {broken}: line 2" in err and "not valid YAML" in err
    code, err = ends(tool, capsys, "--config-file", str(tmp_path / "nowhere.yaml"))
    assert code == 2 and "nowhere.yaml': no such file" in err
    assert list(tmp_path.iterdir()) == [broken]


def test_evaluating_another_number_of_classes_is_one_clear_error(tool, config, tmp_path, capsys):
    tool.main(["--config-file", config, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()"])
    capsys.readouterr()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth")]
    changed = [*weights, "MODEL.CLASSIFIER.NUM_CLASSES", "4"]
    code, err = ends(tool, capsys, "--config-file", config, "--eval-only", *changed)
    assert code == 2 and "head.fc.weight: (3, 4) in the file, (4, 4) in the model" in err
    assert "MODEL.CLASSIFIER.NUM_CLASSES 3" in err and "Traceback" not in err


def test_divergence_is_exit_code_1(tool, config, tmp_path, capsys):
    tiny_task.TinyClassifier.on_step = staticmethod(lambda step, losses: {"loss_cls": losses["loss_cls"] * torch.inf})
    code, err = ends(tool, capsys, "--config-file", config)
    assert code == 1 and "error: loss not finite at iteration 0: loss_cls = inf" in err


def test_damaged_checkpoints_never_mean_a_new_run(tool, config, tmp_path, capsys):
    tool.main(["--config-file", config, "SOLVER.MAX_ITER", "4", "DATASETS.TEST", "()"])
    out = tmp_path / "out"
    (out / "model_final.pth").write_bytes(b"")
    tool.main(["--config-file", config, "--resume", "DATASETS.TEST", "()"])
    assert f"Falling back to checkpoint {out / 'model_0000003.pth'}" in (out / "log.txt").read_text()
    for path in out.glob("*.pth"):
        path.write_bytes(b"")
    code, err = ends(tool, capsys, "--config-file", config, "--resume")
    assert code == 2 and "no checkpoint in it can be resumed from" in err
