"""From config keys to the parts of a search."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from detectron2.config import CfgNode

from fbnet_plugin.arch import get_arch
from fbnet_plugin.latency import LatencyTable, load_table
from fbnet_plugin.recipe import SEARCHED, Recipe, RecipeError, recipe_from_config

from .constraints import Constraint, parse_constraints
from .costs import Costs
from .errors import NARSError
from .evolution import EvolutionSettings
from .executors import Executor, ExecutorSettings, build_executor, executor_class
from .executors.ray_executor import import_ray
from .predictor import PredictorSettings
from .space import JointSpace, load_joint_space

MODES = ("joint", "recipe", "architecture")
FUNCTION = "fbnet_plugin.nars.candidate:train_candidate"


def space_from_config(cfg: CfgNode) -> JointSpace:
    """``NARS.SPACE``, with one side fixed where ``NARS.MODE`` searches the other alone.

    Raises:
        NARSError, ArchError: no such mode, space, or architecture.
    """
    keys = cfg.NARS
    if keys.MODE not in MODES:
        raise NARSError(f"NARS.MODE is {keys.MODE!r}, expected one of {', '.join(MODES)}")
    space = load_joint_space(keys.SPACE)
    if keys.MODE == "recipe":
        return space.with_arch(get_arch(cfg.MODEL.FBNET.ARCH))
    if keys.MODE == "architecture":
        return space.with_recipe(_own_recipe(cfg))
    return space


def _own_recipe(cfg: CfgNode) -> Recipe:
    """What is searched elsewhere, as the config has it; candidates are made of that config, so it says the rest."""
    try:
        return recipe_from_config(cfg, SEARCHED)
    except RecipeError as error:
        raise NARSError(str(error)) from None


def candidate_epochs(cfg: CfgNode, space: JointSpace) -> int:
    """Of a candidate's schedule: those of the space's recipes, else ``SOLVER.EPOCHS``."""
    fixed: Any = space.recipe_space.fixed.get("epochs")
    return cfg.SOLVER.EPOCHS if fixed is None else int(fixed)


def table_from_config(cfg: CfgNode) -> Optional[LatencyTable]:
    """The table that ``LATENCY.TABLE`` names, or None.

    Raises:
        LatencyError: the file cannot be used.
    """
    return load_table(cfg.LATENCY.TABLE) if cfg.LATENCY.TABLE else None


def costs_from_config(cfg: CfgNode, space: JointSpace) -> Costs:
    """Costs of the space's points, latency among them where there is a table."""
    return Costs(space, table_from_config(cfg))


def constraints_from_config(cfg: CfgNode, metrics: Tuple[str, ...]) -> Tuple[Constraint, ...]:
    """``NARS.CONSTRAINTS``; in recipe-only search, where the costs are fixed, none."""
    return () if cfg.NARS.MODE == "recipe" else checked("NARS.CONSTRAINTS", cfg.NARS.CONSTRAINTS, metrics)


def targets_from_config(cfg: CfgNode, metrics: Tuple[str, ...]) -> List[Tuple[Constraint, ...]]:
    """``NARS.EVOLUTION.TARGETS``; in recipe-only search one without constraints.

    Raises:
        NARSError: none, the same twice, or one that cannot be read.
    """
    if cfg.NARS.MODE == "recipe":
        return [()]
    texts = cfg.NARS.EVOLUTION.TARGETS
    if not texts:
        raise NARSError('NARS.EVOLUTION.TARGETS is empty, expected constraints such as "macs <= 450M"')
    targets = [checked("NARS.EVOLUTION.TARGETS", text, metrics) for text in texts]
    if len(set(targets)) < len(targets):
        raise NARSError(f"NARS.EVOLUTION.TARGETS names one target twice: {', '.join(texts)}")
    return targets


def checked(key: str, text: str, metrics: Tuple[str, ...]) -> Tuple[Constraint, ...]:
    """Constraints from the text under a config key.

    Raises:
        NARSError: names the key; they cannot be read, or need a metric that there is not.
    """
    try:
        constraints = parse_constraints(text)
    except NARSError as error:
        raise NARSError(f"{key}: {error}") from None
    for one in constraints:
        if one.metric not in metrics:
            hint = "; LATENCY.TABLE is empty" if one.metric == "latency_us" else ""
            raise NARSError(f"{key}: {text!r} needs {one.metric}, known are {', '.join(metrics)}{hint}")
    return constraints


def predictor_settings(cfg: CfgNode) -> PredictorSettings:
    """``NARS.PREDICTOR``.

    Raises:
        NARSError: no such form.
    """
    forms: Dict[str, Callable[[], PredictorSettings]] = {
        "default": PredictorSettings,
        "plain": PredictorSettings.plain,
    }
    if cfg.NARS.PREDICTOR.FORM not in forms:
        raise NARSError(f"NARS.PREDICTOR.FORM is {cfg.NARS.PREDICTOR.FORM!r}, expected one of {', '.join(forms)}")
    keys = cfg.NARS.PREDICTOR
    return dataclasses.replace(
        forms[keys.FORM](),
        pretrain_share=cfg.NARS.PRETRAIN_SHARE,
        frozen_epochs=keys.FROZEN_EPOCHS,
        tuned_epochs=keys.TUNED_EPOCHS,
        huber_delta=keys.HUBER_DELTA,
        embedding=keys.EMBEDDING,
    )


def evolution_settings(cfg: CfgNode) -> EvolutionSettings:
    """``NARS.EVOLUTION``."""
    keys = cfg.NARS.EVOLUTION
    return EvolutionSettings(
        parents=keys.PARENTS,
        random=keys.RANDOM,
        children=keys.CHILDREN,
        keep=keys.TOP,
        epsilon=keys.EPSILON,
        patience=keys.PATIENCE,
        crossover=keys.CROSSOVER,
    )


def executor_settings(cfg: CfgNode) -> ExecutorSettings:
    """``NARS.EVALUATION``."""
    keys = cfg.NARS.EVALUATION
    return ExecutorSettings(
        workers=keys.WORKERS or _usual_workers(cfg),
        timeout_s=keys.TIMEOUT_S,
        retries=keys.RETRIES,
        threads=keys.THREADS,
        cpus=keys.CPUS,
        gpus=keys.GPUS,
        memory_gb=keys.MEMORY_GB,
        ray_address=keys.RAY_ADDRESS,
    )


def _usual_workers(cfg: CfgNode) -> int:
    if torch.device(cfg.MODEL.DEVICE).type == "cuda":
        return max(torch.cuda.device_count(), 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // max(cfg.NARS.EVALUATION.THREADS, 1), 1)


def executor_from_config(cfg: CfgNode) -> Executor:
    """What trains candidates: ``NARS.EVALUATION.EXECUTOR``.

    Raises:
        NARSError: see ``check_executor``.
    """
    check_executor(cfg)
    return build_executor(cfg.NARS.EVALUATION.EXECUTOR, FUNCTION, executor_settings(cfg))


def check_executor(cfg: CfgNode) -> None:
    """
    Raises:
        NARSError: no such executor, or it lacks what it needs on this machine.
    """
    keys = cfg.NARS.EVALUATION
    try:
        executor_class(keys.EXECUTOR)
    except NARSError as error:
        raise NARSError(f"NARS.EVALUATION.EXECUTOR: {error}") from None
    executor_settings(cfg)
    if keys.EXECUTOR == "RayExecutor":
        import_ray()
    if keys.EXECUTOR == "LocalPoolExecutor" and keys.GPUS and not torch.cuda.is_available():
        raise NARSError(f"NARS.EVALUATION.GPUS is {keys.GPUS:g}, and PyTorch finds no GPU here; 0 trains on CPUs")
