"""Costs of many points of a joint space: exact counts, and latencies by a table."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np

from fbnet_plugin.arch import Cost
from fbnet_plugin.arch.space_cost import space_cost
from fbnet_plugin.arch.spec import Resolution
from fbnet_plugin.latency import LatencyTable
from fbnet_plugin.latency.points import PointLatencies

from .space import JointSpace


class Costs:
    """Costs of points; recipes change none.

    Args:
        space: whose points are meant.
        table: with all its operators; None: there is no "latency_us".
        resolution: image px for all, one side or (height, width); default: each architecture's own.

    Attributes:
        metrics: "macs" and "params", and "latency_us" with a table.
    """

    def __init__(
        self, space: JointSpace, table: Optional[LatencyTable] = None, resolution: Optional[Resolution] = None
    ):
        self.space, self.resolution = space, resolution
        self._latencies = PointLatencies(table, space.arch_space, resolution) if table is not None else None
        self.metrics: Tuple[str, ...] = ("macs", "params") if table is None else ("macs", "params", "latency_us")

    def __call__(self, points: Any) -> Dict[str, np.ndarray]:
        """
        Args:
            points: choice indices, int, shape (n, len(space.variables)).

        Returns:
            metric -> float64, shape (n,): multiply-adds, learnable parameters, µs.

        Raises:
            ArchError: a point has no network, or it does not fit its resolution.
            LatencyError: operators are not in the table.
        """
        arch_points = np.asarray(points)[:, : self.space.num_arch]
        if not self.space.num_arch:  # one architecture for all
            arch_points = arch_points[:1]
        cost: Cost = space_cost(self.space.arch_space, arch_points, self.resolution)
        found = {"macs": cost.macs.astype(np.float64), "params": cost.params.astype(np.float64)}
        if self._latencies is not None:
            found["latency_us"] = self._latencies(arch_points)
        return {metric: np.broadcast_to(values, len(points)).copy() for metric, values in found.items()}
