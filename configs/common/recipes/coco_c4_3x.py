"""Faster R-CNN C4 with the recipe of FBNetV3 section 4.3; Recipes/coco_c4_3x.yaml says which values are published."""

from detectron2.config import LazyCall as L

from fbnet_plugin.engine.lazy_parts import warmup_cosine

from ..data.coco import dataloader
from ..models.fbnet_c4 import model  # noqa: F401
from ..optim import sgd as optimizer
from ..train import train

dataloader.train.total_batch_size = 128
_train, _test = dataloader.train.mapper.augmentations[0], dataloader.test.mapper.augmentations[0]
_train.short_edge_length, _train.max_size = [320, 352, 384, 400, 416, 448, 480], 800
_test.short_edge_length, _test.max_size = 400, 667
optimizer.lr = 0.16
lr_multiplier = L(warmup_cosine)(length="${train.max_iter}", warmup=1000, warmup_factor=0.001)
train.max_iter = 33750
train.ema.enabled = True
train.checkpointer.period = 2500
train.eval_period = 5000
