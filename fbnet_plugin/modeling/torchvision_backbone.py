"""Networks of torchvision as backbones and classifier heads, never with a download (FBNetV3 section 4.1, Table 3).

A network is cut in two. The backbone keeps torchvision's own names (``backbone.layer1.0.conv1.weight``); of the
classifier behind it the last linear layer is ``head.fc``, the layers before that one are ``head.hidden``. Files of
torchvision are converted to these names when they are loaded, see ``checkpoint/torchvision_names.py``.
"""

from __future__ import annotations

from typing import Dict, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn
from torchvision.models import get_model

from ..arch import ArchError
from ..layers import Norm
from .arch import norm_from_config
from .torchvision_network import NAME, family_of, feature_places, replace_norms, set_drop_path, trace


class TorchvisionBackbone(Backbone):
    """A network of torchvision up to its last map, with torchvision's initialisation.

    ResNets have the features stem, res2, ..., res5; all others stride2, stride4 and so on, each the last map of that
    stride.

    Args:
        name: the network, of ``list_networks()``.
        out_features: features to return; empty for the last. What comes after the last one is not built.
        norm: makes norm layers; they take the place of the network's batch norms with its eps, momentum and weights.
            Networks without batch norms have none replaced.
        drop_path: probability that the last residual block drops its branch, per image; earlier blocks linearly less.
            Without residual blocks it is ignored with a warning.
        freeze_at: of ResNets only, as in Detectron2's: 1 freezes the stem, 2 also res2, and so on.

    Raises:
        ArchError: unknown network or feature, no norm for one that needs it, or ``drop_path`` or ``freeze_at`` out of
            range.
    """

    @configurable
    def __init__(
        self,
        name: str,
        *,
        out_features: Sequence[str] = (),
        norm: Norm = nn.BatchNorm2d,
        drop_path: float = 0.0,
        freeze_at: int = 0,
    ):
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ArchError(f"got {drop_path}, expected a probability from 0 to below 1", "MODEL.FBNET.DROP_PATH")
        self.name, self.family = name, family_of(name)
        network = get_model(name, weights=None)
        shapes = trace(network, self.family)
        places = feature_places(self.family, shapes)  # feature -> step
        for feature in out_features:
            if feature not in places:
                raise ArchError(f"got {feature!r}, expected some of {', '.join(places)} ({name})", "out_features")
        known = list(places)
        self._out_features = sorted(set(out_features), key=known.index) or known[-1:]
        self._out_feature_channels = {feature: shapes[step].channels for feature, step in places.items()}
        self._out_feature_strides = {feature: shapes[step].stride for feature, step in places.items()}
        steps = list(shapes)
        self._steps = steps[: steps.index(places[self._out_features[-1]]) + 1]
        self._feature_behind = {places[feature]: feature for feature in self._out_features}
        replace_norms(network, norm, name)
        self._take(network)
        self._freeze(freeze_at)
        set_drop_path(network, drop_path, name)  # hooks on the norms that freezing has left

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        name = cfg.MODEL.TORCHVISION.NAME
        if input_shape.channels not in (None, 3):
            raise ArchError(f"{name} takes 3 image channels, the input has {input_shape.channels}", NAME)
        fbnet = cfg.MODEL.FBNET
        return {
            "name": name,
            "out_features": fbnet.OUT_FEATURES,
            "norm": norm_from_config(cfg),
            "drop_path": fbnet.DROP_PATH,
            "freeze_at": fbnet.FREEZE_AT,
        }

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        """
        Args:
            x: images of shape (N, 3, H, W).

        Returns:
            feature name -> tensor of shape (N, channels, about H / stride, about W / stride).
        """
        assert x.dim() == 4, f"TorchvisionBackbone takes a tensor of shape (N, 3, H, W). Got {tuple(x.shape)} instead!"
        outputs = {}
        for step in self._steps:
            x = self.get_submodule(step)(x)
            if step in self._feature_behind:
                outputs[self._feature_behind[step]] = x
        return outputs

    @property
    def size_divisibility(self) -> int:
        """0: images of any size that leaves a map are fine; an FPN on top asks for its own divisibility."""
        return 0

    @property
    def padding_constraints(self) -> Dict[str, int]:
        """None."""
        return {}

    @property
    def is_whole(self) -> bool:
        """Whether the last feature is the network's last map, which its own classifier takes."""
        return self._out_features[-1] == list(self._out_feature_strides)[-1]

    def _take(self, network: nn.Module) -> None:
        """Makes the modules of ``_steps`` its own, under their names in ``network``."""
        for step in self._steps:
            outer, _, inner = step.partition(".")
            if not inner:
                self.add_module(outer, network.get_submodule(outer))
                continue
            if outer not in self._modules:
                self.add_module(outer, nn.Sequential())
            self.get_submodule(outer).add_module(inner, network.get_submodule(step))

    def _freeze(self, freeze_at: int) -> None:
        """Freezes parameters and norm statistics of the first ``freeze_at`` stages of a ResNet."""
        ends = [self._steps.index(step) + 1 for step in self.family.features if step in self._steps]
        if not 0 <= freeze_at <= len(ends):
            accepted = f"0 to {len(ends)} (the built stages)" if ends else "0; only ResNets can be frozen in part"
            raise ArchError(f"got {freeze_at}, expected {accepted} ({self.name})", "MODEL.FBNET.FREEZE_AT")
        for step in self._steps[: ends[freeze_at - 1] if freeze_at else 0]:
            module = self.get_submodule(step)
            for parameter in module.parameters():
                parameter.requires_grad = False
            setattr(self, step, FrozenBatchNorm2d.convert_frozen_batchnorm(module))


@BACKBONE_REGISTRY.register()
def build_torchvision_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TorchvisionBackbone:
    """The network ``MODEL.TORCHVISION.NAME`` up to its last map; features as ``MODEL.FBNET.OUT_FEATURES`` says."""
    return TorchvisionBackbone(cfg, input_shape)


class TorchvisionHead(nn.Module):
    """What a network of torchvision does with its last map.

    Args:
        pool: (N, C, H, W) -> (N, C'), or (N, C, 1, 1) where ``hidden`` flattens.
        hidden: all of the classifier but the last linear layer, under torchvision's numbers.
        fc: the last linear layer.
    """

    def __init__(self, pool: nn.Module, hidden: nn.Sequential, fc: nn.Linear):
        super().__init__()
        self.pool = pool
        self.hidden = hidden
        self.fc = fc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, num_classes)"""
        return self.fc(self.hidden(self.pool(x)))


def torchvision_head(backbone: TorchvisionBackbone, num_classes: int, dropout: float = 0.0) -> TorchvisionHead:
    """The network's own classifier, newly initialised.

    Args:
        backbone: with the network's last map as its last feature.
        num_classes: outputs.
        dropout: of each of the network's own dropout layers; before the last linear layer where it has none.

    Raises:
        ArchError: the backbone ends before the network's last map.
    """
    if not backbone.is_whole:
        last = list(backbone.output_shape())[-1]
        raise ArchError(f"ends with {last}, the classifier of {backbone.name} needs its last map", "OUT_FEATURES")
    network = get_model(backbone.name, weights=None, num_classes=num_classes)
    outer, _, inner = backbone.family.linear.partition(".")
    classifier = network.get_submodule(outer)
    hidden = classifier[:-1] if inner else nn.Sequential()
    own = [key for key, layer in hidden.named_children() if isinstance(layer, nn.Dropout)]
    for key in own or [str(len(hidden))]:
        setattr(hidden, key, nn.Dropout(dropout))
    pool = [nn.ReLU()] if backbone.family.relu else []
    pool.append(getattr(network, "avgpool", nn.AdaptiveAvgPool2d(1)))
    if not any(isinstance(layer, nn.Flatten) for layer in hidden):
        pool.append(nn.Flatten())
    return TorchvisionHead(nn.Sequential(*pool), hidden, network.get_submodule(backbone.family.linear))
