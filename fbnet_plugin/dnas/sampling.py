"""Architectures out of P_theta, within bounds on their latency. No torch here.

Latencies add up over layers, so both problems of this module are dynamic programs over a grid of latencies: the most
probable point is a multiple-choice knapsack, and P_theta given the bounds is a sum over paths. A point's place on the
grid is off by the rounding of its layers' latencies; the grid's bounds are wider by the most that this can be, and
every point that comes out is checked against the bounds with its own latency.
"""

from __future__ import annotations

import heapq
import logging
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, Iterator, List, Optional, Union

import numpy as np

from fbnet_plugin.arch import ArchSpec, SkipSpec

from .distribution import Distribution, Point, inverse_cdf
from .errors import SearchError

_logger = logging.getLogger(__name__)

TARGET_TOLERANCE = 0.05  # relative distance from a search's target that its result may have
MIN_CELLS, MAX_CELLS = 1 << 15, 1 << 18  # of the grid, in one layer
MAX_STATES = 1 << 23  # of the grid, in all layers
MAX_CHECKED = 10_000  # points outside the bounds by less than the grid can tell, before a search ends
MAX_DRAWS = 20_000  # for one request, repeated points counted
BATCH = 256  # points drawn at once
LOSS_BITS = 50  # of the largest loss; sums of such integers are exact in float64


@dataclass(frozen=True)
class Sampled:
    """An architecture from P_theta.

    Attributes:
        point: index of a candidate per layer.
        arch: the architecture, at the distribution's resolution.
        log_prob: logarithm of the point's probability (eq. 6), whatever the bounds.
        latency_us: µs; None without a latency table.
        macs, params: of one image, and learnable values; see ``arch/cost.py``.
        blocks: searched blocks that are no skips, copies counted.
        is_argmax: it is the most probable one within the bounds.
    """

    point: Point
    arch: ArchSpec
    log_prob: float
    latency_us: Optional[float]
    macs: int
    params: int
    blocks: int
    is_argmax: bool


def most_probable(distribution: Distribution, min_us: Optional[float] = None, max_us: Optional[float] = None) -> Point:
    """The most probable point whose latency lies from ``min_us`` to ``max_us``, both included.

    Exact up to rounding: none within the bounds has a log-probability that is larger by more than 1e-12 of the range
    of log-probabilities in the space. Points that the grid leaves in question are looked at in order of probability,
    until one is within the bounds. Of equally probable points the same one is given every time; it is
    ``distribution.argmax()`` where that is within the bounds.

    Args:
        distribution: with latencies, if there are bounds.
        min_us, max_us: µs; None: no bound.

    Raises:
        SearchError: bad bounds; no point within them, with the smallest and the largest latency that there is; or
            bounds so close to each other that the search was given up after ``MAX_CHECKED`` points.
    """
    low, high = _bounds(min_us, max_us)
    best = distribution.argmax()
    if (low, high) == (-math.inf, math.inf) or low <= distribution.latency_us_of(best) <= high:
        return best
    grid = _Grid(distribution, low, high)
    for checked, point in enumerate(grid.by_probability()):
        if low <= distribution.latency_us_of(point) <= high:
            return point
        if checked == MAX_CHECKED:
            text = "are too close to each other to be met for certain; set them further apart"
            raise SearchError(f"latency bounds: {_words(low, high)} {text}")
    us, fixed = distribution.latencies()
    smallest, largest = (math.fsum([fixed, *map(end, us)]) for end in (min, max))
    reach = f"{distribution.space.name} reaches from {smallest:,.1f} to {largest:,.1f} µs"
    raise SearchError(f"latency bounds: no architecture takes {_words(low, high)}; {reach}")


def sample_architectures(
    distribution: Distribution,
    count: int,
    rng: np.random.Generator,
    min_us: Optional[float] = None,
    max_us: Optional[float] = None,
) -> List[Sampled]:
    """The most probable architecture, then distinct ones that are drawn from P_theta (FBNet section 3.3, appendix A).

    With bounds they are drawn from P_theta given the bounds, however improbable these are. Points that make the same
    architecture count as one.

    Args:
        distribution: with latencies, if there are bounds.
        count: of architectures besides the most probable one; 6 in the paper.
        rng: a seeded generator; equal seeds give equal architectures.
        min_us, max_us: bounds of the latency in µs, both included; None: no bound.

    Returns:
        the most probable one within the bounds, and up to ``count`` more in the order in which they were drawn. Fewer
        where ``MAX_DRAWS`` draws had no more; a warning is then logged.

    Raises:
        SearchError: see ``most_probable``; or a negative count.
    """
    if count < 0:
        raise SearchError(f"count: got {count}, expected an integer of at least 0")
    low, high = _bounds(min_us, max_us)
    best = most_probable(distribution, min_us, max_us)
    found: Dict[ArchSpec, Point] = {distribution.arch(best): best}
    seen, draws = {best}, 0
    bounded = (low, high) != (-math.inf, math.inf)
    source: Union[_Grid, Distribution] = _Grid(distribution, low, high) if bounded else distribution
    while len(found) <= count and draws < MAX_DRAWS:
        draws += BATCH
        for row in source.sample(BATCH, rng).tolist():
            point = tuple(row)
            if point in seen:
                continue
            seen.add(point)
            if not bounded or low <= distribution.latency_us_of(point) <= high:
                found.setdefault(distribution.arch(point), point)
            if len(found) > count:
                break
    if len(found) <= count:
        where = f" that take {_words(low, high)}" if bounded else ""
        _logger.warning(
            f"{draws} draws from P_theta gave {len(found) - 1} distinct architectures{where} besides the most probable "
            f"one, not {count}"
        )
    return [_sampled(distribution, point, arch, point == best) for arch, point in found.items()]


def _sampled(distribution: Distribution, point: Point, arch: ArchSpec, is_argmax: bool) -> Sampled:
    cost = arch.cost()
    latency = None if distribution.latency_us is None else distribution.latency_us_of(point)
    log_prob, blocks = distribution.log_prob(point), _depth(distribution, arch)
    return Sampled(point, arch, log_prob, latency, cost.macs, cost.params, blocks, is_argmax)


def _depth(distribution: Distribution, arch: ArchSpec) -> int:
    """Searched blocks that are no skips."""
    rows = [arch.stages[row.stage].blocks[row.place] for row in distribution.space.rows() if row.variables]
    return sum(block.repeat for block in rows if not isinstance(block, SkipSpec))


def _bounds(min_us: Optional[float], max_us: Optional[float]) -> "tuple[float, float]":
    low, high = -math.inf if min_us is None else min_us, math.inf if max_us is None else max_us
    if not low <= high or math.inf in (low, -high):  # NaN fails the comparison
        raise SearchError(f"latency bounds: got {min_us} to {max_us} µs, expected a smaller and a larger number")
    return low, high


def _words(low: float, high: float) -> str:
    if high == math.inf:
        return f"{low:,.1f} µs or more"
    return f"{low:,.1f} to {high:,.1f} µs" if low > -math.inf else f"{high:,.1f} µs or less"


class _Grid:
    """The points whose latency, rounded layer by layer to a grid, could be that of a point within the bounds.

    A layer's latencies are counted from its smallest one. A state is the sum of cells that a point's first layers take;
    states beyond the upper bound are left out.
    """

    def __init__(self, distribution: Distribution, low: float, high: float):
        """
        Args:
            distribution: with latencies.
            low, high: bounds in µs, minus and plus infinity for none.
        """
        us, fixed = distribution.latencies()
        self._log_p = distribution.log_probabilities
        extra = [np.array(row) - min(row) for row in us]  # µs above the layer's fastest candidate
        reach = sum(float(row.max()) for row in extra)
        cell = _cell_us(reach, min(high - low, reach), len(extra))
        self._cells = [np.rint(row / cell).astype(np.int64) for row in extra]
        error = sum(float(np.abs(row - cells * cell).max()) for row, cells in zip(extra, self._cells))
        base = math.fsum([fixed, *map(min, us)])
        error += 1e-9 * (abs(base) + reach)  # of sums in floating point
        end = sum(int(cells.max()) for cells in self._cells)
        # First and last sum of all layers' cells that is to be looked at; none if the first is beyond the last.
        self._first = math.ceil(min(max((low - base - error) / cell, 0.0), end + 1.0))
        self._last = math.floor(min(max((high - base + error) / cell, -1.0), float(end)))

    def by_probability(self) -> Iterator[Point]:
        """All points of the grid, the most probable first; equally probable ones in a fixed order.

        Best-first search. What the remaining layers cost at least is known from the dynamic program, so that every
        beginning that is followed leads to a point.
        """
        if self._first > self._last:
            return
        losses = self._integer_losses()
        least = self._backward(losses, np.minimum, math.inf)
        # Loss of the best completion, layers that are left (fewest first), the beginning, its state and its own loss.
        heap: "list[tuple[float, int, Point, int, float]]" = [(float(least[0][0]), len(losses), (), 0, 0.0)]
        while heap and heap[0][0] < math.inf:
            _, left, point, state, loss = heapq.heappop(heap)
            if not left:
                yield point
                continue
            layer, after = len(losses) - left, least[len(losses) - left + 1]
            for choice, (more, cells) in enumerate(zip(losses[layer].tolist(), self._cells[layer].tolist())):
                if state + cells <= self._last and after[state + cells] < math.inf:
                    total = loss + more + float(after[state + cells])
                    heapq.heappush(heap, (total, left - 1, (*point, choice), state + cells, loss + more))

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Points by eq. 6, given that they are on the grid, which must have some: int64 of shape (count, layers)."""
        state, columns = np.zeros(count, np.int64), []
        for log_p, cells, after in zip(self._log_p, self._cells, self._weights[1:]):
            places = state[:, None] + cells  # (count, candidates)
            log = log_p + np.where(places <= self._last, after[np.minimum(places, self._last)], -math.inf)
            choice = inverse_cdf(np.exp(log - log.max(axis=1, keepdims=True)), rng.random(count))
            columns.append(choice)
            state = state + cells[choice]
        return np.stack(columns, axis=1)

    @cached_property
    def _weights(self) -> List[np.ndarray]:
        """Log-probability that layers l, l + 1, ... lead from a state into the bounds, as ``_backward`` gives it."""
        return self._backward(self._log_p, np.logaddexp, -math.inf)

    def _integer_losses(self) -> List[np.ndarray]:
        """Log-probability below the layer's best, as whole numbers of a unit so small that sums of them are exact."""
        losses = [row.max() - row for row in self._log_p]
        largest = sum(float(row.max()) for row in losses)
        unit = math.ldexp(1.0, math.frexp(largest)[1] - LOSS_BITS) if largest else 1.0
        return [np.rint(row / unit) for row in losses]

    def _backward(self, terms: List[np.ndarray], combine: np.ufunc, nothing: float) -> List[np.ndarray]:
        """Combines the sums of terms over all ways from a state into the bounds through layers l, l + 1, ...

        Args:
            terms: per layer and candidate.
            combine: of two ways.
            nothing: the result for a state without any way.

        Returns:
            (layers + 1) arrays by state, shape (last + 1,).
        """
        tables = [np.where(np.arange(self._last + 1) >= self._first, 0.0, nothing)]
        for row, cells in zip(terms[::-1], self._cells[::-1]):
            table = np.full(self._last + 1, nothing)
            for term, step in zip(row, cells):
                if step <= self._last:
                    part = table[: self._last + 1 - step]
                    combine(part, tables[-1][step:] + term, out=part)
            tables.append(table)
        return tables[::-1]


def _cell_us(reach: float, width: float, layers: int) -> float:
    """Width of a cell in µs: so small that the layers' rounding is little beside the width of the bounds.

    Args:
        reach: µs between the smallest and the largest latency.
        width: µs between the bounds.
        layers: number of layers, each of which is rounded.
    """
    most = min(MAX_CELLS, MAX_STATES // layers)
    wanted = 8 * layers * reach / width if width > 0 else math.inf
    return reach / min(max(wanted, MIN_CELLS), most) or 1.0
