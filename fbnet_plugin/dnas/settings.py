"""From config keys to the parts of a search."""

from __future__ import annotations

from typing import Optional

from detectron2.config import CfgNode
from torch import nn

from fbnet_plugin.arch import SearchSpace
from fbnet_plugin.latency import LatencyTable, load_table
from fbnet_plugin.latency.table import LatencyMatrix

from .data import SearchData
from .errors import SearchError
from .loss import LATENCY_LOSS_REGISTRY, TaskLoss
from .schedule import PHASES, SearchSchedule


def latency_table_from_config(cfg: CfgNode) -> Optional[LatencyTable]:
    """The table that ``LATENCY.TABLE`` names; None where the search is to know of no latency.

    Raises:
        LatencyError: the file cannot be used.
        SearchError: there is a target but no table.
    """
    if cfg.LATENCY.TABLE:
        return load_table(cfg.LATENCY.TABLE)
    if cfg.LATENCY.TARGET_US:
        raise SearchError("LATENCY.TARGET_US needs LATENCY.TABLE, a file of tools/benchmark_latency.py")
    return None


def latency_matrix_from_config(cfg: CfgNode, space: SearchSpace) -> Optional[LatencyMatrix]:
    """Coefficients of eq. 9 for the space at its resolution.

    Raises:
        LatencyError: the table lacks operators; the message has the command that measures them.
        SearchError: see ``latency_table_from_config``; or latencies of which eq. 2 has no logarithm.
    """
    table = latency_table_from_config(cfg)
    if table is None:
        return None
    matrix = table.matrix(space)
    smallest, _ = matrix.reach_us()
    if smallest <= 1.0 and not cfg.LATENCY.TARGET_US:
        raise SearchError(f"{table.name}: the fastest network takes {smallest:.3g} µs; eq. 2 needs more than 1 µs")
    return matrix


def latency_loss_from_config(cfg: CfgNode) -> nn.Module:
    """``LATENCY.LOSS``; the task's loss alone without a table, and with a target, which is a constraint instead.

    Raises:
        SearchError: no such loss is registered.
    """
    if not cfg.LATENCY.TABLE or cfg.LATENCY.TARGET_US:
        return TaskLoss()
    known = sorted(name for name, _ in LATENCY_LOSS_REGISTRY)
    if cfg.LATENCY.LOSS not in known:
        raise SearchError(f"LATENCY.LOSS is {cfg.LATENCY.LOSS!r}, expected one of {', '.join(known)}")
    return LATENCY_LOSS_REGISTRY.get(cfg.LATENCY.LOSS)(cfg)


def schedule_from_config(cfg: CfgNode, data: SearchData) -> SearchSchedule:
    """The search's schedule: ``DNAS``, and as many steps per epoch as the two parts of the data have whole batches.

    Raises:
        SearchError: a part has less than one batch, or a value makes no schedule.
    """
    batch, keys = cfg.SOLVER.IMS_PER_BATCH, cfg.DNAS
    steps = [len(data.of(phase)) // batch for phase in PHASES]
    if not all(steps):
        raise SearchError(
            f"SOLVER.IMS_PER_BATCH is {batch}, but there are {len(data.weights)} images for the weights and "
            f"{len(data.theta)} for theta; expected at least a batch of each"
        )
    return SearchSchedule(
        epochs=keys.EPOCHS,
        weight_steps=steps[0],
        theta_steps=steps[1],
        theta_start=keys.THETA_START,
        temperature=keys.TEMPERATURE,
        decay=keys.TEMPERATURE_DECAY,
        temperature_min=keys.TEMPERATURE_MIN,
    )
