"""Candidates of a store trained by an executor: what is recorded, what ends it, and what is left after kill -9."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fbnet_plugin.engine.stop import TrainingStopped
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.evaluation import Tally, duration, evaluate
from fbnet_plugin.nars.executors import (
    Executor,
    Failed,
    Finished,
    InProcessExecutor,
    Progress,
    Retried,
    Started,
)
from fbnet_plugin.nars.store import Store
from fbnet_plugin.nars.store_data import NewCandidate

BEHAVE = "toy_candidates:behave"


def new(number: int, **payload) -> NewCandidate:
    """A candidate whose training does what ``payload`` says."""
    return NewCandidate("search", 1, f"r1-{number:03d}", "random", (number,), {}, {}, {"macs": 1.0}, extra=payload)


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "nars.sqlite") as store:
        yield store


def train(store: Store, executor: Executor, ids=None, limit: int = 0, **options) -> Tally:
    ids = [one.id for one in store.candidates()] if ids is None else ids
    return evaluate(store, executor, ids, lambda one: store.extra(one.id), limit, **options)


class Canned(Executor):
    """Tells of each task what a script says."""

    closed = False

    def __init__(self, script: dict):
        super().__init__(BEHAVE)
        self.script, self.taken = script, []

    def run(self, tasks, on_event) -> None:
        for task in tasks:
            self.taken.append(task.id)
            for event in self.script[task.id]:
                on_event(event)

    def close(self) -> None:
        self.closed = True


def done(number: int, accuracy: float = 50.0) -> list:
    return [Started(number, 1, "w"), Finished(number, {"accuracy": accuracy, "values": {"top5": 90.0}}, 2.0)]


def failed(number: int, reason: str = "no") -> list:
    return [Started(number, 1, "w"), Failed(number, "error", reason, "Traceback", 2.0)]


def test_everything_that_happens_is_in_the_store(store: Store) -> None:
    store.add([new(number) for number in range(1, 5)])
    retried = [Started(3, 1, "a"), Progress(3, 1, {"accuracy": 1.0}), Retried(3, 1, "killed", "gone")]
    script = {
        1: [Started(1, 1, "w"), Progress(1, 1, {"accuracy": 40.0}), Progress(1, 2, {"accuracy": 50.0}), done(1)[1]],
        2: failed(2, "ValueError: x"),
        3: [*retried, Started(3, 2, "b"), Progress(3, 1, {"accuracy": 2.0}), done(3)[1]],
        4: done(4, float("nan")),
    }
    tally = train(store, Canned(script))
    one, two, three, four = store.candidates()
    assert (one.state, one.accuracy, one.curve, one.seconds) == ("done", 50.0, ((1, 40.0), (2, 50.0)), 2.0)
    assert store.values(1) == {"top5": 90.0}
    assert (two.state, two.reason, store.kind(2), store.traceback(2)) == (
        "failed",
        "ValueError: x",
        "error",
        "Traceback",
    )
    assert (three.state, three.attempts, three.curve) == ("done", 2, ((1, 2.0),))
    assert [(attempt.worker, attempt.outcome) for attempt in store.attempts(3)] == [("a", "killed"), ("b", "done")]
    assert (four.state, store.kind(4), four.reason) == ("failed", "diverged", "its accuracy is nan")
    assert (tally.total, tally.done, tally.failed) == (4, 2, 2)


def test_a_result_without_accuracy_is_a_failure(store: Store) -> None:
    store.add([new(1)])
    train(store, Canned({1: [Started(1, 1, "w"), Finished(1, {"loss": 1}, 0.0)]}))
    assert store.kind(1) == "error" and "no accuracy: {'loss': 1}" in store.candidates()[0].reason


def test_what_has_ended_before_is_not_trained_again(store: Store) -> None:
    store.add([new(number) for number in range(1, 4)])
    script = {number: done(number) for number in (1, 3)} | {2: failed(2)}
    train(store, Canned(script), ids=[3, 2])
    executor = Canned(script)
    train(store, executor)
    assert executor.taken == [1] and not executor.closed
    assert len(store.attempts()) == 3
    store.add([new(4)])
    store.start(4)
    with pytest.raises(NARSError, match="recovered first"):
        train(store, executor)


def test_too_many_failures_in_a_row_end_the_search_and_name_the_last(store: Store) -> None:
    store.add([new(number) for number in range(1, 8)])
    script = {number: failed(number, f"reason {number}") for number in range(1, 7)} | {3: done(3), 7: done(7)}
    executor = Canned(script)
    with pytest.raises(NARSError, match="3 candidates in a row have failed; the last one, r1-006: reason 6"):
        train(store, executor, limit=3)
    assert executor.closed and executor.taken == [1, 2, 3, 4, 5, 6]
    assert store.counts() == {"pending": 1, "running": 0, "done": 1, "failed": 5}
    assert train(store, Canned(script), limit=3).done == 1


def test_failures_are_never_the_end(store: Store) -> None:
    does = ["raise", "diverge", "memory", "nan", "exit", "return"]
    store.add([new(number, do=do, epochs=1) for number, do in enumerate(does, 1)])
    train(store, InProcessExecutor(BEHAVE))
    kinds = [store.kind(number) for number in range(1, 7)]
    assert kinds == ["error", "diverged", "memory", "diverged", "error", ""]
    assert "ValueError" in store.traceback(1) and store.counts()["done"] == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_leaves_what_was_running_pending(store: Store, signum: int) -> None:
    store.add([new(number, epochs=2) for number in range(1, 4)])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    class Pressed(InProcessExecutor):
        def run(self, tasks, on_event) -> None:
            def press(event) -> None:
                on_event(event)
                if isinstance(event, Progress) and event.id == 2:
                    signal.raise_signal(signum)

            super().run(tasks, press)

    with pytest.raises(TrainingStopped):
        train(store, Pressed(BEHAVE))
    assert [one.state for one in store.candidates()] == ["done", "pending", "pending"]
    assert [attempt.outcome for attempt in store.attempts()] == ["done", "interrupted"]
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    train(store, InProcessExecutor(BEHAVE))
    assert store.counts()["done"] == 3 and store.candidates()[1].attempts == 2


def test_one_line_per_candidate_says_how_far_it_is(store: Store, caplog) -> None:
    store.add([new(number) for number in range(1, 4)])
    seen = []
    with caplog.at_level(logging.INFO, logger="fbnet_plugin.nars.evaluation"):
        script = {1: done(1), 2: failed(2, "ValueError: x"), 3: done(3)}
        train(store, Canned(script), on_progress=lambda tally: seen.append(tally.left_s))
    assert caplog.messages == [
        "r1-001: 50.00 % in 2 s (1/3; 2 s each, 4 s left)",
        "r1-002: failed (error), ValueError: x in 2 s (2/3, 1 failed; 2 s each, 2 s left)",
        "r1-003: 50.00 % in 2 s (3/3, 1 failed; 2 s each, 0 s left)",
    ]
    assert seen == [4.0, 2.0, 0.0]
    assert Tally(total=48, workers=10, done=1, seconds=[60.0]).left_s == 5 * 60.0
    assert [duration(value) for value in (41.2, 720.0, 12240.0)] == ["41 s", "12 min", "3.4 h"]


# A process that goes on with the candidates of a store: the one to be killed. Forked, as importing takes seconds.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from test_evaluation import Store, InProcessExecutor, evaluate, new
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
def search():
    with Store(folder / "nars.sqlite") as store:
        store.recover()
        if not store.candidates():
            store.add([new(n, accuracy=n, epochs=3, sleep=0.006, file=str(folder / str(n))) for n in range(1, 31)])
        ids = [one.id for one in store.candidates()]
        evaluate(store, InProcessExecutor("toy_candidates:behave"), ids, lambda one: store.extra(one.id), 0)
rng, seen = random.Random(0), []
for turn in range(kills + 1):
    child = os.fork()
    if not child:
        search()
        os._exit(0)
    if turn < kills:
        end = time.monotonic() + rng.uniform(0.0, 0.12)
        while time.monotonic() < end:
            try:
                with Store(folder / "nars.sqlite", read_only=True) as store:
                    accuracies = [one.accuracy for one in store.candidates(state="done")]
                    seen.append((sum(store.counts().values()), accuracies))
            except Exception as error:
                assert "no such file" in str(error) or "is empty" in str(error), error
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(json.dumps(seen))
"""


def run_script(script: str, *arguments, **options) -> subprocess.Popen:
    folders = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **options)


def test_killed_at_random_moments_nothing_is_done_twice_and_the_result_is_the_same(tmp_path: Path) -> None:
    kills = 25
    process = run_script(KILLED, tmp_path, kills, stdout=subprocess.PIPE)
    seen = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    with Store(tmp_path / "nars.sqlite", read_only=True) as store:
        found, ledger = store.candidates(), store.attempts()
    with Store(tmp_path / "uninterrupted.sqlite") as other:
        other.add([new(number, accuracy=number, epochs=3) for number in range(1, 31)])
        train(other, InProcessExecutor(BEHAVE))
        expected = other.candidates()
    assert [(one.name, one.accuracy, one.curve) for one in found] == [
        (one.name, one.accuracy, one.curve) for one in expected
    ]
    outcomes = Counter(attempt.outcome for attempt in ledger)
    assert outcomes["done"] == 30 and set(outcomes) <= {"done", "lost"}
    assert 3 <= outcomes["lost"] <= kills  # one at a time is in flight
    assert all(Counter(attempt.candidate for attempt in ledger)[one.id] == one.attempts for one in found)
    for one in found:  # what a training wrote itself agrees: one that was done is not trained again
        assert 1 <= len((tmp_path / str(one.id)).read_text().splitlines()) <= one.attempts
    assert len(seen) > 20  # those who looked on always saw a whole state
    assert all(total in (0, 30) and None not in accuracies for total, accuracies in seen)
    counts = [len(accuracies) for _, accuracies in seen]
    assert counts == sorted(counts) and counts[-1] > 0


# Two searches one after the other in the same folder, each with a pool of workers and in a process group of its own.
POOL = """
import os, sys
from fbnet_plugin.nars.executors import ExecutorSettings, LocalPoolExecutor
from test_evaluation import Store, evaluate
if __name__ == "__main__":
    for workers in (2, 1):
        if not os.fork():
            os.setpgid(0, 0)
            print(os.getpid(), flush=True)
            with Store(sys.argv[1]) as store:
                store.recover()
                ids = [one.id for one in store.candidates()]
                with LocalPoolExecutor("toy_candidates:behave", ExecutorSettings(workers=workers)) as pool:
                    evaluate(store, pool, ids, lambda one: store.extra(one.id), 0)
            os._exit(0)
        os.wait()
"""


def test_searches_with_workers_that_are_killed_and_stopped_lose_at_most_what_was_in_flight(tmp_path: Path) -> None:
    path, script = tmp_path / "nars.sqlite", tmp_path / "search.py"
    with Store(path) as store:
        store.add([new(number, accuracy=number, epochs=4, sleep=0.05) for number in range(1, 19)])
    script.write_text(POOL)
    with run_script(
        "import runpy, sys; runpy.run_path(sys.argv[2], run_name='__main__')", path, script, **QUIET
    ) as two:
        for signum, enough in ((signal.SIGKILL, 3), (signal.SIGINT, 7)):
            group = int(two.stdout.readline())
            wait_until_done(path, enough)
            os.killpg(group, signum)  # as a terminal sends Ctrl-C: to all that have not left the group
    with Store(path) as store:
        assert store.recover() == []  # Ctrl-C has left nothing running
        before = store.counts()["done"]
        assert 7 <= before < 18 and train(store, InProcessExecutor(BEHAVE)).done == 18 - before
        outcomes = Counter(attempt.outcome for attempt in store.attempts())
        assert outcomes["done"] == 18 and set(outcomes) <= {"done", "lost", "interrupted"}
        assert outcomes["lost"] <= 2 and outcomes["interrupted"] <= 1
        assert [one.accuracy for one in store.candidates()] == [float(number) for number in range(1, 19)]


QUIET = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}


def wait_until_done(path: Path, count: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with Store(path, read_only=True) as reader:
            if reader.counts()["done"] >= count:
                return
        time.sleep(0.02)
    raise AssertionError(f"{count} candidates were not done in time")
