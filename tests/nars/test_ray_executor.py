"""Tasks on a Ray that is started on this machine, once for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.executors import ExecutorSettings, Finished, Progress, RayExecutor, Retried, Started, Task
from fbnet_plugin.nars.executors.ray_executor import code_folders

BEHAVE = "toy_candidates:behave"


def test_without_ray_the_message_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NARSError, match=r"pip install 'fbnet_plugin\[ray\]'"):
        RayExecutor(BEHAVE)


def test_workers_are_told_of_working_folders_and_not_of_installed_packages() -> None:
    folders = code_folders()
    assert str(Path(__file__).parent) in folders
    assert not any("site-packages" in folder for folder in folders)


@pytest.fixture(scope="module")
def executor():
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # which would write a token into the home folder
        with RayExecutor(BEHAVE, ExecutorSettings(workers=2, timeout_s=2.0, retries=1)) as executor:
            yield executor


def test_all_outcomes_of_tasks(executor: RayExecutor, tmp_path: Path) -> None:
    payloads = {
        "return": {"epochs": 2, "threads": True},
        "raise": {"do": "raise"},
        "diverge": {"do": "diverge"},
        "memory": {"do": "cuda memory"},
        "no json": {"do": "no json"},
        "die once": {"do": "die once", "file": str(tmp_path / "once")},
        "hang": {"do": "hang"},
        "after": {"accuracy": 7.0},
    }
    events: list = []
    executor.run([Task(number, payload) for number, payload in enumerate(payloads.values(), 1)], events.append)
    of = {name: [event for event in events if event.id == n] for n, name in enumerate(payloads, 1)}
    assert [type(event) for event in of["return"]] == [Started, Progress, Progress, Finished]
    assert [event.epoch for event in of["return"][1:3]] == [1, 2] and "pid" in of["return"][0].worker
    result = of["return"][-1].result
    assert (result["accuracy"], result["threads"], result["omp"]) == (50.0, 1, "1")
    assert of["after"][-1].result["accuracy"] == 7.0
    kinds = {name: of[name][-1].kind for name in ("raise", "diverge", "memory", "no json", "hang")}
    assert kinds == {
        "raise": "error",
        "diverge": "diverged",
        "memory": "memory",
        "no json": "error",
        "hang": "timeout",
    }
    assert of["raise"][-1].reason == "ValueError: no such thing" and "behave" in of["raise"][-1].traceback
    assert [type(event) for event in of["die once"]] == [Started, Retried, Started, Finished]
    assert of["die once"][1].kind == "killed" and of["die once"][2].attempt == 2


def test_workers_are_kept_and_the_order_of_tasks_does_not_matter(executor: RayExecutor) -> None:
    results, pids = [], set()
    for numbers in (range(1, 7), range(6, 0, -1)):
        events: list = []
        executor.run([Task(number, {"accuracy": float(number)}) for number in numbers], events.append)
        found = {event.id: event.result for event in events if isinstance(event, Finished)}
        results.append({number: result["accuracy"] for number, result in found.items()})
        pids |= {result["pid"] for result in found.values()}
    assert results[0] == results[1] == {number: float(number) for number in range(1, 7)}
    assert len(pids) <= 3


def test_a_second_executor_shares_ray_and_leaves_it_to_the_first(executor: RayExecutor) -> None:
    with RayExecutor(BEHAVE, ExecutorSettings(workers=1)) as other:
        pass
    with pytest.raises(NARSError, match="closed"):
        other.run([Task(1, {})], print)
    events: list = []
    executor.run([Task(1, {})], events.append)
    assert isinstance(events[-1], Finished)
