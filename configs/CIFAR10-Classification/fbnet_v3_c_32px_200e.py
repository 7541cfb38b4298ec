"""fbnet_v3_c_32px_200e.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/CIFAR10-Classification/fbnet_v3_c_32px_200e.py
"""

from ..common.recipes.cifar10_200e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_v3_c_32px"
train.output_dir = "./output/fbnet_v3_c_cifar10_32px_200e"
