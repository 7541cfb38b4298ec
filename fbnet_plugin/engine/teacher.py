"""The teacher of a distillation: what a config says of it, its network, and its place in the student."""

from __future__ import annotations

import logging
import os
from typing import Any, Dict, List, Optional

import torch
from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from torch import nn

from fbnet_plugin.checkpoint import FBNetCheckpointer
from fbnet_plugin.modeling import ImageClassifier, arch_from_config
from fbnet_plugin.modeling.distillation import distillation_from_config
from fbnet_plugin.modeling.mixup import Mixup

from .acceleration import accelerate
from .config_file import load_config, merge_opts
from .ema import MODEL_EMA, load_average
from .errors import ConfigError, did_you_mean
from .teacher_cache import cached_teacher

_logger = logging.getLogger(__name__)
_KEY = "MODEL.DISTILLATION"
_CLASSIFIER = "ImageClassifier"


class TeacherNetwork:
    """A trained classifier as a teacher: in evaluation mode, without gradients, on images as the student sees them.

    Args:
        model: the classifier; its own mean and deviation of the pixels are used.
        reverse: whether its images have the channels in the other order than the student's.
    """

    def __init__(self, model: ImageClassifier, reverse: bool = False):
        self.model = model.eval().requires_grad_(False)
        self.reverse = reverse

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, inputs: List[Dict[str, Any]], mixup: Optional[Mixup]) -> torch.Tensor:
        """See ``fbnet_plugin.modeling.distillation.Teacher``."""
        return self.model.predict(images.flip(1) if self.reverse else images)


def give_teacher(cfg: CfgNode, model: nn.Module) -> None:
    """Gives a student the teacher that ``MODEL.DISTILLATION`` describes, or the cache of its logits, filled if need be.

    The random state is the same before and after. In several processes all must call this.

    Args:
        cfg: complete, of the student.
        model: the student, on the device that it is trained on and not yet wrapped.

    Raises:
        ConfigError: see ``check_distillation``; or the cache is of something else.
        CheckpointError: the teacher's weights cannot be used, or do not fit it.
        FloatingPointError: logits that were to be cached are not finite.
    """
    if not cfg.MODEL.DISTILLATION.ENABLED:
        return
    check_distillation(cfg)
    if getattr(model, "distillation", None) is None:
        raise ConfigError(f"{_KEY}.ENABLED: {type(model).__name__} was built without distillation, or has none")
    teacher_cfg = teacher_config(cfg)
    device = model.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if cfg.MODEL.DISTILLATION.CACHE:
            model.distillation.teacher = cached_teacher(cfg, teacher_cfg, lambda: build_teacher(teacher_cfg, device))
        else:
            reverse = teacher_cfg.INPUT.FORMAT != cfg.INPUT.FORMAT
            model.distillation.teacher = TeacherNetwork(build_teacher(teacher_cfg, device), reverse)


def build_teacher(cfg: CfgNode, device: torch.device) -> ImageClassifier:
    """The network that a config describes, with the weights of its ``MODEL.WEIGHTS``: their average where there is one
    and ``MODEL_EMA.ENABLED``.

    Raises:
        CheckpointError: the weights cannot be used, or do not fit.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = str(device)
    cfg.freeze()
    model = build_model(cfg)
    content = FBNetCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    used = "weights"
    if cfg.MODEL_EMA.ENABLED and MODEL_EMA in content:
        load_average(model, content[MODEL_EMA])
        used = "averaged weights"
    _logger.info(f"Teacher: {describe(cfg)} with the {used} in {cfg.MODEL.WEIGHTS}")
    return accelerate(cfg, model).eval().requires_grad_(False)


def describe(cfg: CfgNode) -> str:
    """The architecture in a few words."""
    name = cfg.MODEL.BACKBONE.NAME
    part = {"build_fbnet_backbone": cfg.MODEL.FBNET.ARCH, "build_torchvision_backbone": cfg.MODEL.TORCHVISION.NAME}
    return part.get(name, name)


def teacher_config(cfg: CfgNode) -> CfgNode:
    """The teacher's own config, frozen; its ``MODEL.WEIGHTS`` are ``TEACHER_WEIGHTS``, and it distils nothing.

    Raises:
        ConfigError: ``TEACHER_CONFIG`` or ``TEACHER_OPTS`` cannot be used.
    """
    keys = cfg.MODEL.DISTILLATION
    if keys.TEACHER_CONFIG:
        try:
            teacher = load_config(keys.TEACHER_CONFIG)
        except ConfigError as error:
            raise ConfigError(f"{_KEY}.TEACHER_CONFIG: {error}") from None
    else:
        teacher = cfg.clone()
        teacher.defrost()
    merge_opts(teacher, list(keys.TEACHER_OPTS), f"{_KEY}.TEACHER_OPTS")
    teacher.MODEL.WEIGHTS = keys.TEACHER_WEIGHTS
    teacher.MODEL.DISTILLATION.ENABLED = False
    teacher.freeze()
    return teacher


def check_distillation(cfg: CfgNode) -> List[str]:
    """What of ``MODEL.DISTILLATION`` can be known before anything is built.

    Returns:
        warnings of one line each.

    Raises:
        ConfigError: what is wrong and what is accepted.
        ArchError: the teacher's architecture cannot be used.
    """
    keys = cfg.MODEL.DISTILLATION
    if not keys.ENABLED:
        return []
    if cfg.MODEL.META_ARCHITECTURE != _CLASSIFIER:
        raise ConfigError(
            f"{_KEY}.ENABLED is for MODEL.META_ARCHITECTURE {_CLASSIFIER}, not {cfg.MODEL.META_ARCHITECTURE}"
        )
    try:
        distillation_from_config(cfg)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    teacher = teacher_config(cfg)
    _check_network(teacher)
    _check_fit(cfg, teacher)
    _check_files(keys)
    if keys.CACHE and keys.TEACHER_SIZE:
        return [f"{_KEY}.TEACHER_SIZE does nothing with a CACHE, which has the test view of the teacher's own config"]
    return []


def _check_network(teacher: CfgNode) -> None:
    kind = teacher.MODEL.META_ARCHITECTURE
    if kind != _CLASSIFIER:
        raise ConfigError(f"{_KEY}.TEACHER_CONFIG: MODEL.META_ARCHITECTURE is {kind}, expected {_CLASSIFIER}")
    name, known = teacher.MODEL.BACKBONE.NAME, sorted(name for name, _ in BACKBONE_REGISTRY)
    if name not in known:
        raise ConfigError(
            f"{_KEY}.TEACHER_CONFIG: MODEL.BACKBONE.NAME is {name!r}{did_you_mean(name, known)} "
            f"(known: {', '.join(known)})"
        )
    if name.startswith("build_fbnet_"):
        arch_from_config(teacher)


def _check_fit(cfg: CfgNode, teacher: CfgNode) -> None:
    """Whether a teacher takes the student's images and knows its classes."""
    theirs, ours = teacher.MODEL.CLASSIFIER.NUM_CLASSES, cfg.MODEL.CLASSIFIER.NUM_CLASSES
    if theirs != ours:
        raise ConfigError(
            f"{_KEY}.TEACHER_CONFIG: MODEL.CLASSIFIER.NUM_CLASSES is {theirs}, but the student's is {ours}; expected "
            "a teacher of the same classes"
        )
    theirs, ours = teacher.INPUT.FORMAT, cfg.INPUT.FORMAT
    if theirs not in (ours, ours[::-1]):
        raise ConfigError(
            f"{_KEY}.TEACHER_CONFIG: INPUT.FORMAT is {theirs}, but the student's is {ours}; expected the same channels "
            "in this or the other order"
        )


def _check_files(keys: CfgNode) -> None:
    weights = keys.TEACHER_WEIGHTS.split("?")[0]
    if not weights:
        raise ConfigError(f"{_KEY}.TEACHER_WEIGHTS is empty, expected the teacher's checkpoint")
    if "://" not in weights and not os.path.isfile(weights):
        raise ConfigError(f"{_KEY}.TEACHER_WEIGHTS is {keys.TEACHER_WEIGHTS!r}: no such file")
    if os.path.exists(keys.CACHE) and not os.path.isdir(keys.CACHE):
        raise ConfigError(f"{_KEY}.CACHE is {keys.CACHE!r}, which is not a folder")
