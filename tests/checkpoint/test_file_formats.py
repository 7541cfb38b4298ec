"""Files of weights of all kinds: what is read, what is refused, and what is said of damage."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer, read_checkpoint


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 3), 5.0), "bias": torch.zeros(2)}


def zoo_pickle(protocol: int = 4, **more) -> bytes:
    arrays = {key: value.numpy() for key, value in weights().items()}
    return pickle.dumps({"model": arrays, "__author__": "somebody", **more}, protocol=protocol)


def load(path) -> nn.Module:
    model = nn.Linear(3, 2)
    FBNetCheckpointer(model, strict=True).load(str(path))
    return model


class TestPickles:
    """Detectron2's model zoo: NumPy arrays in a .pkl, which its own checkpointer unpickles without a look at them."""

    @pytest.mark.parametrize("protocol", range(6))
    def test_arrays_of_any_protocol(self, tmp_path, protocol):
        extra = {
            "lr": np.float64(0.5),
            "note": "text",
            "raw": b"\x80\xff",
            "order": collections.OrderedDict(a=(1, None)),
        }
        (tmp_path / "zoo.pkl").write_bytes(zoo_pickle(protocol, **extra))
        content = read_checkpoint(str(tmp_path / "zoo.pkl"))
        assert content["lr"] == 0.5 and content["order"] == {"a": (1, None)} and content["raw"] == b"\x80\xff"
        assert torch.equal(load(tmp_path / "zoo.pkl").weight, weights()["weight"])

    @pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
    def test_arrays_of_numpy_before_and_since_2(self, tmp_path, core):
        data = zoo_pickle(2).replace(b"numpy._core.multiarray", core).replace(b"numpy.core.multiarray", core)
        assert core in data
        (tmp_path / "zoo.pkl").write_bytes(data)
        assert torch.equal(load(tmp_path / "zoo.pkl").weight, weights()["weight"])

    @pytest.mark.parametrize("protocol", [0, 2, 4])
    def test_code_is_not_run(self, tmp_path, protocol):
        (tmp_path / "zoo.pkl").write_bytes(zoo_pickle(protocol, extra=Attack(tmp_path / "proof")))
        with pytest.raises(CheckpointError) as error:
            load(tmp_path / "zoo.pkl")
        message = str(error.value)
        assert "holds a posix.mkdir" in message or "holds a nt.mkdir" in message
        assert "tools/convert_weights.py --allow-pickle" in message and "\n" not in message
        assert not (tmp_path / "proof").exists()

    def test_functions_of_numpy_are_not_called(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return np.save, (str(tmp_path / "proof.npy"), [1])

        (tmp_path / "zoo.pkl").write_bytes(zoo_pickle(extra=Evil()))
        with pytest.raises(CheckpointError, match="holds a numpy.*save"):
            load(tmp_path / "zoo.pkl")
        assert not (tmp_path / "proof.npy").exists()

    def test_caffe2_s_and_pycls_s_are_matched_by_detectron2(self, tmp_path):
        """By the endings of their names."""
        arrays = {key: value.numpy() for key, value in weights().items()}
        (tmp_path / "caffe2.pkl").write_bytes(pickle.dumps({"blobs": {**arrays, "weight_momentum": arrays["weight"]}}))
        state = {**weights(), "bn.num_batches_tracked": torch.tensor(1)}
        torch.save({"epoch": 3, "model_state": state, "cfg": "text"}, tmp_path / "pycls.pyth")
        torch.save({"backbone." + key: value for key, value in weights().items()}, tmp_path / "other.pth")
        torch.save({"model": weights()}, tmp_path / "heuristics.pth")
        for name in ("caffe2.pkl", "pycls.pyth", "heuristics.pth?matching_heuristics=True"):
            assert torch.equal(load(tmp_path / name).weight, weights()["weight"]), name

    def test_what_is_no_state_dict(self, tmp_path):
        for name, content in (("list.pkl", [1]), ("numbers.pkl", {1: 2})):
            (tmp_path / name).write_bytes(pickle.dumps(content))
            with pytest.raises(CheckpointError, match="a dict of"):
                load(tmp_path / name)
        torch.save({"epoch": 3}, tmp_path / "empty.pyth")
        with pytest.raises(CheckpointError, match='"model_state" is not a dict'):
            load(tmp_path / "empty.pyth")


class TestTorch:
    @pytest.mark.parametrize("zipped", [True, False])
    def test_the_class_is_named(self, tmp_path, zipped):
        """As timm's training script has it in its checkpoints."""
        content = {"state_dict": weights(), "args": argparse.Namespace(lr=0.1)}
        torch.save(content, tmp_path / "last.pth.tar", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError) as error:
            load(tmp_path / "last.pth.tar")
        message = str(error.value)
        assert "holds a argparse.Namespace" in message and "convert_weights.py --allow-pickle" in message
        assert "weights_only" not in message and "\n" not in message
        assert read_checkpoint(str(tmp_path / "last.pth.tar"), allow_pickle=True)["args"].lr == 0.1

    def test_names_that_are_no_text(self, tmp_path):
        torch.save({1: torch.ones(2)}, tmp_path / "odd.pth")
        with pytest.raises(CheckpointError, match="odd.pth: holds no state dict: one of its names is 1"):
            load(tmp_path / "odd.pth")


class TestSafetensors:
    def test_are_read(self, tmp_path):
        save_file = pytest.importorskip("safetensors.torch").save_file
        save_file(weights(), tmp_path / "model.safetensors")
        assert torch.equal(load(tmp_path / "model.safetensors").weight, weights()["weight"])

    def test_a_header_that_begins_like_a_web_page(self, tmp_path):
        """The first byte is the header's length."""
        pytest.importorskip("safetensors")
        for first in (b"<", b"{"):
            header = b'{"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'.ljust(first[0] + 256)
            data = len(header).to_bytes(8, "little") + header + torch.ones(2).numpy().tobytes()
            assert data[:1] == first
            (tmp_path / "model.safetensors").write_bytes(data)
            assert torch.equal(read_checkpoint(str(tmp_path / "model.safetensors"))["weight"], torch.ones(2))


PAGES = {
    b"<!DOCTYPE html><html>404</html>": "it is a web page",
    b"\n\n  <html>": "it is a web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "a pointer of Git LFS",
    b'{"error": "not found"}': "it is JSON",
    b"PK\x03\x04 not really": "cannot be read",
    b"\x80\x04\x95nothing": "cannot be read",
    b"\x00" * 100: "cannot be read",
    b"GIF89a": "cannot be read",
}


@pytest.mark.parametrize("name", ["model.pth", "model.bin", "model.safetensors", "model.pkl", "model.pyth"])
@pytest.mark.parametrize("data", PAGES)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_foreign_files_are_one_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=PAGES[data]) as error:
        read_checkpoint(str(tmp_path / name))
    assert str(error.value).startswith(f"checkpoint {tmp_path / name}: ") and "\n" not in str(error.value)


def whole(path) -> bytes:
    """A good file of the kind that its name says."""
    if path.suffix == ".pkl":
        path.write_bytes(zoo_pickle())
    elif path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(weights(), path)
    else:
        torch.save({"model": weights()}, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.pkl"])
def test_truncated_and_damaged_files_never_raise_anything_else(tmp_path, name):
    path = tmp_path / name
    data, draw = whole(path), random.Random(0)
    for cut in [0, 1, 7, *(draw.randrange(len(data)) for _ in range(12)), len(data) - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(CheckpointError) as error:
            read_checkpoint(str(path))
        assert "\n" not in str(error.value)
    for _ in range(40):
        at = draw.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :])
        try:
            read_checkpoint(str(path))
        except CheckpointError:
            pass
