"""Latency tables from matrices of layers by candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arch import SearchSpace
from ..arch.spec import Resolution
from .errors import LatencyError
from .layerwise import Layerwise, layerwise
from .operators import Operator
from .setting import Setting
from .table import Entry, LatencyTable

US_PER = {"s": 1e6, "ms": 1e3, "us": 1.0}


def import_matrix(
    us: np.ndarray,
    space: SearchSpace,
    setting: Setting,
    *,
    resolution: Resolution | None = None,
    spread_us: np.ndarray | None = None,
    runs: np.ndarray | None = None,
    constant_us: float = 0.0,
    notes: str = "",
    check_skips: bool = False,
) -> LatencyTable:
    """A table of the operators behind a matrix of layers by candidates.

    An operator that stands in several layers gets the mean of its values, and their interquartile range as spread.
    One without a value is not in the table. What no choice changes (stem, head, classifier) is not in such a matrix
    either; it is entered as part of the constant, so that architectures of the space can be looked up.

    Args:
        us: µs of candidate i in layer l, shape (layers, most candidates), NaN where there is no value.
        space: layer-wise, such as "fbnet"; names the layers and the candidates.
        setting: what the numbers hold for.
        resolution: image px; default: that of the space.
        spread_us: interquartile ranges, µs, in the shape of ``us``, NaN where unknown.
        runs: timed runs, in the shape of ``us``, 0 where unknown.
        constant_us: what a network costs besides its searched layers, µs.
        notes: where the numbers come from.
        check_skips: leave out what cannot have been measured: skip is a convolution in a layer that changes the shape
            and nothing in others; where both have the same value, somebody filled a gap with it.

    Raises:
        LatencyError: another shape, or a value that is no time.
        ArchError: the space is not layer-wise.
    """
    layers = layerwise(space, resolution)
    us = np.array(us, dtype=np.float64)
    shape = len(layers.variables), max(map(len, layers.candidates), default=0)
    if us.shape != shape:
        got, expected = (" x ".join(map(str, sides)) for sides in (us.shape, shape))
        raise LatencyError(f"a matrix of {got}, expected {expected}, the layers and candidates of {space.name}")
    filled = _filled_skips(us, layers) if check_skips else []
    for cell in filled:
        us[cell] = np.nan
    samples = _samples(us, layers)
    if not math.isfinite(constant_us) or constant_us < 0:
        raise LatencyError(f"the constant: got {constant_us} µs, expected a number of at least 0")
    entries = {operator: _entry(us, cells, spread_us, runs) for operator, cells in samples.items()}
    absent = len(set(layers.searched()) - set(entries))
    for operator in layers.fixed:
        entries.setdefault(operator, Entry(0.0, in_constant=True))
    told = [notes] if notes else []
    if filled:
        numbers = ", ".join(str(layer + 1) for layer, _ in filled)
        told.append(f"Skip in layers {numbers} was filled in from other layers and is left out.")
    told += [f"{absent} operators of {space.name} have no value."] if absent else []
    told.append(f"Stem, head and classifier were not measured; constant_us stands for them: {constant_us:g} µs.")
    return LatencyTable(setting, entries, constant_us=float(constant_us), notes=" ".join(told))


def _filled_skips(us: np.ndarray, layers: Layerwise) -> list[tuple[int, int]]:
    """Cells of skip operators with a time that a convolution and an identity are said to share to the last digit."""
    cells: dict[float, list[tuple[int, int, bool]]] = {}
    for layer, candidates in enumerate(layers.candidates):
        for choice, operators in enumerate(candidates):
            if len(operators) == 1 and operators[0].op == "skip" and us[layer, choice] > 0:
                cells.setdefault(us[layer, choice], []).append((layer, choice, operators[0].is_identity))
    groups = [group for group in cells.values() if len({identity for *_, identity in group}) == 2]
    return sorted((layer, choice) for group in groups for layer, choice, _ in group)


def _samples(us: np.ndarray, layers: Layerwise) -> dict[Operator, list[tuple[int, int]]]:
    """The cells of the matrix that hold each operator's values; checks the values."""
    found: dict[Operator, list[tuple[int, int]]] = {}
    for layer, choice in np.argwhere(~np.isnan(us)).tolist():
        where, value = f"{layers.variables[layer]}, candidate {choice}", us[layer, choice]
        candidates = layers.candidates[layer]
        if choice >= len(candidates):
            raise LatencyError(f"{where}: got {value:g} µs, expected none, as this layer has {len(candidates)}")
        if not np.isfinite(value) or value <= 0:
            raise LatencyError(
                f"{where}: got {value:g} µs, expected a number above 0; nothing runs in no time (leave out what was "
                "not measured), and this table holds times, not energies"
            )
        if len(candidates[choice]) != 1:
            raise LatencyError(f"{where}: runs {len(candidates[choice])} operators, expected one per candidate")
        found.setdefault(candidates[choice][0], []).append((layer, choice))
    if not found:
        raise LatencyError("no value at all, expected at least one candidate's latency")
    return found


def _entry(us: np.ndarray, cells: Sequence[tuple[int, int]], spread_us: Any, runs: Any) -> Entry:
    values = [float(us[cell]) for cell in cells]
    spread: float | None = None
    if len(values) > 1:
        low, high = np.percentile(values, [25, 75])
        spread = float(high - low)
    elif spread_us is not None and math.isfinite(spread_us[cells[0]]):
        spread = float(spread_us[cells[0]])
    total = 0 if runs is None else sum(int(runs[cell]) for cell in cells)
    return Entry(math.fsum(values) / len(values), spread, total)
