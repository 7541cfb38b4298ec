"""faster_rcnn_fbnet_c_imagenet_C4_3x.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/COCO-Detection/faster_rcnn_fbnet_c_imagenet_C4_3x.py
"""

from ..common.recipes.coco_c4_3x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_c"
train.output_dir = "./output/faster_rcnn_fbnet_c_imagenet_C4_3x"
