"""What every executor does: runs tasks by the name of a function, and says what becomes of them."""

from __future__ import annotations

import abc
import importlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Optional, Union

from fvcore.common.registry import Registry

from fbnet_plugin.engine.errors import did_you_mean

from ..errors import NARSError

EXECUTOR_REGISTRY = Registry("EXECUTOR")
EXECUTOR_REGISTRY.__doc__ = """
Classes that run the trainings of a search, ``Executor``s, by the name in NARS.EVALUATION.EXECUTOR.
"""

Report = Callable[[int, Dict[str, float]], None]
Function = Callable[[Dict[str, Any], Report], Dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """
    Attributes:
        id: unique among the tasks of a run.
        payload: JSON-able, what the function receives.
    """

    id: int
    payload: Dict[str, Any]


@dataclass(frozen=True)
class Started:
    """A worker has begun with an attempt (from 1)."""

    id: int
    attempt: int
    worker: str


@dataclass(frozen=True)
class Progress:
    """The function has reported an epoch."""

    id: int
    epoch: int
    values: Dict[str, float]


@dataclass(frozen=True)
class Finished:
    """The function has returned, ``seconds`` after the attempt's start."""

    id: int
    result: Dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The task has ended without a result; see ``failures`` for the kinds."""

    id: int
    kind: str
    reason: str
    traceback: str
    seconds: float


@dataclass(frozen=True)
class Retried:
    """Attempt number ``attempt`` has failed and the task waits for the next one."""

    id: int
    attempt: int
    kind: str
    reason: str


Event = Union[Started, Progress, Finished, Failed, Retried]


@dataclass(frozen=True)
class ExecutorSettings:
    """
    Attributes:
        workers: tasks at a time.
        timeout_s: after which an attempt has failed; 0 is no limit.
        retries: times that a task is begun again whose worker was killed or vanished.
        retry_errors: times that it is begun again after an exception, a lack of memory or a timeout. A training is the
            same each time, so that this is of use only where files or memory come and go. NaN is never tried again.
        threads: of PyTorch and OpenMP in each worker process.
        start_method: of local worker processes; "spawn" is the only one that CUDA allows.
        cpus, gpus, memory_gb: that a task takes; a local pool looks at ``gpus`` only, to deal out the devices.
        ray_address: of a Ray cluster; "" starts Ray on this machine.
    """

    workers: int = 1
    timeout_s: float = 0.0
    retries: int = 2
    retry_errors: int = 0
    threads: int = 1
    start_method: str = "spawn"
    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 0.0
    ray_address: str = ""

    def __post_init__(self) -> None:
        at_least = {"workers": 1, "threads": 1, "timeout_s": 0, "retries": 0, "retry_errors": 0}
        at_least.update(cpus=0, gpus=0, memory_gb=0)
        for name, low in at_least.items():
            value = getattr(self, name)
            if not value >= low:
                raise NARSError(f"executor setting {name} is {value}; it must be at least {low}")


class Executor(abc.ABC):
    """Runs tasks; what is started stays for the next ``run`` and ends with ``close`` or the ``with`` block."""

    def __init__(self, function: str, settings: Optional[ExecutorSettings] = None):
        """
        Args:
            function: "package.module:name" of what is called as ``function(payload, report)`` and returns a JSON-able
                dict; it calls ``report(epoch, values)`` after each epoch, from 1.
            settings: defaults where None.

        Raises:
            NARSError: there is no such function.
        """
        load_function(function)
        self.function = function
        self.settings = settings or ExecutorSettings()

    @property
    def workers(self) -> int:
        """Tasks at a time."""
        return self.settings.workers

    @abc.abstractmethod
    def run(self, tasks: Iterable[Task], on_event: Callable[[Event], None]) -> None:
        """Runs all tasks and returns when each has finished or failed.

        Args:
            tasks: taken one by one, as workers become free.
            on_event: called in this thread, for each task in order: Started, Progress..., then Finished, Failed, or
                Retried, after which it is Started again. Tasks end in any order. What it raises ends the run, and
                the tasks that are running are killed.

        Raises:
            NARSError: no worker can be started.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the workers, and with them what still runs; a second time does nothing."""

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def load_function(name: str) -> Function:
    """The function "package.module:name".

    Raises:
        NARSError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise NARSError(f"function {name!r} cannot be imported: {error}") from error


def executor_class(name: str) -> Any:
    """The class that is registered under ``name``.

    Raises:
        NARSError: there is none.
    """
    known = sorted(known for known, _ in EXECUTOR_REGISTRY)
    if name not in known:
        raise NARSError(f"executor {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    return EXECUTOR_REGISTRY.get(name)


def build_executor(name: str, function: str, settings: ExecutorSettings) -> Executor:
    """An executor by the name of its class; see ``Executor`` for the arguments.

    Raises:
        NARSError: there is none of that name, or no such function.
    """
    return executor_class(name)(function, settings)
