"""Tasks on a Ray cluster, or on a Ray that is started on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, Dict, List, Optional

from ..errors import NARSError
from .base import EXECUTOR_REGISTRY, ExecutorSettings
from .failures import Failure
from .ray_task import Mailbox, run_task
from .scheduling import Attempt, Schedule, ScheduledExecutor

POLL_S = 0.2
GIB = 1024**3


@EXECUTOR_REGISTRY.register()
class RayExecutor(ScheduledExecutor):
    """Hands at most ``workers`` tasks at a time to Ray, each with the CPUs, GPUs and memory of the settings.

    Ray's own worker processes run them and are used again. A task waits in Ray while the cluster is full; its time
    counts from when it runs. Files that a payload names must be where the workers find them: on other machines, a
    shared folder. A Ray that is already connected is used and left as it is.
    """

    def __init__(self, function: str, settings: Optional[ExecutorSettings] = None):
        super().__init__(function, settings)
        self._ray = import_ray()
        self._started_here = not self._ray.is_initialized()
        if self._started_here:
            self._connect()
        try:
            self._remote = self._ray.remote(run_task).options(**self._options())
            self._mailbox = self._ray.remote(Mailbox).options(num_cpus=0).remote()
        except BaseException:
            self.close()
            raise
        self._tasks: Dict[Any, Attempt] = {}  # by Ray's reference to the result

    def close(self) -> None:
        if self._ray is None:
            return
        ray, self._ray = self._ray, None
        if self._started_here:
            ray.shutdown()
        else:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(self._mailbox)

    def _connect(self) -> None:
        settings = self.settings
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet: Dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            if settings.ray_address:
                self._ray.init(address=settings.ray_address, **quiet)
                return
            cpus = max(1, int(settings.workers * settings.cpus + 0.999))
            self._ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = settings.ray_address or "this machine"
            raise NARSError(f"Ray cannot be reached or started ({where}): {error}") from error
        there = self._ray.cluster_resources()
        for name, needed in (("GPU", settings.gpus), ("memory", settings.memory_gb * GIB)):
            if needed > there.get(name, 0):
                self._ray.shutdown()
                unit = GIB if name == "memory" else 1
                raise NARSError(
                    f"a candidate is to have {needed / unit:g} of {name}; here are {there.get(name, 0) / unit:.3g}"
                )

    def _options(self) -> Dict[str, Any]:
        settings = self.settings
        variables = {name: str(settings.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        variables["PYTHONPATH"] = os.pathsep.join(code_folders())
        options: Dict[str, Any] = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "max_retries": 0,  # what is tried again is decided here, for all executors alike
            "runtime_env": {"env_vars": variables},
        }
        if settings.memory_gb:
            options["memory"] = int(settings.memory_gb * GIB)
        return options

    def _launch(self, attempt: Attempt) -> None:
        if self._ray is None:
            raise NARSError("this executor has been closed")
        task = attempt.task
        payload = json.dumps(task.payload)
        arguments = (self._mailbox, task.id, attempt.number, self.function, payload, self.settings.threads)
        self._tasks[self._remote.remote(*arguments)] = attempt

    def _poll(self, patience: float, schedule: Schedule) -> None:
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=min(patience, POLL_S))
        try:
            messages = self._ray.get(self._mailbox.take.remote())
        except self._ray.exceptions.RayError as error:
            raise NARSError(f"the connection to Ray is lost: {error}") from error
        running = {(one.task.id, one.number) for one in self._tasks.values()}
        for task, attempt, kind, what in messages:
            if (task, attempt) in running:  # and no last word of one that was killed
                schedule.started(task, what) if kind == "started" else schedule.progress(task, *what)
        for reference in ready:
            task = self._tasks.pop(reference).task.id
            outcome = self._outcome(reference)
            if isinstance(outcome, Failure):
                schedule.failed(task, outcome)
            else:
                schedule.finished(task, outcome)

    def _outcome(self, reference: Any) -> Any:
        """Result of a task that has ended, or its ``Failure``."""
        errors = self._ray.exceptions
        try:
            found = self._ray.get(reference)
        except errors.RuntimeEnvSetupError as error:
            raise NARSError(f"Ray cannot prepare a worker: {error}") from error
        except errors.RayTaskError as error:  # before the function was called, such as a package that is missing there
            cause = str(error.cause).strip() or type(error.cause).__name__
            return Failure("error", f"{type(error.cause).__name__}: {cause.splitlines()[0]}", str(error))
        except errors.RayError as error:
            out_of_memory = isinstance(error, getattr(errors, "OutOfMemoryError", ()))
            text = (str(error).strip() or "without a word").splitlines()[0]
            return Failure("memory" if out_of_memory else "killed", f"{type(error).__name__}: {text}")
        return Failure(*found["failure"]) if "failure" in found else json.loads(found["result"])

    def _kill(self, task: int) -> None:
        for reference, attempt in list(self._tasks.items()):
            if attempt.task.id == task:
                del self._tasks[reference]
                if self._ray is not None:
                    self._ray.cancel(reference, force=True)


def import_ray() -> Any:
    """The package.

    Raises:
        NARSError: it is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise NARSError(
            f"RayExecutor needs Ray, which is not installed ({error}): pip install 'fbnet_plugin[ray]'"
        ) from error
    return ray


def code_folders() -> List[str]:
    """Where this process found modules besides its installed packages, for workers to find them too."""
    installed = tuple({os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)})
    folders = [os.path.abspath(folder) for folder in sys.path if not folder.endswith(".zip")]
    own = [one for one in folders if not os.path.realpath(one).startswith(installed) and "-packages" not in one]
    return list(dict.fromkeys(own))
