"""Compound scaling to a number of MACs: how FBNetV3-A, F and G follow from B and E (FBNetV3 section 4.2)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from .checks import check_float, check_int
from .cost import MAX_COUNT
from .errors import ArchError
from .scaling import scale_depth, scale_width
from .spec import ArchSpec, Published

MAX_PHI = 16.0
STEP = 8  # px, of resolutions
FINE = sorted((0.025 * step for step in range(-30, 31)), key=abs)  # offsets of phi tried around the crossing
# Further offsets: of phi, of the depth's phi against it, and of the resolution in px, the smallest moves first.
MOVED = sorted(
    itertools.product([0.1 * step for step in range(-10, 11)], (-1.0, -0.5, 0.0, 0.5), (-16, -8, 0, 8, 16)),
    key=lambda move: abs(move[0]) + abs(move[1]) + abs(move[2]) / 8,
)


class Coefficients(NamedTuple):
    """Factors of width, depth and resolution per unit of phi; the values are EfficientNet's (arXiv:1905.11946)."""

    width: float = 1.1
    depth: float = 1.2
    resolution: float = 1.15


class CompoundScaled(NamedTuple):
    """A scaled network, the phi that gave its width, and its MACs."""

    arch: ArchSpec
    phi: float
    macs: int


def compound_scale(
    spec: ArchSpec,
    target_macs: float,
    coefficients: Coefficients = Coefficients(),  # noqa: B008 - a tuple
    divisor: int = 8,
    tolerance: float = 0.05,
    name: str = "",
) -> CompoundScaled:
    """A wider, deeper, larger (or smaller) copy of a network with a given number of MACs.

    Width, depth and resolution are multiplied by the coefficients to the power of phi; the head's blocks stay. As all
    three are rounded, MACs jump with phi. Of the networks around the phi at which they cross the target, the one with
    the most MACs up to the target is taken. Where those miss the tolerance, depth and resolution are moved from what
    phi says, as little as it takes.

    Args:
        spec: the network.
        target_macs: at most so many.
        coefficients: factors per unit of phi, at least 1.
        divisor: of channels.
        tolerance: the share of the target by which the MACs may stay below it.
        name: of the copy; default: such as ``fbnet_v3_e_1181m``.

    Raises:
        ArchError: a bad argument, or no such network; names the nearest MACs that there are.
    """
    target = check_float("target_macs", target_macs, 1, MAX_COUNT)
    check_int("divisor", divisor, 1, 1024)
    check_float("tolerance", tolerance, 0.0, 1.0)
    for key, value in zip(Coefficients._fields, coefficients):
        check_float(f"coefficients.{key}", value, 1.0, 4.0)
    scaler = _Scaler(spec.validate(), Coefficients(*coefficients), divisor)
    crossing = scaler.crossing(target)
    tries = [(0.0, 0.0, 0), *((crossing + offset, 0.0, 0) for offset in FINE)]
    best = scaler.best(tries, target)
    if best is None or best.macs < (1 - tolerance) * target:
        best = scaler.first(
            ((crossing + offset, deeper, px) for offset, deeper, px in MOVED), (1 - tolerance) * target, target
        )
    if best is None:
        raise ArchError(
            f"got {target:.0f}, expected MACs that a scaled {spec.name} can have within {tolerance:.1%}; "
            f"the nearest has {scaler.nearest(target)}",
            "target_macs",
        )
    return best._replace(arch=dataclasses.replace(best.arch, name=name or f"{spec.name}_{best.macs // 10**6}m"))


class _Scaler:
    """Scaled copies of one network, each made and counted once."""

    def __init__(self, spec: ArchSpec, coefficients: Coefficients, divisor: int):
        self.spec = dataclasses.replace(spec, published=Published(), notes="")
        self.coefficients, self.divisor = coefficients, divisor
        self._made: dict[tuple[float, float, int], CompoundScaled | None] = {}

    def make(self, phi: float, deeper: float = 0.0, px: int = 0) -> CompoundScaled | None:
        """The copy for one phi; None where it is no network.

        Args:
            deeper: added to the depth's phi.
            px: added to the resolution.
        """
        key = (phi, deeper, px)
        if key not in self._made:
            self._made[key] = self._make(phi, deeper, px)
        return self._made[key]

    def _make(self, phi: float, deeper: float, px: int) -> CompoundScaled | None:
        width, depth, size = self.coefficients
        resolution = max(STEP, round(self.spec.resolution * size**phi / STEP) * STEP + px)
        if phi == 0 and px == 0:
            resolution = self.spec.resolution
        try:
            wide = scale_width(self.spec, width**phi, self.divisor, scale_head=False)
            deep = scale_depth(wide, depth ** (phi + deeper))
            arch = dataclasses.replace(deep, resolution=resolution)
            return CompoundScaled(arch, phi, arch.cost().macs)
        except ArchError:
            return None

    def crossing(self, target: float) -> float:
        """A phi below which there is a network of at most ``target`` MACs, and above which there is one of more."""
        low, high = -MAX_PHI, MAX_PHI
        for _ in range(30):
            middle = (low + high) / 2
            made = self.make(middle)
            macs = made.macs if made else (0 if middle < 0 else math.inf)
            low, high = (middle, high) if macs <= target else (low, middle)
        return low

    def best(self, tries: Iterable[tuple[float, float, int]], target: float) -> CompoundScaled | None:
        """The most MACs up to the target; of equal ones the first."""
        made = [self.make(*one) for one in tries]
        fitting = [one for one in made if one is not None and one.macs <= target]
        return max(fitting, key=lambda one: one.macs, default=None)

    def first(self, tries: Iterable[tuple[float, float, int]], low: float, high: float) -> CompoundScaled | None:
        """The first with ``low`` to ``high`` MACs."""
        made = (self.make(*one) for one in tries)
        return next((one for one in made if one is not None and low <= one.macs <= high), None)

    def nearest(self, target: float) -> int:
        """The MACs nearest to the target among all copies so far."""
        return min((one.macs for one in self._made.values() if one), key=lambda macs: abs(macs - target))
