"""coco_fpn_3x.py for Mask R-CNN."""

from ..models.fbnet_mask_fpn import model  # noqa: F401
from .coco_fpn_3x import dataloader, lr_multiplier, optimizer, train  # noqa: F401

dataloader.train.mapper.use_instance_mask = True
