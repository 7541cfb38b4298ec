"""A config's model on one image at a time, prepared as for an evaluation."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from PIL import Image
from torch import nn
from torchvision.models import AlexNet_Weights

from ..checkpoint import FBNetCheckpointer
from ..data import ClassificationMapper, DatasetError, register_from_config
from ..data.image_folder import known_classes
from ..engine import ConfigError, load_config, trainer_class
from ..engine.validate import require_known
from ..modeling import ImageClassifier
from ..modeling.arch import arch_from_config

_IMAGENET = ("imagenet_val", "imagenet_train")

_logger = logging.getLogger(__name__)


def demo_config(config_file: str, opts: Sequence[str] = (), threshold: float = 0.5) -> CfgNode:
    """The config of a model that is only to be looked at: its datasets need not be there.

    Args:
        config_file, opts: see ``load_config``.
        threshold: smallest score of what a detector gives, in place of the config's own thresholds.

    Raises:
        ConfigError, ArchError: the config cannot be used.
        DatasetError: ``DATASETS.IMAGE_FOLDERS`` or ``DATASETS.COCO_JSON`` is malformed.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--confidence-threshold is {threshold:g}, expected 0 to 1")
    cfg = load_config(config_file, opts)
    require_known("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, (name for name, _ in META_ARCH_REGISTRY))
    require_known("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, (name for name, _ in BACKBONE_REGISTRY))
    if cfg.MODEL.BACKBONE.NAME.startswith("build_fbnet_"):
        arch_from_config(cfg)
    if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        _logger.warning(f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but PyTorch finds no CUDA device; using cpu")
        cfg.MODEL.DEVICE = "cpu"
    register_from_config(cfg)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = threshold
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = threshold
    cfg.freeze()
    return cfg


class Predictor:
    """Images in, predictions out; for detectors and for ``ImageClassifier``.

    Args:
        cfg: complete, its own datasets registered.
        model: of this config; put into eval mode.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        self.model = model.eval()
        self._format = cfg.INPUT.FORMAT
        self._classify = ClassificationMapper(cfg, False) if isinstance(model, ImageClassifier) else None
        self._resize = T.AugmentationList(utils.build_augmentation(cfg, False))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Predictor:
        """Builds the model of ``cfg`` and loads all of it from ``MODEL.WEIGHTS``; "" leaves it random, with a warning.

        Raises:
            CheckpointError: the weights cannot be read, or do not fit.
        """
        model = trainer_class(cfg).build_model(cfg)
        FBNetCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS)
        if not cfg.MODEL.WEIGHTS:
            _logger.warning("MODEL.WEIGHTS is empty: the weights are random, and so is what the model says")
        return cls(cfg, model)

    def __call__(self, image: np.ndarray) -> Dict[str, Any]:
        """
        Args:
            image: (H, W, 3) uint8 RGB, of any size.

        Returns:
            the model's output for this image, on the CPU, boxes and masks in its px: "instances", "panoptic_seg" and
            "sem_seg" of Detectron2's detectors, "scores" of a classifier.
        """
        with torch.no_grad():
            return {key: _on_cpu(value) for key, value in self.model([self._input(image)])[0].items()}

    def _input(self, image: np.ndarray) -> Dict[str, Any]:
        if self._classify is not None:
            return self._classify({"image": image})
        height, width = image.shape[:2]
        augmented = T.AugInput(utils.convert_PIL_to_numpy(Image.fromarray(image), self._format))
        self._resize(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        return {"image": torch.as_tensor(pixels), "height": height, "width": width}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_on_cpu(one) for one in value)
    return value.to("cpu") if hasattr(value, "to") else value


def demo_metadata(cfg: CfgNode) -> Any:
    """Detectron2's metadata of the first dataset that the config names, with its class names where these are known.

    A dataset whose files are missing has no names, unless it is ImageNet; without a dataset the metadata is empty.
    """
    names = [name for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN) if name in DatasetCatalog]
    if not names:
        return Metadata()
    metadata = MetadataCatalog.get(names[0])
    if names[0] in _IMAGENET and cfg.MODEL.CLASSIFIER.NUM_CLASSES == len(imagenet_classes()):
        return Metadata(**{**metadata.as_dict(), "thing_classes": imagenet_classes()})
    if metadata.get("thing_classes") is None:
        try:
            classes = known_classes(names[0])
            if classes is None:
                DatasetCatalog.get(names[0])  # sets them
            else:
                return Metadata(**metadata.as_dict(), thing_classes=classes)
        except (DatasetError, OSError) as error:
            _logger.warning(f"class names of {names[0]} are not known, numbers stand in their place: {error}")
    return metadata


def imagenet_classes() -> List[str]:
    """English names of ImageNet's 1,000 classes in the order of their folders, as torchvision has them."""
    return list(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def class_names(metadata: Any) -> Optional[List[str]]:
    """Names by class number; None where they are not known."""
    classes = metadata.get("thing_classes")
    return list(classes) if classes else None
