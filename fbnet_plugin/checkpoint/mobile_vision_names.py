"""Names in the checkpoints of mobile-vision (classifiers) and of d2go (detectors), whose blocks have the same parts."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from .blocks_of_file import ForeignNetwork, fill

# Part of a block -> the same part here.
PARTS = {
    "conv": "conv",
    "bn": "norm",
    "conv.conv": "conv.conv",
    "conv.bn": "conv.norm",
    "pw.conv": "expand.conv",
    "pw.bn": "expand.norm",
    "dw.conv": "depthwise.conv",
    "dw.bn": "depthwise.norm",
    "se.se.0.conv": "se.reduce.conv",
    "se.se.1": "se.expand",
    "pwl.conv": "project.conv",
    "pwl.bn": "project.norm",
}

_BLOCK = re.compile(r"backbone\.stages\.xif(\d+)_(\d+)\.")
_CLASSIFIER = "head.conv."

_D2GO_BLOCK = r"fbnetv2_\d+_(\d+)\."
_D2GO = tuple(
    (re.compile(pattern + _D2GO_BLOCK), prefix)
    for pattern, prefix in (
        (r"backbone\.body\.trunk(\d+)\.", r"backbone.stages.\1.\2."),
        (r"backbone\.bottom_up\.trunk(\d+)\.", r"backbone.bottom_up.stages.\1.\2."),
        (r"proposal_generator\.rpn_head\.rpn_feature\.0\.", r"proposal_generator.rpn_head.blocks.\1."),
        (r"roi_heads\.box_head\.roi_box_conv\.0\.", r"roi_heads.box_head.blocks.\1."),
    )
)
_D2GO_LAYERS = {
    "proposal_generator.rpn_head.rpn_regressor.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
    "proposal_generator.rpn_head.rpn_regressor.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
}


def is_mobile_vision(state: Mapping[str, Any]) -> bool:
    """Whether the names are those of a mobile-vision classifier."""
    return any(_BLOCK.match(name) for name in state)


def is_d2go(state: Mapping[str, Any]) -> bool:
    """Whether the names are those of a d2go detector."""
    return any(pattern.match(name) for name in state for pattern, _ in _D2GO)


def read_mobile_vision(state: Mapping[str, Any]) -> ForeignNetwork:
    """The blocks of a mobile-vision classifier in order of execution: by stage, then by place in it."""
    blocks: Dict[Tuple[int, int], Dict[str, Any]] = {}
    network = ForeignNetwork()
    for name, value in state.items():
        match = _BLOCK.match(name)
        if match:
            block = blocks.setdefault((int(match.group(1)), int(match.group(2))), {})
            fill(block, PARTS, name[match.end() :], value, name, network.unknown)
        elif name.startswith(_CLASSIFIER):
            flat = value.reshape(value.shape[:2]) if value.shape[2:] == (1, 1) else value  # a 1x1 convolution
            network.classifier[name[len(_CLASSIFIER) :]] = flat
        else:
            network.unknown.append(name)
    network.blocks = [blocks[place] for place in sorted(blocks)]
    return network


def rename_d2go(state: Mapping[str, Any]) -> Tuple[Dict[str, Any], List[str]]:
    """A d2go detector's state dict under the names of the same detector here.

    Returns:
        the renamed state dict, and the names in it for which there is nothing here (mask and keypoint heads of
        blocks that upsample); the names of other layers are Detectron2's own and stay.
    """
    renamed: Dict[str, Any] = {}
    unknown: List[str] = []
    for name, value in state.items():
        new = _d2go_name(name)
        renamed[new] = value
        if re.search(r"\bfbnetv2_\d", new):
            unknown.append(new)
    return renamed, unknown


def _d2go_name(name: str) -> str:
    for pattern, prefix in _D2GO:
        match = pattern.match(name)
        if match:
            part, _, leaf = name[match.end() :].rpartition(".")
            return f"{match.expand(prefix)}{PARTS[part]}.{leaf}" if part in PARTS else name
    for old, new in _D2GO_LAYERS.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name
