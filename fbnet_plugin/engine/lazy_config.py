"""LazyConfigs found, overridden, checked, and their ``train`` node as the keys that the engine reads."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
from typing import TYPE_CHECKING, Any, Iterator, List, Sequence, Tuple

from detectron2.config import CfgNode, LazyConfig
from detectron2.engine import default_setup
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from detectron2.utils.registry import locate

from .config_file import find_config, load_config, merge_opts
from .errors import ConfigError, did_you_mean
from .setup import usable_device, world_size
from .trainer import FBNetTrainer
from .validate import validate

if TYPE_CHECKING:
    from omegaconf import DictConfig

REQUIRED = ("model", "dataloader", "optimizer", "lr_multiplier", "train")
# What may stand in ``train``, and the key of a YAML config that means the same.
TRAIN_KEYS = {
    "output_dir": "OUTPUT_DIR",
    "init_checkpoint": "MODEL.WEIGHTS",
    "device": "MODEL.DEVICE",
    "seed": "SEED",
    "cudnn_benchmark": "CUDNN_BENCHMARK",
    "max_iter": "SOLVER.MAX_ITER",
    "epochs": "SOLVER.EPOCHS",
    "stop_epoch": "SOLVER.STOP_EPOCH",
    "accumulation_steps": "SOLVER.ACCUMULATION_STEPS",
    "amp.enabled": "SOLVER.AMP.ENABLED",
    "amp.dtype": "SOLVER.AMP.DTYPE",
    "ema.enabled": "MODEL_EMA.ENABLED",
    "ema.decay": "MODEL_EMA.DECAY",
    "ema.warmup": "MODEL_EMA.WARMUP",
    "ema.device": "MODEL_EMA.DEVICE",
    "checkpointer.period": "SOLVER.CHECKPOINT_PERIOD",
    "checkpointer.epochs": "SOLVER.CHECKPOINT_EPOCHS",
    "eval_period": "TEST.EVAL_PERIOD",
    "eval_epochs": "TEST.EVAL_EPOCHS",
    "channels_last": "MODEL.CHANNELS_LAST",
    "compile": "MODEL.COMPILE",
    "teacher.config": "MODEL.DISTILLATION.TEACHER_CONFIG",
    "teacher.opts": "MODEL.DISTILLATION.TEACHER_OPTS",
    "teacher.weights": "MODEL.DISTILLATION.TEACHER_WEIGHTS",
    "teacher.cache": "MODEL.DISTILLATION.CACHE",
}
# What of the other nodes is checked or shown, where they have it.
_OTHER_KEYS = {
    "dataloader.train.total_batch_size": "SOLVER.IMS_PER_BATCH",
    "dataloader.train.num_workers": "DATALOADER.NUM_WORKERS",
    "model.input_format": "INPUT.FORMAT",
    "model.head.num_classes": "MODEL.CLASSIFIER.NUM_CLASSES",
    "model.roi_heads.num_classes": "MODEL.ROI_HEADS.NUM_CLASSES",
    "model.num_classes": "MODEL.RETINANET.NUM_CLASSES",
    "model.distillation.soft_weight": "MODEL.DISTILLATION.SOFT_WEIGHT",
    "model.distillation.hard_weight": "MODEL.DISTILLATION.HARD_WEIGHT",
    "model.distillation.temperature": "MODEL.DISTILLATION.TEMPERATURE",
    "model.distillation.teacher_size": "MODEL.DISTILLATION.TEACHER_SIZE",
}


def load_lazy_config(config_file: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A LazyConfig with the nodes of ``REQUIRED``.

    Args:
        config_file: see ``find_config``; a .py file, or the .yaml file that a run wrote.
        overrides: each "key=value" in Hydra's grammar; "+key=value" adds a key that nothing knows.

    Raises:
        ConfigError: the file or an override cannot be used.
    """
    if not config_file:
        raise ConfigError("--config-file is missing, expected a LazyConfig such as COCO-Detection/*.py")
    path = find_config(config_file)
    try:
        cfg = LazyConfig.load(path)
    except (ImportError, KeyError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    missing = [key for key in REQUIRED if key not in cfg]
    if missing:
        hint = " (a config of tools/train_net.py?)" if path.endswith((".yaml", ".yml")) else ""
        raise ConfigError(f"{path}: has no {', '.join(missing)}, expected {', '.join(REQUIRED)}{hint}")
    apply_overrides(cfg, overrides)
    return cfg


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Puts single values into a LazyConfig, in place.

    Raises:
        ConfigError: a key that neither the config nor the function or class of its node has, or a malformed value.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    for text in overrides:
        if "=" not in text:
            raise ConfigError(f"command line: {text!r}: expected key=value, such as train.max_iter=1000")
        _check_key(cfg, text.partition("=")[0])
        try:
            LazyConfig.apply_overrides(cfg, [text])
        except (HydraException, KeyError, NotImplementedError, OmegaConfBaseException) as error:
            raise ConfigError(f"command line: {text!r}: {error}") from None


def _check_key(cfg: DictConfig, key: str) -> None:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if key.startswith("+"):
        return
    parent, _, last = key.rpartition(".")
    try:
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if OmegaConf.is_list(node):
            return
        known = [str(name) for name in node] if isinstance(node, DictConfig) else []
        known += [name for name in _parameters(node) if name not in known]
    except OmegaConfBaseException as error:
        raise ConfigError(f"command line: {key}: {error}") from None
    if last not in known:
        where = f"{parent} has {', '.join(known)}" if known else f"there is no {parent}"
        raise ConfigError(f"command line: unknown key {key}{did_you_mean(last, known)} ({where})")


def _parameters(node: Any) -> List[str]:
    """Names of the arguments that the target of a node takes; none where it has no target."""
    from omegaconf import OmegaConf

    target = node.get("_target_") if OmegaConf.is_dict(node) else None
    try:
        return list(inspect.signature(locate(target) if isinstance(target, str) else target).parameters)
    except (TypeError, ValueError):
        return []


def run_config(cfg: DictConfig) -> CfgNode:
    """What the engine has to know of a run besides its model, data, optimizer and schedule, as its own keys; frozen.

    Args:
        cfg: see ``load_lazy_config``.

    Raises:
        ConfigError: ``train`` has a key that is not in ``TRAIN_KEYS``, or a value that is not accepted.
    """
    from omegaconf import OmegaConf

    run = load_config()
    for name in _leaves(OmegaConf.to_container(cfg.train, resolve=True)):
        if name not in TRAIN_KEYS:
            known = ", ".join(TRAIN_KEYS)
            raise ConfigError(f"train.{name} is unknown{did_you_mean(name, TRAIN_KEYS)} (known: {known})")
    keys = {**{f"train.{name}": key for name, key in TRAIN_KEYS.items()}, **_OTHER_KEYS}
    for name, key in keys.items():
        value = OmegaConf.select(cfg, name)
        if value is not None:
            value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            merge_opts(run, [key, value], name)
    run.DATASETS.TRAIN = _names(OmegaConf.select(cfg, "dataloader.train.dataset.names"))
    run.DATASETS.TEST = _names(OmegaConf.select(cfg, "dataloader.test.dataset.names"))
    run.MODEL.META_ARCHITECTURE = _target_name(cfg.model)
    run.MODEL.DISTILLATION.ENABLED = OmegaConf.select(cfg, "model.distillation") is not None
    if run.MODEL.DISTILLATION.ENABLED and not run.MODEL.DISTILLATION.TEACHER_CONFIG:
        raise ConfigError("model.distillation needs train.teacher.config, the YAML config of the teacher")
    run.freeze()
    return run


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _names(names: Any) -> Tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _target_name(node: DictConfig) -> str:
    target = node["_target_"]
    return target.rpartition(".")[2] if isinstance(target, str) else target.__name__


@contextlib.contextmanager
def lazy_names() -> Iterator[None]:
    """Errors of the engine that name a YAML key name the LazyConfig's instead."""
    keys = {key: f"train.{name}" for name, key in TRAIN_KEYS.items()}
    keys.update({key: name for name, key in _OTHER_KEYS.items()})
    keys.update({"DATASETS.TRAIN": "dataloader.train.dataset.names", "DATASETS.TEST": "dataloader.test.dataset.names"})
    pattern = re.compile("|".join(rf"\b{re.escape(key)}\b" for key in sorted(keys, key=len, reverse=True)))
    try:
        yield
    except ConfigError as error:
        raise ConfigError(pattern.sub(lambda found: keys[found.group()], str(error))) from error


def prepare_lazy(args: argparse.Namespace) -> Tuple[DictConfig, List[str]]:
    """The LazyConfig that ``args`` describe, checked; nothing is written.

    Args:
        args: from ``argument_parser``; ``config_file`` becomes the path of the file that was found.

    Returns:
        the config, and warnings of one line each.

    Raises:
        ConfigError, ArchError, DatasetError: see ``load_lazy_config``, ``run_config`` and ``validate``.
    """
    cfg = load_lazy_config(args.config_file, args.opts)
    args.config_file = find_config(args.config_file)
    cfg.train.device, notes = usable_device(args, "train.device", cfg.train.device)
    with lazy_names():
        run = run_config(cfg)
        # The checks do not know other models, and loaders of the user's own.
        if run.MODEL.META_ARCHITECTURE in META_ARCH_REGISTRY and (args.eval_only or run.DATASETS.TRAIN):
            notes += validate(run, eval_only=args.eval_only, resume=args.resume, world_size=world_size(args))
        if not args.eval_only:
            notes += FBNetTrainer.check(run)
    return cfg, notes


def setup_lazy(args: argparse.Namespace) -> DictConfig:
    """``prepare_lazy``, then what Detectron2 does at the start of a job: output folder, log, random seed."""
    cfg, notes = prepare_lazy(args)
    default_setup(cfg, args)
    logger = setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="fbnet_plugin")
    for note in notes:
        logger.warning(note)
    return cfg
