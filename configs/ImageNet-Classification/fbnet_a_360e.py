"""fbnet_a_360e.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/ImageNet-Classification/fbnet_a_360e.py
"""

from ..common.recipes.fbnet_360e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_a"
train.output_dir = "./output/fbnet_a_360e"
