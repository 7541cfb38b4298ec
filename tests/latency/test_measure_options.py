"""What can be asked of a measurement, and what it says about itself."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest
import torch

from fbnet_plugin.latency import LatencyError
from fbnet_plugin.latency.measure.options import Options, environment, processor
from fbnet_plugin.layers import cpu_memory


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"device": "tpu"}, ["--device", "'tpu'", "cpu, cuda"]),
        ({"runtime": "tflite"}, ["--runtime", "eager, compile, onnxruntime, onnxruntime-int8"]),
        ({"dtype": "int8"}, ["--dtype", "float32, float16, bfloat16"]),
        ({"method": "guess"}, ["--method", "network, isolated"]),
        ({"threads": 0}, ["--threads", "got 0", "at least 1"]),
        ({"batch_size": -1}, ["--batch-size", "got -1"]),
        ({"runtime": "onnxruntime", "channels_last": True}, ["--channels-last", "ONNX Runtime"]),
        ({"runtime": "onnxruntime", "dtype": "bfloat16"}, ["--dtype", "bfloat16", "float32 or float16"]),
        ({"runtime": "onnxruntime-int8", "dtype": "float16"}, ["--dtype", "float16", "expected float32"]),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong, words) -> None:
    with pytest.raises(LatencyError) as error:
        Options(**wrong).check()
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(LatencyError, match="no CUDA device"):
        Options(device="cuda").check()


def test_missing_packages_and_compilers_are_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(LatencyError, match=r"pip install 'fbnet_plugin\[onnx\]'"):
        Options(runtime="onnxruntime").check()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LatencyError, match=r"C\+\+ compiler"):
        Options(runtime="compile").check()


def test_setting_says_what_was_asked_and_what_ran_it() -> None:
    setting = Options(threads=2, batch_size=4, dtype="bfloat16", channels_last=True).setting()
    assert setting.versions == {"torch": torch.__version__}
    assert (setting.threads, setting.batch_size, setting.dtype, setting.channels_last) == (2, 4, "bfloat16", True)
    assert setting.processor == processor("cpu") != ""
    other = dataclasses.replace(setting, threads=1)
    with pytest.raises(LatencyError, match="a.json has threads 2; b.json has threads 1"):
        setting.require(other, "a.json", "b.json")


def test_setting_of_onnx_runtime_has_its_version() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert Options(runtime="onnxruntime").setting().versions == {"onnxruntime": onnxruntime.__version__}


def test_environment_is_plain_data() -> None:
    found = environment()
    assert found["torch"] == torch.__version__ and found["cores"] >= 1
    assert all(isinstance(value, (str, int)) for value in found.values())


def test_preparing_sets_the_threads_and_keeps_memory(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(cpu_memory, "glibc_mallopt", lambda: lambda key, value: calls.append((key, value)))
    before = torch.get_num_threads()
    try:
        Options(threads=before + 1).prepare_process()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert dict(calls)[-3] >= 1 << 28 and dict(calls)[-1] >= 1 << 28
