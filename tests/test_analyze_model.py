"""tools/analyze_model.py as a command."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "analyze_model.py"
A = "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("analyze_model", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_as_a_command(tmp_path):
    """From another folder, with a config that is named by its path below the project's configs."""
    command = [sys.executable, str(TOOL), "--config-file", A, "--image-size", "400", "600", "--json"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["config_file"] == A and data["image_size"] == [400, 600] and data["proposals"] == 75
    assert data["total"]["params"] == 5_306_708 and data["total"]["macs"] == 2_900_104_360
    assert list(tmp_path.iterdir()) == []


def test_table(tool, capsys):
    tool.main(["--config-file", A, "--image-size", "400", "600", "--proposals", "10"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["part", "parameters", "conv+fc", "weights", "MACs"]
    assert [line.split()[0] for line in lines[1:6]] == ["backbone", "rpn_head", "box_head", "box_predictor", "total"]
    assert lines[5].split()[1] == "5,306,708" and "(10 RoIs)" in lines[3]
    assert "400x600" in "".join(lines)


def test_values_on_the_command_line(tool, capsys):
    tool.main(["--config-file", A, "--json", "MODEL.FBNET.WIDTH_MULT", "0.5", "MODEL.RPN.POST_NMS_TOPK_TEST", "9"])
    data = json.loads(capsys.readouterr().out)
    assert data["proposals"] == 9 and data["image_size"] == [400, 533] and data["total"]["params"] < 2_000_000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["faster_rcnn_fbnet_v3_a_C4_3y.yaml"], "error: config file 'faster_rcnn_fbnet_v3_a_C4_3y.yaml': no such file"),
        ([A, "MODEL.FBNET.ARC", "fbnet_a"], "error: command line: unknown key MODEL.FBNET.ARC; did you mean"),
        ([A, "MODEL.FBNET.ARCH", "fbnet_z"], "error: unknown architecture 'fbnet_z'"),
        ([A, "MODEL.RPN.HEAD_NAME", "Head"], "error: config: No object named 'Head' found in 'RPN_HEAD' registry!"),
        (["Digits/dnas_digits.yaml"], "error: MODEL.META_ARCHITECTURE: is Supernet, of which no architecture runs"),
        ([A, "--image-size", "0", "5"], "argument --image-size: 0 is not above 0"),
        ([A, "--proposals", "many"], "argument --proposals: invalid positive value: 'many'"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments, message, tool, capsys):
    with pytest.raises(SystemExit) as error:
        tool.main(["--config-file", *arguments])
    assert error.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("error: ") == 1 and not printed.out
