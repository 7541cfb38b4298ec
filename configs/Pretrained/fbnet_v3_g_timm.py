"""fbnet_v3_g_timm.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/Pretrained/fbnet_v3_g_timm.py --eval-only
"""

from ..common.recipes.timm_20e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_v3_g_timm"
dataloader.train.mapper.transform.size = 240
train.init_checkpoint = "timm://fbnetv3_g.ra2_in1k"
train.output_dir = "./output/fbnet_v3_g_timm"
