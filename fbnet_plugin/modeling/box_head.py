"""The per-RoI head of a C4 detector: the architecture's last stage(s) and a global average pool."""

from __future__ import annotations

from typing import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.box_head import ROI_BOX_HEAD_REGISTRY
from torch import nn

from ..arch.blocks import BlockSpec
from ..layers import Norm, build_blocks
from .arch import arch_from_config, box_head_rows, norm_from_config


@ROI_BOX_HEAD_REGISTRY.register()
class FBNetRoIBoxHead(nn.Module):
    """FBNet blocks on each pooled RoI, then the mean over the map.

    In Faster R-CNN C4 (FBNetV3 section 4.3) these are the stages after the feature that is pooled.

    Args:
        rows: the blocks.
        in_channels: of the pooled feature.
        norm: makes norm layers.
    """

    @configurable
    def __init__(self, rows: Sequence[BlockSpec], *, in_channels: int, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.blocks = nn.Sequential(*build_blocks(rows, in_channels, norm))
        self._output_shape = box_head_shape(rows)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {
            "rows": box_head_rows(arch_from_config(cfg), cfg.MODEL.ROI_HEADS.IN_FEATURES[0]),
            "in_channels": input_shape.channels,
            "norm": norm_from_config(cfg),
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, C, P, P) pooled features of R RoIs -> (R, out_channels)"""
        return self.blocks(x).mean((2, 3))

    @property
    def output_shape(self) -> ShapeSpec:
        """Channels of the vector per RoI."""
        return self._output_shape


def box_head_shape(rows: Sequence[BlockSpec]) -> ShapeSpec:
    """What a ``FBNetRoIBoxHead`` of these rows gives."""
    return ShapeSpec(channels=rows[-1].out)
