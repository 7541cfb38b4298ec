"""FBNet backbones in Detectron2's registry: plain, with FPN, with RetinaNet's FPN."""

from __future__ import annotations

from typing import Dict, List, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from ..arch import ArchError, ArchSpec
from ..layers import Norm, build_blocks
from .arch import arch_from_config, norm_from_config, norm_name


class FBNetBackbone(Backbone):
    """The stages of an architecture; stage i gives the feature ``trunk{i}``.

    Args:
        arch: the architecture; its head is not built.
        out_features: features to return; empty for the last. Stages after the last one are not built.
        norm: makes norm layers.
        drop_path: probability that the architecture's last block drops its residual branch; earlier
            blocks linearly less.
        freeze_at: number of leading stages to freeze.

    Raises:
        ArchError: ``out_features`` names a feature that the architecture does not have, or ``drop_path`` or
            ``freeze_at`` is out of range.
    """

    @configurable
    def __init__(
        self,
        arch: ArchSpec,
        *,
        out_features: Sequence[str] = (),
        norm: Norm = nn.BatchNorm2d,
        drop_path: float = 0.0,
        freeze_at: int = 0,
    ):
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ArchError(f"got {drop_path}, expected a probability from 0 to below 1", "MODEL.FBNET.DROP_PATH")
        known = [f"trunk{i}" for i in range(len(arch.stages))]
        for feature in out_features:
            if feature not in known:
                raise ArchError(f"got {feature!r}, expected some of {', '.join(known)} ({arch.name})", "out_features")
        self._out_features = sorted(set(out_features), key=known.index) or known[-1:]
        strides = arch.strides()
        self._out_feature_strides = dict(zip(known, strides))
        self._out_feature_channels = {name: stage.out for name, stage in zip(known, arch.stages)}
        needed = known.index(self._out_features[-1]) + 1
        self.stages = nn.ModuleList(build_stages(arch, needed, norm, drop_path))
        self.freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        fbnet = cfg.MODEL.FBNET
        arch = arch_from_config(cfg)
        if input_shape.channels is not None and input_shape.channels != arch.in_channels:
            raise ArchError(f"takes {arch.in_channels} image channels, the input has {input_shape.channels}", arch.name)
        return {
            "arch": arch,
            "out_features": fbnet.OUT_FEATURES,
            "norm": norm_from_config(cfg),
            "drop_path": fbnet.DROP_PATH,
            "freeze_at": fbnet.FREEZE_AT,
        }

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        """
        Args:
            x: images of shape (N, C, H, W); any H and W.

        Returns:
            feature name -> tensor of shape (N, channels, about H / stride, about W / stride).
        """
        assert x.dim() == 4, f"FBNetBackbone takes a tensor of shape (N, C, H, W). Got {tuple(x.shape)} instead!"
        outputs = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if f"trunk{index}" in self._out_features:
                outputs[f"trunk{index}"] = x
        return outputs

    @property
    def size_divisibility(self) -> int:
        """0: images of any size are fine; an FPN on top asks for its own divisibility."""
        return 0

    @property
    def padding_constraints(self) -> Dict[str, int]:
        """None."""
        return {}

    def freeze(self, freeze_at: int) -> "FBNetBackbone":
        """Freezes the parameters and the norm statistics of the first ``freeze_at`` stages.

        Raises:
            ArchError: ``freeze_at`` is negative or above the number of built stages.
        """
        if not 0 <= freeze_at <= len(self.stages):
            problem = f"got {freeze_at}, expected 0 to {len(self.stages)} (the built stages)"
            raise ArchError(problem, "MODEL.FBNET.FREEZE_AT")
        for index in range(freeze_at):
            for parameter in self.stages[index].parameters():
                parameter.requires_grad = False
            self.stages[index] = FrozenBatchNorm2d.convert_frozen_batchnorm(self.stages[index])
        return self


def build_stages(arch: ArchSpec, count: int, norm: Norm, drop_path: float = 0.0) -> List[nn.Sequential]:
    """The first ``count`` stages as modules; ``drop_path`` grows linearly over all stages' blocks."""
    lengths = [sum(row.repeat for row in stage.blocks) for stage in arch.stages]
    last = max(sum(lengths) - 1, 1)
    stages: List[nn.Sequential] = []
    c_in, done = arch.in_channels, 0
    for stage, length in zip(arch.stages[:count], lengths):
        drop_paths = [drop_path * (done + i) / last for i in range(length)]
        stages.append(nn.Sequential(*build_blocks(stage.blocks, c_in, norm, drop_paths)))
        c_in, done = stage.out, done + length
    return stages


@BACKBONE_REGISTRY.register()
def build_fbnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FBNetBackbone:
    """The backbone of ``MODEL.FBNET``; features trunk0, trunk1, ... as ``OUT_FEATURES`` says."""
    return FBNetBackbone(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_fbnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """FPN on ``MODEL.FPN.IN_FEATURES`` (such as trunk1..trunk4); features p2..p5, and p6 by max pooling."""
    return _fpn(cfg, _bottom_up(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fbnet_retinanet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """FPN on ``MODEL.FPN.IN_FEATURES`` (such as trunk2..trunk4); features p3..p5, p6 and p7 by convs."""
    bottom_up = _bottom_up(cfg, input_shape)
    last = cfg.MODEL.FPN.IN_FEATURES[-1]
    channels = bottom_up.output_shape()[last].channels
    return _fpn(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, in_feature=last))


def _bottom_up(cfg: CfgNode, input_shape: ShapeSpec) -> FBNetBackbone:
    if not cfg.MODEL.FPN.IN_FEATURES:
        raise ArchError("is empty, expected features such as trunk2, trunk3, trunk4", "MODEL.FPN.IN_FEATURES")
    return FBNetBackbone(cfg, input_shape, out_features=cfg.MODEL.FPN.IN_FEATURES)


def _fpn(cfg: CfgNode, bottom_up: FBNetBackbone, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=norm_name(cfg.MODEL.FPN.NORM, cfg.MODEL.DEVICE),
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
