"""One candidate: base config, architecture and recipe, trained by the same engine as ``tools/train_net.py``."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from typing import Any, Callable, Dict, Iterator, List

import yaml
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook, PeriodicCheckpointer
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import JSONWriter

from fbnet_plugin.arch import save_arch
from fbnet_plugin.arch.yaml_file import arch_from_dict
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.data import register_from_config
from fbnet_plugin.engine import FBNetTrainer, load_config
from fbnet_plugin.recipe import Recipe, apply_recipe, recipe_from_dict, save_recipe

from .data import register_search_data
from .errors import NARSError

Report = Callable[[int, Dict[str, float]], None]
_LOGGERS = ("detectron2", "fbnet_plugin", "fvcore")


def make_payload(
    config: str,
    name: str,
    arch: Dict[str, Any],
    recipe: Dict[str, Any],
    *,
    final: bool,
    stop_epoch: int,
    seed: int,
    folder: str,
) -> Dict[str, Any]:
    """Everything that a worker needs to train a candidate, as JSON-able data.

    Args:
        config: the search's, as ``CfgNode.dump`` writes it.
        name: of the candidate.
        arch, recipe: plain data of the two files.
        final: train on all of ``DATASETS.TRAIN`` with the schedule of ``NARS.WINNERS``, and keep the weights.
        stop_epoch: epoch after which to stop the schedule; 0 runs it to its end.
        seed: of the training.
        folder: for its files.
    """
    return {
        "config": config,
        "name": name,
        "arch": arch,
        "recipe": recipe,
        "final": final,
        "stop_epoch": stop_epoch,
        "seed": seed,
        "folder": folder,
    }


def train_candidate(payload: Dict[str, Any], report: Report) -> Dict[str, Any]:
    """Trains one candidate; this is the function that executors call.

    Args:
        payload: of ``make_payload``.
        report: called after each epoch, from 1, with "accuracy" (%) and all other figures of the evaluation.

    Returns:
        "accuracy" after the last epoch, "values": all figures of the last evaluation, "epochs".

    Raises:
        FloatingPointError: it diverged.
        Exception: whatever training raises.
    """
    folder = payload["folder"]
    os.makedirs(folder, exist_ok=True)
    with logging_to(os.path.join(folder, "log.txt")):
        arch = arch_from_dict(payload["arch"])
        arch_file = os.path.abspath(os.path.join(folder, "arch.yaml"))
        save_arch(arch, arch_file, f"Candidate {payload['name']} of a NARS search.")
        recipe = recipe_from_dict(payload["recipe"])
        save_recipe(recipe, os.path.join(folder, "recipe.yaml"))
        base = config_from_text(payload["config"])
        cfg = candidate_config(base, arch_file, recipe, payload)
        write_config(cfg, os.path.join(folder, "config.yaml"))
        try:
            return _train(cfg, base.NARS.METRIC, recipe.ema, payload["final"], report)
        finally:
            gc.collect()  # hooks and trainer refer to each other; the next candidate needs the memory


def _train(cfg: CfgNode, metric: str, ema: bool, final: bool, report: Report) -> Dict[str, Any]:
    seed_all_rng(cfg.SEED)  # the first weights, as tools/train_net.py would draw them
    trainer = CandidateTrainer(cfg)
    last: Dict[str, Any] = {}

    def remember(epoch: int, values: Dict[str, float]) -> None:
        name = averaged(metric) if ema else metric
        if name not in values:
            raise NARSError(f"NARS.METRIC is {metric!r}: the evaluation gives {', '.join(sorted(values)) or 'nothing'}")
        last.update(accuracy=values[name], values=values, epochs=epoch)
        report(epoch, {**values, "accuracy": values[name]})

    trainer.watch(remember, keep_weights=final)
    trainer.resume_or_load(resume=final)
    trainer.train()
    if not last:
        raise NARSError("the training ended without an evaluation")
    return last


def averaged(metric: str) -> str:
    """The name under which the averaged weights' figure stands: "classification/top1" -> "classification_ema/top1"."""
    group, slash, figure = metric.partition("/")
    return f"{group}_ema{slash}{figure}"


class CandidateTrainer(FBNetTrainer):
    """``FBNetTrainer`` that reports each evaluation."""

    def watch(self, report: Report, keep_weights: bool) -> None:
        """
        Args:
            report: see ``train_candidate``.
            keep_weights: write checkpoints.
        """
        hooks: List[HookBase] = []
        for hook in self._hooks:
            if keep_weights or not isinstance(hook, PeriodicCheckpointer):
                hooks.append(hook)
            if isinstance(hook, EvalHook):
                hooks.append(ReportHook(self.cfg.TEST.EVAL_PERIOD, report))
        self._hooks = []
        self.register_hooks(hooks)

    def build_writers(self) -> list:
        """The log and metrics.json, without TensorBoard."""
        return [JSONWriter(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"))]


class ReportHook(HookBase):
    """Passes the figures of an evaluation on, after each ``period`` iterations and at the end."""

    def __init__(self, period: int, report: Report):
        self._period, self._report, self._reported = period, report, 0

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 and done != self.trainer.max_iter:
            self._pass_on(done)

    def after_train(self) -> None:
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter:
            self._pass_on(done)

    def _pass_on(self, done: int) -> None:
        latest = self.trainer.storage.latest()
        values = {name: value for name, (value, _) in latest.items() if "/" in name}
        self._report(max(1, round(done / self._period)), values)


def candidate_config(base: CfgNode, arch_file: str, recipe: Recipe, payload: Dict[str, Any]) -> CfgNode:
    """The config that trains a candidate: ``base`` with architecture, recipe, data, schedule, seed and folder."""
    cfg = training_config(base, arch_file, recipe, payload["final"])
    cfg.defrost()
    if not payload["final"] or not cfg.DATASETS.TEST:
        use_search_data(cfg)
    cfg.SOLVER.STOP_EPOCH = payload["stop_epoch"]
    cfg.SEED, cfg.OUTPUT_DIR = payload["seed"], payload["folder"]
    cfg.freeze()
    return cfg


def training_config(base: CfgNode, arch_file: str, recipe: Recipe, final: bool) -> CfgNode:
    """``base`` with architecture and recipe, as an ordinary training.

    What the recipe says goes before ``SOLVER``'s keys. If ``final``, those lengths and that decay of ``NARS.WINNERS``
    that are not 0 go before both: a recipe that was searched over few epochs is then trained for many.
    """
    cfg = base.clone()
    cfg.defrost()
    cfg.TRAINER = "FBNetTrainer"
    cfg.MODEL.FBNET.ARCH = arch_file
    apply_recipe(cfg, recipe)
    keys = cfg.NARS.WINNERS
    if final:
        cfg.SOLVER.EPOCHS = keys.EPOCHS or cfg.SOLVER.EPOCHS
        cfg.SOLVER.WARMUP_EPOCHS = keys.WARMUP_EPOCHS or cfg.SOLVER.WARMUP_EPOCHS
        cfg.SOLVER.EPOCH_DECAY = keys.EPOCH_DECAY or cfg.SOLVER.EPOCH_DECAY
    cfg.TEST.EVAL_EPOCHS = 1
    cfg.freeze()
    return cfg


def use_search_data(cfg: CfgNode) -> None:
    """Makes the datasets of ``cfg`` those that candidates are compared on."""
    if not cfg.NARS.VALIDATION_IMAGES:
        return
    train, validation = register_search_data(cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (validation,)
    if cfg.NARS.CLASSES:
        cfg.MODEL.CLASSIFIER.NUM_CLASSES = cfg.NARS.CLASSES


def config_from_text(text: str) -> CfgNode:
    """The config that ``CfgNode.dump`` wrote, its datasets registered."""
    cfg = load_config()
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(text)))
    register_from_config(cfg)
    return cfg


def write_config(cfg: CfgNode, path: str) -> None:
    """A config as a file that ``tools/train_net.py --config-file`` takes."""
    with atomic_write(path) as stream:
        stream.write(cfg.dump().encode())


@contextlib.contextmanager
def logging_to(path: str) -> Iterator[None]:
    """Sends the log of the engine to a file, and to nothing else."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        handler.close()
