from __future__ import annotations

import collections
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer, read_checkpoint
from fbnet_plugin.checkpoint.safe_files import plain


class Counter:
    """A checkpointable with a bit of state."""

    def __init__(self, state=None):
        self.state = {"count": 1} if state is None else state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_what_was_saved_is_loaded(tmp_path):
    model, counter = nn.Linear(3, 2), Counter({"count": 7, "groups": [{"lr": 0.1}], "pair": (1, None)})
    FBNetCheckpointer(model, str(tmp_path), trainer=counter).save("model_0000004", iteration=4)
    other, restored = nn.Linear(3, 2), Counter()
    rest = FBNetCheckpointer(other, str(tmp_path), trainer=restored).resume_or_load("", resume=True)
    assert rest["iteration"] == 4
    assert torch.equal(other.weight, model.weight) and restored.state == counter.state
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000004.pth"]


def test_numpy_numbers_become_plain_ones():
    state = plain({"lr": np.float64(0.5), "steps": [np.int64(3)], "mean": np.ones(2, np.float32)}, "x")
    assert type(state["lr"]) is float and type(state["steps"][0]) is int
    assert torch.equal(state["mean"], torch.ones(2))


@pytest.mark.parametrize("value", [object(), {1, 2}, nn.Linear(1, 1), torch.optim.SGD])
def test_objects_are_refused_when_saving_and_named(tmp_path, value):
    checkpointer = FBNetCheckpointer(nn.Linear(3, 2), str(tmp_path), trainer=Counter({"hooks": [value]}))
    with pytest.raises(CheckpointError, match=r"checkpoint\['trainer'\]\['hooks'\]\[0\] is a .*, numbers"):
        checkpointer.save("model_0000001", iteration=1)
    assert os.listdir(tmp_path) == []


def test_files_that_run_code_are_not_loaded(tmp_path):
    path, proof = tmp_path / "model.pth", tmp_path / "proof"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(proof),)

    torch.save({"model": {}, "extra": Attack()}, path)
    with pytest.raises(CheckpointError, match=f"{path}: cannot be read"):
        FBNetCheckpointer(nn.Linear(3, 2)).load(str(path))
    assert not proof.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "list", "missing"])
def test_damaged_files_raise_one_clear_error(tmp_path, damage):
    path = tmp_path / "model.pth"
    torch.save({"model": {"weight": torch.rand(64, 64)}}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:9000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "list":
        torch.save([torch.ones(2)], path)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=str(path)) as error:
        read_checkpoint(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["weight", "running_mean"])
def test_diverged_models_are_not_written(tmp_path, where):
    model = nn.BatchNorm1d(2)
    getattr(model, where).data[1] = float("nan")
    with pytest.raises(FloatingPointError, match=where):
        FBNetCheckpointer(model, str(tmp_path)).save("model_0000001")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("crash", ["write", "rename", "pointer"])
def test_a_crash_while_saving_keeps_the_previous_checkpoint(tmp_path, monkeypatch, crash):
    model = nn.Linear(3, 2)
    checkpointer = FBNetCheckpointer(model, str(tmp_path), trainer=Counter())
    checkpointer.save("model_0000001", iteration=1)
    first = model.weight.detach().clone()
    nn.init.zeros_(model.weight)
    save, replace = torch.save, os.replace

    def half(content, file):
        file.write(b"half of it")
        raise OSError("no space left")

    def refuse(source, target):
        if crash == "rename" or str(target).endswith("last_checkpoint"):
            raise OSError("no space left")
        replace(source, target)

    if crash == "write":
        monkeypatch.setattr(torch, "save", half)
    else:
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        checkpointer.save("model_0000003", iteration=3)
    monkeypatch.setattr(torch, "save", save)
    monkeypatch.setattr(os, "replace", replace)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    assert (tmp_path / "model_0000003.pth").exists() == (crash == "pointer")
    rest = checkpointer.resume_or_load("", resume=True)
    assert rest["iteration"] == 1 and torch.equal(model.weight, first)


def test_the_versions_of_modules_are_kept(tmp_path):
    FBNetCheckpointer(nn.BatchNorm2d(2), str(tmp_path)).save("model_final")
    assert read_checkpoint(str(tmp_path / "model_final.pth"))["model"]._metadata[""]["version"] == 2


def test_detectron2s_own_pickles_still_load(tmp_path):
    path = tmp_path / "zoo.pkl"
    state = {"weight": np.full((2, 3), 5, np.float32), "bias": np.zeros(2, np.float32)}
    path.write_bytes(pickle.dumps({"model": state, "__author__": "somebody"}))
    model = nn.Linear(3, 2)
    FBNetCheckpointer(model).resume_or_load(str(path), resume=False)
    assert torch.equal(model.weight, torch.full((2, 3), 5.0))


def test_a_bare_state_dict_is_weights_too(tmp_path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save(collections.OrderedDict(model.state_dict()), tmp_path / "bare.pth")
    FBNetCheckpointer(other).load(str(tmp_path / "bare.pth"))
    assert torch.equal(other.weight, model.weight)
