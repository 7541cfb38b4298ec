"""Searchers: what chooses the candidates of a run. ``NARS.SEARCHER`` names one."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import asdict
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from fvcore.common.registry import Registry

from .constraints import Constraint, format_constraints, satisfied
from .early_stop import early_stop
from .errors import NARSError
from .evolution import Evolved, evolve
from .genetics import row_keys
from .pool import Pool, make_pool
from .predictor import Predictor
from .predictor_file import load_predictor, save_predictor
from .run import EVOLUTION_SEED, FIRST_ROUND_SEED, POOL_SEED, PREDICTOR_SEED, SEARCH, VERIFY, Pair, SearchRun
from .run_data import CandidateData
from .selection import choose, spread
from .settings import evolution_settings, predictor_settings
from .winners import names_of, train_winners, write_winners

_logger = logging.getLogger(__name__)

SEARCHER_REGISTRY = Registry("SEARCHER")
SEARCHER_REGISTRY.__doc__ = """
Classes that choose the candidates of a search, by the name in the config's NARS.SEARCHER. Each is made with a
``SearchRun`` and has ``search()``, which returns when the winners are trained. What it has chosen stands in the run's
store; called again after an interruption it goes on from there.
"""
PRETRAINED, FITTED = "pretrained.pt", "predictor.pt"  # in the run's folder "predictor"
FEWEST = 4  # trained candidates that a predictor is fitted to


class Searcher:
    """What searchers have in common: a pool, and winners that are trained.

    Args:
        run: of the search.
    """

    def __init__(self, run: SearchRun):
        self.run, self.keys = run, run.cfg.NARS

    def search(self) -> None:
        """Searches from where the store stands to the trained winners."""
        raise NotImplementedError

    def pool(self) -> Pool:
        """The pool of section 3.3, read from the store or drawn and written to it."""
        run = self.run
        arrays = run.store.get_arrays("pool")
        if arrays is not None:
            points = arrays["points"].astype(np.int64)
            costs = {metric: arrays[f"cost_{metric}"] for metric in run.costs.metrics}
            return Pool(points, costs, int(arrays["tried"]), int(arrays["bred"]))
        pool = make_pool(run.space, run.costs, run.constraints, self.keys.POOL_SIZE, run.seed_for(POOL_SEED) % 2**31)
        _logger.info(
            f"Pool: {len(pool.points)} of {run.space.size:.3g} points, {format_constraints(run.constraints) or 'all'}; "
            f"{pool.tried} drawn, {1 - len(pool.points) / max(pool.tried, 1):.1%} rejected"
        )
        if pool.warning:
            _logger.warning(pool.warning)
        kept = {"points": pool.points.astype(np.int16), "tried": np.array(pool.tried), "bred": np.array(pool.bred)}
        kept.update({f"cost_{metric}": values for metric, values in pool.costs.items()})
        run.store.put_arrays("pool", kept)
        return pool

    def finish(self, winners: Sequence[Sequence[Pair]]) -> None:
        """Writes the winners' files and trains them, target by target."""
        write_winners(self.run, winners)
        if self.keys.WINNERS.TRAIN:
            train_winners(self.run, winners)


@SEARCHER_REGISTRY.register()
class NARSSearcher(Searcher):
    """Algorithm 1: predictor pretraining, constrained iterative optimization, evolutionary search per target."""

    def search(self) -> None:
        pool = self.pool()
        base = self.pretrained(pool)
        for number in range(1, self.keys.ROUNDS + 1):
            ids = self.round(number, pool, base)
            self.run.evaluate(ids)
            if number == 1:
                self.find_early_stop()
        predictor = self.fitted(base)
        found = [self.evolved(target, predictor) for target in self.run.targets]
        if self.keys.EVOLUTION.VERIFY:
            found = self.verified(found)
            predictor = self.fitted(base, VERIFY)
        save_predictor(predictor, self.run.file("predictor", FITTED))
        self.finish(found)

    # ---- stage 1

    def pretrained(self, pool: Pool) -> Predictor:
        """The predictor with its encoder pretrained on the pool's statistics (section 3.2)."""
        run, file = self.run, self.run.file("predictor", PRETRAINED)
        if run.store.get("pretrained") and os.path.exists(file):
            return load_predictor(file)
        encoding, names = run.encoding, tuple(run.costs.metrics)
        predictor = Predictor(
            encoding.arch_width, encoding.width, names, predictor_settings(run.cfg), run.seed_for(PREDICTOR_SEED)
        )
        if self.keys.PREDICTOR.PRETRAIN and encoding.arch_width:
            codes = encoding.encode(pool.points)[:, : encoding.arch_width]
            shown = predictor.pretrain(codes, np.stack([pool.costs[name] for name in names], axis=1))
            run.store.put_arrays("pretrain", {"true": shown.true, "predicted": shown.predicted})
            errors = np.abs(shown.predicted / shown.true - 1).mean(axis=0)
            figures = ", ".join(f"{name} {error:.2%}" for name, error in zip(names, errors))
            _logger.info(f"Stage 1: pretrained on {len(codes)} points; mean error on the held-out part: {figures}")
        save_predictor(predictor, file)
        run.store.put("pretrained", {"statistics": list(names), "done": predictor.pretrained})
        return predictor

    # ---- stage 2

    def round(self, number: int, pool: Pool, base: Predictor) -> List[int]:
        """Ids of a round's candidates, which are chosen where the store does not have them yet."""
        run = self.run
        known = run.store.candidates(phase=SEARCH, round=number)
        if known:
            return [one.id for one in known]
        taken = set(row_keys(run.points_of(run.store.candidates(phase=SEARCH))))
        count = min(self.keys.BATCH, sum(key not in taken for key in row_keys(pool.points)))
        if not count:
            _logger.warning(f"Stage 2, round {number}: every point of the pool has been trained")
            return []
        if number == 1:
            design, seed = self.keys.SELECTION.FIRST_ROUND, run.seed_for(FIRST_ROUND_SEED) % 2**31
            chosen = spread(pool.points, pool.costs, count, metric=self.metric, design=design, seed=seed)
            fields: Dict[str, Any] = {"origin": design}
            epochs = run.epochs
        else:
            mean, std = self.fitted(base).predict(run.encoding.encode(pool.points))
            chosen = self.promising(pool, mean, std, count)
            fields = {"origin": "predicted", "predicted": mean[chosen], "predicted_std": std[chosen]}
            epochs = run.stop_epoch()
        names = [f"r{number}-{place + 1:03d}" for place in range(len(chosen))]
        ids = run.add(run.pairs(pool.points[chosen], names, **fields), SEARCH, number, epochs)
        _logger.info(f"Stage 2, round {number} of {self.keys.ROUNDS}: {len(ids)} candidates, {epochs} epochs each")
        return ids

    def promising(self, pool: Pool, mean: np.ndarray, std: np.ndarray, count: int) -> np.ndarray:
        """Indices of the pool's points that are worth training next (section 3.3)."""
        keys, taken = self.keys.SELECTION, self.run.points_of(self.run.store.candidates(phase=SEARCH))
        how: Dict[str, Any] = {"metric": self.metric, "std": std, "kappa": keys.KAPPA}
        if keys.SPREAD == "targets":
            return self._under_targets(pool, mean, count, taken, how)
        return choose(pool.points, mean, pool.costs, count=count, taken=taken, bins=keys.BINS or None, **how)

    def _under_targets(
        self, pool: Pool, mean: np.ndarray, count: int, taken: np.ndarray, how: Dict[str, Any]
    ) -> np.ndarray:
        """The best predicted under each target, as equally many as can be."""
        chosen: List[int] = []
        targets = self.run.targets
        for number, target in enumerate(targets):
            inside = np.flatnonzero(satisfied(pool.costs, target))
            left = (count - len(chosen)) // (len(targets) - number)
            before = np.concatenate([taken, pool.points[chosen]])
            if left and set(row_keys(pool.points[inside])) - set(row_keys(before)):
                here: Dict[str, Any] = {
                    name: value[inside] if isinstance(value, np.ndarray) else value for name, value in how.items()
                }
                costs = {name: values[inside] for name, values in pool.costs.items()}
                found = choose(pool.points[inside], mean[inside], costs, count=left, taken=before, bins=1, **here)
                chosen += inside[found].tolist()
        return np.array(chosen, dtype=np.int64)

    @property
    def metric(self) -> str:
        """The cost over whose range candidates are spread."""
        return self.run.constraints[0].metric if self.run.constraints else "macs"

    def find_early_stop(self) -> None:
        """The epoch after which later rounds stop (Figure 5)."""
        run = self.run
        if run.store.get("early_stop"):
            return
        first = run.done(SEARCH, round_number=1)
        run.require_some(first, 3, "early stopping")
        curves = [[accuracy for _, accuracy in one.curve] for one in first]
        whole = [curve for curve in curves if len(curve) == run.epochs]
        found = early_stop(np.array(whole), self.keys.EARLY_STOP.THRESHOLD)
        known = [None if math.isnan(value) else value for value in found.correlation]
        run.store.put("early_stop", {**asdict(found), "correlation": known})
        _logger.info(f"Early stopping: after epoch {found.epoch} of {run.epochs}")

    def fitted(self, base: Predictor, *more: str) -> Predictor:
        """The predictor, trained on everything that was measured so far in the search, and in ``more`` phases."""
        run = self.run
        done = run.done(SEARCH, *more)
        run.require_some(done, FEWEST, "the predictor")
        base.fit(run.encoding.encode(run.points_of(done)), run.labels(done))
        return base

    # ---- stage 3

    def evolved(self, target: Tuple[Constraint, ...], predictor: Predictor) -> List[Pair]:
        """The best pairs under a target's constraints, best first."""
        run, text = self.run, format_constraints(target)
        found = evolve_for(run, target, predictor, run.done(SEARCH))
        history = {
            "constraints": text, "best": list(found.best), "evaluated": list(found.evaluated), "seconds": found.seconds
        }  # fmt: skip
        run.store.put(f"evolution {text}", history)
        verify = self.keys.EVOLUTION.VERIFY
        points = different(found.points, verify) if verify else found.points[: self.keys.WINNERS.COUNT]
        return evolved_pairs(run, target, points, predictor)

    def verified(self, found: Sequence[Sequence[Pair]]) -> List[List[Pair]]:
        """Trains anew what the evolutions found and what was measured best; the best of it under each target."""
        run, keys = self.run, self.keys
        known = run.store.candidates(phase=VERIFY)
        ids = [one.id for one in known]
        if not known:
            again = [measured(run, target, keys.EVOLUTION.VERIFY, SEARCH) for target in run.targets]
            pairs = [pair._replace(name=f"evolved-{pair.name}") for pairs in found for pair in pairs]
            pairs += [pair._replace(name=f"again-{pair.name}") for pairs in again for pair in pairs]
            ids = run.add(pairs, VERIFY, epochs=run.epochs)
            _logger.info(f"Stage 3: verification of {len(ids)} candidates, {run.epochs} epochs each")
        run.evaluate(ids)
        count = keys.WINNERS.COUNT
        best = [measured(run, target, count, VERIFY) for target in run.targets]
        return [trained or list(pairs[:count]) for trained, pairs in zip(best, found)]


def different(points: np.ndarray, count: int, apart: int = 3) -> np.ndarray:
    """The first ``count`` points that differ in ``apart`` variables from each other; where too few do, in less."""
    chosen: List[int] = []
    for least in range(apart, 0, -1):
        for place, point in enumerate(points):
            if len(chosen) < count and all((point != points[other]).sum() >= least for other in chosen):
                chosen.append(place)
    return points[chosen]


def evolved_pairs(
    run: SearchRun, target: Tuple[Constraint, ...], points: np.ndarray, predictor: Predictor
) -> List[Pair]:
    """Points that an evolution under a target found, with their names and predictions."""
    mean, std = predictor.predict(run.encoding.encode(points))
    names, text = names_of(target, len(points)), format_constraints(target)
    return run.pairs(points, names, origin="evolution", target=text, predicted=mean, predicted_std=std)


def evolve_for(
    run: SearchRun, target: Tuple[Constraint, ...], predictor: Predictor, done: Sequence[CandidateData]
) -> Evolved:
    """The evolutionary search under some constraints, from candidates that were trained (section 3.4)."""
    best_first = np.argsort([-value for value in run.labels(done)], kind="stable")
    start = run.points_of([done[place] for place in best_first])

    def score(points: np.ndarray) -> np.ndarray:
        mean, std = predictor.predict(run.encoding.encode(points))
        return mean - run.cfg.NARS.EVOLUTION.CAUTION * std

    found = evolve(
        start,
        score,
        run.costs,
        target,
        run.space.sizes,
        evolution_settings(run.cfg),
        seed=run.seed_for(EVOLUTION_SEED) % 2**31,
        ordered=np.array([variable.ordered for variable in run.space.variables]),
    )
    _logger.info(
        f"Stage 3, {format_constraints(target) or 'no constraints'}: predicted {found.best[-1]:.2f}% after "
        f"{len(found.best) - 1} generations, {found.evaluated[-1]} candidates, {found.seconds:.1f} s"
    )
    return found


@SEARCHER_REGISTRY.register()
class RandomSearcher(Searcher):
    """Trains as many random candidates of the pool, to the end of their schedule; what others must beat."""

    def search(self) -> None:
        run, pool = self.run, self.pool()
        known = run.store.candidates(phase=SEARCH)
        ids = [one.id for one in known] or self._draw(pool)
        run.evaluate(ids)
        self.finish([best_measured(run, target, self.keys.WINNERS.COUNT, SEARCH) for target in run.targets])

    def _draw(self, pool: Pool) -> List[int]:
        run, keys = self.run, self.keys
        count = min(keys.BATCH * keys.ROUNDS + 2 * keys.EVOLUTION.VERIFY * len(run.targets), len(pool.points))
        rng = np.random.default_rng(run.seed_for(FIRST_ROUND_SEED) % 2**31)
        chosen = rng.choice(len(pool.points), count, replace=False)
        names = [f"r1-{place + 1:03d}" for place in range(count)]
        return run.add(run.pairs(pool.points[chosen], names, origin="random"), SEARCH, 1, run.epochs)


def best_measured(run: SearchRun, target: Tuple[Constraint, ...], count: int, *phases: str) -> List[Pair]:
    """As ``measured``.

    Raises:
        NARSError: there are none.
    """
    found = measured(run, target, count, *phases)
    if not found:
        raise NARSError(f"no candidate that was trained meets {format_constraints(target)}")
    return found


def measured(run: SearchRun, target: Tuple[Constraint, ...], count: int, *phases: str) -> List[Pair]:
    """The most accurate candidates of some phases under some constraints, best first; as many as there are."""
    done = run.done(*phases)
    if not done:
        return []
    meets = satisfied(run.costs(run.points_of(done)), target)
    inside = [one for one, ok in zip(done, meets) if ok]
    labels = run.labels(inside) if SEARCH in phases else np.array([one.accuracy for one in inside])
    best = [inside[place] for place in np.argsort(-labels, kind="stable")[:count]]
    return run.pairs(
        run.points_of(best),
        names_of(target, len(best)),
        target=format_constraints(target),
        origin=[one.origin for one in best],
        predicted=[one.predicted for one in best],
        predicted_std=[one.predicted_std for one in best],
    )
