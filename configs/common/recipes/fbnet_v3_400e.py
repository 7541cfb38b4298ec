"""ImageNet in the recipe of FBNetV3 section 4.2; Recipes/fbnet_v3_400e.yaml says which values are published."""

from detectron2.config import LazyCall as L

from fbnet_plugin.data.augmentation import auto_augment
from fbnet_plugin.engine.lazy_parts import warmup_exponential

from ..data.classification import dataloader
from ..data.constants import constants
from ..models.fbnet_classifier import model
from ..optim import rmsprop as optimizer  # noqa: F401
from ..train import train

model.backbone.norm.name = "SyncBN"
model.backbone.drop_path = 0.1
model.label_smoothing = 0.1
dataloader.train.total_batch_size = 2048
dataloader.train.mapper.transform.augment = L(auto_augment)(name="autoaugment", fill=constants.fill)
lr_multiplier = L(warmup_exponential)(epochs="${train.epochs}", decay=0.9875, warmup=5, warmup_factor=0.0625)
train.epochs = 400
train.ema.enabled, train.ema.decay = True, 0.99985
train.checkpointer.epochs = train.eval_epochs = 10
