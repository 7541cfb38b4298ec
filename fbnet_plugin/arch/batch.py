"""Costs of many networks at once: the closed forms of ``blocks.py`` on arrays."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Type

import numpy as np

from .blocks import BlockSpec, columns
from .cost import Cost, Shape, linear
from .errors import ArchError
from .spec import ArchSpec, Resolution, image_size


def batch_cost(specs: Sequence[ArchSpec], resolution: Optional[Resolution] = None) -> Cost:
    """Exact counts of many networks, equal to ``spec.cost(resolution)`` of each.

    Args:
        specs: n networks.
        resolution: image px for all, one side or (height, width); default: each network's own.

    Returns:
        Cost of int64 arrays of shape (n,).

    Raises:
        ArchError: a map vanishes in one of the networks; the message names it.
    """
    count = len(specs)
    sizes = [image_size(spec.resolution if resolution is None else resolution) for spec in specs]
    height, width = np.array(sizes, dtype=np.int64).reshape(count, 2).T.copy()
    shape = Shape(np.array([spec.in_channels for spec in specs], dtype=np.int64), height, width)
    total = np.zeros((len(Cost._fields), count), dtype=np.int64)
    rows = [_rows(spec) for spec in specs]
    for position in range(max(map(len, rows), default=0)):
        groups: Dict[Type[BlockSpec], List[int]] = {}
        for network, blocks in enumerate(rows):
            if position < len(blocks):
                groups.setdefault(type(blocks[position]), []).append(network)
        for kind, members in groups.items():
            index = np.array(members)
            _add_row(kind, [rows[network][position] for network in members], index, shape, total)
    _check_maps(specs, shape)
    classes = np.array([spec.head.num_classes if spec.head else 0 for spec in specs], dtype=np.int64)
    pooled = Cost(0, 0, 0, shape.channels * shape.height * shape.width) * (classes > 0)
    head = linear(shape.channels, classes) + pooled
    return Cost(*(sums + part for sums, part in zip(total, head)))


def _rows(spec: ArchSpec) -> List[BlockSpec]:
    blocks = [block for stage in spec.stages for block in stage.blocks]
    return blocks + list(spec.head.blocks) if spec.head else blocks


def _add_row(
    kind: Type[BlockSpec], blocks: List[BlockSpec], index: np.ndarray, shape: Shape, total: np.ndarray
) -> None:
    """Adds one row (all its copies) of the networks ``index`` to ``total``, and updates ``shape``."""
    fields = columns(blocks)
    for copy in range(int(fields.repeat.max())):
        active = np.flatnonzero(fields.repeat > copy)
        here = _Rows(fields, active, first=copy == 0)
        networks = index[active]
        cost, out = kind._count(here, Shape(*(side[networks] for side in shape)))
        for sums, part in zip(total, cost):
            sums[networks] += part
        for side, value in zip(shape, out):
            side[networks] = np.maximum(value, 0)  # a vanished map stays vanished


class _Rows:
    """The fields of the active rows; strides are 1 after the first copy."""

    def __init__(self, fields: object, active: np.ndarray, first: bool):
        for name, values in vars(fields).items():
            setattr(self, name, values[active])
        if not first:
            self.stride = np.ones_like(active)


def _check_maps(specs: Sequence[ArchSpec], shape: Shape) -> None:
    gone = np.flatnonzero(np.minimum(shape.height, shape.width) < 1)
    if gone.size:
        spec = specs[int(gone[0])]
        spec.validate()  # names the stage and the block where its own resolution is the cause
        raise ArchError("the image is too small, no output pixel is left", spec.name)
