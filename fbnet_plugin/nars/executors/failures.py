"""Kinds of failure.

"error" is an exception, "diverged" a loss or weights that are not finite, "memory" a lack of memory, "timeout" a time
limit, "killed" a worker that ended without a word.
"""

from __future__ import annotations

import signal
import traceback
from typing import NamedTuple, Optional

MAX_TRACEBACK = 20_000  # characters that are kept
_NO_MEMORY = ("out of memory", "can't allocate memory")


class Failure(NamedTuple):
    """
    Attributes:
        kind: see above.
        reason: one line.
        traceback: "" where there is none.
    """

    kind: str
    reason: str
    traceback: str = ""


def failure_of(error: BaseException) -> Failure:
    """What an exception that a function raised is to be recorded as."""
    text = str(error).strip()
    reason = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return Failure(_kind(error, text), reason, lines[-MAX_TRACEBACK:])


def _kind(error: BaseException, text: str) -> str:
    if isinstance(error, FloatingPointError):
        return "diverged"
    # torch.cuda.OutOfMemoryError is a RuntimeError, and so is what PyTorch raises for the CPU's memory
    if isinstance(error, MemoryError) or isinstance(error, RuntimeError) and any(s in text.lower() for s in _NO_MEMORY):
        return "memory"
    return "error"


def timed_out(seconds: float) -> Failure:
    return Failure("timeout", f"took longer than {seconds:g} s")


def killed(exit_code: Optional[int]) -> Failure:
    """A worker process that ended by itself.

    Args:
        exit_code: as multiprocessing has it, negative for a signal.
    """
    if exit_code is None or exit_code >= 0:
        return Failure("killed", f"the worker ended with exit code {exit_code}")
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (the system kills so when memory runs out)" if name == "SIGKILL" else ""
    return Failure("killed", f"the worker was ended by {name}{hint}")
