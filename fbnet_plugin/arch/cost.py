"""Closed-form counts of the primitive layers, and the record in which they are added up.

Every function takes numbers or numpy arrays of one shape (one entry per network), so that the same
formula counts one block or twenty thousand of them. Channels are integers. Heights and widths come in
as whole floats, so that MACs cannot wrap around as 64-bit integers would: below 2**53 they are exact,
and blocks beyond ``MAX_COUNT`` are refused.

Conventions, by name:
    params: all learnable values: convolution and linear weights, biases, norm scales and shifts.
    weights: convolution and linear weights only, which is what both papers and the published model
        tables print as "#Params".
    macs: multiply-adds of convolutions and linear layers (the papers' "FLOPs"); norms, activations,
        pools and element-wise products are not counted.
    pool: input elements of all global average pools; ``macs + pool`` is what the authors' own
        counter prints.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

# A number, or an array with one entry per network.
Count = Any

# Largest count of one block; below it float64 holds every intermediate value exactly.
MAX_COUNT = 1 << 52


class Shape(NamedTuple):
    """A feature map of one image: channels, height and width in px."""

    channels: Count
    height: Count
    width: Count


class Cost(NamedTuple):
    """Counts of one layer, block or network; see the module's conventions."""

    params: Count
    weights: Count
    macs: Count
    pool: Count = 0

    def __add__(self, other: Any) -> Cost:
        return Cost(*(a + b for a, b in zip(self, other)))

    def __mul__(self, factor: Any) -> Cost:
        """All counts times ``factor``; a 0/1 factor switches a layer off where it is absent."""
        return Cost(*(value * factor for value in self))

    def to_int(self) -> Cost:
        """The same counts as Python integers."""
        return Cost(*(int(value) for value in self))


ZERO = Cost(0, 0, 0, 0)


def conv_size(size: Count, kernel: Count, stride: Count, pad: Count) -> Count:
    """Output height or width (px) of a convolution."""
    return (size + 2 * pad - kernel) // stride + 1


def conv(c_in: Count, out: Shape, kernel: Count, groups: Count = 1, bias: Count = 0) -> Cost:
    """A ``kernel`` x ``kernel`` convolution from ``c_in`` channels to the map ``out``."""
    weights = out.channels * (c_in // groups) * kernel * kernel
    return Cost(weights + bias * out.channels, weights, weights * out.height * out.width)


def norm(channels: Count) -> Cost:
    """Scale and shift of a normalisation layer."""
    return Cost(2 * channels, 0 * channels, 0 * channels)


def linear(c_in: Count, c_out: Count, bias: Count = 1) -> Cost:
    """A fully connected layer."""
    weights = c_in * c_out
    return Cost(weights + bias * c_out, weights, weights)


def global_pool(shape: Shape) -> Cost:
    """A global average pool of the map ``shape``."""
    return Cost(0, 0, 0, shape.channels * shape.height * shape.width)


def squeeze_excite(shape: Shape, hidden: Count) -> Cost:
    """Global pool, 1x1 conv to ``hidden``, 1x1 conv back, both with a bias, on the map ``shape``."""
    point = Shape(hidden, 1, 1)
    back = Shape(shape.channels, 1, 1)
    return global_pool(shape) + conv(shape.channels, point, 1, bias=1) + conv(hidden, back, 1, bias=1)


def round_channels(value: Count, divisor: Count, floor_ratio: Count = 0.95) -> Count:
    """The channel rounding rule R of the published models.

    The nearest multiple of ``divisor`` (halves up, at least one ``divisor``); one more ``divisor``
    if the result is below ``floor_ratio * value``.

    Returns:
        int64, as an array of the arguments' shape; for a Python number an int.
    """
    if isinstance(value, (int, float)):
        near = max(divisor, math.floor(value / divisor + 0.5) * divisor)
        return near + divisor if near < floor_ratio * value else near
    nearest = np.maximum(divisor, np.floor(np.asarray(value) / divisor + 0.5) * divisor)
    rounded = np.where(nearest < floor_ratio * value, nearest + divisor, nearest)
    return rounded.astype(np.int64)
