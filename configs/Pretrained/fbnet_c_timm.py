"""fbnet_c_timm.yaml as a LazyConfig; its figures and their sources stand there.

Run: python tools/lazyconfig_train_net.py --config-file configs/Pretrained/fbnet_c_timm.py --eval-only
"""

from ..common.recipes.timm_20e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.backbone.arch.name = "fbnet_c_timm"
train.init_checkpoint = "timm://fbnetc_100.rmsp_in1k"
train.output_dir = "./output/fbnet_c_timm"
