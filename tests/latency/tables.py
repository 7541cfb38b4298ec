"""Tables of made-up latencies."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from fbnet_plugin.latency import Entry, LatencyTable, Operator, Setting

SETTING = Setting("cpu", "Ryzen 5", "eager", 2, 1, "float32", False, {"torch": "2.1.0"})


def us_of(operator: Operator) -> float:
    """Another number for every operator, 0 to 1000 µs, the same in every run."""
    return zlib.crc32(str(operator).encode()) % 1_000_000 / 1000


def table_of(operators: Iterable[Operator], **fields: Any) -> LatencyTable:
    """A table with ``us_of`` each operator."""
    entries = {operator: Entry(us_of(operator), spread_us=0.5, runs=20) for operator in operators}
    return LatencyTable(**{"setting": SETTING, "entries": entries, **fields})
