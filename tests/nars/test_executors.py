"""Tasks in this process and in worker processes: results, failures of every kind, retries, and their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.executors import (
    ExecutorSettings,
    Failed,
    Finished,
    InProcessExecutor,
    LocalPoolExecutor,
    Progress,
    Retried,
    Started,
    Task,
    build_executor,
)
from fbnet_plugin.nars.executors.failures import failure_of, killed
from fbnet_plugin.nars.executors.local_pool import variables
from fbnet_plugin.nars.executors.scheduling import ScheduledExecutor

BEHAVE = "toy_candidates:behave"


def run(executor, payloads: list) -> list:
    """Events of tasks 1, 2, ..."""
    events: list = []
    executor.run([Task(number, payload) for number, payload in enumerate(payloads, 1)], events.append)
    return events


def of(events: list, task: int) -> list:
    return [event for event in events if event.id == task]


def last(events: list, task: int):
    return of(events, task)[-1]


@pytest.fixture(scope="module")
def pool():
    settings = ExecutorSettings(workers=2, timeout_s=3.0, retries=1)
    with LocalPoolExecutor(BEHAVE, settings) as pool:
        yield pool


def in_process(**settings) -> InProcessExecutor:
    return InProcessExecutor(BEHAVE, ExecutorSettings(**settings))


def both(test):
    return pytest.mark.parametrize("executor", ["in process", "pool"], indirect=True)(test)


@pytest.fixture
def executor(request):
    return in_process() if request.param == "in process" else request.getfixturevalue("pool")


@both
def test_a_task_starts_reports_and_finishes_in_this_order(executor) -> None:
    events = run(executor, [{"epochs": 2, "accuracy": 60.0}])
    assert [type(event) for event in events] == [Started, Progress, Progress, Finished]
    assert (events[0].id, events[0].attempt) == (1, 1) and events[0].worker
    assert [(event.epoch, event.values) for event in events[1:3]] == [(1, {"accuracy": 61.0}), (2, {"accuracy": 62.0})]
    assert events[3].result["accuracy"] == 60.0 and events[3].result["values"] == {"top5": 61.0}
    assert 0 <= events[3].seconds < 3


@both
def test_every_failure_is_told_and_the_next_task_runs(executor) -> None:
    does = ["raise", "diverge", "memory", "exit", "no json", "return"]
    events = run(executor, [{"do": do} for do in does])
    kinds = [getattr(last(events, number), "kind", "done") for number in range(1, len(does) + 1)]
    assert kinds == ["error", "diverged", "memory", "error", "error", "done"]
    assert last(events, 1).reason == "ValueError: no such thing"  # the first line
    assert "second line" in last(events, 1).traceback and "behave" in last(events, 1).traceback
    assert last(events, 2).reason == "FloatingPointError: loss is nan"
    assert last(events, 4).reason == "SystemExit: 3"
    assert not any(isinstance(event, Retried) for event in events)
    assert all(len(of(events, number)) == 2 for number in range(1, len(does) + 1))


@both
def test_results_do_not_depend_on_the_order_of_tasks(executor) -> None:
    payloads = [{"accuracy": float(number), "sleep": 0.01 * (number % 3), "epochs": 1} for number in range(8)]
    forward = run(executor, payloads)
    events: list = []
    tasks = [Task(number, payload) for number, payload in enumerate(payloads, 1)]
    executor.run(iter(tasks[::-1]), events.append)
    for task in tasks:
        one, other = (last(found, task.id).result["accuracy"] for found in (forward, events))
        assert one == other == task.payload["accuracy"]


@both
def test_what_the_receiver_of_events_raises_ends_the_run(executor) -> None:
    def refuse(event) -> None:
        if isinstance(event, Progress):
            raise NARSError("the disk is full")

    with pytest.raises(NARSError, match="disk is full"):
        executor.run([Task(1, {"epochs": 1})], refuse)
    assert last(run(executor, [{}]), 1).result["accuracy"] == 50.0  # and it can be used again


def test_in_process_a_time_limit_ends_what_hangs(monkeypatch) -> None:
    before = signal.getsignal(signal.SIGALRM)
    begin = time.monotonic()
    events = run(in_process(timeout_s=0.2), [{"do": "hang"}, {}])
    assert last(events, 1).kind == "timeout" and last(events, 1).reason == "took longer than 0.2 s"
    assert isinstance(last(events, 2), Finished)
    assert time.monotonic() - begin < 5 and signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_in_process_outside_the_main_thread_the_limit_is_looked_at_after_epochs() -> None:
    events: list = []
    payload = {"epochs": 1000, "sleep": 0.02}
    target = in_process(timeout_s=0.1).run
    thread = threading.Thread(target=target, args=([Task(1, payload)], events.append))
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and last(events, 1).kind == "timeout" and len(events) < 20


def test_in_process_ctrl_c_passes_through() -> None:
    def press(event) -> None:
        if isinstance(event, Progress):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        in_process().run([Task(1, {"epochs": 1})], press)


def test_in_process_runs_one_at_a_time() -> None:
    events = run(in_process(workers=4), [{}, {}])
    assert [type(event) for event in events] == [Started, Finished] * 2


def test_errors_are_tried_again_only_where_asked(tmp_path: Path) -> None:
    payload = {"do": "raise once", "file": str(tmp_path / "times")}
    events = run(in_process(retry_errors=1), [payload, {"do": "raise"}, {"do": "diverge"}])
    assert [type(event) for event in of(events, 1)] == [Started, Retried, Started, Finished]
    assert of(events, 1)[1].reason == "OSError: the file server is busy" and of(events, 1)[2].attempt == 2
    assert [type(event) for event in of(events, 2)] == [Started, Retried, Started, Failed]
    assert [type(event) for event in of(events, 3)] == [Started, Failed]


def test_workers_are_kept_from_task_to_task_and_from_run_to_run(pool) -> None:
    pids = {
        last(events, task).result["pid"] for events in (run(pool, [{}] * 6), run(pool, [{}] * 6)) for task in (1, 2)
    }
    assert len(pids) <= 2 and os.getpid() not in pids
    result = last(run(pool, [{"threads": True}]), 1).result
    assert result["threads"] == 1 and result["omp"] == "1"


def test_killed_workers_are_replaced_and_their_tasks_tried_a_bounded_number_of_times(pool, tmp_path: Path) -> None:
    always, once = ({"file": str(tmp_path / name), "do": name} for name in ("die", "die once"))
    events = run(pool, [always, once, {}, {}])
    assert [type(event) for event in of(events, 1)] == [Started, Retried, Started, Failed]
    assert last(events, 1).kind == "killed" and "SIGKILL" in last(events, 1).reason
    assert len((tmp_path / "die").read_text().splitlines()) == 2
    assert [type(event) for event in of(events, 2)] == [Started, Retried, Started, Finished]
    assert of(events, 2)[1].kind == "killed"
    assert Counter(type(event) for task in (3, 4) for event in of(events, task)) == {Started: 2, Finished: 2}


def test_a_task_beyond_its_time_is_killed_and_the_others_are_not(pool, tmp_path: Path) -> None:
    hang = {"do": "hang with a child", "file": str(tmp_path / "pid"), "child": str(tmp_path / "child")}
    events = run(pool, [hang, {"accuracy": 3.0}, {"accuracy": 4.0}])
    assert last(events, 1).kind == "timeout" and 3.0 <= last(events, 1).seconds < 6.0
    assert [last(events, task).result["accuracy"] for task in (2, 3)] == [3.0, 4.0]
    assert is_gone(int((tmp_path / "pid").read_text())) and is_gone(int((tmp_path / "child").read_text()))


def is_gone(pid: int, patience: float = 10.0) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


SEARCH = """
import os, sys, time
from fbnet_plugin.nars.executors import ExecutorSettings, LocalPoolExecutor, Started, Task
if __name__ == "__main__":
    for do in sys.argv[1:]:
        if not os.fork():
            pool = LocalPoolExecutor("toy_candidates:behave", ExecutorSettings(workers=1))
            started = lambda event: isinstance(event, Started) and print(do, os.getpid(), event.worker[4:], flush=True)
            pool.run([Task(1, {"do": do})], started)
            sys.exit()
    while True:
        print("ended", *os.wait(), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_the_search_whether_it_was_killed_or_nobody_closed_the_pool(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(SEARCH)
    folders = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", str(tmp_path / "search.py"), "hang", "return"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        workers = {}
        while len(workers) < 3:
            do, search, other = parent.stdout.readline().split()
            workers[do] = (int(search), int(other))
        assert workers["ended"] == (workers["return"][0], 0) and is_gone(workers["return"][1])
        search, worker = workers["hang"]
        assert not is_gone(worker, 0.1)
        os.kill(search, signal.SIGKILL)
        assert is_gone(worker, 5.0)
        parent.kill()


def test_a_closed_pool_has_no_processes_and_takes_no_tasks() -> None:
    pool = LocalPoolExecutor(BEHAVE, ExecutorSettings(workers=1))
    pid = last(run(pool, [{}]), 1).result["pid"]
    pool.close()
    pool.close()
    with pytest.raises(ProcessLookupError):  # it has been waited for, so not even a zombie is left
        os.kill(pid, 0)
    with pytest.raises(NARSError, match="has been closed"):
        run(pool, [{}])


def test_gpus_are_dealt_out_in_turn(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    one, two, half = (ExecutorSettings(workers=4, gpus=gpus, threads=3) for gpus in (1, 2, 0.5))
    assert [variables(one, place)["CUDA_VISIBLE_DEVICES"] for place in range(4)] == ["4", "5", "6", "4"]
    assert [variables(two, place)["CUDA_VISIBLE_DEVICES"] for place in range(2)] == ["4,5", "6,4"]
    assert variables(half, 3)["CUDA_VISIBLE_DEVICES"] == "4" and variables(one, 0)["OMP_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in variables(ExecutorSettings(), 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NARSError, match="finds none"):
        variables(one, 0)


def test_reasons_are_one_line() -> None:
    assert failure_of(RuntimeError()).reason == "RuntimeError"
    assert failure_of(KeyError("a\nb")).kind == "error"
    assert failure_of(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")).kind == "memory"
    cpu = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
    assert failure_of(cpu).kind == "memory" and failure_of(ValueError("out of memory")).kind == "error"
    assert killed(-signal.SIGSEGV).reason == "the worker was ended by SIGSEGV"
    assert killed(1).reason == "the worker ended with exit code 1"


def test_names_and_settings_are_checked() -> None:
    executor = build_executor("InProcessExecutor", BEHAVE, ExecutorSettings())
    assert isinstance(executor, InProcessExecutor)
    with pytest.raises(NARSError, match="'LocalPool'; did you mean LocalPoolExecutor.*known: InProcessExecutor, Local"):
        build_executor("LocalPool", BEHAVE, ExecutorSettings())
    for name in ("toy_candidates:nothing", "no_such_module:f", "toy_candidates", ":f"):
        with pytest.raises(NARSError, match="cannot be imported"):
            InProcessExecutor(name)
    for wrong in ({"workers": 0}, {"timeout_s": -1.0}, {"retries": -1}, {"cpus": float("nan")}):
        with pytest.raises(NARSError, match=f"executor setting {next(iter(wrong))} is"):
            ExecutorSettings(**wrong)


class Scripted(ScheduledExecutor):
    """Tasks that end when a script says so, on a clock of its own."""

    def __init__(self, script: dict, **settings):
        super().__init__(BEHAVE, ExecutorSettings(**settings))
        self.clock, self.most, self.killed = 0.0, 0, []
        self._script, self._running = script, {}

    def close(self) -> None:
        pass

    def _now(self) -> float:
        return self.clock

    def _launch(self, attempt) -> None:
        self._running[attempt.task.id] = self.clock + self._script[attempt.task.id]
        self.most = max(self.most, len(self._running))

    def _kill(self, task: int) -> None:
        self.killed.append(task)
        del self._running[task]

    def _poll(self, patience: float, schedule) -> None:
        for task in self._running:
            schedule.started(task, "w")
        task = min(self._running, key=self._running.get)
        if self._running[task] > self.clock + patience:
            self.clock += patience
            return
        self.clock = self._running.pop(task)
        schedule.finished(task, {"accuracy": 1.0})
        schedule.finished(task, {"accuracy": 2.0})  # said twice, heard once
        schedule.progress(task, 9, {})


def test_as_many_run_as_there_are_workers_and_each_ends_once() -> None:
    executor = Scripted({number: 1.0 + number % 3 for number in range(1, 11)}, workers=3)
    events = run(executor, [{}] * 10)
    assert executor.most == 3
    assert all([type(event) for event in of(events, task)] == [Started, Finished] for task in range(1, 11))
    assert all(last(events, task).result["accuracy"] == 1.0 for task in range(1, 11))


def test_time_counts_from_the_start_of_each_task() -> None:
    executor = Scripted({1: 5.0, 2: 4.0, 3: 50.0, 4: 4.0}, workers=2, timeout_s=6.0)
    events = run(executor, [{}] * 4)
    assert [last(events, 3).kind, last(events, 3).seconds] == ["timeout", pytest.approx(6.0)]
    assert executor.killed == [3] and all(isinstance(last(events, task), Finished) for task in (1, 2, 4))


def test_rounding_of_a_clock_does_not_make_a_time_limit_unreachable() -> None:
    begin = next(begin for begin in (0.1 * number for number in range(1, 100)) if (begin + 4.0) - begin < 4.0)
    executor = Scripted({1: begin, 2: 50.0}, workers=1, timeout_s=4.0)
    events = run(executor, [{}] * 2)
    assert isinstance(last(events, 1), Finished) and last(events, 2).kind == "timeout"
