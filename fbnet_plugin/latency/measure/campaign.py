"""Measuring operators: networks visited in turn, again and again, until the medians stand."""

from __future__ import annotations

import gc
import hashlib
from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from ...arch import ArchSpec
from ...arch.spec import Resolution
from ..errors import LatencyError
from ..operators import Operator, arch_operators
from ..table import Entry
from .journal import Journal, open_journal
from .network import Network, build_network, single_layers
from .options import Options
from .reference import Reference, quieter_half, usual
from .runners import make_runner

MIN_US = 5.0  # the spread of faster operators is the clock's
ISOLATED_SECONDS = 0.1


@dataclass(frozen=True)
class Schedule:
    """How often.

    Attributes:
        rounds: visits of every network, in a new random order each time.
        runs: timed inferences per visit; a visit's sample is their median.
        warmup: untimed inferences before.
        max_spread: operators with a larger interquartile range, relative to their median, are measured again.
        extra_rounds: how many times at most.
        seed: of the orders.
    """

    rounds: int = 3
    runs: int = 12
    warmup: int = 3
    max_spread: float = 0.15
    extra_rounds: int = 3
    seed: int = 0


class Campaign:
    """One measurement of a set of operators.

    Args:
        archs: networks that contain them.
        wanted: the operators; others in the networks are run, but not recorded.
        options: of the runtime; ``options.prepare_process()`` must have been called.
        schedule: how often.
        resolution: image px; default: each architecture's own.
        journal: path of the file that makes the measurement resumable; "" for none.

    Raises:
        LatencyError: no network contains some operator, or the journal belongs to another measurement.
    """

    def __init__(
        self,
        archs: Sequence[ArchSpec],
        wanted: Sequence[Operator],
        options: Options,
        schedule: "Schedule | None" = None,
        *,
        resolution: "Resolution | None" = None,
        journal: str = "",
    ):
        self.archs, self.options, self.schedule = list(archs), options, schedule or Schedule()
        self.resolution, self.operators = resolution, list(dict.fromkeys(wanted))
        self._place = {operator: place for place, operator in enumerate(self.operators)}
        self._contents = [self._wanted_in(arch) for arch in self.archs]
        found = set().union(*self._contents)
        if len(found) < len(self.operators):
            absent = next(operator for place, operator in enumerate(self.operators) if place not in found)
            raise LatencyError(f"none of the {len(self.archs)} networks contains {absent}")
        self.journal = open_journal(journal, options.setting(), self._request())

    def _wanted_in(self, arch: ArchSpec) -> "set[int]":
        places = (self._place.get(operator) for _, operator in arch_operators(arch, self.resolution))
        return {place for place in places if place is not None}

    def _request(self) -> str:
        text = repr((list(map(str, self.operators)), [repr(arch) for arch in self.archs], self.schedule))
        size = f"{len(self.operators)} operators in {len(self.archs)} networks"
        return f"{size} (request {hashlib.sha256(text.encode()).hexdigest()[:12]})"

    def run(self, progress: bool = True) -> None:
        """Visits all networks; interrupted, it leaves a journal from which the next call of its kind goes on."""
        journal = self.journal
        if not journal.plan:
            journal.plan = list(self._rounds())
        reference = Reference(self.options)
        collecting = gc.isenabled()
        gc.disable()
        gc.freeze()  # what is there already need not be looked through after each visit
        bar = tqdm(total=len(journal.plan), initial=journal.done, unit="network", disable=not progress)
        try:
            for _ in range(self.schedule.extra_rounds + 1):
                while journal.done < len(journal.plan):
                    self._visit(journal.plan[journal.done], reference)
                    gc.collect()
                    bar.update()
                again = self._again()
                if not again or self._extra_rounds_done() >= self.schedule.extra_rounds:
                    break
                journal.plan += [-1, *again]  # -1 separates rounds
                bar.total = len(journal.plan)
        finally:
            bar.close()
            gc.unfreeze()
            if collecting:
                gc.enable()
            journal.save()

    def _rounds(self) -> Iterator[int]:
        rng = np.random.default_rng(self.schedule.seed)
        for _ in range(self.schedule.rounds):
            yield from (int(index) for index in rng.permutation(len(self.archs)))

    def _extra_rounds_done(self) -> int:
        return self.journal.plan.count(-1)

    def _again(self) -> List[int]:
        """Networks that between them contain all operators with a large spread."""
        open_places = {self._place[operator] for operator in self.noisy()}
        chosen: List[int] = []
        while open_places:
            best = max(range(len(self.archs)), key=lambda index: len(self._contents[index] & open_places))
            open_places -= self._contents[best]
            chosen.append(best)
        return chosen

    def noisy(self) -> List[Operator]:
        """Operators whose samples spread too far."""
        limit = self.schedule.max_spread
        entries = self.entries(None)
        return [
            one for one, entry in entries.items() if entry.us > MIN_US and (entry.spread_us or 0) > limit * entry.us
        ]

    def _visit(self, index: int, reference: Reference) -> None:
        if index < 0:
            self.journal.add(self.journal.reference_us[-1], [])
            return
        measure = self._isolated if self.options.method == "isolated" else self._inside
        found, reference_us = reference.beside(lambda: measure(index))
        self.journal.add(reference_us, found)

    def _network(self, index: int) -> Network:
        return build_network(self.archs[index], self.options, self.resolution)

    def _inside(self, index: int) -> List[Tuple[int, float]]:
        """(operator, median µs) of each layer of a network as it runs as a whole."""
        network = self._network(index)
        times = make_runner(network, self.options).layer_times(self.schedule.runs, self.schedule.warmup)
        medians = np.median(times, axis=0)
        places = (self._place.get(operator) for operator in network.operators)
        return [(place, float(us)) for place, us in zip(places, medians) if place is not None]

    def _isolated(self, index: int) -> List[Tuple[int, float]]:
        """(operator, median µs) of each operator alone, in the first network that has it."""
        mine = self._contents[index].difference(*self._contents[:index])
        found = []
        for single in single_layers(self._network(index), self.options):
            place = self._place.get(single.operators[0])
            if place in mine:
                mine.discard(place)
                us, _ = make_runner(single, self.options).whole_time(ISOLATED_SECONDS, self.schedule.warmup)
                found.append((place, us))
        return found

    def reference_us(self) -> float:
        """The reference network's µs while measuring, when the machine was left alone."""
        return usual(self.journal.reference_us)

    def drift(self) -> Tuple[float, float]:
        """5th and 95th percentile of how slow the machine was, against its usual speed while measuring."""
        low, high = np.percentile(self.journal.reference_us, [5, 95]) / self.reference_us()
        return float(low), float(high)

    def entries(self, reference_us: "float | None") -> Dict[Operator, Entry]:
        """What was measured so far: medians and interquartile ranges over the quieter half of the visits.

        Args:
            reference_us: scale to a machine on which the reference network takes so long, that of the table which
                the entries join; None: this measurement's own.
        """
        usual_us = self.reference_us() if reference_us is None else reference_us
        entries = {}
        for operator, place in self._place.items():
            samples = self.journal.samples.get(place, [])
            if samples:
                speeds = [self.journal.reference_us[visit] for visit, _ in samples]
                quiet = quieter_half([us for _, us in samples], speeds, usual_us)
                low, us, high = np.percentile(quiet, [25, 50, 75])
                entries[operator] = Entry(float(us), float(high - low), len(quiet) * self.schedule.runs)
        return entries


def journal_of(table_path: str) -> str:
    """Path of the journal that belongs to a table."""
    return f"{table_path}.partial" if table_path else ""


__all__ = ["Campaign", "Journal", "Schedule", "journal_of"]
