"""ImageNet in the recipe of FBNet's appendix A; Recipes/fbnet_360e.yaml says which values are published."""

from detectron2.config import LazyCall as L

from fbnet_plugin.engine.lazy_parts import warmup_multi_step

from ..data.classification import dataloader  # noqa: F401
from ..models.fbnet_classifier import model  # noqa: F401
from ..optim import sgd as optimizer
from ..train import train

optimizer.lr, optimizer.weight_decay = 0.1, 0.00004
optimizer.params.weight_decay_bias = 0.0
lr_multiplier = L(warmup_multi_step)(length="${train.epochs}", steps=[90, 180, 270], gamma=0.1)
train.epochs = 360
train.checkpointer.epochs = train.eval_epochs = 10
