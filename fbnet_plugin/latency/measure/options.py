"""How to measure, and the machine that it is measured on."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from dataclasses import dataclass
from typing import Any, Dict, List

import torch

from ...layers.cpu_memory import glibc_mallopt, keep_freed_memory
from ..errors import LatencyError
from ..setting import DEVICES, DTYPES, RUNTIMES, Setting

METHODS = ("network", "isolated")


@dataclass(frozen=True)
class Options:
    """What is asked for; ``check`` says whether this machine can do it.

    Attributes:
        device: "cpu" or "cuda".
        runtime: "eager", "compile", "onnxruntime" or "onnxruntime-int8".
        threads: of one operator.
        batch_size: images.
        dtype: of weights and activations; "onnxruntime-int8" starts from float32.
        channels_last: memory format of activations; PyTorch runtimes only.
        method: "network": each operator is timed inside networks that contain it, so that caches, allocator and
            threads are in the state that they have in use; "isolated": alone, in a loop.
    """

    device: str = "cpu"
    runtime: str = "eager"
    threads: int = 1
    batch_size: int = 1
    dtype: str = "float32"
    channels_last: bool = False
    method: str = "network"

    @property
    def onnx(self) -> bool:
        """Whether the runtime is ONNX Runtime."""
        return self.runtime.startswith("onnxruntime")

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def check(self) -> "Options":
        """Returns itself.

        Raises:
            LatencyError: a value is unknown, or this machine, or the installed packages, cannot do it.
        """
        for key, known in (("device", DEVICES), ("runtime", RUNTIMES), ("dtype", DTYPES), ("method", METHODS)):
            if getattr(self, key) not in known:
                raise LatencyError(f"--{key}: got {getattr(self, key)!r}, expected one of {', '.join(known)}")
        for key in ("threads", "batch_size"):
            if getattr(self, key) < 1:
                raise LatencyError(f"--{key.replace('_', '-')}: got {getattr(self, key)}, expected at least 1")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise LatencyError("--device cuda: PyTorch finds no CUDA device on this machine")
        if self.onnx:
            self._check_onnx()
        if self.runtime == "compile" and self.device == "cpu" and not any(map(shutil.which, _compilers())):
            raise LatencyError("--runtime compile needs a C++ compiler such as g++; name one in the variable CXX")
        return self

    def _check_onnx(self) -> None:
        for name in ("onnx", "onnxruntime"):
            try:
                importlib.import_module(name)
            except ImportError:
                install = "install them with pip install 'fbnet_plugin[onnx]'"
                raise LatencyError(f"--runtime {self.runtime} needs onnx and onnxruntime; {install}") from None
        if self.channels_last:
            raise LatencyError("--channels-last is of PyTorch's runtimes; ONNX Runtime chooses its own memory format")
        if self.dtype == "bfloat16" or (self.dtype != "float32" and self.runtime == "onnxruntime-int8"):
            usable = "float32" if self.runtime == "onnxruntime-int8" else "float32 or float16"
            raise LatencyError(f"--dtype: got {self.dtype} with --runtime {self.runtime}, expected {usable}")
        if self.device == "cuda":
            import onnxruntime

            found = onnxruntime.get_available_providers()
            if "CUDAExecutionProvider" not in found:
                raise LatencyError(f"--device cuda: the installed ONNX Runtime has only {', '.join(found)}")

    def setting(self) -> Setting:
        """What a table measured with these options, here and now, holds for."""
        versions = {"torch": str(torch.__version__)}
        if self.onnx:
            versions = {"onnxruntime": importlib.import_module("onnxruntime").__version__}
        if self.device == "cuda" and torch.version.cuda:
            versions["cuda"] = torch.version.cuda
        return Setting(
            device=self.device,
            processor=processor(self.device),
            runtime=self.runtime,
            threads=self.threads,
            batch_size=self.batch_size,
            dtype=self.dtype,
            channels_last=self.channels_last,
            versions=versions,
            method=self.method,
        )

    def prepare_process(self) -> None:
        """Sets this process up for measuring: threads, and memory that stays with it.

        Raises: as ``check``.
        """
        self.check()
        torch.set_num_threads(self.threads)
        keep_freed_memory()


def _compilers() -> List[str]:
    return [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]


def processor(device: str) -> str:
    """The model's name of the CPU or of the current GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        names = {key.strip(): value.strip() for key, value in fields.items()}
    except OSError:
        names = {}
    return names.get("model name") or names.get("Model") or platform.processor() or platform.machine() or "unknown"


def environment() -> Dict[str, Any]:
    """Further facts about machine and software, for whoever reads the table."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "allocator": "freed memory stays with the process" if glibc_mallopt() else "as it is",
    }
