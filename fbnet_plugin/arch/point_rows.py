"""Many points of a space, row by row: which blocks a row can be, and which of them each point has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .block_base import MAX_BLOCKS, BlockSpec
from .errors import ArchError, value_error
from .space import SearchSpace
from .spec import ArchSpec

Made = TypeVar("Made")
_MAX_CODE = 1 << 40


class RowChoices(NamedTuple):
    """One row of the points' networks.

    Attributes:
        blocks: what the row is in at least one of the points.
        choice: place in ``blocks`` of each of ``points``, shape (len(points),).
        points: numbers of the points that have this row.
    """

    blocks: list[BlockSpec]
    choice: np.ndarray
    points: np.ndarray


class PointRows(NamedTuple):
    """The networks of n points, taken apart.

    Attributes:
        frames: what surrounds the stages (resolution, image channels, head) in at least one of the points.
        frame: place in ``frames`` of each point, shape (n,).
        rows: the rows of stages and heads in order.
        bad: bool, shape (n,): a network that cannot be made, and is not in ``rows``.
    """

    frames: list[ArchSpec]
    frame: np.ndarray
    rows: list[RowChoices]
    bad: np.ndarray


def point_rows(space: SearchSpace, points: Any) -> PointRows:
    """Takes the networks of many points apart without making them.

    Args:
        space: any space.
        points: choice indices, int, shape (n, len(space.variables)).

    Raises:
        ArchError: the points have another shape, or an index is out of range.
    """
    points = check_points(space, points)
    column = {variable.name: place for place, variable in enumerate(space.variables)}
    bad = np.zeros(len(points), dtype=bool)
    count = np.zeros(len(points), dtype=np.int64)

    def choices(names: Sequence[str], make: Callable[[dict[str, int]], Made]) -> tuple[list[Made], np.ndarray]:
        """What ``make`` gives for the different choices of some variables, and each point's place among that."""
        columns = [column[name] for name in names]
        first, place = _distinct(points[:, columns], [len(space.variables[one].choices) for one in columns])
        made, number = [], np.full(len(first), -1)
        for which, point in enumerate(points[first][:, columns].tolist()):
            try:
                made.append(make(dict(zip(names, point))))
                number[which] = len(made) - 1
            except ArchError:
                pass
        return made, number[place]

    frames, frame = choices(space.frame_variables(), space.frame)
    bad |= frame < 0
    rows = []
    for row in space.rows():
        blocks, choice = choices(row.variables, lambda chosen, row=row: space.block(row, chosen))  # type: ignore[misc]
        bad |= choice < 0
        count += np.array([block.repeat for block in blocks] + [0])[choice]
        rows.append((blocks, choice))
    around = [sum(block.repeat for block in one.rows()) - 1 for one in frames]  # less the skip for the stages
    bad |= (count + np.array(around + [0])[frame] > MAX_BLOCKS) | any(not stage for stage in space.template["stages"])
    good = np.flatnonzero(~bad)
    kept = [RowChoices(blocks, choice[good], good) for blocks, choice in rows]
    return PointRows(frames, frame, [*kept, *_head_rows(frames, frame, good)], bad)


def _head_rows(frames: Sequence[ArchSpec], frame: np.ndarray, good: np.ndarray) -> list[RowChoices]:
    heads = [one.head.blocks if one.head else () for one in frames]
    rows = []
    for position in range(max(map(len, heads), default=0)):
        places = [place for place, blocks in enumerate(heads) if position < len(blocks)]
        number = np.full(len(frames), -1)
        number[places] = np.arange(len(places))
        members = good[number[frame[good]] >= 0]
        rows.append(RowChoices([heads[place][position] for place in places], number[frame[members]], members))
    return rows


def _distinct(values: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of an array: where each stands first, and the place of every row among them.

    Args:
        values: shape (n, k), column i from 0 to ``sizes[i] - 1``.

    Returns:
        shapes (different rows,) and (n,).
    """
    code, span = np.zeros(len(values), dtype=np.int64), 1
    for column, size in zip(values.T, sizes):
        code, span = code * size + column, span * size
        if span > _MAX_CODE:
            span = len(values)
            code = np.unique(code, return_inverse=True)[1].reshape(-1)
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def check_points(space: SearchSpace, points: Any) -> np.ndarray:
    """Points as int64, shape (n, len(space.variables)).

    Raises:
        ArchError: another shape or type, or an index out of range.
    """
    indices = np.asarray(points)
    if (
        indices.ndim != 2
        or indices.shape[1] != len(space.variables)
        or (indices.size and indices.dtype.kind not in "iu")
    ):
        raise value_error("points", points, f"choice indices of shape (n, {len(space.variables)})")
    indices = indices.astype(np.int64, copy=False)
    for variable, column in zip(space.variables, indices.T):
        wrong = np.flatnonzero((column < 0) | (column >= len(variable.choices)))
        if len(wrong):
            accepted = f"an index from 0 to {len(variable.choices) - 1}"
            raise value_error(variable.name, int(column[wrong[0]]), accepted)
    return indices
