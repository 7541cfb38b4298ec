"""Distributions over spaces that are small enough to list."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fbnet_plugin.arch import SearchSpace
from fbnet_plugin.arch.space import Variable
from fbnet_plugin.dnas.distribution import Distribution
from fbnet_plugin.latency import Entry, LatencyTable, Operator, Setting
from fbnet_plugin.latency.layerwise import layerwise

BLOCKS: list[dict[str, Any]] = [
    {"op": "skip"},
    {"op": "mb", "kernel": 3, "expansion": 1},
    {"op": "mb", "kernel": 5, "expansion": 1},
    {"op": "mb", "kernel": 3, "expansion": 6},
    {"op": "mb", "kernel": 5, "expansion": 6},
]


def space_of(sizes: Sequence[int], blocks: Sequence[Any] = BLOCKS, name: str = "small") -> SearchSpace:
    """A space with one layer per size, which chooses among so many of ``blocks``."""
    variables = [Variable(f"layer{i + 1}", tuple(blocks[:size])) for i, size in enumerate(sizes)]
    rows = [{"use": f"${variable.name}", "out": 16} for variable in variables]
    template = {"resolution": 32, "stages": [[{"op": "conv", "out": 16, "stride": 2}, *rows]], "head": {}}
    return SearchSpace(name, variables, template).validate()


def table_of(space: SearchSpace) -> LatencyTable:
    """Another number of µs for every operator of a space."""
    operators = dict.fromkeys(layerwise(space).operators())
    entries: dict[Operator, Entry] = {one: Entry(10.1 + 7.3 * i**1.5) for i, one in enumerate(operators)}
    return LatencyTable(Setting("cpu", "a processor", "eager"), entries, constant_us=3.7, file="table.json")


def distribution_of(seed: int, sizes: Sequence[int], scale: float = 1.0, whole: bool = False) -> Distribution:
    """Random theta and latencies; ``whole``: small integers, so that many points are alike."""
    rng = np.random.default_rng(seed)
    theta = [rng.normal(size=size) * scale for size in sizes]
    us = [rng.uniform(-5, 300, size) for size in sizes]
    if whole:
        theta = [rng.integers(0, 2, size).astype(float) * scale for size in sizes]
        us = [rng.integers(0, 4, size).astype(float) for size in sizes]
    return Distribution(space_of(sizes), tuple(theta), tuple(us), 41.5)


def points_of(distribution: Distribution) -> Iterator[tuple[int, ...]]:
    """All points."""
    return itertools.product(*(range(len(row)) for row in distribution.theta))
