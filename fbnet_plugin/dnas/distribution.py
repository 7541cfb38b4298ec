"""P_theta, the result of a search: probabilities of architectures and what latencies they add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from fbnet_plugin.arch import ArchSpec, SearchSpace
from fbnet_plugin.arch.errors import short_repr
from fbnet_plugin.arch.spec import MAX_RESOLUTION
from fbnet_plugin.latency import LatencyTable

from .errors import SearchError

Rows = Tuple[Tuple[float, ...], ...]  # per layer and candidate
Point = Tuple[int, ...]  # index of a candidate per layer


@dataclass(frozen=True, eq=False)
class Distribution:
    """Independent choices of each layer's candidate (FBNet eq. 4 to 6), with what their latencies add up to.

    Layers are the space's variables, in order. Latencies are those of ``LatencyTable.matrix``.

    Attributes:
        space: that was searched, already scaled.
        theta: per layer and candidate.
        latency_us: µs per layer and candidate; None without a latency table.
        fixed_us: µs of what no choice changes; None without a latency table.
        resolution: px of the square image; None: the space's own.
        epoch, iteration: of the search, from 0.
        temperature: tau of eq. 8 in that epoch.
        latency_table: ``file`` and ``digest`` of the table behind the latencies.
        target_us: latency that the search was to meet; None without one.

    Raises:
        SearchError: the numbers do not fit the space or are not finite.
    """

    space: SearchSpace
    theta: Rows
    latency_us: Optional[Rows] = None
    fixed_us: Optional[float] = None
    resolution: Optional[int] = None
    epoch: int = 0
    iteration: int = 0
    temperature: float = 1.0
    latency_table: Optional[Dict[str, str]] = None
    target_us: Optional[float] = None

    def __post_init__(self) -> None:
        if not self.space.variables:
            raise SearchError(f"space: {self.space.name} has no variables, expected at least one layer to choose")
        if (self.latency_us is None) != (self.fixed_us is None):
            given, lacking = ("latency_us", "fixed_us") if self.fixed_us is None else ("fixed_us", "latency_us")
            raise SearchError(f"{lacking}: is missing beside {given}, expected both or neither")
        object.__setattr__(self, "theta", check_rows("theta", self.theta, self.space))
        if self.latency_us is not None:
            object.__setattr__(self, "latency_us", check_rows("latency_us", self.latency_us, self.space))
            object.__setattr__(self, "fixed_us", _number("fixed_us", self.fixed_us))
        for key in ("epoch", "iteration"):
            object.__setattr__(self, key, _integer(key, getattr(self, key), 0))
        object.__setattr__(self, "temperature", _number("temperature", self.temperature, above=0.0))
        if self.resolution is not None:
            object.__setattr__(self, "resolution", _integer("resolution", self.resolution, 1, MAX_RESOLUTION))
        if self.target_us is not None:
            object.__setattr__(self, "target_us", _number("target_us", self.target_us, above=0.0))
        table = self.latency_table
        if table is not None and (
            not isinstance(table, Mapping)
            or set(table) != {"file", "digest"}
            or not all(isinstance(text, str) for text in table.values())
        ):
            raise SearchError(f"latency_table: got {short_repr(table)}, expected a mapping of file and digest to texts")

    @cached_property
    def log_probabilities(self) -> List[np.ndarray]:
        """Logarithms of ``probabilities``; finite for every theta."""
        return [_log_softmax(np.array(row)) for row in self.theta]

    def probabilities(self) -> List[np.ndarray]:
        """Probability of each candidate, float64 of shape (candidates,) per layer (eq. 4)."""
        return [np.exp(row) for row in self.log_probabilities]

    def entropy(self) -> np.ndarray:
        """Entropy of each layer's choice in nats, shape (layers,): 0 to log(candidates)."""
        return np.array([max(0.0, -float((np.exp(row) * row).sum())) for row in self.log_probabilities])

    def log_prob(self, point: Sequence[int]) -> float:
        """Logarithm of a point's probability (eq. 6).

        Args:
            point: index of a candidate per layer.

        Raises:
            SearchError: the point is not one of the space.
        """
        return math.fsum(float(row[choice]) for row, choice in zip(self.log_probabilities, self.check_point(point)))

    def argmax(self) -> Point:
        """The most probable point; the first candidate where several are."""
        return tuple(row.index(max(row)) for row in self.theta)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Random points by eq. 6 (inverse of each layer's distribution function): int64 of shape (count, layers).

        Args:
            count: of points, drawn with replacement.
            rng: a seeded generator; equal seeds give equal points.
        """
        uniform = rng.random((count, len(self.theta)))
        columns = [inverse_cdf(p[None], uniform[:, layer]) for layer, p in enumerate(self.probabilities())]
        return np.stack(columns, axis=1)

    def expected_latency_us(self) -> float:
        """Mean latency of architectures drawn from P_theta, µs (eq. 9 with the probabilities in place of m).

        Raises:
            SearchError: there are no latencies.
        """
        us, fixed = self.latencies()
        return math.fsum([fixed, *(float(p @ np.array(row)) for p, row in zip(self.probabilities(), us))])

    def latency_us_of(self, point: Sequence[int]) -> float:
        """Latency of one point, µs (eq. 3).

        Raises:
            SearchError: there are no latencies, or the point is not one of the space.
        """
        us, fixed = self.latencies()
        return math.fsum([fixed, *(row[choice] for row, choice in zip(us, self.check_point(point)))])

    def latencies(self) -> Tuple[Rows, float]:
        """``latency_us`` and ``fixed_us``. Raises SearchError: there are none."""
        if self.latency_us is None or self.fixed_us is None:
            raise SearchError("the distribution has no latencies, as the search had no table; give a latency table")
        return self.latency_us, self.fixed_us

    def arch(self, point: Sequence[int], name: str = "") -> ArchSpec:
        """The architecture of a point, at the distribution's resolution.

        Args:
            point: index of a candidate per layer.
            name: its name; default: the space's.

        Raises:
            SearchError: the point is not one of the space.
        """
        arch = self.space.arch(self.check_point(point), name)
        return arch if self.resolution is None else replace(arch, resolution=self.resolution)

    def check_point(self, point: Sequence[int]) -> Point:
        """A point as a tuple of Python's integers. Raises SearchError: it is not one of the space."""
        sizes = [len(row) for row in self.theta]
        indices = np.asarray(point)
        if indices.shape != (len(sizes),) or indices.dtype.kind not in "iu":
            raise SearchError(f"point: got {short_repr(point)}, expected {len(sizes)} indices of candidates")
        for variable, index, size in zip(self.space.variables, indices.tolist(), sizes):
            if not 0 <= index < size:
                raise SearchError(f"point: {variable.name}: got {index}, expected an index from 0 to {size - 1}")
        return tuple(indices.tolist())

    def with_table(self, table: LatencyTable) -> Distribution:
        """The same probabilities with the latencies of another table, and without a target if it is another indeed.

        Raises:
            LatencyError: an operator is not in the table; names the command that measures it.
            ArchError: the space has no latency per layer and candidate.
        """
        matrix, digest = table.matrix(self.space, self.resolution), table.digest()
        us = tuple(tuple(row[: len(theta)].tolist()) for row, theta in zip(matrix.us, self.theta))
        same = self.latency_table is not None and self.latency_table["digest"] == digest
        return replace(
            self,
            latency_us=us,
            fixed_us=matrix.fixed_us,
            latency_table={"file": table.file, "digest": digest},
            target_us=self.target_us if same else None,
        )


def inverse_cdf(weights: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Index by weight: int64 of shape (n,), never one whose weight is 0.

    Args:
        weights: not negative, not all 0, shape (n, C) or (1, C).
        uniform: numbers from 0 to 1, 1 excluded, shape (n,).
    """
    sums = np.cumsum(weights, axis=1)
    below = sums <= (uniform * sums[:, -1])[:, None]
    last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)  # rounding may pass the last sum
    return np.minimum(below.sum(axis=1), last).astype(np.int64)


def _log_softmax(theta: np.ndarray) -> np.ndarray:
    relative = theta - theta.max()
    return relative - math.log(float(np.exp(relative).sum()))


def check_rows(key: str, rows: Any, space: SearchSpace) -> Rows:
    """Checked numbers per layer and candidate."""
    if not isinstance(rows, (list, tuple, np.ndarray)) or len(rows) != len(space.variables):
        raise SearchError(f"{key}: expected {len(space.variables)} layers, as {space.name} has variables")
    read = []
    for i, (row, variable) in enumerate(zip(rows, space.variables)):
        size = len(variable.choices)
        if not isinstance(row, (list, tuple, np.ndarray)) or len(row) != size:
            raise SearchError(f"layers[{i}].{key}: got {short_repr(row)}, expected {size} numbers")
        read.append(tuple(_number(f"layers[{i}].{key}", value) for value in row))
    return tuple(read)


def _number(key: str, value: Any, above: float = -math.inf) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not abs(value) <= 1e300 or not value > above:
        text = "a finite number" + ("" if above == -math.inf else f" above {above:g}")
        raise SearchError(f"{key}: got {short_repr(value)}, expected {text}")
    return float(value)


def _integer(key: str, value: Any, low: int, high: int = 1 << 62) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise SearchError(f"{key}: got {short_repr(value)}, expected an integer from {low} to {high}")
    return int(value)
