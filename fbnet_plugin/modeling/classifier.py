"""Image classification as a Detectron2 meta-architecture."""

from __future__ import annotations

import math
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import nn

from ..arch import ArchSpec
from ..arch.blocks import BlockSpec
from ..layers import Norm, build_blocks
from .arch import arch_from_config, norm_from_config
from .distillation import Distillation, distillation_from_config
from .mixup import Mixup
from .torchvision_backbone import torchvision_head

# Iterations between two figures of the training accuracy: as many as between two lines of the log, and few enough
# that waiting for the device costs nothing.
ACCURACY_PERIOD = 20


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
        return self.fc(self.hidden(x))

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> what the linear layer takes, (N, C')"""
        return self.dropout(self.blocks(x).mean((2, 3)))


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A backbone and a classifier head.

    Args:
        backbone: gives the feature map; its last feature is used.
        head: from that map to logits.
        label_smoothing: of the cross entropy, in [0, 1).
        mixup: alpha of ``Mixup.draw`` in training; 0 mixes nothing.
        distillation: adds the divergence from its teacher to the loss; None: the labels alone.
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
        distillation: Optional[Distillation] = None,
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
        self.distillation = distillation
        self.input_format = input_format
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "head": head_from_config(cfg, backbone),
            "label_smoothing": cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING,
            "mixup": cfg.MODEL.CLASSIFIER.MIXUP,
            "distillation": distillation_from_config(cfg),
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
            In training {"loss_cls": scalar}, with a teacher "loss_distill" too; else one dict per image with
            "scores", a (num_classes,) tensor of probabilities.

        Raises:
            ValueError: a label that the classifier has no output for.
            RuntimeError: training with a ``distillation`` that has no teacher.
        """
        images = self.raw_images(batched_inputs).tensor
        if not self.training:
            return [{"scores": scores} for scores in F.softmax(self.predict(images).float(), dim=1)]
        mixup = Mixup.draw(self.mixup, len(batched_inputs)) if self.mixup else None
        distillation, taught = self.distillation, None
        if mixup is not None:
            images = mixup.images(images.float())
        if distillation is not None:  # before the student, as it leaves no activations behind
            taught = distillation.teach(images.float(), batched_inputs, mixup)
        logits = self.predict(images).float()
        target = _labels(batched_inputs, logits)  # (N,)
        if mixup is not None:
            target = mixup.targets(target, logits.shape[1])  # (N, num_classes)
        log_accuracy(logits, target)
        loss = F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        return {"loss_cls": loss} if distillation is None else distillation.losses(logits, loss, taught)

    def logits(self, batched_inputs: List[Dict]) -> torch.Tensor:
        """Logits of shape (N, num_classes) for the images of ``batched_inputs``."""
        return self.predict(self.raw_images(batched_inputs).tensor)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Raw images (N, C, H, W) of values 0 to 255 -> logits (N, num_classes)."""
        return self.head(self.backbone(self.normalize(images))[self.feature])

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Raw images (N, C, H, W) -> what the backbone takes, by ``pixel_mean`` and ``pixel_std``."""
        if images.dtype == torch.uint8:  # a subtraction that converts takes half as long again
            return images.float().sub_(self.pixel_mean).div_(self.pixel_std)
        return (images - self.pixel_mean).div_(self.pixel_std)

    def preprocess_image(self, batched_inputs: List[Dict]) -> ImageList:
        """Normalized images, padded to one size where they differ."""
        images = self.raw_images(batched_inputs)
        return ImageList(self.normalize(images.tensor), images.image_sizes)

    def raw_images(self, batched_inputs: List[Dict]) -> ImageList:
        """Images of values 0 to 255 on the model's device, uint8 or float32; padded with the mean to a common size."""
        images = [one["image"] for one in batched_inputs]
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        every = max(self.backbone.size_divisibility, 1)
        height, width = (math.ceil(max(sides) / every) * every for sides in zip(*sizes))
        if set(sizes) == {(height, width)}:
            batch = torch.stack(images).to(self.device)  # as bytes, which travel faster than floats
            return ImageList(batch if batch.dtype == torch.uint8 else batch.float(), sizes)
        batch = self.pixel_mean.repeat(len(images), 1, 1, 1).expand(-1, -1, height, width).clone()
        for place, image, (h, w) in zip(batch, images, sizes):
            place[:, :h, :w] = image.to(self.device)
        return ImageList(batch, sizes)


def _labels(batched_inputs: List[Dict], logits: torch.Tensor) -> torch.Tensor:
    """The class indices (N,) beside the logits (N, num_classes) that they belong to."""
    labels = [int(one["label"]) for one in batched_inputs]
    if not 0 <= min(labels) <= max(labels) < logits.shape[1]:
        raise ValueError(
            f"labels from {min(labels)} to {max(labels)} do not fit a classifier with {logits.shape[1]} outputs; "
            "set MODEL.CLASSIFIER.NUM_CLASSES to the dataset's number of classes"
        )
    return torch.tensor(labels, device=logits.device)


def log_accuracy(logits: torch.Tensor, target: torch.Tensor) -> None:
    """Gives Detectron2's event storage, where there is one, "train/top1" of each ``ACCURACY_PERIOD``-th batch.

    Args:
        logits: (N, num_classes).
        target: classes (N,) or probabilities (N, num_classes), of which the most probable class counts.
    """
    try:
        storage = get_event_storage()
    except AssertionError:  # Detectron2 0.6 has no function that asks
        return
    if (storage.iter + 1) % ACCURACY_PERIOD:
        return
    classes = target if target.dim() == 1 else target.argmax(dim=1)
    hits = (logits.argmax(dim=1) == classes).float().mean()
    storage.put_scalar("train/top1", 100 * hits.item(), smoothing_hint=False)


def head_from_config(cfg: CfgNode, backbone: Backbone) -> nn.Module:
    """From the backbone's last feature to logits: the head of ``MODEL.FBNET``'s architecture, the one that a network of
    torchvision has itself, and for other backbones only pool and linear layer."""
    keys = cfg.MODEL.CLASSIFIER
    if cfg.MODEL.BACKBONE.NAME == "build_torchvision_backbone":
        return torchvision_head(backbone, keys.NUM_CLASSES, keys.DROPOUT)
    rows = head_rows(arch_from_config(cfg)) if cfg.MODEL.BACKBONE.NAME == "build_fbnet_backbone" else ()
    channels = list(backbone.output_shape().values())[-1].channels
    return ClassifierHead(rows, channels, keys.NUM_CLASSES, keys.DROPOUT, norm_from_config(cfg))


def head_rows(arch: ArchSpec) -> Sequence[BlockSpec]:
    """The blocks of the architecture's classifier head; none where it has no head."""
    return arch.head.blocks if arch.head is not None else ()
