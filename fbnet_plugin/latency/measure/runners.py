"""PyTorch's runtimes: a network run as a whole, and layer by layer."""

from __future__ import annotations

import itertools
import types
from typing import Any, Callable, List

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer, timer

from .network import Network
from .options import Options

_numbers = itertools.count()


class Runner:
    """A network loaded into a runtime.

    Args:
        network: what to run.
        options: how.
    """

    def __init__(self, network: Network, options: Options):
        self.network, self.options = network, options

    def run(self) -> None:
        """One inference of the whole network."""
        raise NotImplementedError

    def layer_times(self, runs: int, warmup: int) -> np.ndarray:
        """µs of every layer in every run, as part of the whole network: float64 of shape (runs, layers)."""
        raise NotImplementedError

    def whole_time(self, seconds: float, warmup: int) -> "tuple[float, int]":
        """Median µs of one inference of the whole network, and the runs behind it.

        ``torch.utils.benchmark`` does the timing; on a GPU it waits for the device.

        Args:
            seconds: how long to measure.
            warmup: untimed inferences before.
        """
        for _ in range(warmup):
            self.run()
        clock = Timer("run()", globals={"run": self.run}, num_threads=self.options.threads)
        measured = clock.blocked_autorange(min_run_time=seconds)
        return measured.median * 1e6, measured.number_per_run * len(measured.raw_times)


def wall_times(runner: Runner, runs: int, warmup: int) -> np.ndarray:
    """µs of single inferences one after the other, shape (runs,)."""
    times = []
    for number in range(warmup + runs):
        start = timer()
        runner.run()
        if number >= warmup:
            times.append((timer() - start) * 1e6)
    return np.array(times)


class TorchRunner(Runner):
    """Eager mode or ``torch.compile``. Compiled layers for layer times, the compiled whole for whole times."""

    def __init__(self, network: Network, options: Options):
        super().__init__(network, options)
        self._whole: Any = None

    def run(self) -> None:
        if self._whole is None:
            self._whole = _callable(nn.Sequential(*self.network.layers), self.options)
        with torch.inference_mode():
            self._whole(self.network.input)

    def layer_times(self, runs: int, warmup: int) -> np.ndarray:
        layers = [_callable(layer, self.options) for layer in self.network.layers]
        one = _one_run_cuda if self.options.device == "cuda" else _one_run_cpu
        with torch.inference_mode():
            for _ in range(warmup):
                one(layers, self.network.input)
            return np.array([one(layers, self.network.input) for _ in range(runs)])


def _one_run_cpu(layers: List[Callable], x: torch.Tensor) -> List[float]:
    stamps = [timer()]
    for layer in layers:
        x = layer(x)
        stamps.append(timer())
    return [(after - before) * 1e6 for before, after in zip(stamps, stamps[1:])]


def _one_run_cuda(layers: List[Callable], x: torch.Tensor) -> List[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(len(layers) + 1)]
    events[0].record()
    for layer, event in zip(layers, events[1:]):
        x = layer(x)
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) * 1e3 for before, after in zip(events, events[1:])]


def _callable(module: nn.Module, options: Options) -> Callable:
    return _compiled(module) if options.runtime == "compile" else module


def _compiled(module: nn.Module) -> Callable:
    """``torch.compile`` of a module behind a function with code of its own.

    PyTorch keeps what it compiled by code object and, at each call, tries one after the other; dozens of blocks of one
    class would be searched for longer than they run.
    """

    def call(x: torch.Tensor) -> torch.Tensor:
        return module(x)

    code = call.__code__.replace(co_name=f"layer{next(_numbers)}")
    own = types.FunctionType(code, call.__globals__, code.co_name, None, call.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False)


def make_runner(network: Network, options: Options) -> Runner:
    """The runner of the options' runtime."""
    if options.onnx:
        from .onnx_runner import OnnxRunner

        return OnnxRunner(network, options)
    return TorchRunner(network, options)
