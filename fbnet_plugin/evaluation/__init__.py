"""Evaluators: image classification, and Detectron2's own for everything else."""

from .build import build_evaluator, has_fast_coco_eval
from .classification import ClassificationEvaluator

__all__ = ["ClassificationEvaluator", "build_evaluator", "has_fast_coco_eval"]
