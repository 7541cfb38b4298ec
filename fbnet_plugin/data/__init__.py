"""Datasets, mappers and loaders; importing this package registers the project's datasets with Detectron2."""

from .errors import DatasetError
from .image_folder import register_image_folder
from .loaders import (
    build_classification_test_loader,
    build_classification_train_loader,
    build_test_loader,
    build_train_loader,
    is_classification,
)
from .mapper import ClassificationMapper, DetectionMapper
from .registration import register_builtin, register_from_config

register_builtin()

__all__ = [
    "ClassificationMapper", "DatasetError", "DetectionMapper", "build_classification_test_loader",
    "build_classification_train_loader", "build_test_loader", "build_train_loader", "is_classification",
    "register_builtin", "register_from_config", "register_image_folder",
]  # fmt: skip
