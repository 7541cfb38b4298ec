"""Ctrl-C and SIGTERM: the iteration is finished, its state is written, then the run ends."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any, Callable, Dict, Optional

from detectron2.engine import HookBase

_logger = logging.getLogger(__name__)


class TrainingStopped(KeyboardInterrupt):
    """A run that was asked to stop, and did.

    Attributes:
        signum: the signal that asked.
        between_iterations: whether it stopped where the state of the run is complete.
        iteration: the last one that was completed, None before the first.
        checkpoint: path of the state after that iteration, "" where none was written.
        saved: what was completed and where it is, for runs that do not count iterations; "" otherwise.
    """

    def __init__(self, signum: int, between_iterations: bool = True):
        self.signum = signum
        self.between_iterations = between_iterations
        self.iteration: Optional[int] = None
        self.checkpoint = ""
        self.saved = ""
        super().__init__(signal.Signals(signum).name)


class StopSignals:
    """Receives SIGINT and SIGTERM inside a ``with`` block.

    While ``holding``, the first signal is only noted (``received``); otherwise, and always the second time, it
    raises ``TrainingStopped`` at once. Processes that are forked inside the block ignore both, so that data loading
    workers outlive the Ctrl-C that the terminal sends to them too.
    """

    def __init__(self) -> None:
        self.received = 0
        self.holding = False
        self._owner = os.getpid()
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python cannot set handlers
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def _handle(self, signum: int, _: Any) -> None:
        if os.getpid() != self._owner:
            return
        if self.received or not self.holding:
            raise TrainingStopped(signum, between_iterations=not self.holding)
        self.received = signum
        # The workers may have been sent it too; PyTorch would raise in the middle of this iteration when one ends.
        if hasattr(signal, "SIGCHLD"):
            self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _logger.warning(f"{signal.Signals(signum).name}: finishing this iteration; once more stops at once")


class StopHook(HookBase):
    """Ends the run after an iteration in which it was asked to.

    It stands behind the hooks that complete an iteration (schedule, checkpoints) and before evaluation, during which
    one process alone may be stopped at once. Several processes stop after the same iteration.
    """

    def __init__(self, signals: StopSignals, asked: Callable[[], int], together: bool):
        """
        Args:
            signals: whose ``holding`` to switch.
            asked: gives the signal that all processes know of, 0 for none.
            together: whether there are several processes.
        """
        self._signals, self._asked, self._together = signals, asked, together
        self.completed: Optional[int] = None

    def before_step(self) -> None:
        self._signals.holding = True

    def after_step(self) -> None:
        self.completed = self.trainer.iter
        signum = self._asked()
        if signum:
            raise TrainingStopped(signum)
        self._signals.holding = self._together
