"""Optimizers. The engine sets ``params.model``; norms and, in classification, biases have no weight decay."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

from fbnet_plugin.engine.optimizer import RMSPropTF

sgd = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=0.0001,
    nesterov=False,
)

rmsprop = L(RMSPropTF)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0, weight_decay_bias=0.0),
    lr=0.16,
    alpha=0.9,
    eps=0.001,
    momentum=0.9,
    weight_decay=0.000014,
)
