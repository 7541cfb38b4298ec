"""Worker processes on this machine, each kept for many tasks and replaced when it dies."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
from multiprocessing import connection as connections
from multiprocessing import util
from typing import Any, Dict, Iterator, List, Optional

from fbnet_plugin.engine.launch import visible_devices

from ..errors import NARSError
from .base import EXECUTOR_REGISTRY, ExecutorSettings
from .failures import Failure, killed
from .scheduling import Attempt, Schedule, ScheduledExecutor
from .worker import work

JOIN_S = 10.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Worker:
    """A process and the connection to it.

    Attributes:
        name: for the log and the store.
        place: from 0, below the number of workers; it decides on the GPU.
        task: that it has, None for none.
    """

    def __init__(self, function: str, settings: ExecutorSettings, place: int):
        self.place, self.task = place, None  # type: int, Optional[int]
        context: Any = multiprocessing.get_context(settings.start_method)
        self.connection, theirs = context.Pipe()
        arguments = (theirs, function, settings.threads, os.getpid())
        self.process = context.Process(target=work, args=arguments, name=f"fbnet-nars-{place}")
        with _environment(variables(settings, place)), _without_interrupt():
            self.process.start()
        theirs.close()  # so that the end of the process closes the connection
        self.name = f"pid {self.process.pid}"

    def send(self, attempt: Attempt) -> None:
        """Gives it a task; if it has just died, the next poll notices."""
        self.task = attempt.task.id
        with contextlib.suppress(OSError):
            text = json.dumps({"id": attempt.task.id, "payload": attempt.task.payload})
            self.connection.send_bytes(text.encode())

    def messages(self) -> List[Dict[str, Any]]:
        """What it has said since; of a message that it could not end there is nothing."""
        found = []
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                found.append(json.loads(self.connection.recv_bytes()))
        return found

    def kill(self) -> Optional[int]:
        """Ends the process and what it has started; its exit code."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not lead a group yet
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(JOIN_S)
        self.connection.close()
        return self.process.exitcode


@EXECUTOR_REGISTRY.register()
class LocalPoolExecutor(ScheduledExecutor):
    """As many worker processes as ``workers``, started when first needed; what they import is imported once.

    A process that dies is replaced and its task tried again; one whose task takes too long is killed and replaced.
    With ``gpus`` the devices of this machine (of ``CUDA_VISIBLE_DEVICES``, where set) are dealt out in turn.
    """

    def __init__(self, function: str, settings: Optional[ExecutorSettings] = None):
        super().__init__(function, settings)
        self._workers: List[Worker] = []
        # Before Python waits for processes at its end, those that nobody has closed are killed.
        self._at_exit = util.Finalize(self, _kill_all, args=(self._workers,), exitpriority=100)

    def close(self) -> None:
        self._at_exit()

    def _launch(self, attempt: Attempt) -> None:
        for worker in list(self._workers):
            if worker.task is None and not worker.process.is_alive():
                self._remove(worker)
        free = [worker for worker in self._workers if worker.task is None]
        (free[0] if free else self._add()).send(attempt)

    def _add(self) -> Worker:
        if not self._at_exit.still_active():
            raise NARSError("this pool of workers has been closed")
        taken = {worker.place for worker in self._workers}
        place = min(set(range(self.workers)) - taken)
        worker = Worker(self.function, self.settings, place)
        self._workers.append(worker)
        return worker

    def _poll(self, patience: float, schedule: Schedule) -> None:
        handles: List[Any] = [worker.connection for worker in self._workers]
        handles += [worker.process.sentinel for worker in self._workers]
        connections.wait(handles, patience)
        for worker in list(self._workers):
            alive = worker.process.is_alive()  # before the messages: what it said last is not to be missed
            for message in worker.messages():
                self._pass_on(worker, message, schedule)
            if not alive and worker in self._workers:
                code, task = self._remove(worker), worker.task
                if task is not None:
                    schedule.failed(task, killed(code))

    def _pass_on(self, worker: Worker, message: Dict[str, Any], schedule: Schedule) -> None:
        kind, task = message["is"], message.get("id", -1)
        if kind == "started":
            schedule.started(task, worker.name)
        elif kind == "progress":
            schedule.progress(task, message["epoch"], message["values"])
        elif kind == "unusable":
            raise NARSError(f"a worker process cannot run: {message['reason']}")
        else:
            worker.task = None
            if kind == "finished":
                schedule.finished(task, message["result"])
            else:
                if message["kind"] == "memory":  # whatever still holds it, a fresh process does not
                    self._remove(worker)
                schedule.failed(task, Failure(message["kind"], message["reason"], message["traceback"]))

    def _kill(self, task: int) -> None:
        for worker in list(self._workers):
            if worker.task == task:
                self._remove(worker)

    def _remove(self, worker: Worker) -> Optional[int]:
        self._workers.remove(worker)
        return worker.kill()


def _kill_all(workers: List[Worker]) -> None:
    while workers:
        workers.pop().kill()


def variables(settings: ExecutorSettings, place: int) -> Dict[str, str]:
    """Environment variables of the worker at a place (from 0).

    Raises:
        NARSError: GPUs are asked for and there are none.
    """
    found = dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))
    if settings.gpus:
        devices = visible_devices()
        if not devices:
            raise NARSError(f"a candidate is to have {settings.gpus:g} GPUs, and PyTorch finds none on this machine")
        each = min(len(devices), math.ceil(settings.gpus))
        chosen = [devices[(place * each + number) % len(devices)] for number in range(each)]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    return found


@contextlib.contextmanager
def _environment(changed: Dict[str, str]) -> Iterator[None]:
    """Environment of a process that is started inside; it must be right before the process imports anything."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """A process that is started inside does not receive Ctrl-C until it is ready to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
