"""Made-up searches at several stages, with the numbers that a real one has."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from fbnet_plugin.nars.run_data import (
    CandidateData,
    EarlyStopData,
    EvolutionData,
    PredictorData,
    PretrainData,
    RunData,
)

FACTS = [
    ("space", "fbnet_v3_ema (10^17 architectures, 10^7 recipes)"),
    ("mode", "joint"),
    ("constraints", "400M <= macs <= 800M"),
    ("pool", "20,000 samples, 31,882 rejected"),
]
FAILURES = (
    ("diverged", "FloatingPointError: loss became infinite or NaN at iteration 412"),
    ("memory", "OutOfMemoryError: CUDA out of memory, tried to allocate 1.2 GiB"),
    ("timeout", "took longer than 3600 s"),
)


def arch(width: int) -> Dict[str, Any]:
    """Plain data of a small network."""
    row = {"op": "mb", "kernel": 5, "expansion": 4, "out": width, "repeat": 3, "se": {"ratio": 0.25}}
    first = {"op": "conv", "out": 16, "stride": 2}
    return {"name": "small", "resolution": 224, "stages": [[first, {"op": "mb", "out": 16, "kernel": 3}], [row]]}


def recipe(rng: np.random.Generator) -> Dict[str, Any]:
    optimizer = str(rng.choice(["rmsprop", "sgd"]))
    return {
        "lr": float(np.round(rng.uniform(0.02, 0.05) * (4 if optimizer == "sgd" else 1), 3)),
        "optimizer": optimizer,
        "ema": bool(rng.random() < 0.5),
        "dropout": float(np.round(rng.uniform(0.1, 0.31), 2)),
        "stochastic_depth": float(np.round(rng.uniform(0.1, 0.31), 2)),
        "mixup": float(np.round(rng.uniform(0, 0.41), 2)),
        "weight_decay": float(np.round(rng.uniform(7e-6, 2.1e-5), 7)),
    }


def candidate(number: int, macs: float, accuracy: Optional[float], **changes: Any) -> CandidateData:
    """One that is done after 3 epochs, or that has no accuracy; ``macs`` in millions."""
    curve = () if accuracy is None else ((1, accuracy - 20), (2, accuracy - 5), (3, accuracy))
    fields: Dict[str, Any] = {
        "id": number, "phase": "search", "round": 1, "name": f"r1-{number:03d}", "origin": "random", "state": "done",
        "costs": {"macs": macs * 1e6, "params": macs * 2e4}, "accuracy": accuracy, "epochs": 3, "attempts": 1,
        "curve": curve, "seconds": 60.0,
    }  # fmt: skip
    return CandidateData(**{**fields, **changes})


def searched(number: int, in_round: int, rng: np.random.Generator, epochs: int, state: str) -> CandidateData:
    """A candidate of a realistic search; later rounds are better."""
    macs = float(rng.uniform(400, 800))
    mean = 66 + 5.6 * np.log2(macs / 400) + 3.9 * np.log1p(in_round)
    final = float(mean + rng.normal(0, 2.2 / in_round**0.5))
    steps = np.arange(1, epochs + 1)
    curve = final * (1 - 0.75 * np.exp(-steps / 5)) + rng.normal(0, 0.4, epochs)
    reached = {"done": epochs, "running": epochs // 3, "failed": int(rng.integers(0, epochs // 2))}.get(state, 0)
    pairs = tuple((int(step), float(value)) for step, value in zip(steps[:reached], curve[:reached]))
    kind, reason = FAILURES[number % 3] if state == "failed" else ("", "")
    return CandidateData(
        number, "search", in_round, f"r{in_round}-{number:03d}", "random" if in_round == 1 else "predicted", state,
        {"macs": macs * 1e6, "params": macs * 1.3e4, "latency_us": macs * 41.0}, arch(8 * int(macs // 64)), recipe(rng),
        predicted=None if in_round == 1 else float(final + rng.normal(0, 0.8)),
        predicted_std=None if in_round == 1 else 0.6, accuracy=pairs[-1][1] if state == "done" else None, epochs=epochs,
        curve=pairs, attempts=0 if state == "pending" else 1 + (state == "failed"),
        reason=reason, kind=kind,
        seconds=None if state in ("pending", "running") else 31.0 * reached + 12,
    )  # fmt: skip


def winner(number: int, target: int, rng: np.random.Generator, state: str = "done") -> CandidateData:
    macs = target - float(rng.uniform(0, 9))
    one = searched(number, 5, rng, 60, state)
    final = 79 + (target - 450) / 110
    curve = tuple((epoch, value * final / 79) for epoch, value in one.curve)
    return dataclasses.replace(
        one, phase="winner", round=0, name=f"macs{target}M-1", origin="evolution", target=f"macs <= {target}M",
        costs={"macs": macs * 1e6, "params": macs * 1.3e4, "latency_us": macs * 40.0}, predicted=final - 3.1,
        predicted_std=0.4, accuracy=final if state == "done" else None, curve=curve,
    )  # fmt: skip


def pretrained(rng: np.random.Generator, number: int) -> PretrainData:
    true = np.stack([rng.uniform(4e8, 8e8, number), rng.uniform(4e6, 1.2e7, number)], axis=1)
    return PretrainData(("macs", "params"), true, true * rng.normal(1, 0.012, true.shape))


def predicted(rng: np.random.Generator, true: np.ndarray) -> PredictorData:
    samples = (16, 24, 32, 48, 64, 96, 128, 192)
    sizes = np.array(samples, float)
    spread = np.exp(rng.normal(0, 0.2, (2, 10, len(samples))))
    noise = rng.normal(0, 1, (2, len(true)))
    return PredictorData(
        true, true + 0.9 * noise[0], true + 2.2 * noise[1], samples, 18 / sizes * spread[0] + 0.4,
        60 / sizes * spread[1] + 0.4,
    )  # fmt: skip


def stopped(epochs: int = 30) -> EarlyStopData:
    steps = np.arange(1, epochs + 1)
    curve = 1 - 0.9 * np.exp(-steps / 7) + 0.012 * np.sin(steps)
    curve[-1] = 1
    return EarlyStopData(tuple(steps.tolist()), tuple(curve.tolist()), 0.92, int(steps[curve >= 0.92][0]))


def evolved() -> List[EvolutionData]:
    out = []
    for target in (450, 550, 650, 750):
        steps = np.arange(14 + target // 100)
        best = 74 + target / 250 + 1.8 * (1 - np.exp(-steps / 3.0))
        scored = tuple(int(100 + 600 * step) for step in steps)
        out.append(EvolutionData(f"macs <= {target}M", tuple(best.tolist()), scored, 6.2))
    return out


def full_run(per_round: int = 48, rounds: int = 5, seed: int = 0) -> RunData:
    """A finished search with failures in every part."""
    rng = np.random.default_rng(seed)
    candidates: List[CandidateData] = []
    for number in range(1, per_round * rounds + 1):
        in_round = (number - 1) // per_round + 1
        state = "failed" if number % 41 == 3 else "done"
        candidates.append(searched(number, in_round, rng, 30 if in_round == 1 else 18, state))
    states = ("done", "done", "failed", "done")
    for target, state in zip((450, 550, 650, 750), states):
        candidates.append(winner(len(candidates) + 1, target, rng, state))
    true = np.array([one.accuracy for one in candidates if one.phase == "search" and one.accuracy is not None])
    return RunData(
        "Search in fbnet_v3_ema", FACTS, "classification/top1", candidates, rng.uniform(4e8, 8e8, 4000),
        pretrained(rng, 4000), predicted(rng, true), stopped(), evolved(), ["3 failures in a row in round 2"],
    )  # fmt: skip


def early_run() -> RunData:
    """Half of the first round is done."""
    rng = np.random.default_rng(1)
    states = ["done"] * 20 + ["failed"] + ["running"] * 4 + ["pending"] * 23
    candidates = [searched(number, 1, rng, 30, state) for number, state in enumerate(states, 1)]
    return RunData(
        "Search in fbnet_v3_ema", FACTS, "classification/top1", candidates, rng.uniform(4e8, 8e8, 4000),
        pretrained(rng, 400),
    )  # fmt: skip


def empty_run() -> RunData:
    """Just begun."""
    return RunData("Search in fbnet_v3_ema", FACTS, "classification/top1", [])


def four_candidates() -> Tuple[RunData, List[int]]:
    """A tiny one whose Pareto front is known, as indices."""
    ones = [candidate(1, 500, 70.0), candidate(2, 450, 72.0), candidate(3, 600, 71.0), candidate(4, 700, 75.0)]
    return RunData("tiny", [], "classification/top1", ones), [1, 3]
