"""Costs of many networks at once: the closed forms of the blocks on arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from .block_base import BlockSpec
from .cost import MAX_COUNT, Cost, Shape, global_pool, linear
from .errors import ArchError
from .spec import ArchSpec, Resolution, image_size


def batch_cost(specs: Sequence[ArchSpec], resolution: Resolution | None = None) -> Cost:
    """Exact counts of many networks, equal to ``spec.cost(resolution)`` of each.

    Args:
        specs: n networks.
        resolution: image px for all, one side or (height, width); default: each network's own.

    Returns:
        Cost of int64 arrays of shape (n,).

    Raises:
        ArchError: as ``spec.cost`` of the first network that has no cost; the message also names it.
    """
    maps = _Maps(specs, resolution)
    rows = [_rows(spec) for spec in specs]
    for position in range(max(map(len, rows), default=0)):
        groups: dict[type[BlockSpec], list[int]] = {}
        for network, blocks in enumerate(rows):
            if position < len(blocks):
                groups.setdefault(type(blocks[position]), []).append(network)
        for kind, members in groups.items():
            maps.add_row(kind, [rows[network][position] for network in members], np.array(members))
    if maps.bad.any():
        raise _why(specs[int(np.argmax(maps.bad))], resolution)
    classes = np.array([spec.head.num_classes if spec.head else 0 for spec in specs], dtype=np.int64)
    shape = Shape(maps.channels, maps.height, maps.width)
    head = linear(maps.channels, classes) + global_pool(shape) * (classes > 0)
    return Cost(*(sums + np.asarray(part).astype(np.int64) for sums, part in zip(maps.total, head)))


def _rows(spec: ArchSpec) -> list[BlockSpec]:
    blocks = [block for stage in spec.stages for block in stage.blocks]
    return blocks + list(spec.head.blocks) if spec.head else blocks


def _why(spec: ArchSpec, resolution: Resolution | None) -> ArchError:
    """The error that counting this one network alone gives, with the network's name."""
    try:
        spec.cost(resolution)
    except ArchError as error:
        return ArchError(f"{error.where}: {error.problem}", spec.name)
    raise AssertionError(f"{spec.name} has a cost alone, but none in a batch")


class _Maps:
    """The current feature map and the running total of n networks.

    Attributes:
        channels: int64, shape (n,).
        height, width: whole float64, shape (n,); see ``cost.py``.
        total: int64, shape (4, n), rows in the order of ``Cost``.
        bad: bool, shape (n,): a block could not take its input.
    """

    def __init__(self, specs: Sequence[ArchSpec], resolution: Resolution | None):
        sizes = [image_size(spec.resolution if resolution is None else resolution) for spec in specs]
        self.channels = np.array([spec.in_channels for spec in specs], dtype=np.int64)
        self.height, self.width = np.array(sizes, dtype=np.float64).reshape(len(specs), 2).T.copy()
        self.total = np.zeros((len(Cost._fields), len(specs)), dtype=np.int64)
        self.bad = np.zeros(len(specs), dtype=bool)

    def add_row(self, kind: type[BlockSpec], blocks: list[BlockSpec], index: np.ndarray) -> None:
        """Puts one row (all its copies) of the networks ``index`` behind their current maps."""
        fields = _columns(blocks)
        for copy in range(int(fields.repeat.max())):
            active = np.flatnonzero(fields.repeat > copy)
            here = SimpleNamespace(**{name: values[active] for name, values in vars(fields).items()})
            if copy > 0:
                here.stride = np.ones_like(active)
            self._add(kind, here, index[active])

    def _add(self, kind: type[BlockSpec], fields: SimpleNamespace, index: np.ndarray) -> None:
        shape = Shape(self.channels[index], self.height[index], self.width[index])
        cost, out = kind._count(fields, shape)
        gone = (out.height < 1) | (out.width < 1) | (np.max(np.broadcast_arrays(*cost), axis=0) > MAX_COUNT)
        bad = self.bad[index] | gone | ~np.asarray(kind._fits(fields, shape.channels))
        for sums, part in zip(self.total, cost):
            sums[index] += np.where(bad, 0, part).astype(np.int64)
        self.channels[index], self.height[index], self.width[index] = out
        self.bad[index] = bad


def _columns(blocks: Sequence[BlockSpec]) -> SimpleNamespace:
    """Fields of blocks of one kind as arrays, for ``_count`` (pad None is -1, no SE is ratio 0)."""
    places: dict[int, int] = {}
    index = np.array([places.setdefault(id(block), len(places)) for block in blocks])
    unique = {places[id(block)]: block for block in blocks}  # networks of a space share many blocks
    rows = [unique[place] for place in range(len(places))]
    fields = SimpleNamespace()
    for field in dataclasses.fields(rows[0]):
        values = [getattr(row, field.name) for row in rows]
        if field.name == "se":
            fields.se_ratio = np.array([se.ratio if se else 0.0 for se in values])[index]
            fields.se_width = np.array([bool(se) and se.width == "input" for se in values])[index]
        elif field.name == "pad":
            fields.pad = np.array([-1 if pad is None else pad for pad in values])[index]
        elif not isinstance(values[0], str):
            array = np.array(values)
            setattr(fields, field.name, (array.astype(np.int64) if array.dtype == bool else array)[index])
    return fields
