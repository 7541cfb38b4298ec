"""fbnet_v3_d_timm.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/Pretrained/fbnet_v3_d_timm.py --eval-only
"""

from ..common.recipes.timm_20e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_v3_d_timm"
dataloader.train.mapper.transform.size = 224
train.init_checkpoint = "timm://fbnetv3_d.ra2_in1k"
train.output_dir = "./output/fbnet_v3_d_timm"
