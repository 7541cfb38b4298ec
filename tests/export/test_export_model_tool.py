"""tools/export_model.py from its command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / "tools" / "export_model.py"
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("export_model", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def command(tool, trained, tmp_path):
    """Runs the tool on the small classifier; the output file is in ``tmp_path``."""

    def run(*words, output="model.ts", file_format="torchscript"):
        fixed = ["--config-file", trained.config_file, "--format", file_format, "--output", str(tmp_path / output)]
        tool.main([*fixed, *map(str, words)])

    return run


def test_writes_torchscript(command, capsys, tmp_path, trained):
    command("--sample-images", "digits_test", "MODEL.CLASSIFIER.DROPOUT", 0.5)
    printed = capsys.readouterr().out
    assert "gives what PyTorch gives on 4 images of digits_test: logits differ by" in printed
    assert "model.ts: " in printed and "input  image ('batch', 3, 32, 32)" in printed
    (logits,) = torch.jit.load(str(tmp_path / "model.ts"))(trained.test.images[:100].float())
    assert (logits.argmax(dim=1) == trained.test.labels[:100]).float().mean() > 0.9


def test_writes_int8(command, capsys, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    words = ["--int8", "--evaluate", "--calibration", "digits_train", "--calibration-images", 40]
    command(*words, file_format="onnx", output="int8.onnx")
    printed = capsys.readouterr().out
    assert "calibrating on 40 images of digits_train" in printed
    assert "int8 against float32 on 359 images" in printed
    assert "top-1" in printed and "latency" in printed
    assert "input  image ('batch', 3, 32, 32)" in printed and "output logits ('batch', 10)" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


def test_refuses_what_differs(command, capsys, tmp_path):
    """No two ways to add up float32 agree to a part in 10^12."""
    with pytest.raises(SystemExit) as stopped:
        command("--tolerance", "1e-12")
    assert stopped.value.code == 1
    assert "error: the exported network is not the model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["--int8", "--calibration", "digits_train"], "--int8 with --format torchscript: expected onnx"),
        (["--evaluate"], "--calibration and --evaluate are for --int8"),
        (["--tolerance", "0"], "expected a number above 0"),
        (["--sample-images", "nowhere.png"], "nowhere.png: no such file, folder or dataset"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "nowhere.pth: no such file"),
        (["MODEL.META_ARCHITECTURE", "Nobody"], "which nobody registered"),
        (["--sample-images", "digits_test", "MODEL.FBNETS.ARCH", "a"], "unknown key MODEL.FBNETS.ARCH"),
    ],
)
def test_bad_input(words, message, command, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        command(*words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_calibration(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command("--int8", file_format="onnx")
    assert stopped.value.code == 2 and "--int8 needs --calibration" in capsys.readouterr().err


def test_random_weights_are_said(command, caplog):
    command("MODEL.WEIGHTS", "")
    assert "the weights are random" in caplog.text
