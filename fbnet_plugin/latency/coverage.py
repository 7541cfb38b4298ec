"""A few networks of a search space that together run all wanted operators, so that those can be timed in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..arch import ArchSpec, SearchSpace
from ..arch.spec import Resolution
from .errors import LatencyError
from .operators import Operator
from .space_graph import SpaceGraph

SHOWN = 8  # operators that an error spells out
RETRIES = 20  # with half of the operators, before a network is given a second time


def space_operators(
    space: SearchSpace, resolution: Resolution | None = None, fixed: Mapping[str, Any] | None = None
) -> list[Operator]:
    """Every operator that at least one network of a space runs, each once, in order of execution.

    Args:
        space: any space; FBNetV3's, with its shared variables and its choice of resolution, has 16,934.
        resolution: image px for all networks, one side or (height, width); default: each network's own.
        fixed: as for ``SearchSpace.restrict``, such as ``{"resolution": 224}`` or ``{"resolution": (224, 272)}``.

    Raises:
        ArchError: a bad ``fixed``, or no network fits the resolution.
    """
    return SpaceGraph(space.restrict(fixed or {}), resolution).operators


def covering_networks(
    space: SearchSpace,
    operators: Iterable[Operator],
    times: int = 1,
    seed: int = 0,
    resolution: Resolution | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> Iterator[ArchSpec]:
    """Networks of a space such that each of the wanted operators is in at least ``times`` of them.

    Each network takes the path that runs most of what is still wanted (beyond that, what has been run least), so
    that the number of networks stays near its bound, ``times`` the operators of the row that has most of them: 9
    per time for FBNet's 22 layers with 9 candidates each. The networks come one by one as they are asked for.

    Args:
        space, resolution, fixed: as for ``space_operators``; run the networks at this same resolution.
        operators: those wanted.
        times: how often each, in different networks as far as there are any.
        seed: decides between equally good networks.

    Raises:
        ArchError: as ``space_operators``.
        LatencyError: an operator that no network of the space has.
    """
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise LatencyError(f"times: got {times!r}, expected an integer of at least 1")
    graph = SpaceGraph(space.restrict(fixed or {}), resolution)
    wanted = list(dict.fromkeys(operators))
    unknown = [operator for operator in wanted if operator not in graph.number]
    if unknown:
        lines = [f"  {operator}" for operator in unknown[:SHOWN]]
        lines += [f"  and {len(unknown) - SHOWN} more"] if len(unknown) > SHOWN else []
        raise LatencyError("\n".join([f"no network of {space.name} has {len(unknown)} of the operators:", *lines]))
    return _cover(graph, [graph.number[operator] for operator in wanted], times, np.random.default_rng(seed))


def _cover(graph: SpaceGraph, wanted: list[int], times: int, rng: np.random.Generator) -> Iterator[ArchSpec]:
    count = np.zeros(len(graph.operators) + 1, np.int64)  # networks so far that ran each; the last stands for none
    target = np.zeros_like(count)
    target[wanted] = times
    seen: set[bytes] = set()
    while (count < target).any():
        missing = count < target
        # All that is not missing together weighs less than one missing operator.
        weights = missing + 1e-3 / (1 + count)
        weights[-1] = 0
        path, run = _heaviest_path(graph, weights, rng)
        for _ in range(RETRIES):
            if graph.point(path).tobytes() not in seen:
                break
            other, others = _heaviest_path(graph, weights * (rng.random(len(weights)) < 0.5), rng)
            path, run = (other, others) if missing[others].any() else (path, run)
        point = graph.point(path)
        seen.add(point.tobytes())
        count[run] += 1
        yield graph.space.arch(point)


def _heaviest_path(graph: SpaceGraph, weights: np.ndarray, rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """A path whose operators have nearly the largest sum of weights, each counted once.

    Args:
        weights: of each operator, shape (operators + 1,).

    Returns:
        the path's edge in each step, and the numbers of its operators, sorted.
    """
    # Backwards: the most that can be gained from each node on, were repeated operators counted each time.
    noise = [1e-6 * rng.random(len(step.target)) for step in graph.steps]
    ahead = [np.zeros(graph.steps[-1].target.max() + 1)]
    for step, extra in zip(graph.steps[::-1], noise[::-1]):
        gain = np.add.reduceat(weights[step.operators], step.first_operator[:-1])
        gain += extra + ahead[-1][step.target]
        ahead.append(np.maximum.reduceat(gain, step.first_edge[:-1]))
    # Forwards: the best edge of each node, where operators that the path has already weigh nothing.
    left, taken = weights.copy(), np.zeros(len(weights), bool)
    path, node = [], 0
    for step, extra, values in zip(graph.steps, noise, ahead[-2::-1]):
        edges = slice(step.first_edge[node], step.first_edge[node + 1])
        first = step.first_operator[edges.start : edges.stop + 1]
        gain = np.add.reduceat(left[step.operators[first[0] : first[-1]]], first[:-1] - first[0])
        edge = edges.start + int(np.argmax(gain + extra[edges] + values[step.target[edges]]))
        run = step.operators[step.first_operator[edge] : step.first_operator[edge + 1]]
        left[run], taken[run] = 0, True
        path.append(edge)
        node = step.target[edge]
    return path, np.flatnonzero(taken[:-1])
