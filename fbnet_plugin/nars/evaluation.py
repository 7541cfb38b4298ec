"""Trains candidates of a store by an executor; what becomes of each is in the store before the next thing happens."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from fbnet_plugin.engine.stop import StopSignals

from .errors import NARSError
from .executors import Event, Executor, Failed, Finished, Progress, Retried, Started, Task
from .run_data import CandidateData
from .store import Store

_logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """How far an evaluation is.

    Attributes:
        total: candidates of this evaluation.
        done, failed: of them.
        in_a_row: failures since the last one that was done.
        seconds: of each that has ended.
        workers: candidates at a time.
    """

    total: int
    workers: int = 1
    done: int = 0
    failed: int = 0
    in_a_row: int = 0
    seconds: List[float] = field(default_factory=list)

    @property
    def left_s(self) -> float:
        """Seconds that the others will take, if they take as long as those before; NaN before the first has ended."""
        if not self.seconds:
            return math.nan
        rounds = math.ceil((self.total - self.done - self.failed) / self.workers)
        return rounds * sum(self.seconds) / len(self.seconds)

    def __str__(self) -> str:
        text = f"{self.done + self.failed}/{self.total}"
        if self.failed:
            text += f", {self.failed} failed"
        if self.seconds:
            text += f"; {duration(sum(self.seconds) / len(self.seconds))} each, {duration(self.left_s)} left"
        return text


def evaluate(
    store: Store,
    executor: Executor,
    ids: Sequence[int],
    make_payload: Callable[[CandidateData], Dict[str, Any]],
    max_consecutive_failures: int,
    on_progress: Optional[Callable[[Tally], None]] = None,
) -> Tally:
    """Trains those of the candidates that are pending; the others have been trained before.

    The function that the executor calls returns {"accuracy": %, "values": other figures} and reports epochs with
    "accuracy" among their values. A candidate that cannot be trained is recorded as failed, with its reason.

    Args:
        store: open for writing.
        executor: closed when this function raises, and otherwise left open for the next call.
        ids: of the candidates, in the order in which they begin.
        make_payload: what the executor's function receives for a candidate.
        max_consecutive_failures: after so many the search is given up; 0 is no limit.
        on_progress: called after each candidate that has ended.

    Raises:
        NARSError: too many failures in a row, with the last one's reason.
        TrainingStopped: Ctrl-C or SIGTERM. As after every exception, candidates that were running are pending again.
    """
    states = {number: store.candidate(number).state for number in ids}
    if "running" in states.values():
        raise NARSError("candidates that an earlier process left running must be recovered first")
    waiting = [number for number, state in states.items() if state == "pending"]
    recorder = _Recorder(store, Tally(len(waiting), executor.workers), max_consecutive_failures, on_progress)

    def tasks() -> Iterator[Task]:
        for number in waiting:
            yield Task(number, make_payload(store.candidate(number)))

    with StopSignals():
        try:
            executor.run(tasks(), recorder)
        except BaseException:
            executor.close()
            for number in waiting:
                if store.candidate(number).state == "running":
                    store.requeue(number)
            raise
    return recorder.tally


class _Recorder:
    """Writes what an executor tells into the store and the log."""

    def __init__(
        self, store: Store, tally: Tally, max_in_a_row: int, on_progress: Optional[Callable[[Tally], None]] = None
    ):
        self.tally = tally
        self._store, self._max_in_a_row, self._on_progress = store, max_in_a_row, on_progress

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._store.start(event.id, event.worker)
        elif isinstance(event, Progress):
            self._store.record_epoch(event.id, event.epoch, event.values)
        elif isinstance(event, Retried):
            self._store.requeue(event.id, event.kind)
            _logger.warning(f"{self._name(event.id)}: {event.reason}; it is tried again")
        elif isinstance(event, Finished):
            self._finished(event)
        else:
            self._failed(event)

    def _finished(self, event: Finished) -> None:
        accuracy, values = event.result.get("accuracy"), event.result.get("values", {})
        if not isinstance(accuracy, (int, float)):
            self._failed(Failed(event.id, "error", f"the result has no accuracy: {event.result}", "", event.seconds))
        elif not math.isfinite(accuracy):
            self._failed(Failed(event.id, "diverged", f"its accuracy is {accuracy}", "", event.seconds))
        else:
            self._store.finish(event.id, accuracy, values, event.seconds)
            self.tally.done += 1
            self.tally.in_a_row = 0
            self._ended(event.id, f"{accuracy:.2f} %", event.seconds, logging.INFO)

    def _failed(self, event: Failed) -> None:
        self._store.fail(event.id, event.kind, event.reason, event.traceback, event.seconds)
        self.tally.failed += 1
        self.tally.in_a_row += 1
        self._ended(event.id, f"failed ({event.kind}), {event.reason}", event.seconds, logging.WARNING)
        if self._max_in_a_row and self.tally.in_a_row >= self._max_in_a_row:
            raise NARSError(
                f"{self.tally.in_a_row} candidates in a row have failed; the last one, {self._name(event.id)}: "
                f"{event.reason}"
            )

    def _ended(self, number: int, outcome: str, seconds: float, level: int) -> None:
        self.tally.seconds.append(seconds)
        _logger.log(level, f"{self._name(number)}: {outcome} in {duration(seconds)} ({self.tally})")
        if self._on_progress is not None:
            self._on_progress(self.tally)

    def _name(self, number: int) -> str:
        return self._store.candidate(number).name


def duration(seconds: float) -> str:
    """Such as "41 s", "12 min" or "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
