"""The trainings of an ablation as processes: order, failures, interruptions, progress."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import List

import pytest
from small_ablation import fake_command, small_plan

from fbnet_plugin.ablation.errors import AblationError
from fbnet_plugin.ablation.lock import sole_writer
from fbnet_plugin.ablation.outcome import read_outcome
from fbnet_plugin.ablation.plan import begin
from fbnet_plugin.ablation.progress import duration, remaining_s
from fbnet_plugin.ablation.schedule import Schedule, environment
from fbnet_plugin.engine import TrainingStopped

NAMES = ["teacher", "labels-seed3", "distilled-seed3", "labels-seed4", "distilled-seed4"]


class Ablation:
    """A plan, its folder, and what was said."""

    def __init__(self, root: Path):
        self.plan, self.folder, self.said = small_plan(root), root / "out", []  # type: ignore[var-annotated]
        begin(self.plan, str(self.folder))

    def run(self, say=None, **options) -> List[str]:
        def both(text: str) -> None:
            self.said.append(text)
            if say is not None:
                say(text)

        return Schedule(self.plan, str(self.folder), command=fake_command, say=both, **options).run()

    def tell(self, file: str, *names: str) -> None:
        (self.folder / file).write_text(" ".join(names))

    def starts(self) -> List[str]:
        """Names of what was started, since the last call."""
        path = self.folder / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]

    def states(self) -> List[str]:
        return [read_outcome(str(self.folder / name)).state for name in NAMES]


@pytest.fixture
def ablation(tmp_path) -> Ablation:
    return Ablation(tmp_path)


def test_each_training_runs_once_with_the_teacher_first(ablation) -> None:
    changes = []
    assert ablation.run(changed=lambda: changes.append(len(ablation.states()))) == []
    assert ablation.starts() == NAMES and ablation.states() == ["done"] * 5 and len(changes) == 5
    assert ablation.said[0].startswith("[0/5] teacher begins") and ablation.said[-1].startswith(
        "[5/5] distilled-seed4 done"
    )
    assert ablation.run() == [] and ablation.starts() == []
    assert ablation.said[-1] == "5 of 5 trainings are done already"


def test_a_failure_is_noted_the_others_go_on_and_it_is_tried_again(ablation) -> None:
    ablation.tell("fail", "labels-seed3")
    assert ablation.run() == ["labels-seed3"]
    assert ablation.states() == ["done", "failed", "done", "done", "done"]
    reason = read_outcome(str(ablation.folder / "labels-seed3")).reason
    assert reason.splitlines() == ["exit code 1", "what was read", "error: no memory left"]
    assert any("labels-seed3 failed: error: no memory left" in line for line in ablation.said)
    ablation.starts()
    ablation.tell("fail")
    assert ablation.run() == [] and ablation.starts() == ["labels-seed3"] and ablation.states() == ["done"] * 5


def test_students_of_a_teacher_that_failed_are_not_begun(ablation) -> None:
    ablation.tell("fail", "teacher")
    assert ablation.run() == ["teacher", "distilled-seed3", "distilled-seed4"]
    assert ablation.starts() == ["teacher", "labels-seed3", "labels-seed4"]
    assert read_outcome(str(ablation.folder / "distilled-seed4")).reason == "its teacher failed: teacher"
    ablation.tell("fail")
    assert ablation.run() == [] and ablation.starts() == ["teacher", "distilled-seed3", "distilled-seed4"]


def test_ctrl_c_stops_what_runs_and_the_same_ablation_goes_on(ablation) -> None:
    ablation.tell("hang", "distilled-seed3")

    def interrupt(text: str) -> None:
        if "distilled-seed3 at iteration 10" in text:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingStopped) as stopped:
        ablation.run(interrupt, period_s=0.3)
    assert stopped.value.signum == signal.SIGINT and ablation.said[-1] == "distilled-seed3 stopped"
    assert any("; about " in line for line in ablation.said)
    assert ablation.states() == ["done", "done", "begun", "waiting", "waiting"]
    ablation.starts()
    ablation.tell("hang")
    assert ablation.run() == [] and ablation.starts() == NAMES[2:] and ablation.states() == ["done"] * 5
    assert any("distilled-seed3 goes on" in line for line in ablation.said)


def test_an_error_here_leaves_no_training_behind(ablation) -> None:
    ablation.tell("hang", "teacher")

    def fail(text: str) -> None:
        if "teacher at" in text:
            raise OSError("no space left")

    began = time.monotonic()
    with pytest.raises(OSError, match="no space left"):
        ablation.run(fail, period_s=0.3)
    assert time.monotonic() - began < 30  # else it would have waited for it


def test_several_at_a_time_share_the_threads(ablation, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert ablation.run(jobs=2) == []
    lines = [line.split() for line in (ablation.folder / "starts").read_text().splitlines()]
    assert sorted(name for name, *_ in lines) == sorted(NAMES) and {threads for _, threads, _ in lines} == {"4"}
    begun = [number for number, line in enumerate(ablation.said) if " begins" in line]
    assert begun[:2] == [0, 1]  # the second did not wait for the first; no student could be the second
    assert "labels-seed3" in ablation.said[1]


def test_gpus_are_dealt_out(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert environment(1, 2, 2)["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert environment(0, 2, 1)["CUDA_VISIBLE_DEVICES"] == "4"
    assert "CUDA_VISIBLE_DEVICES" not in environment(0, 2, 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in environment(0, 2, 0)


def test_time_left_follows_from_what_has_ended_or_from_what_runs() -> None:
    assert remaining_s([], [(5.0, None, None)], 3, 1) is None
    assert remaining_s([], [(20.0, 9, 80.0)], 2, 1) == 80 + 2 * 100
    assert remaining_s([60.0, 80.0], [(50.0, None, None)], 2, 1) == 20 + 2 * 70
    assert remaining_s([60.0, 80.0], [(50.0, 9, 30.0), (100.0, None, None)], 2, 2) == (30 + 0 + 2 * 70) / 2
    assert [duration(seconds) for seconds in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]


def test_two_processes_do_not_run_one_ablation(tmp_path) -> None:
    child = os.fork()
    if child == 0:  # another process, as a process may take its own lock twice
        with sole_writer(str(tmp_path), wait=False):
            (tmp_path / "held").touch()
            time.sleep(30)
        os._exit(0)
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with pytest.raises(AblationError, match="another process is running this ablation"):
            with sole_writer(str(tmp_path), wait=False):
                pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with sole_writer(str(tmp_path), wait=False):  # one that is dead holds nothing
        pass
