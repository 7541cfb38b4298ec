"""Tasks one after the other in this process."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

from .base import EXECUTOR_REGISTRY, load_function
from .failures import failure_of, timed_out
from .scheduling import Attempt, Schedule, ScheduledExecutor


class TimeLimit(BaseException):
    """The time of a task is over; no ``Exception``, as its function may catch those."""


@EXECUTOR_REGISTRY.register()
class InProcessExecutor(ScheduledExecutor):
    """One task at a time, whatever ``workers`` says.

    Without a process that could be killed, a time limit is looked at when the function reports an epoch and, in the
    main thread on POSIX, whenever Python code runs. A lack of memory that makes the system kill the process, or a
    crash, ends the search; a local pool of one worker does not have that weakness.
    """

    _waiting: Optional[Attempt] = None

    @property
    def workers(self) -> int:
        return 1

    def close(self) -> None:
        self._waiting = None

    def _launch(self, attempt: Attempt) -> None:
        self._waiting = attempt

    def _kill(self, task: int) -> None:
        self._waiting = None

    def _poll(self, patience: float, schedule: Schedule) -> None:
        attempt, self._waiting = self._waiting, None
        if attempt is None:
            return
        task, limit = attempt.task, self.settings.timeout_s
        schedule.started(task.id, "in process")
        end = time.monotonic() + limit

        own_errors: List[Exception] = []  # of whoever receives the events, not of the function

        def report(epoch: int, values: Dict[str, float]) -> None:
            try:
                schedule.progress(task.id, epoch, values)
            except Exception as error:
                own_errors.append(error)
                raise
            if limit and time.monotonic() >= end:
                raise TimeLimit

        try:
            with alarm(limit):
                function = load_function(self.function)
                result: Dict[str, Any] = json.loads(json.dumps(function(json.loads(json.dumps(task.payload)), report)))
        except TimeLimit:
            schedule.failed(task.id, timed_out(limit))
        except (Exception, SystemExit) as error:
            if own_errors:
                raise own_errors[0] from None
            schedule.failed(task.id, failure_of(error))
        else:
            schedule.finished(task.id, result)


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises ``TimeLimit`` inside the block after so many seconds, where the system and the thread allow; 0: never."""
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not seconds or not usable:
        yield
        return

    def ring(*_: Any) -> None:
        raise TimeLimit

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # it may have rung at this moment
            signal.signal(signal.SIGALRM, previous)
