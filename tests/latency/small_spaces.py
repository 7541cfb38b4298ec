"""Search spaces of a few networks, all of which can be listed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from fbnet_plugin.arch import ArchError, ArchSpec, SearchSpace
from fbnet_plugin.arch.space import Variable
from fbnet_plugin.latency import Operator, arch_operators


def space_of(variables: dict[str, list[Any]], **template: Any) -> SearchSpace:
    """A space named "small"; ``template`` as in an architecture file, at 32 px where it does not say."""
    made = [Variable(name, tuple(choices)) for name, choices in variables.items()]
    return SearchSpace("small", made, {"resolution": 32, **template})


def networks(space: SearchSpace) -> Iterator[ArchSpec]:
    """All networks of a space, also those that fit no image."""
    for point in itertools.product(*(range(len(variable.choices)) for variable in space.variables)):
        try:
            yield space.arch(point)
        except ArchError:
            pass


def listed_operators(space: SearchSpace, resolution: int | None = None) -> set[Operator]:
    """The operators of all networks, found by listing the networks."""
    found: set[Operator] = set()
    for arch in networks(space):
        try:
            found.update([operator for _, operator in arch_operators(arch, resolution)])
        except ArchError:
            pass
    return found
