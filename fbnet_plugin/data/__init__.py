"""Datasets, mappers and loaders; importing this package registers the project's datasets with Detectron2."""

from .errors import DatasetError
from .image_folder import register_image_folder
from .loaders import (
    build_classification_test_loader,
    build_test_loader,
    build_train_loader,
    is_classification,
    training_dicts,
)
from .mapper import ClassificationMapper, DetectionMapper, check_augmentation
from .registration import register_builtin, register_from_config
from .stream import TrainLoader

register_builtin()

__all__ = [
    "ClassificationMapper", "DatasetError", "DetectionMapper", "TrainLoader", "build_classification_test_loader",
    "build_test_loader", "build_train_loader", "check_augmentation", "is_classification", "register_builtin",
    "register_from_config", "register_image_folder", "training_dicts",
]  # fmt: skip
