"""fbnet_v3_d_400e.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/ImageNet-Classification/fbnet_v3_d_400e.py
"""

from ..common.recipes.fbnet_v3_400e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_v3_d"
train.output_dir = "./output/fbnet_v3_d_400e"
