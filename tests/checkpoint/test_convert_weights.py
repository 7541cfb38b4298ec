"""tools/convert_weights.py: files there and back, what it says, and what it refuses."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import Classifier, mobile_vision_blocks, mobile_vision_file, randomize
from torch import nn
from torchvision.models import get_model

from fbnet_plugin.arch import get_arch, save_arch, scale_width
from fbnet_plugin.checkpoint import FBNetCheckpointer

timm = pytest.importorskip("timm")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "convert_weights.py"
NAME = "fbnet_c_timm"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("convert_weights", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def refused(tool, capsys, tmp_path):
    """The message with which the tool leaves, for arguments without --output."""

    def run(*args: str) -> str:
        out = tmp_path / "refused.pth"
        with pytest.raises(SystemExit) as stop:
            tool([*args, "--output", str(out)])
        assert stop.value.code == 2 and not out.exists()
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return randomize(timm.create_model("fbnetc_100")).eval()


def test_of_timm_and_back(tool, theirs, tmp_path, capsys):
    """Through both formats; timm loads its own names strictly and gives the same logits."""
    state = theirs.state_dict()
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    tool([str(tmp_path / "theirs.pth"), "--output", str(tmp_path / "ours.pth")])
    out = capsys.readouterr().out
    for line in ("names: timm", "architecture: fbnet_c_timm", "weights: plain", "tensors: 392", "written:"):
        assert line in " ".join(out.split())
    model = Classifier(get_arch(NAME), 1000).eval()
    FBNetCheckpointer(model, strict=True).load(str(tmp_path / "ours.pth"))
    tool([str(tmp_path / "ours.pth"), "--output", str(tmp_path / "back.safetensors"), "--to", "timm"])
    assert "names: fbnet_plugin architecture: fbnet_c_timm weights: plain" in " ".join(capsys.readouterr().out.split())
    again = timm.create_model("fbnetc_100", checkpoint_path=str(tmp_path / "back.safetensors")).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images), theirs(images))
        torch.testing.assert_close(model(images), theirs(images), rtol=0, atol=1e-5)
    assert sorted(os.listdir(tmp_path)) == ["back.safetensors", "ours.pth", "theirs.pth"]


def test_the_average_of_our_own_training(tool, tmp_path, capsys):
    model, average = randomize(Classifier(get_arch(NAME), 10), 1), randomize(Classifier(get_arch(NAME), 10), 2)
    torch.save({"model": model.state_dict(), "model_ema": average.state_dict(), "iteration": 3}, tmp_path / "both.pth")
    torch.save({"model_ema": average.state_dict()}, tmp_path / "ema.pth")
    for file, weights, expected in (
        ("both.pth", "ema", average),
        ("both.pth", "plain", model),
        ("ema.pth", "ema", average),
    ):
        out = str(tmp_path / "out.pth")
        tool([str(tmp_path / file), "--output", out, "--to", "timm", "--weights", weights])
        assert torch.equal(torch.load(out, weights_only=True)["classifier.bias"], expected.head.fc.bias)
        assert f"weights: {weights}" in " ".join(capsys.readouterr().out.split())


def test_our_own_files_are_checked_too(tool, refused, tmp_path, capsys):
    """A detector is known by its trunk; what is no part of the weights stays behind."""
    torch.save({"model": Classifier(get_arch(NAME), 10).state_dict(), "iteration": 3}, tmp_path / "ours.pth")
    message = refused(str(tmp_path / "ours.pth"), "--arch", "fbnet_v3_b")
    assert "ours.pth: is not of fbnet_v3_b: the file has 23 blocks with tensors, the architecture 31" in message
    state = {key: value for key, value in Classifier(get_arch("fbnet_v3_a_det"), 10).state_dict().items()}
    trunk = {key: value for key, value in state.items() if key.startswith("backbone.") and ".stages.4." not in key}
    torch.save({"model": trunk, "iteration": 3}, tmp_path / "trunk.pth")
    tool([str(tmp_path / "trunk.pth"), "--output", str(tmp_path / "out.pth")])
    assert "architecture: fbnet_v3_a_det\n" in capsys.readouterr().out
    assert list(torch.load(tmp_path / "out.pth", weights_only=True)) == ["model"]
    assert "cannot be converted for timm" in refused(str(tmp_path / "trunk.pth"), "--to", "timm")


def test_the_average_alone_has_no_plain_weights(refused, tmp_path):
    torch.save({"model_ema": Classifier(get_arch(NAME), 10).state_dict()}, tmp_path / "ema.pth")
    assert "ema.pth: holds averaged weights alone" in refused(str(tmp_path / "ema.pth"), "--weights", "plain")


def test_the_licence_goes_along(tool, tmp_path, capsys, caplog):
    arch = get_arch("fbnet_v2_f1")
    blocks = mobile_vision_blocks(arch)
    torch.save(mobile_vision_file(blocks, nn.Linear(arch.head.blocks[-1].out, 10)), tmp_path / "model.pth")
    tool([str(tmp_path / "model.pth"), "--output", str(tmp_path / "ours.pth")])
    out = capsys.readouterr().out
    assert "names:        mobile-vision" in out and "CC BY-NC 4.0" in out and "fbnet_v2_f1, fbnet_v2_f2" in out
    FBNetCheckpointer(Classifier(arch, 10), strict=True).load(str(tmp_path / "ours.pth"))
    assert "CC BY-NC 4.0" in caplog.text
    tool([str(tmp_path / "ours.pth"), "--output", str(tmp_path / "again.pth"), "--to", "timm"])
    assert "CC BY-NC 4.0" in capsys.readouterr().out


def test_an_architecture_of_one_s_own(tool, refused, tmp_path, capsys):
    """Not found in the zoo; named with a file it is converted, and a wrong one is refused."""
    arch = scale_width(get_arch(NAME), 0.25)
    own = str(tmp_path / "own.yaml")
    save_arch(arch, own)
    source = randomize(Classifier(arch, 10))
    torch.save({"model": source.state_dict()}, tmp_path / "ours.pth")
    assert "no architecture in the zoo has these tensors" in refused(str(tmp_path / "ours.pth"), "--to", "timm")
    tool([str(tmp_path / "ours.pth"), "--output", str(tmp_path / "t.pth"), "--to", "timm", "--arch", own])
    message = refused(str(tmp_path / "t.pth"))
    assert "has timm's names and has 23 blocks of widths" in message and "--arch FILE" in message
    assert "is not of fbnet_c_timm: backbone.stages.0.0.conv.weight is (8," in refused(
        str(tmp_path / "t.pth"), "--arch", NAME
    )
    tool([str(tmp_path / "t.pth"), "--output", str(tmp_path / "back.pth"), "--arch", own])
    model = Classifier(arch, 10)
    FBNetCheckpointer(model, strict=True).load(str(tmp_path / "back.pth"))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())


def test_what_timm_pads_otherwise_is_said(tool, tmp_path, capsys):
    with torch.device("meta"):
        model = Classifier(get_arch("fbnet_v3_e"), 10)
    torch.save({"model": model.to_empty(device="cpu").state_dict()}, tmp_path / "ours.pth")
    tool([str(tmp_path / "ours.pth"), "--output", str(tmp_path / "t.pth"), "--to", "timm"])
    assert "timm pads by kernel // 2" in capsys.readouterr().out


def test_of_torchvision_and_back(tool, refused, tmp_path, capsys):
    state = randomize(get_model("resnet18", weights=None, num_classes=10)).state_dict()
    theirs, ours, back = (str(tmp_path / name) for name in ("theirs.pth", "ours.pth", "back.pth"))
    torch.save(state, theirs)
    assert "name a network of torchvision with --arch" in refused(theirs)
    tool([theirs, "--output", ours, "--arch", "resnet18"])
    assert "names:        torchvision\narchitecture: resnet18" in capsys.readouterr().out
    assert "such as --arch resnet50" in refused(ours, "--to", "torchvision")
    tool([ours, "--output", back, "--arch", "resnet18", "--to", "torchvision"])
    again = torch.load(back, weights_only=True)
    assert set(again) == set(state) and all(torch.equal(again[key], state[key]) for key in state)


def test_pickles_only_where_a_flag_says_so(tool, refused, theirs, tmp_path):
    path, out = str(tmp_path / "last.pth.tar"), str(tmp_path / "out.pth")
    torch.save({"state_dict": theirs.state_dict(), "args": argparse.Namespace(lr=1)}, path)
    assert "holds a argparse.Namespace" in refused(path)
    tool([path, "--output", out, "--allow-pickle"])
    FBNetCheckpointer(Classifier(get_arch(NAME), 1000), strict=True).load(out)
    zoo = str(tmp_path / "zoo.pkl")
    Path(zoo).write_bytes(pickle.dumps({"weight": np.ones((2, 3), np.float32), "options": argparse.Namespace()}))
    assert "holds a argparse.Namespace" in refused(zoo)
    assert "options is a Namespace, expected a tensor" in refused(zoo, "--allow-pickle")


def test_pickles_of_caffe2_keep_their_names(tool, refused, tmp_path, capsys):
    zoo, out = str(tmp_path / "zoo.pkl"), str(tmp_path / "out.pth")
    Path(zoo).write_bytes(pickle.dumps({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}))
    assert "is of Caffe2, whose names cannot be changed to timm's" in refused(zoo, "--to", "timm")
    tool([zoo, "--output", out])
    assert "Detectron2 matches them" in capsys.readouterr().out
    model = nn.Linear(3, 2)
    FBNetCheckpointer(model, strict=True).load(out)
    assert torch.equal(model.weight, torch.ones(2, 3))


@pytest.mark.parametrize(
    "args, message",
    [
        (["absent.pth"], "checkpoint absent.pth: no such file"),
        (["timm://fbnetv3_z"], "timm://fbnetv3_z: timm"),
        (["absent.pth", "--arch", "fbnet_z"], "unknown architecture 'fbnet_z'"),
    ],
)
def test_bad_input(refused, args, message):
    assert message in refused(*args)


def test_a_folder_that_is_not_there(tool, tmp_path, capsys, theirs):
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(SystemExit) as stop:
        tool([str(tmp_path / "theirs.pth"), "--output", str(tmp_path / "absent" / "out.pth")])
    assert stop.value.code == 2 and "there is no such folder" in capsys.readouterr().err


def test_help(tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "--allow-pickle" in out and "timm://fbnetv3_g.ra2_in1k" in out
