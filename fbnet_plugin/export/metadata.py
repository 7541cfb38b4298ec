"""What an exported file says about itself."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, Tuple

from detectron2.config import CfgNode

from ..arch import get_arch
from ..data.image_folder import known_classes
from ..version import __version__

SEARCHED = ("build_fbnet_backbone", "build_fbnet_fpn_backbone", "build_fbnet_retinanet_backbone")


def describe(cfg: CfgNode, image_size: Optional[Tuple[int, int]]) -> Dict[str, str]:
    """Text under each key; lists are JSON.

    producer, meta_architecture, architecture, weights; input_format, pixel_range, pixel_mean and pixel_std (which the
    graph applies itself); image_size, [height, width] in px, where it is fixed; classes, their names where the test
    set tells them.

    Args:
        cfg: that the model was built from.
        image_size: (height, width) in px, None where it is not fixed.
    """
    values: Dict[str, Any] = {
        "producer": f"fbnet_plugin {__version__}",
        "meta_architecture": cfg.MODEL.META_ARCHITECTURE,
        "architecture": architecture_name(cfg),
        "weights": cfg.MODEL.WEIGHTS or "random",
        "input_format": cfg.INPUT.FORMAT,
        "pixel_range": [0, 255],
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
    }
    if image_size is not None:
        values["image_size"] = list(image_size)
    classes = class_names(cfg)
    if classes:
        values["classes"] = classes
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def architecture_name(cfg: CfgNode) -> str:
    """Of the backbone: the architecture's name with its width, or the network of torchvision."""
    name, width = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.FBNET.WIDTH_MULT
    if name == "build_torchvision_backbone":
        return cfg.MODEL.TORCHVISION.NAME
    if name not in SEARCHED:
        return name
    return get_arch(cfg.MODEL.FBNET.ARCH).name + (f" x{width:g}" if width != 1 else "")


def class_names(cfg: CfgNode) -> Tuple[str, ...]:
    """Of the first test set whose names can be told without loading it; () where that has none, or too many."""
    keys = cfg.MODEL
    if keys.META_ARCHITECTURE == "ImageClassifier":
        count = keys.CLASSIFIER.NUM_CLASSES
    else:
        count = keys.RETINANET.NUM_CLASSES if keys.META_ARCHITECTURE == "RetinaNet" else keys.ROI_HEADS.NUM_CLASSES
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = known_classes(name)
        if names is not None and len(names) == count:
            return tuple(names)
    return ()
