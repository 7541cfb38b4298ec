"""A search space as one network with all candidates in it."""

from __future__ import annotations

import dataclasses

from .block_base import BlockSpec
from .errors import ArchError
from .mixed import MixedSpec
from .space import Row, SearchSpace
from .spec import ArchSpec, StageSpec


def supernet_arch(space: SearchSpace) -> ArchSpec:
    """The network with the space's candidates side by side: a ``MixedSpec`` where a row has a choice.

    Args:
        space: each row of the stages is chosen by at most one variable with several choices, and nothing else is.

    Raises:
        ArchError: a row that several variables choose, candidates that do not fit into one place, or a choice outside
            the stages.
    """
    sizes = {variable.name: len(variable.choices) for variable in space.variables}
    for name in space.variables_of(*(key for key in space.template if key != "stages")):
        if sizes[name] > 1:
            raise ArchError("chooses no layer, and a supernet has candidates there alone", _where(space, name))
    stages: list[list[BlockSpec]] = []
    for row in space.rows():
        stages += [[] for _ in range(row.stage + 1 - len(stages))]
        stages[row.stage].append(_row(space, row, [name for name in row.variables if sizes[name] > 1], sizes))
    frame = space.frame({})
    return dataclasses.replace(frame, stages=tuple(StageSpec(tuple(rows)) for rows in stages)).validate()


def _row(space: SearchSpace, row: Row, several: list[str], sizes: dict[str, int]) -> BlockSpec:
    first = {name: 0 for name in row.variables}
    if not several:
        return space.block(row, first)
    if len(several) > 1:
        raise ArchError(f"chooses the same layer as {several[0]}", _where(space, several[1]))
    (name,) = several
    try:
        return MixedSpec.of(name, tuple(space.block(row, {**first, name: choice}) for choice in range(sizes[name])))
    except ArchError as error:
        raise ArchError(error.problem, _where(space, name)) from None


def _where(space: SearchSpace, variable: str) -> str:
    return f"{space.name}.variables.{variable}"
