"""Tables, look-ups and matrices as text for a terminal, and as plain data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tabulate import tabulate

from .fit_score import FitScore
from .table import Latency, LatencyMatrix, LatencyTable


def columns(header: list[str], rows: list[list[str]], left: int = 1, markdown: bool = False) -> str:
    """Rows of cells under a header, the first ``left`` columns aligned to the left, the others to the right."""
    align = ["left"] * left + ["right"] * (len(header) - left)
    return tabulate(
        rows, header, tablefmt="pipe" if markdown else "simple", disable_numparse=True, colalign=align if rows else None
    )


def table_text(table: LatencyTable, slowest: int = 10) -> str:
    """What a table is for and what it holds, with its slowest operators."""
    told = [(key, value) for key, value in table.setting.to_dict().items() if value not in (None, {})]
    told += [("date", table.date), ("notes", table.notes)]
    lines = [f"{key:13} {value}" for key, value in told if value != ""]
    entries = sorted(table.entries.items(), key=lambda item: -item[1].us)
    constant = sum(entry.in_constant for entry in table.entries.values())
    us = [entry.us for entry in table.entries.values()]
    count = f"{len(entries)}, {constant} of them in the constant"
    lines.append(f"{'operators':13} {count}; together {math.fsum(us):,.1f} µs")
    lines.append(f"{'constant_us':13} {table.constant_us:,.1f}")
    rows = [[str(operator), f"{entry.us:,.1f}", "" if entry.spread_us is None else f"{entry.spread_us:,.1f}",
             str(entry.runs or "")] for operator, entry in entries[:slowest]]  # fmt: skip
    return "\n".join([*lines, "", columns(["slowest operators", "µs", "spread µs", "runs"], rows)])


def latency_text(name: str, latency: Latency, layers: bool = False) -> str:
    """One architecture's total and, if wanted, its layers in order of execution."""
    total = f"{name}: {latency.total_us:,.1f} µs, of which the constant {latency.constant_us:,.1f} µs"
    if not layers:
        return total
    rows = [[layer.place, str(layer.operator), "in constant" if layer.entry.in_constant else f"{layer.entry.us:,.1f}",
             f"{layer.entry.us / (latency.total_us or 1):.1%}"] for layer in latency.layers]  # fmt: skip
    return "\n".join([total, columns(["layer", "operator", "µs", "share"], rows, left=2)])


def latency_data(name: str, latency: Latency) -> dict[str, Any]:
    """The same as JSON can hold it; all in µs."""
    layers = [
        {"place": layer.place, **layer.operator.to_dict(), "us": layer.entry.us, "in_constant": layer.entry.in_constant}
        for layer in latency.layers
    ]
    return {"arch": name, "total_us": latency.total_us, "constant_us": latency.constant_us, "layers": layers}


def matrix_text(matrix: LatencyMatrix) -> str:
    """A row per layer, a column per candidate, µs."""
    header = ["layer", *map(str, range(matrix.us.shape[1]))]
    rows = [
        [name, *("" if np.isnan(value) else f"{value:,.1f}" for value in row)]
        for name, row in zip(matrix.variables, matrix.us)
    ]
    fixed = f"µs per layer and candidate; a network also takes {matrix.fixed_us:,.1f} µs that no choice changes"
    return "\n".join([fixed, columns(header, rows)])


def matrix_data(matrix: LatencyMatrix) -> dict[str, Any]:
    """The same as JSON can hold it, null where a layer has no such candidate."""
    us = [[None if np.isnan(value) else float(value) for value in row] for row in matrix.us]
    return {"variables": list(matrix.variables), "us": us, "fixed_us": matrix.fixed_us}


def score_text(score: FitScore) -> str:
    """Predictions against measured networks, in one line."""
    return (
        f"R2 {score.r2:.4f}, Spearman {score.spearman:.4f}, mean error {score.mape:.1f}%, "
        f"rms error {score.rmse_us:,.1f} µs, {score.networks} networks"
    )
