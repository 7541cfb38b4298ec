"""FBNetV3 on CIFAR-10 at 32 px; Recipes/cifar10.yaml says which values are published."""

from detectron2.config import LazyCall as L

from fbnet_plugin.data.augmentation import auto_augment
from fbnet_plugin.engine.lazy_parts import warmup_cosine

from ..data.classification import dataloader
from ..data.constants import constants
from ..models.fbnet_classifier import model
from ..optim import sgd as optimizer
from ..train import train

model.backbone.drop_path = 0.1
model.head.num_classes = 10
model.label_smoothing = 0.1
dataloader.train.dataset.names = ["cifar10_train"]
dataloader.train.mapper.transform.area = [0.4, 1.0]
dataloader.train.mapper.transform.augment = L(auto_augment)(name="autoaugment-cifar10", fill=constants.fill)
dataloader.train.num_workers = dataloader.test.num_workers = 4
dataloader.test.dataset.names = "cifar10_test"
optimizer.lr, optimizer.nesterov = 0.1, True
optimizer.params.weight_decay_bias = 0.0
lr_multiplier = L(warmup_cosine)(length="${train.epochs}", warmup=5, warmup_factor=0.001)
train.epochs = 200
train.ema.enabled, train.ema.decay = True, 0.999
train.checkpointer.epochs = train.eval_epochs = 10
