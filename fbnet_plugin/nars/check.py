"""What of a search can be known to fail before it starts."""

from __future__ import annotations

from typing import List

import numpy as np
from detectron2.config import CfgNode

from fbnet_plugin.data import is_classification

from .candidate import averaged
from .data import search_parts
from .errors import NARSError
from .feasible import random_feasible
from .searcher import FEWEST, SEARCHER_REGISTRY
from .selection import DESIGNS
from .settings import (
    candidate_epochs,
    check_executor,
    constraints_from_config,
    costs_from_config,
    evolution_settings,
    predictor_settings,
    space_from_config,
    targets_from_config,
)


def check_search(cfg: CfgNode) -> List[str]:
    """Checks space, constraints, data, schedule and the numbers of a search.

    Returns:
        warnings, one line each.

    Raises:
        NARSError, ArchError, LatencyError, DatasetError: what is wrong and what is accepted.
    """
    keys = cfg.NARS
    _check_known("NARS.SEARCHER", keys.SEARCHER, [name for name, _ in SEARCHER_REGISTRY])
    _check_known("NARS.SELECTION.FIRST_ROUND", keys.SELECTION.FIRST_ROUND, list(DESIGNS))
    _check_known("NARS.SELECTION.SPREAD", keys.SELECTION.SPREAD, ["range", "targets"])
    space = space_from_config(cfg)
    if not len(space.variables):
        raise NARSError(f"NARS.SPACE {space.name} under NARS.MODE {keys.MODE} has no variable to search")
    costs = costs_from_config(cfg, space)
    for constraints in (constraints_from_config(cfg, costs.metrics), *targets_from_config(cfg, costs.metrics)):
        random_feasible(1, space.sizes, costs, constraints, np.random.default_rng(0))
    predictor_settings(cfg), evolution_settings(cfg)
    check_executor(cfg)
    for key, least in (("BATCH", 3), ("ROUNDS", 1), ("POOL_SIZE", 10)):
        if keys[key] < least:
            raise NARSError(f"NARS.{key} is {keys[key]}, expected at least {least}")
    if keys.SEARCHER == "NARSSearcher" and keys.BATCH * keys.ROUNDS < FEWEST:
        raise NARSError(f"NARS.BATCH times NARS.ROUNDS is {keys.BATCH * keys.ROUNDS}, expected at least {FEWEST}")
    epochs = candidate_epochs(cfg, space)
    if epochs < 1:
        key = "recipe.epochs of NARS.SPACE" if "epochs" in space.recipe_space.fixed else "SOLVER.EPOCHS"
        raise NARSError(f"{key} is {epochs}, expected the number of epochs of a candidate's schedule")
    return _check_data(cfg) + _check_sizes(cfg, space)


def _check_known(key: str, name: str, known: List[str]) -> None:
    if name not in known:
        raise NARSError(f"{key} is {name!r}, expected one of {', '.join(sorted(known))}")


def _check_data(cfg: CfgNode) -> List[str]:
    keys, notes = cfg.NARS, []
    if keys.VALIDATION_IMAGES:
        search_parts(cfg)
    elif not cfg.DATASETS.TEST:
        raise NARSError("NARS.VALIDATION_IMAGES is 0 and DATASETS.TEST is empty: nothing to compare candidates on")
    elif keys.CLASSES:
        raise NARSError("NARS.CLASSES needs NARS.VALIDATION_IMAGES, as DATASETS.TEST has all classes")
    else:
        notes.append("NARS.VALIDATION_IMAGES is 0: candidates are chosen by their figures on DATASETS.TEST itself")
    if keys.WINNERS.TRAIN and not cfg.DATASETS.TEST:
        notes.append("DATASETS.TEST is empty: winners are trained and evaluated on the search's own split")
    group = keys.METRIC.partition("/")[0]
    if is_classification(cfg.DATASETS.TRAIN) != (group == "classification") or "/" not in averaged(keys.METRIC):
        expected = "classification/top1" if is_classification(cfg.DATASETS.TRAIN) else "bbox/AP"
        raise NARSError(f"NARS.METRIC is {keys.METRIC!r}, expected a figure of the evaluation such as {expected}")
    return notes


def _check_sizes(cfg: CfgNode, space: object) -> List[str]:
    """A resolution that is searched must be the one that candidates are trained at."""
    fixed = [key for key in ("TRAIN_SIZE", "TEST_SIZE") if cfg.INPUT.CLASSIFICATION[key]]
    searched = space.arch_space.variables_of("resolution") if is_classification(cfg.DATASETS.TRAIN) else ()  # type: ignore
    if searched and fixed:
        names = ", ".join(f"INPUT.CLASSIFICATION.{key}" for key in fixed)
        raise NARSError(f"{names}: the space chooses the resolution (${searched[0]}); set to 0, or fix it in the space")
    return []
