"""From config keys to the architecture and the norm layers that the modules are built with."""

from __future__ import annotations

import math
from typing import Optional

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from torch import nn

from ..arch import ArchSpec, get_arch, scale_width
from ..arch.blocks import BlockSpec
from ..layers import Norm


def arch_from_config(cfg: CfgNode) -> ArchSpec:
    """The architecture of ``MODEL.FBNET``: ARCH with WIDTH_MULT and PADDING applied.

    Raises:
        ArchError: unknown architecture, unusable file, or a bad WIDTH_MULT or PADDING.
    """
    fbnet = cfg.MODEL.FBNET
    return scale_width(get_arch(fbnet.ARCH), fbnet.WIDTH_MULT).with_padding(fbnet.PADDING)


def norm_from_config(cfg: CfgNode) -> Norm:
    """Maker of the norm layers that ``MODEL.FBNET.NORM`` names.

    SyncBN becomes Detectron2's naive form on a CPU, where PyTorch's own does not run. GN has 32 groups,
    or as many as divide both 32 and the channels, since FBNet's widths are seldom multiples of 32.
    """
    name = cfg.MODEL.FBNET.NORM
    if name == "SyncBN" and cfg.MODEL.DEVICE == "cpu":
        name = "naiveSyncBN"

    def make(channels: int) -> Optional[nn.Module]:
        if name == "GN":
            return nn.GroupNorm(math.gcd(32, channels), channels)
        return get_norm(name, channels)

    return make


def stage_of_feature(feature: str) -> Optional[int]:
    """Index i of the stage behind the feature ``trunk{i}``; None for other features, such as p3."""
    number = feature[len("trunk") :]
    return int(number) if feature.startswith("trunk") and number.isdigit() else None


def rpn_row(arch: ArchSpec, feature: str) -> BlockSpec:
    """The row that the RPN repeats: the last of the feature's stage; for an FPN level the last at stride 16."""
    stage = stage_of_feature(feature)
    if stage is None:
        strides = arch.strides()
        stage = max((i for i, stride in enumerate(strides) if stride <= 16), default=0)
    return arch.stages[stage].blocks[-1]


def box_head_rows(arch: ArchSpec, feature: str) -> "tuple[BlockSpec, ...]":
    """The rows of the per-RoI head on ``feature``.

    The architecture's own ``box_head`` if it has one; else the stages after the feature's; else, on the
    last stage and on FPN levels, the last stage.
    """
    if arch.box_head:
        return arch.box_head
    stage = stage_of_feature(feature)
    after = arch.stages[stage + 1 :] if stage is not None else ()
    return tuple(block for one in after or arch.stages[-1:] for block in one.blocks)
