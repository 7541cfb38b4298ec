"""Several devices side by side: operator by operator (FBNet Figure 5) and network by network (Table 5)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arch import ArchSpec
from ..arch.spec import Resolution
from .errors import LatencyError
from .operators import Operator
from .report import columns
from .table import LatencyTable


class ComparedOperator(NamedTuple):
    """One operator on several devices.

    Attributes:
        operator: what was measured.
        us: µs per table.
        relative: µs per table, divided by those of the first table and by the median of this ratio over all
            operators; the first is 1. Below 1, the operator suits the device better than other operators do.
    """

    operator: Operator
    us: tuple[float, ...]
    relative: tuple[float, ...]

    @property
    def favours(self) -> int:
        """The table that this operator suits best."""
        return int(np.argmin(self.relative))

    @property
    def disagreement(self) -> float:
        """How many times better than the worst, at least 1."""
        return max(self.relative) / min(self.relative)


@dataclass(frozen=True)
class Comparison:
    """Operators that several tables have in common.

    Attributes:
        names: of the tables.
        median_ratio: per table, the median over the operators of its µs to those of the first table.
        rows: the operators, those first that the devices see most differently.
        left_out: common operators that compute nothing, or have no µs above 0 in every table (parts of a constant,
            fitted differences).
    """

    names: tuple[str, ...]
    median_ratio: tuple[float, ...]
    rows: tuple[ComparedOperator, ...]
    left_out: int = 0

    def grouped(self, top: int) -> list[ComparedOperator]:
        """At most ``top`` rows as Figure 5 has them: those that suit the first device, ..., those that suit the last.

        Each device gets an equal share, of the clearest cases; the clearest of the last device comes last.
        """
        share = max(1, top // len(self.names))
        groups = [[row for row in self.rows if row.favours == place][:share] for place in range(len(self.names))]
        groups[-1].reverse()
        return [row for group in groups for row in group]

    def to_text(self, top: int | None = None, markdown: bool = False) -> str:
        """A row per operator: µs per table, ratios to the first table, and which device the operator suits."""
        first, *others = self.names
        header = ["operator", *(f"{name} (µs)" for name in self.names), *(f"{name} / {first}" for name in others)]
        rows = []
        for row in self.rows[:top]:
            ratios = [f"{us / row.us[0]:.2f}" for us in row.us[1:]]
            suits = f"{self.names[row.favours]}, {row.disagreement:.2f}x"
            rows.append([str(row.operator), *(f"{us:,.1f}" for us in row.us), *ratios, suits])
        shown = "" if top is None or top >= len(self.rows) else f"; the {top} that differ most are shown"
        medians = ", ".join(f"{name} / {first} {ratio:.2f}" for name, ratio in zip(others, self.median_ratio[1:]))
        note = f"{len(self.rows)} common operators{shown}. Median ratio: {medians}. The last column is relative to it."
        if self.left_out:
            note += f" {self.left_out} more compute nothing, or have no time of their own in one of the tables."
        return columns([*header, "suits"], rows, markdown=markdown) + "\n\n" + note


def compare_tables(tables: Sequence[LatencyTable], ops: Collection[str] = ()) -> Comparison:
    """The operators that all tables have, sorted by how differently the devices see them.

    A device that is faster throughout is not what is looked for, so ratios are taken relative to their median.

    Args:
        tables: two or more.
        ops: kinds of operators to keep, such as "mb"; default: all.

    Raises:
        LatencyError: fewer than two tables, or no common operator.
    """
    if len(tables) < 2:
        raise LatencyError(f"{len(tables)} table to compare, expected two or more")
    names = table_names(tables)
    common = [
        operator
        for operator in tables[0].entries
        if all(operator in table.entries for table in tables[1:]) and (not ops or operator.op in ops)
    ]
    us = np.array([[table.entries[operator].us for table in tables] for operator in common]).reshape(-1, len(tables))
    own = [
        not operator.is_identity and not any(table.entries[operator].in_constant for table in tables)
        for operator in common
    ]
    kept = np.array(own, dtype=bool) & (us > 0).all(axis=1)
    if not kept.any():
        held = ", ".join(f"{name}: {len(table.entries)}" for name, table in zip(names, tables))
        raise LatencyError(
            f"no operator{' of ' + ', '.join(ops) if ops else ''} with a time in every table (operators in {held}); "
            "expected tables of the same layers at the same resolution"
        )
    ratio = us[kept] / us[kept][:, :1]
    median = np.median(ratio, axis=0)
    operators = [operator for operator, keep in zip(common, kept) if keep]
    rows = [
        ComparedOperator(operator, tuple(map(float, times)), tuple(map(float, relative)))
        for operator, times, relative in zip(operators, us[kept], ratio / median)
    ]
    rows.sort(key=lambda row: -row.disagreement)
    return Comparison(names, tuple(map(float, median)), tuple(rows), int((~kept).sum()))


def table_names(tables: Sequence[LatencyTable]) -> tuple[str, ...]:
    """The shortest names that tell tables apart: processors, with runtimes, whole settings, or files."""
    forms: list[Callable[[LatencyTable], str]] = [
        lambda table: table.setting.processor,
        lambda table: f"{table.setting.processor} {table.setting.runtime}",
        lambda table: str(table.setting),
        lambda table: os.path.basename(table.file),
    ]
    for form in forms:
        names = tuple(map(form, tables))
        if len(set(names)) == len(tables) and all(names):
            return names
    return tuple(f"{number}: {table.name}" for number, table in enumerate(tables, 1))


class CrossRow(NamedTuple):
    """One architecture on several devices: its counts for one image, and µs per table."""

    arch: str
    params: int
    macs: int
    us: tuple[float, ...]


@dataclass(frozen=True)
class CrossDevice:
    """Architectures by devices, FBNet Table 5.

    Attributes:
        names: of the tables.
        rows: the architectures, in the order given.
    """

    names: tuple[str, ...]
    rows: tuple[CrossRow, ...]

    @property
    def fastest(self) -> tuple[int, ...]:
        """Per table, the row with the lowest latency."""
        return tuple(int(place) for place in np.argmin([row.us for row in self.rows], axis=0))

    def to_text(self, markdown: bool = False) -> str:
        """A row per architecture, latencies in ms; the fastest on each device is marked with * or in bold."""
        header = ["architecture", "params (M)", "MACs (M)", *(f"{name} (ms)" for name in self.names)]
        left, right = ("**", "**") if markdown else ("*", "")
        rows = []
        for place, row in enumerate(self.rows):
            cells = [row.arch, f"{row.params / 1e6:.2f}", f"{row.macs / 1e6:.1f}"]
            for us, fastest in zip(row.us, self.fastest):
                digits = max(0, 2 - math.floor(math.log10(us / 1e3))) if us > 0 else 2
                text = f"{us / 1e3:,.{digits}f}"
                cells.append(f"{left}{text}{right}" if place == fastest else text)
            rows.append(cells)
        return columns(header, rows, markdown=markdown)


def cross_device(
    tables: Sequence[LatencyTable],
    archs: Sequence[ArchSpec],
    resolution: Resolution | None = None,
    names: Sequence[str] = (),
) -> CrossDevice:
    """Every architecture's latency on every device.

    Args:
        tables: one per device.
        archs: all of them are looked up in every table.
        resolution: image px; default: each architecture's own.
        names: what the rows are called; default: the architectures' names.

    Raises:
        LatencyError: no table or architecture, or an operator that a table lacks.
        ArchError: an architecture does not fit the resolution.
    """
    if not tables or not archs:
        raise LatencyError(f"{len(tables)} tables and {len(archs)} architectures, expected at least one of each")
    us = np.stack([table.latencies(archs, resolution) for table in tables], axis=1)
    rows = []
    for arch, name, times in zip(archs, names or [arch.name for arch in archs], us):
        cost = arch.cost(resolution)
        rows.append(CrossRow(name, int(cost.params), int(cost.macs), tuple(map(float, times))))
    return CrossDevice(table_names(tables), tuple(rows))
