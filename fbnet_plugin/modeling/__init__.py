"""Backbones, heads and meta-architectures; importing this registers them with Detectron2."""

from .arch import arch_from_config, inner_name, norm_from_config, space_from_config
from .backbone import FBNetBackbone, build_fbnet_backbone, build_fbnet_fpn_backbone, build_fbnet_retinanet_backbone
from .box_head import FBNetRoIBoxHead
from .classifier import ClassifierHead, ImageClassifier
from .rpn import FBNetRPNHead
from .torchvision_backbone import TorchvisionBackbone, build_torchvision_backbone

__all__ = [
    "ClassifierHead", "FBNetBackbone", "FBNetRPNHead", "FBNetRoIBoxHead", "ImageClassifier", "TorchvisionBackbone",
    "arch_from_config", "build_fbnet_backbone", "build_fbnet_fpn_backbone", "build_fbnet_retinanet_backbone",
    "build_torchvision_backbone", "inner_name", "norm_from_config", "space_from_config",
]  # fmt: skip
