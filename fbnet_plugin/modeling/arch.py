"""From config keys to the architecture and the norm layers that the modules are built with."""

from __future__ import annotations

import math
from typing import Optional

import torch
from detectron2.config import CfgNode
from detectron2.layers import NaiveSyncBatchNorm, get_norm
from torch import nn

from ..arch import ArchError, ArchSpec, SearchSpace, SkipSpec, get_arch, load_space, scale_width
from ..arch.blocks import BlockSpec
from ..arch.space_scaling import scale_space
from ..arch.supernet import supernet_arch
from ..layers import Norm

SUPERNET = "Supernet"  # registered by fbnet_plugin/dnas


def arch_from_config(cfg: CfgNode) -> ArchSpec:
    """The architecture of ``MODEL.FBNET``: ARCH with WIDTH_MULT and PADDING applied.

    Where the meta-architecture is a supernet, the space of ``MODEL.SUPERNET`` with all candidates side by side.

    Raises:
        ArchError: unknown architecture or space, unusable file, or a bad WIDTH_MULT or PADDING.
    """
    fbnet = cfg.MODEL.FBNET
    if cfg.MODEL.META_ARCHITECTURE == SUPERNET:
        return supernet_arch(space_from_config(cfg)).with_padding(fbnet.PADDING)
    return build_arch(fbnet.ARCH, fbnet.WIDTH_MULT, fbnet.PADDING)


def build_arch(name: str, width_mult: float = 1.0, padding: str = "same") -> ArchSpec:
    """An architecture as a model is built from it.

    Args:
        name: of the zoo, or path of a file.
        width_mult: factor on all channels.
        padding: "published" or "same", see ``MODEL.FBNET.PADDING``.

    Raises:
        ArchError: unknown architecture, unusable file, or a bad factor or padding.
    """
    return scale_width(get_arch(name), width_mult).with_padding(padding)


def space_from_config(cfg: CfgNode) -> SearchSpace:
    """The space of ``MODEL.SUPERNET`` at its resolution, with ``MODEL.FBNET.WIDTH_MULT`` applied (FBNet section 4.2).

    Raises:
        ArchError: unknown space, unusable file, or one that cannot be scaled.
    """
    keys = cfg.MODEL.SUPERNET
    return scale_space(load_space(keys.SPACE), cfg.MODEL.FBNET.WIDTH_MULT, keys.RESOLUTION or None)


def inner_name(cfg: CfgNode) -> str:
    """The meta-architecture that does the task: the one inside a supernet, else the model's own."""
    name = cfg.MODEL.META_ARCHITECTURE
    return cfg.MODEL.SUPERNET.INNER if name == SUPERNET else name


def norm_name(name: str, device: str) -> str:
    """The norm's name for ``device``: SyncBN is Detectron2's naive form on a CPU, where PyTorch's does not run."""
    return "naiveSyncBN" if name == "SyncBN" and device == "cpu" else name


def norm_from_config(cfg: CfgNode) -> Norm:
    """Maker of the norm layers that ``MODEL.FBNET.NORM`` names; see ``norm_maker``."""
    return norm_maker(cfg.MODEL.FBNET.NORM, cfg.MODEL.DEVICE)


def norm_maker(name: str, device: str) -> Norm:
    """Maker of norm layers, from a number of channels to a layer or None.

    GN has 32 groups, or as many as divide both 32 and the channels, since FBNet's widths are seldom
    multiples of 32.

    Args:
        name: as ``MODEL.FBNET.NORM``.
        device: that the model will be on, such as "cuda" or "cpu"; see ``norm_name``.

    Raises:
        ArchError: Detectron2 knows no such norm.
    """
    name = norm_name(name, device)
    try:
        get_norm(name, 32)
    except KeyError:
        accepted = 'BN, SyncBN, FrozenBN, GN, another norm of Detectron2, or "" for none'
        raise ArchError(f"got {name!r}, expected {accepted}", "MODEL.FBNET.NORM") from None

    def make(channels: int) -> Optional[nn.Module]:
        if name == "GN":
            return nn.GroupNorm(math.gcd(32, channels), channels)
        return SyncBatchNormOnCPU(channels) if name == "naiveSyncBN" else get_norm(name, channels)

    return make


class SyncBatchNormOnCPU(NaiveSyncBatchNorm):
    """Detectron2's naive form, with statistics in float32 also where the input is bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W) of the same type"""
        return super().forward(x.float()).to(x.dtype)


def stage_of_feature(feature: str) -> Optional[int]:
    """Index i of the stage behind the feature ``trunk{i}``; None for other features, such as p3."""
    number = feature[len("trunk") :]
    return int(number) if feature.startswith("trunk") and number.isdigit() else None


def feature_channels(arch: ArchSpec, feature: str) -> int:
    """Channels of the feature ``trunk{i}``.

    Raises:
        ArchError: the architecture has no such feature.
    """
    stage = stage_of_feature(feature)
    if stage is None or stage >= len(arch.stages):
        raise ArchError(f"has no feature {feature!r}, expected trunk0 to trunk{len(arch.stages) - 1}", arch.name)
    return arch.stages[stage].out


def rpn_row(arch: ArchSpec, feature: str) -> BlockSpec:
    """The row that the RPN repeats: the last of the feature's stage; for an FPN level the last at stride 16.

    Skips do not count, an RPN of identities would see nothing; a stage of skips alone gives its last.
    """
    stage = stage_of_feature(feature)
    if stage is None:
        strides = arch.strides()
        stage = max((i for i, stride in enumerate(strides) if stride <= 16), default=0)
    rows = arch.stages[stage].blocks
    return ([row for row in rows if not isinstance(row, SkipSpec)] or rows)[-1]


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
