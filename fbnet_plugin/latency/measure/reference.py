"""A fixed network, timed beside everything else, that tells how fast the machine is at the moment."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Tuple, TypeVar

import numpy as np

from ...arch import get_arch
from .network import build_network
from .options import Options
from .runners import make_runner, wall_times

ARCH = "fbnet_a"
RUNS = 3
CHANGE = 1.15  # of the machine's speed during one measurement, above which it is repeated
REPEATS = 3

Result = TypeVar("Result")


def usual(reference_us: Any) -> float:
    """The reference's µs when the machine is left alone: the first quartile of what was seen."""
    return float(np.percentile(reference_us, 25))


def quieter_half(values: Any, reference_us: Any, usual_us: float) -> np.ndarray:
    """The values that were measured while the machine was at its fastest, scaled to its usual speed.

    Scaling takes out what slows down everything; what slows down two threads and not one, or memory and not
    arithmetic, it does not. So the slower half is left out.

    Args:
        values: µs, shape (n,).
        reference_us: the reference's time at each, shape (n,).
        usual_us: the reference's time to scale to.

    Returns:
        µs, shape (n // 2 + 1,), or (n,) where n is 1 or 2.
    """
    values, reference_us = np.asarray(values, np.float64), np.asarray(reference_us, np.float64)
    kept = np.argsort(reference_us, kind="stable")[: max(len(values) // 2 + 1, min(len(values), 2))]
    return values[kept] * usual_us / reference_us[kept]


class Reference:
    """FBNet-A at 224 px, batch 1, float32, on the device and threads of the options.

    Shared machines, laptops and phones change their speed within seconds or minutes, by tens of percent, and for two
    threads, when something else wants a core, by half. What is measured between two looks at the reference is
    scaled by how much slower than usual the reference was. It runs in the runtime of the options, ONNX Runtime in
    float and PyTorch in eager mode, since runtimes suffer differently.
    """

    def __init__(self, options: Options):
        runtime = "onnxruntime" if options.onnx else "eager"
        plain = dataclasses.replace(options, runtime=runtime, batch_size=1, dtype="float32", channels_last=False)
        self._runner = make_runner(build_network(get_arch(ARCH), plain), plain)
        wall_times(self._runner, RUNS, warmup=3 * RUNS)

    def time(self) -> float:
        """Median µs of one inference, now."""
        return float(np.median(wall_times(self._runner, RUNS, warmup=1)))

    def beside(self, work: Callable[[], Result]) -> Tuple[Result, float]:
        """Does some work between two looks; again, a few times at most, when the machine's speed changed meanwhile.

        Returns:
            what the work gave, and the reference's µs around it.
        """
        for _ in range(REPEATS):
            before = self.time()
            result = work()
            after = self.time()
            if max(before, after) <= CHANGE * min(before, after):
                break
        return result, (before + after) / 2
