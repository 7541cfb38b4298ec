"""From a run's store to the plain data that ``status`` and the report show."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, List, Optional, Tuple

import numpy as np

from .constraints import format_constraints
from .predictor_study import study_predictor
from .run import PREDICTOR_SEED, WINNER, SearchRun
from .run_data import CandidateData, EarlyStopData, EvolutionData, PredictorData, PretrainData, RunData
from .settings import predictor_settings

FEWEST_STUDIED = 12  # trained candidates that the predictor's quality is estimated from


def run_data(run: SearchRun, *, study: bool = False) -> RunData:
    """What a run has to show.

    Args:
        run: open, for reading is enough.
        study: also cross-validate the predictor on the run's candidates, which takes some seconds.
    """
    store, keys = run.store, run.cfg.NARS
    pool = store.get_arrays("pool")
    return RunData(
        title=f"{keys.SEARCHER}: {run.space.name}",
        facts=_facts(run, pool),
        metric=keys.METRIC,
        candidates=_candidates(run),
        pool_macs=None if pool is None else pool["cost_macs"],
        pretrain=_pretrain(run),
        predictor=_predictor(run, pool) if study else None,
        early_stop=_early_stop(store.get("early_stop")),
        evolution=_evolutions(run),
        notes=_notes(run, pool),
    )


def _candidates(run: SearchRun) -> List[CandidateData]:
    """The store's, and the winners that are not to be trained."""
    store = run.store
    known = [dataclasses.replace(one, target=store.extra(one.id).get("target", "")) for one in store.candidates()]
    if run.cfg.NARS.WINNERS.TRAIN:
        return known
    winners = enumerate(store.get("winner_pairs", []), len(known) + 1)
    return [*known, *(CandidateData(id=i, phase=WINNER, round=0, state="untrained", **one) for i, one in winners)]


def _facts(run: SearchRun, pool: Any) -> List[Tuple[str, str]]:
    keys, cfg = run.cfg.NARS, run.cfg
    targets = "; ".join(format_constraints(target) or "none" for target in run.targets)
    drawn = "not drawn yet" if pool is None else f"{len(pool['points']):,} of {run.space.size:.3g} points"
    return [
        ("Searcher", keys.SEARCHER),
        ("Space", run.space.name),
        ("Mode", keys.MODE),
        ("Pool", f"{drawn}, {format_constraints(run.constraints) or 'no constraints'}"),
        ("Rounds", f"{keys.ROUNDS} of {keys.BATCH} candidates"),
        ("Epochs", f"{run.epochs} in the search, {run.final_epochs} for winners"),
        ("Targets", targets),
        ("Training data", ", ".join(cfg.DATASETS.TRAIN)),
        ("Compared on", f"{keys.VALIDATION_IMAGES} of it" if keys.VALIDATION_IMAGES else ", ".join(cfg.DATASETS.TEST)),
        ("Seed", str(run.seed)),
    ]


def _notes(run: SearchRun, pool: Any) -> List[str]:
    notes = []
    if pool is not None and int(pool["tried"]):
        share = 1 - (len(pool["points"]) - int(pool["bred"])) / int(pool["tried"])
        notes.append(f"{int(pool['tried']):,} points were drawn for the pool, {share:.1%} of them rejected.")
        if pool["bred"]:
            notes.append(f"{int(pool['bred']):,} points of the pool are changed copies of others, as few are drawn.")
    again = [one for one in run.store.candidates() if one.attempts > 1]
    if again:
        notes.append(f"Begun more than once: {', '.join(f'{one.name} ({one.attempts})' for one in again)}.")
    return notes


def _pretrain(run: SearchRun) -> Optional[PretrainData]:
    arrays, info = run.store.get_arrays("pretrain"), run.store.get("pretrained")
    if arrays is None or not info:
        return None
    return PretrainData(tuple(info["statistics"]), arrays["true"], arrays["predicted"])


def _early_stop(found: Any) -> Optional[EarlyStopData]:
    if not found:
        return None
    correlation = tuple(math.nan if value is None else value for value in found["correlation"])
    return EarlyStopData(tuple(found["epochs"]), correlation, found["threshold"], found["epoch"])


def _evolutions(run: SearchRun) -> List[EvolutionData]:
    found = [run.store.get(f"evolution {format_constraints(target)}") for target in run.targets]
    return [
        EvolutionData(one["constraints"], tuple(one["best"]), tuple(one["evaluated"]), one["seconds"])
        for one in found
        if one
    ]


def _predictor(run: SearchRun, pool: Any) -> Optional[PredictorData]:
    """Cross-validation on the candidates so far; None where they are too few, or nothing was to be predicted."""
    done = run.done()
    if len(done) < FEWEST_STUDIED:
        return None
    encoding, names = run.encoding, run.costs.metrics
    statistics = None
    if pool is not None and encoding.arch_width:
        codes = encoding.encode(pool["points"].astype(np.int64))[:, : encoding.arch_width]
        statistics = (codes, np.stack([pool[f"cost_{name}"] for name in names], axis=1))
    return study_predictor(
        encoding.encode(run.points_of(done)),
        run.labels(done),
        arch_width=encoding.arch_width,
        statistics=statistics,
        names=tuple(names),
        settings=predictor_settings(run.cfg),
        seed=run.seed_for(PREDICTOR_SEED),
    )
