"""Inputs for detectors, without files."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks


def fake_photo(size: tuple[int, int] = (64, 96), classes: int = 3, objects: int = 2, **targets: bool) -> dict[str, Any]:
    """What a Detectron2 detector takes for one image: noise with boxes, and masks, keypoints or segments if asked for.

    Args:
        size: (height, width) in px.
        classes: labels are below this number.
        objects: number of boxes.
        targets: any of masks, keypoints, sem_seg.
    """
    height, width = size
    corner = torch.rand(objects, 2) * torch.tensor([width / 2, height / 2])
    boxes = torch.cat([corner, corner + 16 + torch.rand(objects, 2) * 16], dim=1)
    instances = Instances(size, gt_boxes=Boxes(boxes), gt_classes=torch.arange(objects) % classes)
    if targets.get("masks"):
        x0, y0, x1, y1 = boxes.numpy().astype("float64").T
        instances.gt_masks = PolygonMasks([[[a, b, c, b, c, d]] for a, b, c, d in zip(x0, y0, x1, y1)])
    if targets.get("keypoints"):
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        points = torch.cat([middle, torch.full((objects, 1), 2.0)], dim=1)
        instances.gt_keypoints = Keypoints(points[:, None].repeat(1, 17, 1))
    photo = {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8), "instances": instances}
    if targets.get("sem_seg"):
        photo["sem_seg"] = torch.randint(0, 54, size)
    return {**photo, "height": height, "width": width}
