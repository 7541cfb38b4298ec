"""The trainings of an ablation, each in a process of its own, some at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.engine.launch import visible_devices
from fbnet_plugin.engine.stop import StopSignals, TrainingStopped

from . import one_run
from .outcome import DONE, FAILED, OUTPUT_FILE, Outcome, forget_failure, metrics, read_outcome, why, write_failure
from .plan import CONFIG_FILE, Plan, Training
from .progress import Progress, running_text

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_TICK_S = 0.1


def one_run_command(config: str, num_gpus: int) -> List[str]:
    """The command that trains what a config file says."""
    command = [sys.executable, "-m", one_run.__name__, one_run.OWNED, "--config-file", config]
    return [*command, "--num-gpus", str(num_gpus)]


@dataclass
class _Process:
    """A training that runs.

    Attributes:
        place: from 0, below the number of trainings at a time; it decides on the GPUs.
        fresh: whether it began at the first iteration, so that its time is that of a whole training.
    """

    training: Training
    popen: subprocess.Popen
    place: int
    fresh: bool
    started: float = field(default_factory=time.monotonic)


class Schedule:
    """Runs what is not done yet. A training that fails does not keep the others from running."""

    def __init__(
        self,
        plan: Plan,
        folder: str,
        *,
        jobs: int = 1,
        num_gpus: int = 0,
        command: Callable[[str, int], Sequence[str]] = one_run_command,
        say: Callable[[str], None] = print,
        changed: Callable[[], None] = lambda: None,
        describe: Callable[[str, Outcome], str] = lambda name, outcome: "",
        period_s: float = 60.0,
    ):
        """
        Args:
            plan: what to train.
            folder: of the ablation; a training's folder has its name.
            jobs: trainings at a time. They share the CPU's threads unless OMP_NUM_THREADS says how many each has, and
                the GPUs are dealt out in turn.
            num_gpus: of each training; 0 for the CPU.
            command: of a config file and a number of GPUs.
            say: takes the lines that tell how far it is.
            changed: called after each training that has ended.
            describe: figures of a training that is done, for its line.
            period_s: between lines while nothing ends.
        """
        self._plan, self._folder, self._jobs, self._num_gpus = plan, folder, jobs, num_gpus
        self._command, self._say, self._changed, self._describe = command, say, changed, describe
        self._trainings = {one.name: one for one in plan.trainings}
        self._waiting = [one for one in plan.trainings if self._outcome(one.name).state != DONE]
        self._progress = Progress(len(plan.trainings), jobs, period_s)
        self._running: List[_Process] = []
        self._failed: List[str] = []
        self._signals = StopSignals()

    def run(self) -> List[str]:
        """Runs to the end.

        Returns:
            names of the trainings that failed.

        Raises:
            TrainingStopped: on Ctrl-C or SIGTERM, after each training that ran has written its state; at once, with
                the trainings killed, when it is sent again.
        """
        done = len(self._plan.trainings) - len(self._waiting)
        if done:
            self._say(f"{done} of {len(self._plan.trainings)} trainings are done already")
        for training in self._waiting:
            forget_failure(self._path(training.name))
        self._signals.holding = True
        try:
            with self._signals:
                while self._running or (self._waiting and not self._signals.received):
                    self._step()
        finally:
            for process in self._running:
                _kill(process.popen)
        if self._signals.received:
            raise TrainingStopped(self._signals.received)
        return self._failed

    def _step(self) -> None:
        if self._signals.received:
            self._pass_on()
        else:
            self._start_ready()
        for process in [one for one in self._running if one.popen.poll() is not None]:
            self._running.remove(process)
            self._end(process)
        if self._progress.due():
            self._say(self._line(running_text(self._numbers())))
        time.sleep(_TICK_S)

    def _path(self, name: str, *parts: str) -> str:
        return os.path.join(self._folder, name, *parts)

    def _outcome(self, name: str) -> Outcome:
        return read_outcome(self._path(name))

    def _start_ready(self) -> None:
        """Starts as many as may run; a student waits for its teacher, and fails with it."""
        for training in list(self._waiting):
            if len(self._running) >= self._jobs:
                return
            teacher = self._outcome(training.teacher) if training.teacher else None
            if teacher is not None and teacher.state == FAILED:
                self._waiting.remove(training)
                self._fail(training.name, f"its teacher failed: {training.teacher}")
            elif teacher is None or teacher.state == DONE:
                self._waiting.remove(training)
                self._start(training)

    def _start(self, training: Training) -> None:
        cfg = training.config_in(self._folder, self._trainings)
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
        config = self._path(training.name, CONFIG_FILE)
        with atomic_write(config) as file:
            file.write(cfg.dump().encode())
        place = min(set(range(self._jobs)) - {one.place for one in self._running})
        fresh = not any(True for _ in metrics(cfg.OUTPUT_DIR))
        with open(self._path(training.name, OUTPUT_FILE), "ab") as output:
            popen = subprocess.Popen(
                list(self._command(config, self._num_gpus)),
                stdin=subprocess.PIPE,  # closes with this process
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(place, self._jobs, self._num_gpus)},
                start_new_session=True,  # Ctrl-C comes through this process alone
            )
        self._running.append(_Process(training, popen, place, fresh))
        self._say(self._line(f"{training.name} {'begins' if fresh else 'goes on'}"))

    def _end(self, process: _Process) -> None:
        """Notes how a training ended."""
        name, code = process.training.name, process.popen.returncode
        if process.popen.stdin:
            process.popen.stdin.close()
        outcome = self._outcome(name)
        if outcome.state == DONE:
            seconds = time.monotonic() - process.started
            self._progress.finished(seconds, process.fresh)
            figures = self._describe(name, outcome)
            self._say(self._line(f"{name} done in {seconds:.0f} s{': ' if figures else ''}{figures}"))
        elif self._signals.received:
            self._say(f"{name} stopped")
            return
        else:
            self._fail(name, why(self._path(name), code))
        self._changed()

    def _fail(self, name: str, reason: str) -> None:
        write_failure(self._path(name), reason)
        self._failed.append(name)
        last = reason.splitlines()[-1]
        self._say(self._line(f"{name} failed: {last}"))

    def _pass_on(self) -> None:
        """Asks each training once to stop; it ends after its iteration."""
        for process in self._running:
            if process.popen.poll() is None and process.place >= 0:
                process.place = -1
                process.popen.send_signal(signal.SIGTERM)

    def _numbers(self) -> "Dict[str, tuple[float, Optional[int], Optional[float]]]":
        """Of each training that runs: seconds so far, iteration, and seconds to go as it says itself."""
        found = {}
        for process in self._running:
            name = process.training.name
            lines = list(metrics(self._path(name)))
            iteration = int(lines[-1]["iteration"]) if lines else None
            etas: List[float] = [line["eta_seconds"] for line in lines if "eta_seconds" in line]
            found[name] = (time.monotonic() - process.started, iteration, etas[-1] if etas else None)
        return found

    def _line(self, text: str) -> str:
        ended = len(self._plan.trainings) - len(self._waiting) - len(self._running)
        return self._progress.line(text, ended, self._numbers(), len(self._waiting))


def environment(place: int, jobs: int, num_gpus: int) -> Mapping[str, str]:
    """What the environment of the training at a place (from 0) has beside its own process's.

    Args:
        jobs: trainings at a time.
        num_gpus: of each.
    """
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = {"PYTHONPATH": path}
    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        found.update(dict.fromkeys(_THREAD_VARIABLES, str(max(1, _cores() // jobs))))
    devices = visible_devices()
    if num_gpus and devices:
        each = [devices[(place * num_gpus + number) % len(devices)] for number in range(min(num_gpus, len(devices)))]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(each)
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kill(popen: subprocess.Popen) -> None:
    """Ends a training and the processes that it has started, at once."""
    if popen.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(popen.pid, signal.SIGKILL)
        else:
            popen.kill()
        popen.wait()
