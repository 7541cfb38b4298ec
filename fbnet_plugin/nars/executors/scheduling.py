"""Which task runs next, which has taken too long, and which is tried again: the same for all executors."""

from __future__ import annotations

import abc
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional

from .base import Event, Executor, Failed, Finished, Progress, Retried, Started, Task
from .failures import Failure, timed_out

LONGEST_WAIT_S = 1.0


@dataclass
class Attempt:
    """
    Attributes:
        task: that is attempted.
        number: of the attempt, from 1.
        begun: time at which a worker began; None while it waits for one.
        kills, errors: of the attempts before.
    """

    task: Task
    number: int = 1
    begun: Optional[float] = None
    kills: int = 0
    errors: int = 0


class Schedule:
    """The tasks of one ``run``. A transport tells it what it hears of them; what is no longer running is ignored."""

    def __init__(self, executor: "ScheduledExecutor", tasks: Iterable[Task], on_event: Callable[[Event], None]):
        self._settings, self._now, self._on_event = executor.settings, executor._now, on_event
        self._tasks: Iterator[Task] = iter(tasks)
        self._again: Deque[Attempt] = deque()
        self.running: Dict[int, Attempt] = {}

    def next(self) -> Optional[Attempt]:
        """What is to be launched now, None where nothing is left. Those that are tried again come first."""
        if self._again:
            attempt = self._again.popleft()
        else:
            task = next(self._tasks, None)
            if task is None:
                return None
            attempt = Attempt(task)
        self.running[attempt.task.id] = attempt
        return attempt

    def started(self, task: int, worker: str) -> None:
        """A worker has begun with a task."""
        attempt = self.running.get(task)
        if attempt is not None and attempt.begun is None:
            attempt.begun = self._now()
            self._on_event(Started(task, attempt.number, worker))

    def progress(self, task: int, epoch: int, values: Dict[str, float]) -> None:
        """Its function has reported an epoch."""
        if task in self.running:
            self._on_event(Progress(task, epoch, values))

    def finished(self, task: int, result: Dict[str, Any]) -> None:
        """Its function has returned."""
        attempt = self._end(task)
        if attempt is not None:
            self._on_event(Finished(task, result, self._seconds(attempt)))

    def failed(self, task: int, failure: Failure) -> None:
        """It has ended otherwise; it is tried again if the settings allow."""
        attempt = self._end(task)
        if attempt is None:
            return
        kills = attempt.kills + (failure.kind == "killed")
        errors = attempt.errors + (failure.kind in ("error", "memory", "timeout"))
        if failure.kind == "diverged" or kills > self._settings.retries or errors > self._settings.retry_errors:
            self._on_event(Failed(task, *failure, self._seconds(attempt)))
            return
        self._again.append(Attempt(attempt.task, attempt.number + 1, None, kills, errors))
        self._on_event(Retried(task, attempt.number, failure.kind, failure.reason))

    def overdue(self) -> List[int]:
        """Tasks that have taken longer than they may."""
        return [task for task, end in self._ends().items() if self._now() >= end]

    def patience(self) -> float:
        """Seconds until the next task is overdue, at most ``LONGEST_WAIT_S``."""
        now = self._now()
        return min([LONGEST_WAIT_S, *(max(0.0, end - now) for end in self._ends().values())])

    def _ends(self) -> Dict[int, float]:
        """Task -> time at which it is overdue, of those that have begun."""
        limit = self._settings.timeout_s
        if not limit:
            return {}
        return {task: one.begun + limit for task, one in self.running.items() if one.begun is not None}

    def _end(self, task: int) -> Optional[Attempt]:
        if task in self.running and self.running[task].begun is None:
            self.started(task, "")  # it ended before its worker could say that it had begun
        return self.running.pop(task, None)

    def _seconds(self, attempt: Attempt) -> float:
        return self._now() - (self._now() if attempt.begun is None else attempt.begun)


class ScheduledExecutor(Executor):
    """Keeps as many tasks running as there are workers; how they run is the subclass's part."""

    def run(self, tasks: Iterable[Task], on_event: Callable[[Event], None]) -> None:
        schedule = Schedule(self, tasks, on_event)
        try:
            while True:
                self._fill(schedule)
                if not schedule.running:
                    return
                self._poll(schedule.patience(), schedule)
                for task in schedule.overdue():
                    self._kill(task)
                    schedule.failed(task, timed_out(self.settings.timeout_s))
        except BaseException:
            for task in list(schedule.running):
                self._kill(task)
            raise

    def _fill(self, schedule: Schedule) -> None:
        while len(schedule.running) < self.workers:
            attempt = schedule.next()
            if attempt is None:
                return
            self._launch(attempt)

    def _now(self) -> float:
        """The clock, in seconds."""
        return time.monotonic()

    @abc.abstractmethod
    def _launch(self, attempt: Attempt) -> None:
        """Gives a task to a worker; there is a free one."""

    @abc.abstractmethod
    def _poll(self, patience: float, schedule: Schedule) -> None:
        """Waits up to ``patience`` seconds for something to happen, and tells the schedule all that did."""

    @abc.abstractmethod
    def _kill(self, task: int) -> None:
        """Ends a task that is running, at once; nothing more is heard of it."""
