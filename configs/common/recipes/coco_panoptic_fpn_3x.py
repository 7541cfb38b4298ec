"""coco_fpn_3x.py for Panoptic FPN."""

from ..models.fbnet_panoptic_fpn import model  # noqa: F401
from .coco_mask_fpn_3x import dataloader, lr_multiplier, optimizer, train  # noqa: F401

dataloader.train.dataset.names = ["coco_2017_train_panoptic_separated"]
dataloader.train.dataset.filter_empty = False
dataloader.test.dataset.names = "coco_2017_val_panoptic_separated"
