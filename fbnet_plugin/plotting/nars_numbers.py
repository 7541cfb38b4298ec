"""The numbers of a search's status and report: counts, costs, comparable accuracies, the best candidates."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..nars.run_data import CandidateData, EarlyStopData, RunData

SEARCH, WINNER = "search", "winner"
Values = Union[Sequence[float], np.ndarray]
STATES = ("done", "running", "pending", "failed")


class Spent(NamedTuple):
    """What trainings cost.

    Attributes:
        trainings: started, retries included.
        epochs: trained, of each candidate's last attempt.
        seconds: of each candidate's last attempt, as far as known.
    """

    trainings: int
    epochs: int
    seconds: float


class Remaining(NamedTuple):
    """What is left to train of the candidates that have been chosen.

    Attributes:
        candidates: that wait or run.
        seconds: wall time at as many trainings at once as now.
    """

    candidates: int
    seconds: float


def of_phase(run: RunData, phase: str) -> List[CandidateData]:
    """The candidates of one phase, in order of id."""
    return [candidate for candidate in run.candidates if candidate.phase == phase]


def rounds(run: RunData) -> List[int]:
    """Rounds of the iterative optimization that have candidates, ascending."""
    return sorted({candidate.round for candidate in of_phase(run, SEARCH)})


def states(candidates: Sequence[CandidateData]) -> Dict[str, int]:
    """Number of candidates in each state, the usual ones first and always there."""
    count = Counter(candidate.state for candidate in candidates)
    return {state: count.get(state, 0) for state in (*STATES, *sorted(set(count) - set(STATES)))}


def stage(run: RunData) -> Tuple[int, str]:
    """Which of the paper's three stages a run has reached (Algorithm 1), and what it does there."""
    winners, search = of_phase(run, WINNER), of_phase(run, SEARCH)
    if winners or run.evolution:
        open_ones = sum(states(winners)[state] for state in ("running", "pending"))
        if open_ones:
            return 3, f"evolution done, {open_ones} of {_counted(len(winners), 'winner')} still to be trained"
        if winners:
            return 3, "finished"
        return 3, f"evolution, {_counted(len(run.evolution), 'constraint set')} done"
    if search:
        last = max(candidate.round for candidate in search)
        chosen = [candidate for candidate in search if candidate.round == last]
        ended = states(chosen)["done"] + states(chosen)["failed"]
        return 2, f"iterative optimization, round {last}: {ended} of {len(chosen)} candidates ended"
    return 1, "predictor pretrained" if run.pretrain is not None else "just begun"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def at_epoch(candidate: CandidateData, early_stop: Optional[EarlyStopData]) -> Optional[float]:
    """Accuracy, %, that can be compared across rounds: after the epoch at which later rounds stop.

    Round 1 trains on after that epoch; without an early stop, or without a curve up to there, it is the last accuracy.
    None unless the candidate is done.
    """
    if candidate.state != "done" or candidate.accuracy is None or not math.isfinite(candidate.accuracy):
        return None
    if early_stop is not None:
        return dict(candidate.curve).get(early_stop.epoch, candidate.accuracy)
    return candidate.accuracy


def compared(run: RunData, phase: str = SEARCH) -> List[Tuple[CandidateData, float]]:
    """Candidates that are done, each with its accuracy, %; those of the search at the same epoch."""
    early_stop = run.early_stop if phase == SEARCH else None
    pairs = [(candidate, at_epoch(candidate, early_stop)) for candidate in of_phase(run, phase)]
    return [(candidate, accuracy) for candidate, accuracy in pairs if accuracy is not None]


def best(run: RunData, phase: str = SEARCH) -> Optional[Tuple[CandidateData, float]]:
    """The most accurate one, the first of equals; None where none is done."""
    return max(compared(run, phase), key=lambda pair: pair[1], default=None)


def pareto_front(cost: Values, accuracy: Values) -> List[int]:
    """Indices of those that no other one beats in cost or accuracy without losing in the other, by ascending cost."""
    front: List[int] = []
    for index in np.lexsort((-np.asarray(accuracy, float), np.asarray(cost, float))):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(int(index))
    return front


def spent(candidates: Sequence[CandidateData]) -> Spent:
    """What the trainings of ``candidates`` have cost so far."""
    return Spent(
        sum(candidate.attempts for candidate in candidates),
        sum(epochs_trained(candidate) for candidate in candidates),
        math.fsum(candidate.seconds or 0.0 for candidate in candidates),
    )


def epochs_trained(candidate: CandidateData) -> int:
    """Last epoch of the curve; for one that is done without a curve, the epochs that were asked for."""
    if candidate.curve:
        return max(epoch for epoch, _ in candidate.curve)
    return candidate.epochs if candidate.state == "done" else 0


def remaining(run: RunData) -> Optional[Remaining]:
    """An estimate from the mean time of an epoch of the candidates that are done; None before the first of them."""
    left = [candidate for candidate in run.candidates if candidate.state in ("pending", "running")]
    timed = [candidate for candidate in run.candidates if candidate.state == "done" and candidate.seconds]
    if not timed:
        return None
    seconds = 0.0
    for candidate in left:
        alike = [one for one in timed if one.phase == candidate.phase] or timed
        share = _share_left(candidate, alike)
        seconds += share * math.fsum(one.seconds or 0.0 for one in alike) / len(alike)
    at_once = sum(candidate.state == "running" for candidate in left)
    return Remaining(len(left), seconds / max(1, at_once))


def _share_left(candidate: CandidateData, alike: Sequence[CandidateData]) -> float:
    """Epochs that a candidate has still to train, as a multiple of the mean of those that are done."""
    trained = sum(epochs_trained(one) for one in alike) / len(alike)
    if not trained or not candidate.epochs:
        return 1.0
    return max(0, candidate.epochs - epochs_trained(candidate)) / trained


def winner_points(run: RunData) -> List[Tuple[CandidateData, float, bool]]:
    """Winners with their accuracy, %, and whether it was measured; else it is the predicted one."""
    out = []
    for candidate in of_phase(run, WINNER):
        measured = candidate.state == "done" and candidate.accuracy is not None
        accuracy = candidate.accuracy if measured else candidate.predicted
        if accuracy is not None and math.isfinite(accuracy):
            out.append((candidate, accuracy, measured))
    return out


def trainings_of(pair: CandidateData, candidates: Sequence[CandidateData]) -> List[CandidateData]:
    """Those of ``candidates`` that train the same architecture and recipe for the same target, with any seed."""
    return [one for one in candidates if _identity(one) == _identity(pair)]


def _identity(one: CandidateData) -> Tuple[str, Dict[str, Any], Dict[str, Any], Dict[str, float]]:
    return one.target, one.recipe, one.arch, one.costs


def failure_kinds(candidates: Sequence[CandidateData]) -> List[Tuple[str, int]]:
    """How often each kind of failure happened, the most frequent first; without a kind, the reason up to its colon."""
    failed = [candidate for candidate in candidates if candidate.state == "failed"]
    kinds = [one.kind or one.reason.partition(":")[0].strip() or "no reason given" for one in failed]
    return sorted(Counter(kinds).items(), key=lambda item: (-item[1], item[0]))
