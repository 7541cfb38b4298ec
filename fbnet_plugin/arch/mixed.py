"""The row of a supernet: one place of the network with all of its candidates (FBNet section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .block_base import BlockSpec
from .checks import assign
from .cost import ZERO, Cost, Shape
from .errors import ArchError


@dataclass(frozen=True)
class MixedSpec(BlockSpec):
    """Candidates for one place, of which a network has exactly one. Made by ``MixedSpec.of``.

    Attributes:
        variable: the decision that chooses among them; rows that name one variable choose together.
        candidates: in the order of the variable's choices; equal in ``out``, ``stride`` and ``repeat``.
    """

    op: ClassVar[str] = "mixed"

    variable: str = ""
    candidates: tuple[BlockSpec, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        assign(self, candidates=tuple(self.candidates))
        for candidate in self.candidates:
            for key in ("out", "stride", "repeat"):
                if getattr(candidate, key) != getattr(self, key):
                    problem = f"the candidates differ in {key}, so that the layers after it have no common input"
                    raise ArchError(problem, f"variables.{self.variable}")

    @classmethod
    def of(cls, variable: str, candidates: tuple[BlockSpec, ...]) -> MixedSpec:
        """
        Raises:
            ArchError: the candidates differ in output channels, stride or number of copies.
        """
        first = candidates[0]
        return cls(first.out, first.stride, first.repeat, variable, candidates)

    def replaced(self, **fields: Any) -> MixedSpec:
        return self.of(self.variable, tuple(one.replaced(**fields) for one in self.candidates))

    def mapped(self, change: Callable[[BlockSpec], BlockSpec]) -> MixedSpec:
        return self.of(self.variable, tuple(one.mapped(change) for one in self.candidates))

    def count(self, shape: Shape) -> tuple[Cost, Shape]:
        """Cost of all candidates together, and the output shape.

        Raises:
            ArchError: a candidate cannot take the input, or their outputs differ in size.
        """
        counts = [candidate.count(shape) for candidate in self.candidates]
        outputs = {output for _, output in counts}
        if len(outputs) > 1:
            raise ArchError("the candidates' outputs differ in size", f"variables.{self.variable}")
        return sum((cost for cost, _ in counts), ZERO), outputs.pop()
