"""Image classification as a Detectron2 meta-architecture."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from torch import nn

from ..arch.blocks import BlockSpec
from ..layers import Norm, build_blocks
from .arch import arch_from_config, norm_from_config
from .mixup import Mixup


class ClassifierHead(nn.Module):
    """The architecture's head blocks, global average pool, dropout and the linear layer.

    Args:
        rows: the head's blocks; may be empty.
        in_channels: of the feature map.
        num_classes: outputs.
        dropout: probability before the linear layer.
        norm: makes norm layers.
    """

    def __init__(
        self,
        rows: Sequence[BlockSpec],
        in_channels: int,
        num_classes: int,
        dropout: float = 0.0,
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        self.blocks = nn.Sequential(*build_blocks(rows, in_channels, norm))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(rows[-1].out if rows else in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, num_classes)"""
        x = self.blocks(x).mean((2, 3))  # (N, C')
        return self.fc(self.dropout(x))


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A backbone and a classifier head.

    Args:
        backbone: gives the feature map; its last feature is used.
        head: from that map to logits.
        label_smoothing: of the cross entropy, in [0, 1).
        mixup: alpha of ``Mixup.draw`` in training; 0 mixes nothing.
        pixel_mean, pixel_std: per channel, in the order of ``input_format``.
        input_format: channel order of the images, "RGB" or "BGR".

    Raises:
        ValueError: a negative ``mixup``.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        pixel_mean: Tuple[float, ...],
        pixel_std: Tuple[float, ...],
        input_format: str = "RGB",
    ):
        super().__init__()
        if mixup < 0:
            raise ValueError(f"MODEL.CLASSIFIER.MIXUP is {mixup}, expected 0 or more")
        self.backbone = backbone
        self.head = head
        self.feature = list(backbone.output_shape())[-1]
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.input_format = input_format
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        channels = list(backbone.output_shape().values())[-1].channels
        return {
            "backbone": backbone,
            "head": head_from_config(cfg, channels),
            "label_smoothing": cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING,
            "mixup": cfg.MODEL.CLASSIFIER.MIXUP,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: List[Dict]) -> Union[Dict[str, torch.Tensor], List[Dict[str, torch.Tensor]]]:
        """
        Args:
            batched_inputs: one dict per image: "image", a (C, H, W) tensor of values 0 to 255, and in
                training "label", the class index.

        Returns:
            In training {"loss_cls": scalar}; else one dict per image with "scores", a (num_classes,)
            tensor of probabilities.

        Raises:
            ValueError: a label that the classifier has no output for.
        """
        if not self.training:
            return [{"scores": scores} for scores in F.softmax(self.logits(batched_inputs).float(), dim=1)]
        mixup = Mixup.draw(self.mixup, len(batched_inputs)) if self.mixup else None
        logits = self.logits(batched_inputs, mixup)
        labels = [int(one["label"]) for one in batched_inputs]
        if not 0 <= min(labels) <= max(labels) < logits.shape[1]:
            raise ValueError(
                f"labels from {min(labels)} to {max(labels)} do not fit a classifier with {logits.shape[1]} outputs; "
                "set MODEL.CLASSIFIER.NUM_CLASSES to the dataset's number of classes"
            )
        target = torch.tensor(labels, device=logits.device)  # (N,)
        if mixup is not None:
            target = mixup.targets(target, logits.shape[1])  # (N, num_classes)
        return {"loss_cls": F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)}

    def logits(self, batched_inputs: List[Dict], mixup: Optional[Mixup] = None) -> torch.Tensor:
        """Logits of shape (N, num_classes) for the images of ``batched_inputs``, or for their mixtures."""
        images = self.preprocess_image(batched_inputs).tensor
        if mixup is not None:
            images = mixup.images(images)
        return self.head(self.backbone(images)[self.feature])

    def preprocess_image(self, batched_inputs: List[Dict]) -> ImageList:
        """Normalized images, padded to one size where they differ."""
        images = [one["image"].to(self.device) for one in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)


def head_from_config(cfg: CfgNode, in_channels: int) -> ClassifierHead:
    """The head of ``MODEL.FBNET``'s architecture; for other backbones only pool and linear layer."""
    rows: Sequence[BlockSpec] = ()
    if cfg.MODEL.BACKBONE.NAME == "build_fbnet_backbone":
        head = arch_from_config(cfg).head
        rows = head.blocks if head is not None else ()
    classifier = cfg.MODEL.CLASSIFIER
    return ClassifierHead(rows, in_channels, classifier.NUM_CLASSES, classifier.DROPOUT, norm_from_config(cfg))
