"""Settings of the predictor-based evolutionary search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .errors import NARSError


@dataclass(frozen=True)
class EvolutionSettings:
    """Settings of ``evolve``; ``EvolutionSettings.paper()`` is section 3.4 taken by the letter.

    Attributes:
        parents: best of the given points in the first generation (p).
        random: random points in the first generation (q); also stand in for parents that are missing.
        keep: best candidates that are kept, and returned (K).
        breeders: best of the kept that get children; None: all, as in Algorithm 1. With fewer the search needs fewer
            scores for the same quality.
        children: of each breeder and generation.
        waves: parts in which a generation is bred. The kept are brought up to date after each, so that a good child
            breeds in the next; one part is Algorithm 1.
        epsilon: gain of the best score that counts as none.
        patience: generations without gain before the end; Algorithm 1 ends after the first.
        generations: at most, the first not counted.
        evaluations: scored candidates at most; None: no limit.
        k1, k3: of the chance of a crossover, for good and for poor parents (``genetics.adaptive_rates``).
        k2, k4: of the chance of a mutation, likewise.
        floor: least chance of a mutation; the best candidate's would be 0.
        per_variable: the chance of a mutation holds for each variable by itself, as for the bits of the original,
            which leaves little of a poor parent. Otherwise it holds for the child, which then changes in one variable
            and in each further one with chance 1 / V.
        crossover: the paper's text has mutations alone, the adaptive genetic algorithm that it cites has both.
        near: chance that a mutation of an ordered variable is a step to a neighbouring choice.
        attempts: changes to a child that is not new or violates the constraints, before it is given up.
    """

    parents: int = 50
    random: int = 50
    keep: int = 40
    breeders: Optional[int] = 12
    children: int = 12
    waves: int = 4
    epsilon: float = 1e-6
    patience: int = 5
    generations: int = 200
    evaluations: Optional[int] = None
    k1: float = 1.0
    k2: float = 0.5
    k3: float = 1.0
    k4: float = 0.5
    floor: float = 0.005
    per_variable: bool = False
    crossover: bool = True
    near: float = 0.5
    attempts: int = 4

    def __post_init__(self) -> None:
        for name in ("k1", "k2", "k3", "k4", "floor", "near"):
            if not 0 <= getattr(self, name) <= 1:
                raise NARSError(f"{name} of the evolution is {getattr(self, name)!r}, expected a number from 0 to 1")
        least = {"parents": 0, "random": 0, "attempts": 0, "generations": 0, "epsilon": 0}
        for name in ("keep", "breeders", "children", "waves", "patience", "evaluations"):
            least[name] = 1
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise NARSError(f"{name} of the evolution is {value!r}, expected at least {low}")
        if self.parents + self.random < 1:
            raise NARSError("the evolution has neither parents nor random points, expected at least one of them")

    @staticmethod
    def paper() -> EvolutionSettings:
        """Algorithm 1: every kept candidate breeds, all children at once, the end at the first lack of gain."""
        return EvolutionSettings(breeders=None, waves=1, patience=1, per_variable=True, crossover=False)
