"""How far an ablation is, and how long it still takes."""

from __future__ import annotations

import time
from typing import List, Mapping, Optional, Tuple

# Seconds so far, iteration, seconds to go.
Running = Tuple[float, Optional[int], Optional[float]]


class Progress:
    """Makes the lines that tell how far it is."""

    def __init__(self, total: int, jobs: int, period_s: float):
        """
        Args:
            total: number of trainings.
            jobs: at a time.
            period_s: after which a line is due.
        """
        self._total, self._jobs, self._period = total, jobs, period_s
        self._whole: List[float] = []
        self._parts: List[float] = []
        self._last = time.monotonic()

    def finished(self, seconds: float, whole: bool) -> None:
        """Notes the time of a training; ``whole`` unless a part of it had been done before."""
        (self._whole if whole else self._parts).append(seconds)

    def due(self) -> bool:
        """Whether nothing has been said for a while."""
        return time.monotonic() - self._last >= self._period

    def line(self, text: str, ended: int, running: Mapping[str, Running], waiting: int) -> str:
        """``[ended/total] text; about ... left``."""
        self._last = time.monotonic()
        left = remaining_s(self._whole or self._parts, list(running.values()), waiting, self._jobs)
        soon = f"; about {duration(left)} left" if left else ""
        return f"[{ended}/{self._total}] {text}{soon}"


def running_text(running: Mapping[str, Running]) -> str:
    """Which trainings run, and where they are."""
    parts = [name if at is None else f"{name} at iteration {at + 1}" for name, (_, at, _) in running.items()]
    return ", ".join(parts) or "nothing runs"


def remaining_s(finished: List[float], running: List[Running], waiting: int, jobs: int) -> Optional[float]:
    """Seconds until all is done: each training takes as long as the mean of those that have ended.

    Before the first has ended, as long as those that run say that they will. None while nobody knows.

    Args:
        finished: seconds of those that have ended.
        running: see ``Running``.
        waiting: number of those that have not begun.
        jobs: trainings at a time.
    """
    told = [so_far + to_go for so_far, _, to_go in running if to_go is not None]
    known = finished or told
    if not known:
        return None
    mean = sum(known) / len(known)
    left = sum(max(mean - so_far, 0.0) if to_go is None else to_go for so_far, _, to_go in running)
    at_once = max(1, min(jobs, len(running) + waiting))
    return (left + waiting * mean) / at_once


def duration(seconds: float) -> str:
    """In words such as 40 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
