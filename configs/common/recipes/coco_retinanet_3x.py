"""coco_fpn_3x.py for RetinaNet, with half the learning rate, as Detectron2's own."""

from ..models.fbnet_retinanet import model  # noqa: F401
from .coco_fpn_3x import dataloader, lr_multiplier, optimizer, train  # noqa: F401

optimizer.lr = 0.01
