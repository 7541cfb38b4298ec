"""``LatencyTable``: from architectures to microseconds, by adding up measured operators (FBNet eq. 3)."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..arch import ArchSpec, BlockSpec, SearchSpace, Shape, list_archs, list_spaces
from ..arch.spec import Resolution, image_size
from .errors import LatencyError
from .layerwise import layerwise
from .operators import Operator, arch_operators, classifier_of, operator_of
from .setting import Setting

SHOWN = 8  # missing operators that an error spells out


class Entry(NamedTuple):
    """One measured operator.

    Attributes:
        us: median latency, µs. In a fitted table it is a difference (see ``LatencyTable.constant_us``)
            and may be negative.
        spread_us: interquartile range of the repeated measurements, µs; of a fitted entry its standard
            error; None where nobody recorded it.
        runs: timed runs behind ``us``; 0 where nobody recorded them.
        in_constant: the entry is part of ``constant_us``, and ``us`` is 0 for that reason.
    """

    us: float
    spread_us: float | None = None
    runs: int = 0
    in_constant: bool = False


class LayerLatency(NamedTuple):
    """One layer of a breakdown: its place such as ``stages[1].0``, operator and entry."""

    place: str
    operator: Operator
    entry: Entry


class Latency(NamedTuple):
    """An architecture's latency: total, the constant part of it, and layer by layer, all in µs."""

    total_us: float
    constant_us: float
    layers: tuple[LayerLatency, ...]


class LatencyMatrix(NamedTuple):
    """The coefficients of FBNet eq. 9: LAT = fixed_us + sum over l, i of m[l, i] * us[l, i].

    Attributes:
        us: µs of candidate i in layer l, shape (layers, most candidates); NaN beyond a layer's candidates.
        fixed_us: what no choice changes: stem, head and the table's constant.
        variables: the layers' names, in the order of the space.
    """

    us: np.ndarray
    fixed_us: float
    variables: tuple[str, ...]

    def reach_us(self) -> tuple[float, float]:
        """Latency of the fastest and of the slowest network, µs."""
        return tuple(float(best(self.us, 1).sum()) + self.fixed_us for best in (np.nanmin, np.nanmax))  # type: ignore


@dataclass
class LatencyTable:
    """Operators with their latencies under one setting.

    Attributes:
        setting: what the numbers hold for.
        entries: operator -> measurement.
        constant_us: added once per network. 0 in a measured table; in a fitted one all that whole-network
            times cannot tell apart (stem, head, overhead, one candidate of each layer).
        date: of the measurement, ISO 8601.
        environment: further facts about machine and software, for the reader.
        notes: free text.
        file: where it was loaded from, for messages.
    """

    setting: Setting
    entries: dict[Operator, Entry]
    constant_us: float = 0.0
    date: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    file: str = ""

    @property
    def name(self) -> str:
        """What messages call the table."""
        return self.file or f"the table of {self.setting.processor}"

    def digest(self) -> str:
        """SHA-256 over setting, constant and all entries, as hex digits; the order of rows does not matter."""
        rows = sorted((str(operator), round(entry.us, 4)) for operator, entry in self.entries.items())
        text = json.dumps([self.setting.to_dict(), self.constant_us, rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def missing(self, operators: Iterable[Operator]) -> list[Operator]:
        """Those that the table does not have, each once, in order."""
        return [operator for operator in dict.fromkeys(operators) if operator not in self.entries]

    def require(self, operators: Iterable[Operator], source: str) -> None:
        """Refuses to guess.

        Args:
            operators: what is needed.
            source: the options of ``tools/benchmark_latency.py`` that cover them, such as ``--space fbnet``.

        Raises:
            LatencyError: some are missing; lists them and the command that measures them.
        """
        missing = self.missing(operators)
        if not missing:
            return
        lines = [f"  {operator}" for operator in missing[:SHOWN]]
        lines += [f"  and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
        measured = self.setting.method in ("network", "isolated")
        where = "measure them with" if measured else "on that device, measure a table that has them with"
        file = self.file if measured and self.file else "TABLE.json"
        words = ["python tools/benchmark_latency.py", source, self.setting.flags(), f"--output {shlex.quote(file)}"]
        command = " ".join(filter(None, words))
        head = f"{self.name} lacks {len(missing)} operator{'s' * (len(missing) != 1)}:"
        raise LatencyError("\n".join([head, *lines, f"{where}:", f"  {command}"]))

    def latency(self, arch: ArchSpec, resolution: Resolution | None = None) -> Latency:
        """One architecture, layer by layer (FBNet eq. 3).

        Args:
            arch: stages and head are counted, a per-RoI box head is not.
            resolution: image px, one side or (height, width); default: the architecture's own.

        Raises:
            LatencyError: an operator is not in the table.
            ArchError: the architecture does not fit the resolution.
        """
        places = list(arch_operators(arch, resolution))
        missing = self.missing(operator for _, operator in places)
        if missing:
            self.require(missing, source_of([arch], resolution))
        layers = tuple(LayerLatency(place, operator, self.entries[operator]) for place, operator in places)
        total = self.constant_us + math.fsum(layer.entry.us for layer in layers)
        return Latency(total, self.constant_us, layers)

    def latencies(self, archs: Sequence[ArchSpec], resolution: Resolution | None = None) -> np.ndarray:
        """Total µs of many architectures, float64 of shape (n,); equal to ``latency(arch).total_us`` of each.

        Raises: as ``latency``, for all architectures together.
        """
        lookup = RowLookup(self)
        totals = np.array([lookup.total(arch, resolution) for arch in archs], dtype=np.float64)
        if lookup.missing:
            lacking = [arch for arch, total in zip(archs, totals) if math.isnan(total)]
            self.require(lookup.missing, source_of(lacking, resolution))
        return totals + self.constant_us

    def matrix(self, space: SearchSpace, resolution: Resolution | None = None) -> LatencyMatrix:
        """Latency per layer and candidate of a layer-wise space, what a supernet's latency term needs (eq. 9).

        Args:
            space: each variable changes layers of its own, and no shape between layers.
            resolution: image px; default: that of the space.

        Raises:
            LatencyError: an operator is not in the table.
            ArchError: the space is not layer-wise.
        """
        layers = layerwise(space, resolution)
        name = _name_or_file(space.name, list_spaces())
        self.require(layers.operators(), f"--space {name}{_resolution_flag(resolution)}")
        width = max((len(candidates) for candidates in layers.candidates), default=0)
        us = np.full((len(layers.variables), width), np.nan)
        for place, candidates in enumerate(layers.candidates):
            for choice, operators in enumerate(candidates):
                us[place, choice] = math.fsum(self.entries[operator].us for operator in operators)
        fixed = self.constant_us + math.fsum(self.entries[operator].us for operator in layers.fixed)
        return LatencyMatrix(us, fixed, layers.variables)


def source_of(archs: Sequence[ArchSpec], resolution: Resolution | None) -> str:
    """The options of ``tools/benchmark_latency.py`` that cover architectures; those made from a space bear its name."""
    names = sorted({arch.name for arch in archs})
    spaces, zoo = list_spaces(), list_archs()
    words = [f"--space {name}" for name in names if name in spaces]
    files = [_name_or_file(name, zoo) for name in names if name not in spaces]
    words += [f"--arch {' '.join(files)}"] if files else []
    own = {arch.resolution for arch in archs}
    if resolution is None and len(own) == 1 and len(files) < len(names):
        (resolution,) = own  # a space may have others as well
    return " ".join(words) + _resolution_flag(resolution)


def _name_or_file(name: str, known: Sequence[str]) -> str:
    """A known name, or the file that an unknown one presumably stands in, as a shell word."""
    return name if name in known else shlex.quote(f"{name}.yaml")


def _resolution_flag(resolution: Resolution | None) -> str:
    if resolution is None:
        return ""
    return " --resolution " + " ".join(map(str, dict.fromkeys(image_size(resolution))))


class RowLookup:
    """Sums over many architectures that share most of their rows.

    A row's µs depend on the row and its input shape alone, so each such pair is worked out once. Spaces hand out
    the same object for the same row; the first, faster memory goes by that.
    """

    def __init__(self, table: LatencyTable):
        self._table = table
        self._by_object: dict[tuple[int, Shape], tuple[float, Shape]] = {}
        self._by_value: dict[tuple[BlockSpec, Shape], tuple[float, Shape]] = {}
        self._classifiers: dict[tuple[int, Shape], float] = {}
        self._kept: list[BlockSpec] = []  # an object that is gone could give its id to another
        self.missing: list[Operator] = []

    def total(self, arch: ArchSpec, resolution: Resolution | None) -> float:
        """Sum in µs without the constant; NaN if an operator is missing, which ``missing`` then holds."""
        shape = Shape(arch.in_channels, *image_size(arch.resolution if resolution is None else resolution))
        parts = []
        for stage in arch.stages:
            for row in stage.blocks:
                us, shape = self.row(row, shape)
                parts.append(us)
        if arch.head is not None:
            for row in arch.head.blocks:
                us, shape = self.row(row, shape)
                parts.append(us)
            parts.append(self.classifier(arch.head.num_classes, shape))
        return math.fsum(parts)

    def row(self, row: BlockSpec, shape: Shape) -> tuple[float, Shape]:
        """µs of all copies of a row on an input of ``shape``, and its output; NaN as for ``total``."""
        return self._by_object.get((id(row), shape)) or self._new_row(row, shape)

    def _new_row(self, row: BlockSpec, shape: Shape) -> tuple[float, Shape]:
        found = self._by_value.get((row, shape))
        if found is None:
            if row.repeat == 1:
                found = self._entry(operator_of(row, shape)), row.count(shape)[1]
            else:
                copies, parts, after = row.copies(), [], shape
                for block in copies:
                    us, after = self.row(block, after)
                    parts.append(us)
                found = math.fsum(parts), after
            self._by_value[row, shape] = found
        self._by_object[id(row), shape] = found
        self._kept.append(row)
        return found

    def classifier(self, num_classes: int, shape: Shape) -> float:
        """µs of the classifier on an input of ``shape``; NaN as for ``total``."""
        key = (num_classes, shape)
        if key not in self._classifiers:
            self._classifiers[key] = self._entry(classifier_of(num_classes, shape))
        return self._classifiers[key]

    def _entry(self, operator: Operator) -> float:
        entry = self._table.entries.get(operator)
        if entry is None:
            self.missing.append(operator)
            return math.nan
        return entry.us
