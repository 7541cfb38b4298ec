"""The RPN head of a C4 detector: the architecture's last stride-16 row, repeated, and two 1x1 convs."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
from torch import nn

from ..arch import ArchSpec
from ..arch.blocks import BlockSpec
from ..layers import Norm, build_blocks
from .arch import arch_from_config, norm_from_config, rpn_row


def rpn_rows(arch: ArchSpec, feature: str, repeat: int = 0) -> List[BlockSpec]:
    """The head's rows: ``rpn_row`` with stride 1.

    The padding is ordinary whatever that of ``arch`` is: the maps must keep the anchors' grid.

    Args:
        arch: the body's.
        feature: the first that the RPN takes.
        repeat: copies of the row; 0 is as many as the row itself has.
    """
    row = rpn_row(arch.with_padding("same"), feature)
    return [row.replaced(stride=1, repeat=repeat or row.repeat)]


@RPN_HEAD_REGISTRY.register()
class FBNetRPNHead(nn.Module):
    """Objectness and box deltas from FBNet blocks, shared by all levels.

    With the row that the architecture's body repeats, this is the head that gives the counts of FBNetV3
    Table 5.

    Args:
        rows: blocks of stride 1.
        in_channels: of every level.
        num_anchors: anchors per location.
        box_dim: 4, or 5 for rotated boxes.
        norm: makes norm layers.
    """

    @configurable
    def __init__(
        self,
        rows: Sequence[BlockSpec],
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        self.blocks = nn.Sequential(*build_blocks(rows, in_channels, norm))
        channels = rows[-1].out if rows else in_channels
        self.objectness_logits = nn.Conv2d(channels, num_anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * box_dim, 1)
        for layer in (self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: List[ShapeSpec]) -> dict:
        channels = {shape.channels for shape in input_shape}
        assert len(channels) == 1, f"FBNetRPNHead takes levels of equal channels. Got {channels} instead!"
        generator = build_anchor_generator(cfg, input_shape)
        anchors = set(generator.num_anchors)
        assert len(anchors) == 1, f"FBNetRPNHead takes levels of equal numbers of anchors. Got {anchors} instead!"
        return {
            "rows": rpn_rows(arch_from_config(cfg), cfg.MODEL.RPN.IN_FEATURES[0], cfg.MODEL.FBNET.RPN_REPEAT),
            "in_channels": channels.pop(),
            "num_anchors": anchors.pop(),
            "box_dim": generator.box_dim,
            "norm": norm_from_config(cfg),
        }

    def forward(self, features: List[torch.Tensor]) -> Tuple[List[torch.Tensor], List[torch.Tensor]]:
        """
        Args:
            features: per level, (N, C, H, W).

        Returns:
            per level, objectness (N, A, H, W); per level, deltas (N, A * box_dim, H, W).
        """
        towers = [self.blocks(feature) for feature in features]
        return [self.objectness_logits(x) for x in towers], [self.anchor_deltas(x) for x in towers]
