"""One SQLite file with every candidate: states, the ledger, readers beside a writer, files that cannot be used."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.store import Store
from fbnet_plugin.nars.store_data import NewCandidate


def new(name: str, phase: str = "search", round: int = 1, **changed) -> NewCandidate:
    values = {
        "origin": "random",
        "point": (0, 3, 1),
        "arch": {"name": name},
        "recipe": {"lr": 0.1},
        "costs": {"macs": 1e6, "params": 2e5},
        **changed,
    }
    return NewCandidate(phase=phase, round=round, name=name, **values)


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "nars.sqlite") as store:
        yield store


def test_a_candidate_comes_back_as_it_was_chosen(store: Store) -> None:
    ids = store.add([new("a", seed=7, extra={"x": [1, 2]}, predicted=71.5, predicted_std=0.5, epochs=9), new("b")])
    assert ids == [1, 2] and store.add([new("c", point=None)]) == [3]
    first = store.candidates()[0]
    assert (first.id, first.name, first.phase, first.round, first.origin) == (1, "a", "search", 1, "random")
    assert first.costs == {"macs": 1e6, "params": 2e5} and first.arch == {"name": "a"} and first.recipe == {"lr": 0.1}
    assert (first.predicted, first.predicted_std, first.epochs) == (71.5, 0.5, 9)
    assert (first.state, first.accuracy, first.curve, first.attempts, first.reason) == ("pending", None, (), 0, "")
    assert store.point(1) == (0, 3, 1) and store.point(3) is None
    assert store.seed(1) == 7 and store.extra(1) == {"x": [1, 2]}


def test_numbers_of_numpy_are_plain_numbers_in_the_file(store: Store) -> None:
    point = tuple(np.array([4, 2], dtype=np.int64))
    store.add([new("a", point=point, costs={"macs": np.float64(3.0)}, seed=np.int64(5), predicted=np.float32(1.5))])
    assert store.point(1) == (4, 2) and store.seed(1) == 5
    assert store.candidates()[0].costs == {"macs": 3.0} and store.candidates()[0].predicted == 1.5


def test_candidates_are_selected_by_phase_round_and_state(store: Store) -> None:
    store.add([new("r1"), new("r2", round=2), new("w", phase="winner", round=0)])
    store.start(2)
    assert [one.name for one in store.candidates(phase="search")] == ["r1", "r2"]
    assert [one.name for one in store.candidates(round=0)] == ["w"]
    assert [one.name for one in store.candidates(phase="search", state="running")] == ["r2"]
    assert store.counts() == {"pending": 2, "running": 1, "done": 0, "failed": 0}
    assert store.counts("search", 1) == {"pending": 1, "running": 0, "done": 0, "failed": 0}


def test_add_adds_all_or_none(store: Store) -> None:
    store.add([new("a")])
    with pytest.raises(NARSError, match="UNIQUE.*phase"):
        store.add([new("b"), new("a")])
    with pytest.raises(NARSError, match="'c': its predicted accuracy is nan"):
        store.add([new("b"), new("c", predicted=float("nan"))])
    with pytest.raises(NARSError, match="'d': its costs cannot be stored"):
        store.add([new("d", costs={"macs": float("inf")})])
    assert [one.name for one in store.candidates()] == ["a"]
    assert store.add([new("a", phase="winner")]) == [2]


def test_the_way_of_a_candidate_that_is_done(store: Store) -> None:
    store.add([new("a")])
    assert store.start(1, "worker 0") == 1
    store.record_epoch(1, 1, {"accuracy": 50.0, "loss": 1.0})
    store.record_epoch(1, 2, {"accuracy": 59.0})
    store.record_epoch(1, 2, {"accuracy": 60.0, "loss": float("nan")})
    store.finish(1, 60.0, {"top5": 90.0, "odd": float("inf")}, 12.5)
    found = store.candidates()[0]
    assert (found.state, found.accuracy, found.seconds) == ("done", 60.0, 12.5)
    assert found.curve == ((1, 50.0), (2, 60.0)) and found == store.candidate(1)
    assert store.epochs(1) == {1: {"accuracy": 50.0, "loss": 1.0}, 2: {"accuracy": 60.0}}
    assert store.values(1) == {"top5": 90.0}
    (attempt,) = store.attempts()
    assert (attempt.candidate, attempt.attempt, attempt.worker, attempt.outcome) == (1, 1, "worker 0", "done")
    assert attempt.ended >= attempt.started


def test_what_is_done_is_never_started_again(store: Store) -> None:
    store.add([new("a")])
    store.start(1)
    store.finish(1, 60.0, {}, 1.0)
    for change in (
        lambda: store.start(1),
        lambda: store.requeue(1),
        lambda: store.fail(1, "error", "", "", 0.0),
        lambda: store.record_epoch(1, 3, {}),
        lambda: store.finish(1, 70.0, {}, 1.0),
    ):
        with pytest.raises(NARSError, match=r"candidate 1 \(a\) is done, not"):
            change()
    assert store.candidates()[0].accuracy == 60.0 and len(store.attempts()) == 1


def test_only_what_runs_can_end(store: Store) -> None:
    store.add([new("a")])
    with pytest.raises(NARSError, match="is pending, not running"):
        store.finish(1, 60.0, {}, 1.0)
    with pytest.raises(NARSError, match="no candidate 9"):
        store.start(9)
    store.start(1)
    with pytest.raises(NARSError, match="is running, not pending"):
        store.start(1)


def test_a_failure_keeps_its_reason_and_traceback(store: Store) -> None:
    store.add([new("a")])
    store.start(1)
    store.record_epoch(1, 1, {"accuracy": 10.0})
    store.fail(1, "diverged", "loss is nan", "Traceback ...", 3.0)
    found = store.candidates()[0]
    assert (found.state, found.reason, found.accuracy, found.seconds) == ("failed", "loss is nan", None, 3.0)
    assert found.curve == ((1, 10.0),)
    assert store.kind(1) == "diverged" and store.traceback(1) == "Traceback ..."
    assert store.attempts()[0].outcome == "diverged"


def test_an_accuracy_that_is_not_finite_is_no_result(store: Store) -> None:
    store.add([new("a")])
    store.start(1)
    with pytest.raises(NARSError, match="accuracy is nan"):
        store.finish(1, float("nan"), {}, 1.0)
    assert store.candidates()[0].state == "running"


def test_a_new_attempt_begins_with_an_empty_curve_and_both_stay_in_the_ledger(store: Store) -> None:
    store.add([new("a")])
    store.start(1)
    store.record_epoch(1, 1, {"accuracy": 10.0})
    store.requeue(1, "killed")
    assert store.candidates()[0].state == "pending"
    assert store.start(1) == 2
    assert store.candidates()[0].curve == () and store.candidates()[0].attempts == 2
    assert [one.outcome for one in store.attempts(1)] == ["killed", "running"]
    store.fail(1, "error", "x", "", 0.0)
    store.requeue(1)
    assert [one.outcome for one in store.attempts(1)] == ["killed", "error"]
    assert store.start(1) == 3 and store.candidates()[0].reason == "" and store.kind(1) == ""


def test_values_and_arrays_are_kept_for_the_next_process(tmp_path: Path) -> None:
    arrays = {"points": np.arange(6).reshape(2, 3), "codes": np.ones(2, np.float32)}
    with Store(tmp_path / "s") as store:
        store.put("a", {"b": [1, 2.5, None]})
        store.put_many({"a": 2, "c": "x"})
        store.put_arrays("pool", arrays)
    with Store(tmp_path / "s") as store:
        assert store.get("a") == 2 and store.get("c") == "x" and store.get("d", 4) == 4
        kept = store.get_arrays("pool")
        assert store.get_arrays("other") is None
    assert {name: array.dtype for name, array in kept.items()} == {"points": np.int64, "codes": np.float32}
    assert all(np.array_equal(kept[name], arrays[name]) for name in arrays)


def test_what_cannot_be_kept_as_plain_data_is_refused(store: Store) -> None:
    with pytest.raises(NARSError, match="'b' cannot be stored: Out of range float"):
        store.put_many({"a": 1, "b": float("nan")})
    assert store.get("a") is None
    with pytest.raises(NARSError, match="'a' cannot be stored: set"):
        store.put("a", {1, 2})
    with pytest.raises(NARSError, match="array 'x' is of Python objects"):
        store.put_arrays("a", {"x": np.array([{}])})


def test_after_a_crash_what_was_running_is_pending(tmp_path: Path) -> None:
    path = tmp_path / "nars.sqlite"
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); from test_store import Store, new\n"
        "store = Store(sys.argv[1]); store.add([new(name) for name in 'abcd'])\n"
        "store.start(1); store.finish(1, 50.0, {}, 1.0); store.start(2); store.start(3)\n"
        "store.record_epoch(3, 1, {'accuracy': 5.0}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", script, path, Path(__file__).parent], env=_env())
    assert killed.returncode == -9
    with Store(path, read_only=True) as store:  # before anybody recovers it
        assert store.counts() == {"pending": 1, "running": 2, "done": 1, "failed": 0}
        assert store.candidates()[2].curve == ((1, 5.0),)
    with Store(path) as store:
        assert store.recover() == [2, 3] and store.recover() == []
        assert [one.state for one in store.candidates()] == ["done", "pending", "pending", "pending"]
        assert [one.attempts for one in store.candidates()] == [1, 1, 1, 0]
        assert [one.outcome for one in store.attempts()] == ["done", "lost", "lost"]
        store.start(2)
    assert sorted(os.listdir(tmp_path)) == ["nars.sqlite"]


def _env() -> dict:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def test_others_read_while_one_process_writes(store: Store) -> None:
    store.add([new("a"), new("b")])
    with Store(store.path, read_only=True) as reader:
        assert reader.counts()["pending"] == 2
        store.start(1)
        assert reader.counts() == {"pending": 1, "running": 1, "done": 0, "failed": 0}
        with pytest.raises(NARSError, match="reading only"):
            reader.start(2)
        store.record_epoch(1, 1, {"accuracy": 4.0})
        assert reader.candidate(1).curve == ((1, 4.0),)


def test_a_second_writer_is_refused(store: Store) -> None:
    with pytest.raises(NARSError, match="already open for writing"):
        Store(store.path)
    script = "import sys; from fbnet_plugin.nars.store import Store; Store(sys.argv[1])"
    command = [sys.executable, "-W", "ignore", "-c", script, store.path]
    other = subprocess.run(command, env=_env(), capture_output=True, text=True)
    assert other.returncode == 1
    assert f"another process (id {os.getpid()}) is running this search" in other.stderr.splitlines()[-1]
    store.add([new("a")])


def test_after_a_proper_end_one_file_remains_that_a_folder_without_write_access_can_hold(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.add([new("a")])
    store.close()
    assert os.listdir(tmp_path) == ["s"]
    with Store(tmp_path / "s", read_only=True) as store:
        assert [one.name for one in store.candidates()] == ["a"]
    assert os.listdir(tmp_path) == ["s"]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(NARSError, match="nothing.sqlite: there is no such file"):
        Store(tmp_path / "nothing.sqlite", read_only=True)
    assert os.listdir(tmp_path) == []
    (tmp_path / "empty").touch()
    with pytest.raises(NARSError, match="is empty"):
        Store(tmp_path / "empty", read_only=True)
    with pytest.raises(NARSError, match="cannot be written"):
        Store(tmp_path / "folder" / "s")


def test_a_file_that_was_begun_and_no_more_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    with Store(tmp_path / "s") as store:
        assert store.add([new("a")]) == [1]


@pytest.mark.parametrize("read_only", [True, False])
def test_files_that_are_no_store_are_named(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one " * 40)
    with pytest.raises(NARSError, match="text is damaged or not the store"):
        Store(tmp_path / "text", read_only=read_only)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE x (y)")
    other.close()
    before = (tmp_path / "other").read_bytes()
    with pytest.raises(NARSError, match="other is not the store of a search but another SQLite file"):
        Store(tmp_path / "other", read_only=read_only)
    assert (tmp_path / "other").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["other", "text"]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "change, message",
    [
        ("UPDATE format SET version = 2", "version 2 of the format, this is version 1; a newer fbnet_plugin"),
        ("UPDATE format SET name = 'x'", "its format is 'x'"),
        ("DELETE FROM format", "its format is 'nothing'"),
    ],
)
def test_other_and_newer_formats_are_refused(tmp_path: Path, change: str, message: str, read_only: bool) -> None:
    Store(tmp_path / "s").close()
    with sqlite3.connect(tmp_path / "s") as changed:
        changed.execute(change)
    changed.close()
    with pytest.raises(NARSError, match=message):
        Store(tmp_path / "s", read_only=read_only)


def test_a_damaged_file_is_an_error_and_no_empty_run(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store(path) as store:
        store.add([new(f"n{number}", extra={"x": "y" * 2000}) for number in range(50)])
    data = bytearray(path.read_bytes())
    data[8192:40000] = os.urandom(40000 - 8192)
    path.write_bytes(data)
    with pytest.raises(NARSError, match="s is damaged"):
        Store(path)
    path.write_bytes(data[:5000])
    with pytest.raises(NARSError, match="s is damaged|malformed"):
        Store(path)


def test_an_exception_in_the_middle_of_a_transaction_leaves_nothing(store: Store, monkeypatch) -> None:
    store.add([new("a")])

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    store.start(1)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_end_attempt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.finish(1, 50.0, {}, 1.0)
    assert store.candidates()[0].state == "running"
    store.requeue(1)
    assert store.candidates()[0].state == "pending"


def test_the_file_holds_no_pickle_and_can_be_read_without_this_package(store: Store) -> None:
    store.add([new("a")])
    store.put_arrays("x", {"y": np.arange(3)})
    plain = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    assert json.loads(plain.execute("SELECT arch FROM candidates").fetchone()[0]) == {"name": "a"}
    assert plain.execute("SELECT npz FROM arrays").fetchone()[0][:2] == b"PK"
    plain.close()
