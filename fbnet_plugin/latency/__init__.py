"""Latency tables: operators measured, imported or fitted, and added up (FBNet section 3.2). No torch here.

Measuring lives in ``fbnet_plugin.latency.measure`` and needs torch.
"""

from .errors import LatencyError
from .operators import Operator, arch_operators, classifier_of, operator_of
from .setting import Setting
from .table import Entry, Latency, LatencyMatrix, LatencyTable, LayerLatency
from .table_file import load_table, save_table

__all__ = [
    "Entry", "Latency", "LatencyError", "LatencyMatrix", "LatencyTable", "LayerLatency", "Operator", "Setting",
    "arch_operators", "classifier_of", "load_table", "operator_of", "save_table",
]  # fmt: skip
