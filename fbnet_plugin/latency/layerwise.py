"""Which operators each decision of a layer-wise space chooses between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..arch import ArchError, SearchSpace
from ..arch.spec import Resolution
from .operators import Operator, arch_operators


class Layerwise(NamedTuple):
    """A space as a sum: every network runs ``fixed`` and, per variable, one of its candidates.

    Attributes:
        variables: names, in the order of the space.
        candidates: per variable and choice, the operators that this choice runs (one, or one per copy of a row).
        fixed: the operators that no choice changes.
    """

    variables: tuple[str, ...]
    candidates: tuple[tuple[tuple[Operator, ...], ...], ...]
    fixed: tuple[Operator, ...]

    def operators(self) -> Iterator[Operator]:
        """All operators, some more than once."""
        yield from self.fixed
        for candidates in self.candidates:
            for operators in candidates:
                yield from operators


def layerwise(space: SearchSpace, resolution: Resolution | None = None) -> Layerwise:
    """Takes a space apart into its layers.

    Args:
        space: such as "fbnet" (FBNet Tables 1 and 2).
        resolution: image px; default: that of the space.

    Raises:
        ArchError: a variable changes the input shape of a layer that it does not choose, the number of layers, or
            a layer that another variable chooses too; such a space has no latency per layer and candidate.
    """

    def operators(point: list[int]) -> list[Operator]:
        return [operator for _, operator in arch_operators(space.arch(point), resolution)]

    sizes = [len(variable.choices) for variable in space.variables]
    base = operators([0] * len(sizes))
    owner: dict[int, int] = {}
    found: list[list[list[Operator]]] = []
    for number, size in enumerate(sizes):
        found.append([base])
        for choice in range(1, size):
            point = [0] * len(sizes)
            point[number] = choice
            one = operators(point)
            if len(one) != len(base) or any(a.input != b.input for a, b in zip(one, base)):
                raise _not_layerwise(space, number, "other layers get another input shape")
            found[-1].append(one)
            for place in (place for place, (a, b) in enumerate(zip(one, base)) if a != b):
                if owner.setdefault(place, number) != number:
                    raise _not_layerwise(space, number, f"{space.variables[owner[place]].name} changes the same layer")
    places = [[place for place in range(len(base)) if owner.get(place) == number] for number in range(len(sizes))]
    candidates = tuple(
        tuple(tuple(one[place] for place in mine) for one in options) for mine, options in zip(places, found)
    )
    fixed = tuple(operator for place, operator in enumerate(base) if place not in owner)
    return Layerwise(tuple(variable.name for variable in space.variables), candidates, fixed)


def _not_layerwise(space: SearchSpace, number: int, why: str) -> ArchError:
    problem = f"changes more than its own layers ({why}), so it has no latency per layer and candidate"
    return ArchError(problem, f"{space.name}.variables.{space.variables[number].name}")
