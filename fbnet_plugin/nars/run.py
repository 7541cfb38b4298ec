"""A run of a search: its config, space, costs, store and what trains its candidates."""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from detectron2.config import CfgNode

from fbnet_plugin.arch import ArchSpec
from fbnet_plugin.arch.plain_yaml import parse_yaml
from fbnet_plugin.arch.yaml_file import dump_arch
from fbnet_plugin.engine.random_state import mix
from fbnet_plugin.recipe import Recipe

from .candidate import make_payload
from .costs import Costs
from .encoding import Encoding
from .errors import NARSError
from .evaluation import evaluate
from .run_data import CandidateData
from .settings import (
    candidate_epochs,
    constraints_from_config,
    costs_from_config,
    executor_from_config,
    space_from_config,
    targets_from_config,
)
from .store import NewCandidate, Store

STORE_FILE = "nars.sqlite"
CANDIDATES = "candidates"  # folder of their files
SEARCH, VERIFY, WINNER = "search", "verify", "winner"  # phases
# Purposes of seeds that are mixed from the run's.
POOL_SEED, PREDICTOR_SEED, FIRST_ROUND_SEED, EVOLUTION_SEED, TRAINING_SEED = range(1, 6)


class Pair(NamedTuple):
    """An architecture with a recipe, to be trained.

    Attributes:
        name: unique in its phase.
        arch, recipe: the two.
        costs: metric -> value.
        point: choice indices; None where they are no point of the space.
        predicted, predicted_std: accuracy, %; None where nothing was predicted.
        origin: how it was chosen.
        target: constraints that it was chosen under, as text.
    """

    name: str
    arch: ArchSpec
    recipe: Recipe
    costs: Dict[str, float]
    point: Optional[Sequence[int]] = None
    predicted: Optional[float] = None
    predicted_std: Optional[float] = None
    origin: str = ""
    target: str = ""


class SearchRun:
    """What a searcher works with.

    Args:
        cfg: of the search, complete.
        store: open for writing.
        seed: of all that is random.

    Attributes:
        space, costs, encoding: what is searched.
        constraints, targets: of the pool, and of each evolution.
    """

    def __init__(self, cfg: CfgNode, store: Store, seed: int):
        self.cfg, self.store, self.seed = cfg, store, seed
        self.space = space_from_config(cfg)
        self.costs: Costs = costs_from_config(cfg, self.space)
        self.encoding = Encoding(self.space.variables, self.space.num_arch)
        self.constraints = constraints_from_config(cfg, self.costs.metrics)
        self.targets = targets_from_config(cfg, self.costs.metrics)
        self._executor: Any = None

    def __enter__(self) -> SearchRun:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def seed_for(self, *purpose: int) -> int:
        """A seed that depends on the run's and on what it is for."""
        return mix(self.seed, *purpose)

    def file(self, *parts: str) -> str:
        """Path of a file in the run's folder, whose own folder then exists."""
        path = os.path.join(self.cfg.OUTPUT_DIR, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    @property
    def epochs(self) -> int:
        """Of a candidate's whole schedule in the search."""
        return candidate_epochs(self.cfg, self.space)

    @property
    def final_epochs(self) -> int:
        """Of a winner's training."""
        return self.cfg.NARS.WINNERS.EPOCHS or self.epochs

    def pairs(self, points: np.ndarray, names: Sequence[str], **fields: Any) -> List[Pair]:
        """Points with their names; ``fields`` are Pair's, one value for all or a sequence with one for each."""
        costs = self.costs(points)
        pairs = []
        for number, (point, name) in enumerate(zip(points, names)):
            own: Dict[str, Any] = {
                key: value if value is None or isinstance(value, str) else value[number]
                for key, value in fields.items()
            }
            here = {metric: float(values[number]) for metric, values in costs.items()}
            arch = self.space.arch(point, name)
            pairs.append(Pair(name, arch, self.space.recipe(point), here, tuple(map(int, point)), **own))
        return pairs

    def add(self, pairs: Sequence[Pair], phase: str, round_number: int = 0, epochs: int = 0) -> List[int]:
        """Writes new candidates to the store, all or none.

        Args:
            epochs: after which each is stopped.

        Returns:
            their ids.
        """
        first = sum(self.store.counts().values()) + 1
        return self.store.add(
            [
                NewCandidate(
                    phase=phase,
                    round=round_number,
                    name=pair.name,
                    origin=pair.origin,
                    point=None if pair.point is None else tuple(pair.point),
                    arch=arch_data(pair.arch),
                    recipe=pair.recipe.to_dict(),
                    costs=pair.costs,
                    predicted=pair.predicted,
                    predicted_std=pair.predicted_std,
                    epochs=epochs,
                    seed=self.seed_for(TRAINING_SEED, first + number) % 2**31,
                    extra={"target": pair.target},
                )
                for number, pair in enumerate(pairs)
            ]
        )

    def evaluate(self, ids: Sequence[int], final: bool = False) -> None:
        """Trains those of the candidates that have not ended yet; failures are recorded.

        Args:
            final: with the winners' schedule and data, see ``make_payload``.

        Raises:
            NARSError: too many failures in a row.
        """
        waiting = {one.id for one in self.store.candidates(state="pending")}
        ids = [number for number in ids if number in waiting]
        if not ids:
            return
        if self._executor is None:
            self._executor = executor_from_config(self.cfg)

        text = self.cfg.dump()

        def payload(one: CandidateData) -> Dict[str, Any]:
            whole = self.final_epochs if final else self.epochs
            return make_payload(
                text,
                one.name,
                one.arch,
                one.recipe,
                final=final,
                stop_epoch=one.epochs if one.epochs < whole else 0,
                seed=self.store.seed(one.id),
                folder=self.file(CANDIDATES, f"{one.phase}-{one.name}", ""),
            )

        evaluate(self.store, self._executor, ids, payload, self.cfg.NARS.EVALUATION.MAX_FAILURES)

    def points_of(self, candidates: Sequence[CandidateData]) -> np.ndarray:
        """Their points, shape (n, variables)."""
        rows = [self.store.point(one.id) for one in candidates]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.space.variables))

    def done(self, *phases: str, round_number: Optional[int] = None) -> List[CandidateData]:
        """The candidates of some phases, by default of search and verification, whose training succeeded."""
        found = [self.store.candidates(phase, round_number, "done") for phase in phases or (SEARCH, VERIFY)]
        return [one for part in found for one in part]

    def labels(self, candidates: Sequence[CandidateData]) -> np.ndarray:
        """What the predictor learns: each one's accuracy at the early-stopping epoch, %, shape (n,).

        Candidates of the first round were trained to the end; their figure of that epoch is comparable to the others'.
        """
        stop = self.stop_epoch()
        return np.array([dict(one.curve).get(stop, one.accuracy) for one in candidates], dtype=np.float64)

    def stop_epoch(self) -> int:
        """The early-stopping epoch, the last one before it is known."""
        found = self.store.get("early_stop")
        return int(found["epoch"]) if found else self.epochs

    def require_some(self, candidates: Sequence[CandidateData], count: int, purpose: str) -> None:
        """
        Raises:
            NARSError: fewer than ``count``; with the failures' reasons.
        """
        if len(candidates) < count:
            failed = self.store.candidates(state="failed")
            reasons = "; ".join(f"{one.name}: {one.reason}" for one in failed[-3:])
            raise NARSError(
                f"{len(candidates)} candidates were trained, {purpose} needs {count}"
                + (f"; {len(failed)} failed, the last with {reasons}" if failed else "")
            )


def arch_data(arch: ArchSpec) -> Dict[str, Any]:
    """The plain data of an architecture's file."""
    return parse_yaml(dump_arch(arch), arch.name)
