"""fbnet_b_360e.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/ImageNet-Classification/fbnet_b_360e.py
"""

from ..common.recipes.fbnet_360e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_b"
train.output_dir = "./output/fbnet_b_360e"
