"""Image classifiers, and the backbone of any model, as the exporters take them.

The graph takes raw pixels, float32 of 0 to 255 in the channel order of INPUT.FORMAT, and normalizes them itself: who
deploys it needs to know neither mean nor deviation. A classifier gives logits; their softmax are its scores.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import nn

from ..modeling.analysis import default_image_size
from ..modeling.classifier import ImageClassifier
from .errors import ExportInputError
from .exportable import Difference, Exportable, Feed, Outputs
from .metadata import describe

IMAGE, LOGITS, BATCH = "image", "logits", "batch"
# Of the largest value: what float32 loses in networks of a hundred layers, and some.
TOLERANCE = 1e-4
CHECKED_BATCH = 8  # images at most in one run of a check


class _Logits(nn.Module):
    def __init__(self, model: ImageClassifier):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor]:
        """(N, C, H, W) of 0 to 255 -> logits (N, num_classes)"""
        return (self.model.predict(image),)


class _Features(nn.Module):
    def __init__(self, backbone: nn.Module, pixel_mean: torch.Tensor, pixel_std: torch.Tensor):
        super().__init__()
        self.backbone = backbone
        self.names = tuple(backbone.output_shape())
        self.register_buffer("pixel_mean", pixel_mean.detach().clone())
        self.register_buffer("pixel_std", pixel_std.detach().clone())

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """(N, C, H, W) of 0 to 255 -> the features in the order of ``names``, each (N, channels, H', W')"""
        features = self.backbone((image - self.pixel_mean) / self.pixel_std)
        return tuple(features[name] for name in self.names)


def classifier_exportable(
    cfg: CfgNode,
    model: nn.Module,
    image_size: Optional[Tuple[int, int]] = None,
    dynamic: bool = True,
    tolerance: float = TOLERANCE,
) -> Exportable:
    """An ``ImageClassifier``: "image" (N, C, H, W) -> "logits" (N, num_classes).

    Args:
        cfg: that the model was built from.
        model: on the CPU.
        image_size: (height, width) in px, None for the test crop.
        dynamic: any number of images; else one.
        tolerance: largest difference of a logit, as a share of the largest logit.

    Raises:
        ExportInputError: the model is no ``ImageClassifier``.
    """
    if not isinstance(model, ImageClassifier):
        raise ExportInputError(f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, expected ImageClassifier")
    return _exportable(cfg, model, _Logits(model), (LOGITS,), image_size, dynamic, tolerance)


def backbone_exportable(
    cfg: CfgNode,
    model: nn.Module,
    image_size: Optional[Tuple[int, int]] = None,
    dynamic: bool = True,
    tolerance: float = TOLERANCE,
) -> Exportable:
    """The backbone of any model: "image" (N, C, H, W) -> its features, under their names such as trunk3 or p4.

    Args: as of ``classifier_exportable``; an image size that the backbone cannot take is made larger.

    Raises:
        ExportInputError: the model has no backbone, or does not normalize images as Detectron2's do.
    """
    missing = [name for name in ("backbone", "pixel_mean", "pixel_std") if not hasattr(model, name)]
    if missing:
        raise ExportInputError(f"{cfg.MODEL.META_ARCHITECTURE} has no {' and no '.join(missing)} to export")
    features = _Features(model.backbone, model.pixel_mean, model.pixel_std)
    every = max(model.backbone.size_divisibility, 1)
    height, width = image_size or default_image_size(cfg)
    size = (-(-height // every) * every, -(-width // every) * every)
    return _exportable(cfg, model, features, features.names, size, dynamic, tolerance)


def _exportable(
    cfg: CfgNode,
    model: Any,
    module: nn.Module,
    outputs: Tuple[str, ...],
    image_size: Optional[Tuple[int, int]],
    dynamic: bool,
    tolerance: float,
) -> Exportable:
    size = image_size or default_image_size(cfg)
    # two images where the number is free, since exporters take a size of 1 for a constant
    shape = (2 if dynamic else 1, len(model.pixel_mean), *size)
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255
    return Exportable(
        module=module.eval(),
        inputs={IMAGE: example},
        outputs=outputs,
        dynamic={IMAGE: {0: BATCH}} if dynamic else {},
        metadata=describe(cfg, size),
        feeds=lambda images: image_feeds(images, size, dynamic),
        compare=lambda expected, actual: compare_tensors(outputs, expected, actual, tolerance),
    )


def image_feeds(images: Sequence[torch.Tensor], size: Tuple[int, int], dynamic: bool) -> List[Feed]:
    """Images (C, H, W) -> "image" (N, C, *size) float32, one by one, or in batches of several and of one."""
    pixels = [fit(image, size) for image in images]
    if not dynamic:
        return [{IMAGE: image[None]} for image in pixels]
    batches = [pixels[start : start + CHECKED_BATCH] for start in range(0, len(pixels), CHECKED_BATCH)]
    if len(pixels) > 1:
        batches.append(pixels[:1])
    return [{IMAGE: torch.stack(batch)} for batch in batches]


def fit(image: torch.Tensor, size: Tuple[int, int]) -> torch.Tensor:
    """(C, H, W) -> (C, *size) float32, resized where the size differs."""
    image = image.float()
    if tuple(image.shape[1:]) == tuple(size):
        return image
    resized = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    return resized.clamp(0, 255)


def compare_tensors(names: Sequence[str], expected: Outputs, actual: Outputs, tolerance: float) -> Difference:
    """The worst of several results, each measured by its largest value.

    Args:
        names: of the results.
        expected, actual: tensors of any, pairwise the same, shapes.
        tolerance: largest difference as a share of the largest expected value.
    """
    differences: Dict[str, float] = {}
    for name, one, other in zip(names, expected, actual):
        if one.shape != other.shape:
            return Difference(float("inf"), f"{name} has shape {tuple(other.shape)}, expected {tuple(one.shape)}")
        scale = max(one.abs().max().item(), torch.finfo(torch.float32).tiny)
        differences[name] = (one.double() - other.double()).abs().max().item() / scale
    worst = max(differences, key=lambda name: (differences[name] != differences[name], differences[name]))
    text = f"{worst} differ by {differences[worst]:.1e} of the largest (tolerated {tolerance:.0e})"
    return Difference(differences[worst] / tolerance, text)
