"""faster_rcnn_fbnet_v3_b_timm_C4_3x.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/COCO-Detection/faster_rcnn_fbnet_v3_b_timm_C4_3x.py
"""

from ..common.recipes.coco_c4_3x import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_v3_b_timm"
train.init_checkpoint = "timm://fbnetv3_b.ra2_in1k"
train.output_dir = "./output/faster_rcnn_fbnet_v3_b_timm_C4_3x"
