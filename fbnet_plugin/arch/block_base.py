"""What all kinds of blocks share: the row, its copies, and the checked count of one block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .checks import assign, check_choice, check_float, check_int
from .cost import MAX_COUNT, Cost, Shape
from .errors import ArchError

ACTIVATIONS = ("relu", "relu6", "hswish", "swish")
GATES = ("sigmoid", "hsigmoid")
SE_WIDTHS = ("expanded", "input")
MAX_CHANNELS = 65536
MAX_BLOCKS = 512  # of a network, copies counted
MAX_KERNEL = 31


@dataclass(frozen=True)
class SESpec:
    """Squeeze-and-excite: global pool, 1x1 conv, the block's activation, 1x1 conv, gate.

    Attributes:
        gate: "sigmoid" or "hsigmoid" (``relu6(x + 3) / 6``).
        width: what the squeeze is a fraction of: the "expanded" channels (FBNetV2 and the detection
            bodies), or the expanded channels divided by the expansion, about the block's "input"
            channels (FBNetV3).
        ratio: that fraction.
    """

    gate: str = "hsigmoid"
    width: str = "input"
    ratio: float = 0.25

    def __post_init__(self) -> None:
        assign(
            self,
            gate=check_choice("gate", self.gate, GATES),
            width=check_choice("width", self.width, SE_WIDTHS),
            ratio=check_float("ratio", self.ratio, 0.001, 16.0),
        )


@dataclass(frozen=True)
class BlockSpec:
    """What all blocks share: output channels, stride of the first copy, number of copies.

    Attributes:
        out: output channels.
        stride: of the first copy; the others have stride 1.
        repeat: number of copies.
    """

    op: ClassVar[str] = ""

    out: int
    stride: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        assign(
            self,
            out=check_int("out", self.out, 1, MAX_CHANNELS),
            stride=check_int("stride", self.stride, 1, 8),
            repeat=check_int("repeat", self.repeat, 1, MAX_BLOCKS),
        )

    def copies(self) -> tuple[BlockSpec, ...]:
        """The ``repeat`` single blocks that this row stands for."""
        first = self if self.repeat == 1 else self.replaced(repeat=1)
        rest = first if first.stride == 1 else first.replaced(stride=1)
        return (first,) + (rest,) * (self.repeat - 1)

    def replaced(self, **fields: Any) -> BlockSpec:
        """A copy with other values of fields that all kinds of blocks have."""
        return dataclasses.replace(self, **fields)

    def mapped(self, change: Callable[[BlockSpec], BlockSpec]) -> BlockSpec:
        """``change(self)``; a row of candidates maps each of them."""
        return change(self)

    def count(self, shape: Shape) -> tuple[Cost, Shape]:
        """Cost and output shape of one copy (the first) on an input of ``shape``.

        Raises:
            ArchError: channels do not divide into the groups, the map would vanish, or a count is
                beyond ``MAX_COUNT``.
        """
        self.check_input(shape)
        cost, out = self._count(self, Shape(int(shape.channels), float(shape.height), float(shape.width)))
        size = f"{shape.height}x{shape.width}"
        if min(out.height, out.width) < 1:
            raise ArchError(f"the {size} px input leaves no output pixel; use a larger resolution or padding")
        if max(cost) > MAX_COUNT:
            raise ArchError(f"{max(cost):.3g} MACs or parameters on the {size} px input, expected at most {MAX_COUNT}")
        return cost.to_int(), Shape(*(int(value) for value in out))

    def check_input(self, shape: Shape) -> None:
        """Raises ArchError if the block cannot take the channels of ``shape``; see ``_fits``."""

    @staticmethod
    def _fits(b: Any, channels: Any) -> Any:
        """Whether ``check_input`` would pass, for rows as in ``_count``; kinds with groups override both."""
        return True

    @staticmethod
    def _count(b: Any, shape: Shape) -> tuple[Cost, Shape]:
        """The closed form. ``b`` holds the fields as numbers, or as arrays beside array shapes."""
        raise NotImplementedError


def depthwise_pad(kernel: Any, pad: Any) -> Any:
    """Explicit padding, or ``kernel // 2`` where it is None (-1 in arrays)."""
    if pad is None:
        return kernel // 2
    return np.where(np.asarray(pad) < 0, kernel // 2, pad)
