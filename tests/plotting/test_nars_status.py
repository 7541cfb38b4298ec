"""A search's state for a terminal."""

from __future__ import annotations

import dataclasses
import re
from typing import List

import pytest
from nars_runs import arch, candidate, early_run, empty_run, four_candidates, full_run, stopped

from fbnet_plugin.nars.run_data import CandidateData, RunData
from fbnet_plugin.plotting.nars_numbers import failure_kinds, remaining, spent, stage, states
from fbnet_plugin.plotting.nars_status import status_text
from fbnet_plugin.plotting.nars_words import arch_text, duration, few_digits, flat, percent, value_text


def rows(text: str) -> List[List[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def run_of(*candidates: CandidateData, **changes) -> RunData:
    return RunData("a search", [], "classification/top1", list(candidates), **changes)


def test_a_run_that_has_just_begun() -> None:
    text = status_text(empty_run())
    assert text.splitlines() == [
        "Search in fbnet_v3_ema",
        "stage 1 of 3, just begun",
        "",
        "candidates:  0 done, 0 running, 0 pending, 0 failed",
    ]
    assert stage(dataclasses.replace(empty_run(), pretrain=early_run().pretrain)) == (1, "predictor pretrained")


def test_half_of_the_first_round() -> None:
    text = status_text(early_run())
    assert "stage 2 of 3, iterative optimization, round 1: 21 of 48 candidates ended" in text
    (row,) = [row for row in rows(text) if row[0] == "round 1 (random)"]
    assert row[1:5] == ["20", "4", "23", "1"]
    done = [one.accuracy for one in early_run().candidates if one.accuracy is not None]
    assert row[6] == f"{max(done):.2f}"
    assert "best winner" not in text and "early stop" not in text
    assert re.search(r"left: +about .* for the 27 candidates chosen so far, 4 at a time", text)


def test_a_finished_run_with_failures() -> None:
    run = full_run(48, 2)
    text = status_text(run)
    assert text.splitlines()[1] == "stage 3 of 3, finished"
    table = {row[0]: row for row in rows(text)}
    assert table["round 1 (random)"][1:5] == ["46", "0", "0", "2"] and table["winners"][1:5] == ["3", "0", "0", "1"]
    assert table["macs750M-1"][1:3] == ["macs <= 750M", "done"] and table["macs750M-1"][-1] == "81.73"
    assert table["macs650M-1"][-1] == "–"
    assert re.search(r"early stop: +epoch 18 of 30, rank correlation 0\.922 \(threshold 0\.92\)", text)
    assert re.search(r"failures: +2 × diverged, 1 × memory, 1 × timeout", text)
    assert re.search(
        r"best winner: +81\.73% classification/top1 at 7\d\dM MACs \(macs750M-1, predicted 78\.63%\)", text
    )
    assert "left:" not in text


def test_the_stage_follows_the_winners() -> None:
    run, _ = four_candidates()
    won = candidate(5, 450, 80.0, phase="winner", round=0)
    waiting = candidate(6, 500, None, phase="winner", round=0, state="pending")
    evolved = dataclasses.replace(run, evolution=full_run(4, 1).evolution[:1])
    assert stage(run) == (2, "iterative optimization, round 1: 4 of 4 candidates ended")
    assert stage(evolved) == (3, "evolution, 1 constraint set done")
    both = dataclasses.replace(evolved, candidates=[*run.candidates, won, waiting])
    assert stage(both) == (3, "evolution done, 1 of 2 winners still to be trained")
    assert stage(dataclasses.replace(evolved, candidates=[*run.candidates, won])) == (3, "finished")


def test_cost_counts_trainings_epochs_and_hours() -> None:
    failed = candidate(2, 450, None, state="failed", attempts=3, curve=((1, 10.0), (2, 11.0)), seconds=7200.0)
    ones = [candidate(1, 450, 80.0), failed, candidate(3, 450, None, state="pending", attempts=0, seconds=None)]
    assert spent(ones) == (4, 5, 7260.0)
    won = candidate(4, 450, 81.0, phase="winner", round=0, epochs=9, curve=((9, 81.0),), seconds=3600.0)
    line = next(line for line in status_text(run_of(*ones, won)).splitlines() if line.startswith("cost:"))
    assert line.split(None, 1)[1] == (
        "5 trainings, 14 epochs, 3.02 h of training; of these for winners 1, 9 and 1.00 h of training"
    )


def test_time_left_counts_epochs_of_the_same_phase_and_trainings_at_once() -> None:
    done = [
        candidate(number, 450, 80.0, seconds=seconds) for number, seconds in ((1, 30.0), (2, 60.0))
    ]  # 15 s an epoch
    waiting = [candidate(3, 450, None, state="pending", epochs=6, seconds=None)]
    assert remaining(run_of(*waiting)) is None
    assert remaining(run_of(*done, *waiting)) == (1, pytest.approx(90.0))
    running = [
        candidate(number, 450, None, state="running", epochs=6, curve=((1, 1.0), (2, 2.0)), seconds=None)
        for number in (4, 5)
    ]
    assert remaining(run_of(*done, *waiting, *running)) == (3, pytest.approx((90 + 60 + 60) / 2))
    won = candidate(6, 450, 81.0, phase="winner", round=0, epochs=3, seconds=300.0)
    next_one = candidate(7, 450, None, phase="winner", round=0, state="pending", epochs=3, seconds=None)
    assert remaining(run_of(*done, won, next_one)) == (1, pytest.approx(300.0))
    assert remaining(run_of(*done)) == (0, 0.0)


def test_best_is_taken_at_the_epoch_at_which_later_rounds_stop() -> None:
    stop = dataclasses.replace(stopped(3), epoch=2)
    late = candidate(2, 500, 79.0, round=2, epochs=2, curve=((1, 50.0), (2, 79.0)), predicted=78.0)
    text = status_text(run_of(candidate(1, 450, 80.0), late, early_stop=stop))  # 75% after epoch 2
    assert "best:        79.00% classification/top1 after epoch 2 at 500M MACs (r1-002, predicted 78.00%)" in text


def test_kinds_of_failure() -> None:
    def failed(kind: str, reason: str) -> CandidateData:
        return candidate(1, 450, None, state="failed", kind=kind, reason=reason)

    ones = [failed("", "ValueError: no"), failed("", ""), failed("killed", "SIGKILL: x"), failed("killed", "other")]
    assert failure_kinds(ones) == [("killed", 2), ("ValueError", 1), ("no reason given", 1)]
    assert states([*ones, candidate(2, 450, 1.0, state="waiting")]) == {
        "done": 0, "running": 0, "pending": 0, "failed": 4, "waiting": 1,
    }  # fmt: skip


def test_numbers_in_words() -> None:
    assert [few_digits(value) for value in (461.4, 7.3, 0.04212, 1234.0, float("nan"))] == [
        "461", "7.30", "0.0421", "1,234", "–",
    ]  # fmt: skip
    assert [duration(value) for value in (0, 0.04, 45, 720, 11100, 187200)] == [
        "0 s", "0.04 s", "45 s", "12 min", "3 h 05 min", "2 d 4 h",
    ]  # fmt: skip
    assert percent(93.409, 0.3) == "93.41 ± 0.30" and percent(None) == "–"
    assert [value_text(value) for value in (True, False, None, 0.123456, 1.4e-05, "sgd", 3)] == [
        "yes", "no", "–", "0.1235", "1.4e-05", "sgd", "3",
    ]  # fmt: skip
    assert flat({"a": {"b": 1}, "c": 2}) == {"a.b": 1, "c": 2}


def test_an_architecture_in_a_line() -> None:
    assert arch_text(arch(24)) == "224 px: conv 16×1 k3, 16×1 k3 e1 | 24×3 k5 e4 se"
    rows = [{"op": "mb", "out": 24, "kernel": 3, "expansion": 5, "stride": 2}]
    rows += [{"op": "mb", "out": 24, "kernel": 3, "expansion": 2, "repeat": 2}, {"op": "skip", "out": 24}]
    assert arch_text({"name": "x", "resolution": 64, "stages": [rows]}) == "64 px: 24×3 k3 e5/2, 24×1 skip"
    assert arch_text({}) == ""
