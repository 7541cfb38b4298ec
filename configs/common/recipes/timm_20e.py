"""Classifiers that begin with timm's ImageNet weights; Pretrained/Base-timm.yaml says how they are fine-tuned."""

from detectron2.config import LazyCall as L

from fbnet_plugin.engine.lazy_parts import warmup_cosine

from ..data.classification import dataloader  # noqa: F401
from ..models.fbnet_classifier import model
from ..optim import sgd as optimizer
from ..train import train

model.label_smoothing = 0.1
optimizer.lr, optimizer.weight_decay, optimizer.nesterov = 0.01, 0.00004, True
lr_multiplier = L(warmup_cosine)(length="${train.epochs}", warmup=1, warmup_factor=0.001)
train.epochs = 20
train.checkpointer.epochs = train.eval_epochs = 5
