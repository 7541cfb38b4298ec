"""What int8 costs in accuracy, and what it gives in time and size."""

from __future__ import annotations

import math
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from tqdm import tqdm

from .classifier import LOGITS
from .exportable import Exportable, Feed
from .onnx_file import OnnxNetwork

# One image (C, H, W) uint8 and its class, None where that is not known.
Labelled = Tuple[torch.Tensor, Optional[int]]


class Int8Report(NamedTuple):
    """Figures of the float32 network and of its int8 form, in this order where there are two.

    Attributes:
        images: that were run.
        top1: % of the images, None where their classes are not known.
        agreement: % of the images that both put into the same class; None for networks that have no classes.
        sqnr: output -> signal to quantization noise, dB (20 dB: the noise is a tenth of the signal).
        latency: median ms of one image.
        speedup: median over pairs of runs of float32's time by int8's.
        threads: of an operator.
        size: MB (10^6 bytes) of the files.
    """

    images: int
    top1: Optional[Tuple[float, float]]
    agreement: Optional[float]
    sqnr: Dict[str, float]
    latency: Tuple[float, float]
    speedup: float
    threads: int
    size: Tuple[float, float]

    def to_text(self) -> str:
        """One line per figure."""
        lines = [f"int8 against float32 on {self.images} images"]
        if self.top1 is not None:
            change = self.top1[1] - self.top1[0]
            lines.append(f"  top-1    {self.top1[0]:.2f} % -> {self.top1[1]:.2f} % ({change:+.2f})")
        if self.agreement is not None:
            lines.append(f"  classes  the same for {self.agreement:.2f} % of the images")
        noise = ", ".join(f"{name} {value:.1f} dB" for name, value in self.sqnr.items())
        lines.append(f"  SQNR     {noise}")
        before, after = self.latency
        how = f"{self.speedup:.2f} times as fast (1 image, {self.threads} thread{'s' * (self.threads != 1)})"
        lines.append(f"  latency  {before:.2f} ms -> {after:.2f} ms, {how}")
        lines.append(f"  size     {self.size[0]:.2f} MB -> {self.size[1]:.2f} MB")
        return "\n".join(lines)


def int8_report(
    exportable: Exportable,
    float_content: bytes,
    int8_content: bytes,
    images: Iterable[Labelled],
    threads: int = 1,
    seconds: float = 3.0,
) -> Int8Report:
    """Runs both networks on the same images and times them in turns.

    Args:
        exportable: that both come from.
        float_content, int8_content: serialized ONNX models.
        images: at least one, none of which was used for calibration.
        threads: of an operator, while it is timed.
        seconds: how long to time.
    """
    networks = OnnxNetwork(float_content), OnnxNetwork(int8_content)
    counts = _Counts(exportable.outputs)
    feed: Feed = {}
    for image, label in tqdm(images, unit="image", disable=None, leave=False):
        feed = exportable.feeds([image])[0]
        counts.add(*(network(feed) for network in networks), label)
    timed = OnnxNetwork(float_content, threads), OnnxNetwork(int8_content, threads)
    times = interleaved_times(timed, feed, seconds)  # (runs, 2)
    return Int8Report(
        images=counts.images,
        top1=counts.top1(),
        agreement=counts.agreement(),
        sqnr=counts.sqnr(),
        latency=tuple(np.median(times, axis=0) * 1e3),
        speedup=float(np.median(times[:, 0] / times[:, 1])),
        threads=threads,
        size=(len(float_content) / 1e6, len(int8_content) / 1e6),
    )


def interleaved_times(networks: Sequence[Any], feed: Feed, seconds: float, warmup: int = 5) -> np.ndarray:
    """Seconds of single runs, in turns so that a drift of the machine's speed meets all alike: (runs, networks)."""
    times: List[List[float]] = []
    end = math.inf
    while len(times) < warmup + 10 or time.perf_counter() < end:
        row = []
        for network in networks:
            start = time.perf_counter()
            network(feed)
            row.append(time.perf_counter() - start)
        times.append(row)
        if len(times) == warmup:
            end = time.perf_counter() + seconds
    return np.array(times[warmup:])


class _Counts:
    """Sums over images, so that none of their results has to be kept."""

    def __init__(self, outputs: Sequence[str]):
        self._outputs = outputs
        self._signal, self._noise = np.zeros(len(outputs)), np.zeros(len(outputs))
        self._hits, self._labelled, self._same = np.zeros(2), 0, 0
        self.images = 0

    def add(self, expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor], label: Optional[int]) -> None:
        """The results of one image."""
        self.images += 1
        self._signal += [one.double().square().sum().item() for one in expected]
        self._noise += [(one.double() - other.double()).square().sum().item() for one, other in zip(expected, actual)]
        if list(self._outputs) == [LOGITS]:
            classes = [int(results[0][0].argmax()) for results in (expected, actual)]
            self._same += classes[0] == classes[1]
            if label is not None:
                self._labelled += 1
                self._hits += [one == label for one in classes]

    def top1(self) -> Optional[Tuple[float, float]]:
        if not self._labelled:
            return None
        before, after = 100 * self._hits / self._labelled
        return float(before), float(after)

    def agreement(self) -> Optional[float]:
        return 100 * self._same / self.images if list(self._outputs) == [LOGITS] else None

    def sqnr(self) -> Dict[str, float]:
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 10 * np.log10(self._signal / self._noise)
        return dict(zip(self._outputs, decibels.tolist()))
