"""fbnet_v3_g_distill_400e.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/ImageNet-Classification/fbnet_v3_g_distill_400e.py
"""

from ..common.recipes.fbnet_v3_400e_distill import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_v3_g"
model.backbone.drop_path = 0.2
train.output_dir = "./output/fbnet_v3_g_distill_400e"
