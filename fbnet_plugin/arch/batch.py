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
    sizes = [image_size(spec.resolution if resolution is None else resolution) for spec in specs]
    maps = Maps(np.array([spec.in_channels for spec in specs], np.int64), np.array(sizes, np.float64).reshape(-1, 2))
    rows = [_rows(spec) for spec in specs]
    for position in range(max(map(len, rows), default=0)):
        members = [network for network, blocks in enumerate(rows) if position < len(blocks)]
        maps.add_row(*_distinct([rows[network][position] for network in members]), np.array(members))
    if maps.bad.any():
        raise _why(specs[int(np.argmax(maps.bad))], resolution)
    return maps.cost(np.array([spec.head.num_classes if spec.head else 0 for spec in specs], dtype=np.int64))


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


def _distinct(blocks: Sequence[BlockSpec]) -> tuple[list[BlockSpec], np.ndarray]:
    """The different objects among blocks, and the place of each block in that list; networks of a space share many."""
    places: dict[int, int] = {}
    index = np.array([places.setdefault(id(block), len(places)) for block in blocks])
    unique = {places[id(block)]: block for block in blocks}
    return [unique[place] for place in range(len(places))], index


class Maps:
    """The current feature map and the running total of n networks.

    Args:
        channels: of the images, int64, shape (n,).
        sizes: height and width of the images in px, whole float64, shape (n, 2); see ``cost.py``.

    Attributes:
        channels, height, width: of the current maps, shape (n,).
        total: int64, shape (4, n), rows in the order of ``Cost``.
        bad: bool, shape (n,): a block could not take its input.
    """

    def __init__(self, channels: np.ndarray, sizes: np.ndarray):
        self.channels = channels
        self.height, self.width = sizes.T.copy()
        self.total = np.zeros((len(Cost._fields), len(channels)), dtype=np.int64)
        self.bad = np.zeros(len(channels), dtype=bool)

    def add_row(self, blocks: Sequence[BlockSpec], choice: np.ndarray, networks: np.ndarray) -> None:
        """Puts one row (all its copies) behind the current maps of some networks.

        Args:
            blocks: what the row can be.
            choice: place of each network's block in ``blocks``, shape (len(networks),).
            networks: their numbers, shape (len(networks),).
        """
        kinds = [type(block) for block in blocks]
        for kind in dict.fromkeys(kinds):
            places = [place for place, other in enumerate(kinds) if other is kind]
            number = np.full(len(blocks), -1)
            number[places] = np.arange(len(places))
            mine = np.flatnonzero(number[choice] >= 0)
            fields = _columns([blocks[place] for place in places])
            self._add_kind(kind, fields, number[choice[mine]], networks[mine])

    def cost(self, classes: np.ndarray) -> Cost:
        """Totals with the global average pool and the linear layer, int64, shape (n,).

        Args:
            classes: outputs of the linear layer, int64, shape (n,); 0 where a network has no head.
        """
        shape = Shape(self.channels, self.height, self.width)
        head = linear(self.channels, classes) + global_pool(shape) * (classes > 0)
        return Cost(*(sums + np.asarray(part).astype(np.int64) for sums, part in zip(self.total, head)))

    def _add_kind(self, kind: type[BlockSpec], fields: SimpleNamespace, choice: np.ndarray, index: np.ndarray) -> None:
        """As ``add_row`` for blocks of one kind, ``fields`` holding their fields."""
        copies = fields.repeat[choice]  # still to be counted
        first = True
        while len(copies):
            here = SimpleNamespace(**{name: values[choice] for name, values in vars(fields).items()})
            if not first:
                here.stride = np.ones_like(choice)
            left = copies - self._add(kind, here, index, copies)
            choice, index, copies, first = choice[left > 0], index[left > 0], left[left > 0], False

    def _add(self, kind: type[BlockSpec], fields: SimpleNamespace, index: np.ndarray, copies: np.ndarray) -> np.ndarray:
        """Counts one copy, or all ``copies`` at once where the map stays as it is; returns how many it counted."""
        shape = Shape(self.channels[index], self.height[index], self.width[index])
        cost, out = kind._count(fields, shape)
        gone = (out.height < 1) | (out.width < 1) | (np.max(np.broadcast_arrays(*cost), axis=0) > MAX_COUNT)
        bad = self.bad[index] | gone | ~np.asarray(kind._fits(fields, shape.channels))
        steady = (fields.stride == 1) & np.all([a == b for a, b in zip(out, shape)], axis=0)
        times = np.where(steady, copies, 1)
        for sums, part in zip(self.total, cost):
            sums[index] += np.where(bad, 0, part).astype(np.int64) * times
        self.channels[index], self.height[index], self.width[index] = out
        self.bad[index] = bad
        return times


def _columns(blocks: Sequence[BlockSpec]) -> SimpleNamespace:
    """Fields of blocks of one kind as arrays, for ``_count`` (pad None is -1, no SE is ratio 0)."""
    fields = SimpleNamespace()
    for field in dataclasses.fields(blocks[0]):
        values = [getattr(block, field.name) for block in blocks]
        if field.name == "se":
            fields.se_ratio = np.array([se.ratio if se else 0.0 for se in values])
            fields.se_width = np.array([bool(se) and se.width == "input" for se in values])
        elif field.name == "pad":
            fields.pad = np.array([-1 if pad is None else pad for pad in values])
        elif not isinstance(values[0], str):
            array = np.array(values)
            setattr(fields, field.name, array.astype(np.int64) if array.dtype == bool else array)
    return fields
