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
        yield from self.searched()

    def searched(self) -> Iterator[Operator]:
        """The operators of all candidates, some more than once."""
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
                why = "changes the number of layers or the input shape of others"
                raise _not_layerwise(space, space.variables[number].name, why)
            found[-1].append(one)
            owner.update((place, number) for place, (a, b) in enumerate(zip(one, base)) if a != b)
    _check_rows(space)
    places = [[place for place in range(len(base)) if owner.get(place) == number] for number in range(len(sizes))]
    candidates = tuple(
        tuple(tuple(one[place] for place in mine) for one in options) for mine, options in zip(places, found)
    )
    fixed = tuple(operator for place, operator in enumerate(base) if place not in owner)
    return Layerwise(tuple(variable.name for variable in space.variables), candidates, fixed)


def _check_rows(space: SearchSpace) -> None:
    """Raises ArchError: a row is chosen by two variables; what the one changes may then depend on the other."""
    open_choices = {variable.name for variable in space.variables if len(variable.choices) > 1}
    for names in [*(row.variables for row in space.rows()), space.variables_of("head")]:
        several = [name for name in names if name in open_choices]
        if len(several) > 1:
            raise _not_layerwise(space, several[1], f"chooses the same layer as {several[0]}")


def _not_layerwise(space: SearchSpace, variable: str, why: str) -> ArchError:
    return ArchError(f"{why}, so it has no latency per layer and candidate", f"{space.name}.variables.{variable}")
