"""Whole networks measured end to end, beside the sums that a table gives."""

from __future__ import annotations

import functools
import itertools
from typing import Any, Dict, NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from ...arch import ArchSpec
from ...arch.spec import Resolution
from ..errors import LatencyError
from ..fit_score import FitScore
from ..table import LatencyTable
from .network import build_network
from .options import Options
from .reference import Reference, quieter_half, usual
from .runners import make_runner, wall_times

MIN_NETWORKS = 3
ROUNDS = 7
RUNS, WARMUP = 12, 3


class Validation(NamedTuple):
    """Measured against predicted, µs, each of shape (n,), and how fast the machine was.

    Attributes:
        measured_us: median whole-network latency, scaled to the machine's speed when the table was measured.
        predicted_us: the table's sums (FBNet eq. 3).
        slowness: the reference network's time now, divided by its time when the table was measured.
    """

    measured_us: np.ndarray
    predicted_us: np.ndarray
    slowness: float

    @property
    def constant_us(self) -> float:
        """The one overhead per network that fits best: the median difference."""
        return float(np.median(self.measured_us - self.predicted_us))

    def errors(self, constant_us: float = 0.0) -> np.ndarray:
        """Relative errors of the sums plus a constant, shape (n,)."""
        return (self.predicted_us + constant_us) / self.measured_us - 1

    def figures(self) -> Dict[str, Any]:
        """Correlations and errors as plain numbers; errors are fractions, not percent."""
        before, after = np.abs(self.errors()), np.abs(self.errors(self.constant_us))
        score = FitScore.of(self.measured_us, self.predicted_us + self.constant_us)
        return {
            "networks": len(self.measured_us),
            "measured_us_min": float(self.measured_us.min()),
            "measured_us_max": float(self.measured_us.max()),
            "spearman": score.spearman,
            "kendall": score.kendall,
            "r2_after_constant": score.r2,
            "median_error_before_constant": float(np.median(before)),
            "constant_us": self.constant_us,
            "median_error_after_constant": float(np.median(after)),
            "max_error_after_constant": float(after.max()),
            "machine_slowness": self.slowness,
        }

    def to_text(self) -> str:
        """The figures as a few lines."""
        found = self.figures()
        low, high = found["measured_us_min"] / 1e3, found["measured_us_max"] / 1e3
        before, after = 100 * found["median_error_before_constant"], 100 * found["median_error_after_constant"]
        changed = 100 * (self.slowness - 1)
        lines = [
            f"Sum of the table against {found['networks']} whole networks of {low:.2f} to {high:.2f} ms",
            f"  Spearman {found['spearman']:.4f}, Kendall {found['kendall']:.4f}, R2 {found['r2_after_constant']:.4f}",
            f"  median absolute error {before:.1f} %; with one constant of {self.constant_us:+.0f} µs {after:.1f} %, "
            f"at most {100 * found['max_error_after_constant']:.1f} %",
            f"  the machine was {abs(changed):.1f} % {'slower' if changed > 0 else 'faster'} than when the table was "
            "measured (taken out above)",
        ]
        return "\n".join(lines)


def validate(
    table: LatencyTable,
    archs: Sequence[ArchSpec],
    options: Options,
    *,
    resolution: "Resolution | None" = None,
    rounds: int = ROUNDS,
    progress: bool = True,
) -> Validation:
    """Measures whole networks, in turn, ``rounds`` times over.

    Each time a network is built afresh: where its weights come to lie in memory changes its latency by some percent.

    Args:
        table: measured under the same options on this machine.
        archs: the networks, at least three.
        options: of the runtime; ``options.prepare_process()`` must have been called.
        resolution: image px; default: each architecture's own.

    Raises:
        LatencyError: the table is of another setting, lacks an operator, or there are too few networks.
    """
    if len(archs) < MIN_NETWORKS:
        raise LatencyError(f"got {len(archs)} networks, expected at least {MIN_NETWORKS} to compare sums with")
    table.setting.require(options.setting(), table.name, "this run")
    predicted = table.latencies(archs, resolution)
    reference = Reference(options)

    def whole(arch: ArchSpec) -> float:
        runner = make_runner(build_network(arch, options, resolution), options)
        return float(np.median(wall_times(runner, RUNS, WARMUP)))

    times, speeds = np.zeros((rounds, len(archs))), np.zeros((rounds, len(archs)))
    with tqdm(total=rounds * len(archs), unit="network", disable=not progress) as bar:
        for turn, index in itertools.product(range(rounds), range(len(archs))):
            times[turn, index], speeds[turn, index] = reference.beside(functools.partial(whole, archs[index]))
            bar.update()
    usual_us = table.environment.get("reference_us") or usual(speeds)
    columns = [quieter_half(times[:, index], speeds[:, index], usual_us) for index in range(len(archs))]
    measured = np.array([np.median(column) for column in columns])
    return Validation(measured, predicted, usual(speeds) / usual_us)
