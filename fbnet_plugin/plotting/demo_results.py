"""Predictions as COCO's JSON."""

from __future__ import annotations

import copy
import json
import os
from typing import Any, Dict, List

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances

from ..atomic_file import atomic_write
from ..engine import ConfigError
from .demo_drawing import best_classes
from .demo_predictor import class_names


class Results:
    """What a model says of images, collected.

    ``annotations`` are COCO's results: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in px of the
    image), ``score``, where the model gives them ``segmentation`` (RLE) and ``keypoints``, and further ``id``, ``area``
    and ``iscrowd``, so that pycocotools reads the whole file as well. A classifier's are its best five classes, without
    boxes. A category's id is the dataset's own, where its metadata says it, and else the number of the class.
    """

    def __init__(self, metadata: Any):
        """
        Args:
            metadata: for ids and names of classes.
        """
        self._ids = {number: own for own, number in (metadata.get("thing_dataset_id_to_contiguous_id") or {}).items()}
        names = class_names(metadata) or []
        self._categories = [{"id": self._id(number), "name": name} for number, name in enumerate(names)]
        self._images: List[Dict[str, Any]] = []
        self._annotations: List[Dict[str, Any]] = []

    def _id(self, number: int) -> int:
        return self._ids.get(number, number)

    def add(self, predictions: Dict[str, Any], height: int, width: int, **image: Any) -> None:
        """
        Args:
            predictions: of one image, on the CPU.
            height, width: of the image, px.
            image: what else is said of it, such as ``file_name``.
        """
        number = len(self._images) + 1
        self._images.append({"id": number, "height": height, "width": width, **image})
        if "scores" in predictions:
            found = [
                {"image_id": number, "category_id": place, "score": score}
                for place, score in best_classes(predictions["scores"])
            ]
        else:
            found = _coco(predictions["instances"], number) if "instances" in predictions else []
        for one in found:
            one.update(id=len(self._annotations) + 1, category_id=self._id(one["category_id"]))
            if "bbox" in one:
                one.update(area=one["bbox"][2] * one["bbox"][3], iscrowd=0)
            self._annotations.append(one)

    def write(self, path: str) -> None:
        """Writes the file, complete or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        content = {"images": self._images, "categories": self._categories, "annotations": self._annotations}
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            with atomic_write(path) as file:
                file.write(json.dumps(content).encode())
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error}") from None


def _coco(instances: Instances, image_id: int) -> List[Dict[str, Any]]:
    """COCO's results by Detectron2, which moves the keypoints that it is given: those of ``instances`` stay."""
    if instances.has("pred_keypoints"):
        instances = copy.deepcopy(instances)
    return instances_to_coco_json(instances, image_id)
