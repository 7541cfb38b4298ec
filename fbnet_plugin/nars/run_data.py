"""What a run has to show: plain data from its store, for ``status`` and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import numpy as np


@dataclass(frozen=True)
class CandidateData:
    """One candidate as the store knows it.

    Attributes:
        id: unique in the run, from 1, in the order in which they were chosen.
        phase: "search" (constrained iterative optimization), "winner" (trained after the evolution), or another
            name that a subcommand gives, such as "swap".
        round: of the iterative optimization, from 1; 0 outside of it.
        name: short, such as "r2-017" or "macs450M-1".
        origin: how it was chosen: "random", "predicted", "evolution", ...
        state: "pending", "running", "done" or "failed".
        costs: metric -> value; "macs" and "params" always, "latency_us" where there is a table.
        arch, recipe: plain data of the two files.
        predicted, predicted_std: the predictor's accuracy when it was chosen, %; None where nothing was predicted.
        accuracy: %, None unless done.
        epochs: that were asked for.
        curve: (epoch from 1, accuracy %) as far as trained.
        attempts: times that it was started.
        reason: why it failed, one line; "" otherwise.
        seconds: of the last attempt; None before its end.
        target: constraints that a winner was found under, as text; "" in the search.
        kind: of failure, such as "diverged" or "timeout"; "" otherwise.
    """

    id: int
    phase: str
    round: int
    name: str
    origin: str
    state: str
    costs: Dict[str, float]
    arch: Dict[str, Any] = field(default_factory=dict)
    recipe: Dict[str, Any] = field(default_factory=dict)
    predicted: Optional[float] = None
    predicted_std: Optional[float] = None
    accuracy: Optional[float] = None
    epochs: int = 0
    curve: Tuple[Tuple[int, float], ...] = ()
    attempts: int = 0
    reason: str = ""
    seconds: Optional[float] = None
    target: str = ""
    kind: str = ""


@dataclass(frozen=True)
class PretrainData:
    """The statistics head on the part of the pool that it was not trained on (Figure 4a, 4b).

    Attributes:
        statistics: names, such as ("macs", "params").
        true, predicted: shape (n, len(statistics)), MACs and numbers of parameters.
    """

    statistics: Tuple[str, ...]
    true: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class PredictorData:
    """How well the accuracy of trained candidates is predicted, cross-validated (Figure 4c, 4d, 4e).

    Attributes:
        true: accuracies, %, shape (n,).
        pretrained, plain: predictions of each from the other folds, with and without pretraining, shape (n,).
        samples: numbers of training samples of the learning curve.
        mse_pretrained, mse_plain: mean squared error at each of them, one row per repeat, (repeats, len(samples)).
    """

    true: np.ndarray
    pretrained: np.ndarray
    plain: np.ndarray
    samples: Tuple[int, ...] = ()
    mse_pretrained: Optional[np.ndarray] = None
    mse_plain: Optional[np.ndarray] = None


@dataclass(frozen=True)
class EarlyStopData:
    """Rank correlation of the accuracy at each epoch with the final one (Figure 5).

    Attributes:
        epochs: from 1.
        correlation: of each epoch; NaN where there is none.
        threshold: that the epoch must reach (section 3.3: 0.92).
        epoch: the one chosen; the last where none reaches the threshold.
    """

    epochs: Tuple[int, ...]
    correlation: Tuple[float, ...]
    threshold: float
    epoch: int


@dataclass(frozen=True)
class EvolutionData:
    """One run of the evolutionary search (section 3.4).

    Attributes:
        constraints: as text, such as "macs <= 450M".
        best: best predicted accuracy after each generation, %, the first generation included.
        evaluated: number of scored candidates up to each generation.
        seconds: wall time.
    """

    constraints: str
    best: Tuple[float, ...]
    evaluated: Tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class RunData:
    """Everything that a report shows; parts that the run has not reached are None or empty.

    Attributes:
        title: for the heading.
        facts: (name, value) lines for the top of the report: space, mode, constraints, pool, ...
        metric: name of the accuracy, such as "classification/top1".
        candidates: all, in order of id.
        pool_macs: MACs of the pool, shape (n,).
        notes: failures in a row, rejected samples and the like, one line each.
    """

    title: str
    facts: List[Tuple[str, str]]
    metric: str
    candidates: List[CandidateData]
    pool_macs: Optional[np.ndarray] = None
    pretrain: Optional[PretrainData] = None
    predictor: Optional[PredictorData] = None
    early_stop: Optional[EarlyStopData] = None
    evolution: List[EvolutionData] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
