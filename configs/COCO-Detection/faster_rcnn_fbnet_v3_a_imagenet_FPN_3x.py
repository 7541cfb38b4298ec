"""faster_rcnn_fbnet_v3_a_imagenet_FPN_3x.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/COCO-Detection/faster_rcnn_fbnet_v3_a_imagenet_FPN_3x.py
"""

from ..common.recipes.coco_fpn_3x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.bottom_up.arch.name = "fbnet_v3_a"
train.output_dir = "./output/faster_rcnn_fbnet_v3_a_imagenet_FPN_3x"
