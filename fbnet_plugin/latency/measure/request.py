"""From what a user names (spaces, architectures) to a finished table."""

from __future__ import annotations

import datetime
import functools
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from ...arch import ArchSpec, SearchSpace
from ...arch.spec import Resolution
from ..coverage import covering_networks, space_operators
from ..errors import LatencyError
from ..operators import Operator, arch_operators
from ..table import LatencyTable
from ..table_file import load_table, save_table
from .campaign import Campaign, Schedule, journal_of
from .options import Options, environment

TIMES = 3  # networks that contain an operator of a space


@dataclass(frozen=True)
class Request:
    """What is to be in a table.

    Attributes:
        spaces: all operators of all their networks.
        archs: single networks.
        resolution: image px for all of them; None: each its own.
        fixed: variable -> value or values, restricting the spaces; see ``SearchSpace.restrict``.
        times: networks of a space that each operator is measured in.
        seed: of the choice of networks.
    """

    spaces: Sequence[SearchSpace] = ()
    archs: Sequence[ArchSpec] = ()
    resolution: "Resolution | None" = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    times: int = TIMES
    seed: int = 0

    @functools.cached_property
    def _of_spaces(self) -> List[List[Operator]]:
        """The operators of each space; those of FBNetV3's take seconds to list."""
        return [space_operators(space, self.resolution, self.fixed) for space in self.spaces]

    def operators(self) -> List[Operator]:
        """All distinct operators, in order.

        Raises:
            ArchError: a network does not fit the resolution, or ``fixed`` does not fit the space.
            LatencyError: nothing is asked for.
        """
        found: Dict[Operator, None] = {}
        for operators in self._of_spaces:
            found.update(dict.fromkeys(operators))
        for arch in self.archs:
            found.update(dict.fromkeys(operator for _, operator in arch_operators(arch, self.resolution)))
        if not found:
            raise LatencyError("nothing to measure: name a space (--space) or architectures (--arch)")
        return list(found)

    def networks(self, wanted: Sequence[Operator]) -> List[ArchSpec]:
        """Networks that contain all of ``wanted`` between them."""
        left = set(wanted)
        chosen: List[ArchSpec] = []
        for space, operators in zip(self.spaces, self._of_spaces):
            mine = [one for one in operators if one in left]
            chosen += covering_networks(space, mine, self.times, self.seed, self.resolution, self.fixed)
            left -= set(mine)
        for arch in self.archs:
            inside = {operator for _, operator in arch_operators(arch, self.resolution)}
            if inside & left:
                chosen.append(arch)
        return chosen

    def random_networks(self, count: int) -> List[ArchSpec]:
        """``count`` networks drawn from the spaces in turn, uniformly; without a space the architectures named."""
        if not self.spaces:
            return list(self.archs)[:count]
        rng = np.random.default_rng([self.seed, 1])  # not the generator of the networks that were measured
        spaces = [space.restrict(self.fixed) for space in self.spaces]
        return [spaces[turn % len(spaces)].arch(spaces[turn % len(spaces)].sample(1, rng)[0]) for turn in range(count)]


def open_table(path: str, options: Options) -> LatencyTable:
    """The table at ``path``, or an empty one where there is none.

    Raises:
        LatencyError: the file is not a table, or holds another setting than that of ``options`` on this machine.
    """
    setting = options.setting()
    if not path or not os.path.exists(path):
        return LatencyTable(setting, {}, file=path)
    table = load_table(path)
    try:
        table.setting.require(setting, path, "this run")
    except LatencyError as error:
        raise LatencyError(f"{error}; give another --output") from None
    return table


def measure(
    request: Request, table: LatencyTable, options: Options, schedule: Schedule, progress: bool = True
) -> Tuple[LatencyTable, "Campaign | None"]:
    """Adds to a table what it lacks, and writes it to ``table.file`` ("" keeps it in memory).

    Interrupted at any moment, the same call goes on where it was; see ``Campaign``.

    Returns:
        the table, and the campaign that was run, None where nothing was missing.

    Raises:
        LatencyError, ArchError: see ``Request`` and ``Campaign``.
    """
    missing = table.missing(request.operators())
    if not missing:
        return table, None
    archs = request.networks(missing)
    campaign = Campaign(
        archs, missing, options, schedule, resolution=request.resolution, journal=journal_of(table.file)
    )
    campaign.run(progress)
    usual = table.environment.get("reference_us") if table.entries else None
    table.entries.update(campaign.entries(usual))
    table.environment = {**environment(), "reference_us": round(usual or campaign.reference_us(), 2)}
    table.date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    if table.file:
        save_table(table, table.file)
    campaign.journal.remove()
    return table, campaign
