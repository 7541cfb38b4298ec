"""fbnet_c_360e.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/ImageNet-Classification/fbnet_c_360e.py
"""

from ..common.recipes.fbnet_360e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_c"
train.output_dir = "./output/fbnet_c_360e"
