"""Models with random weights and statistics, and the published names of other projects' files, written down anew."""

from __future__ import annotations

import math
import re

import torch
from torch import nn

from fbnet_plugin.arch import ArchSpec
from fbnet_plugin.layers import build_block
from fbnet_plugin.modeling import ClassifierHead, FBNetBackbone


class Classifier(nn.Module):
    """The tensors and the logits of an ``ImageClassifier``."""

    def __init__(self, arch: ArchSpec, classes: int = 10):
        super().__init__()
        self.backbone = FBNetBackbone(arch)
        rows = arch.head.blocks if arch.head is not None else ()
        self.head = ClassifierHead(rows, arch.stages[-1].out, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (feature,) = self.backbone(images).values()
        return self.head(feature)


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Values that keep the signal's size, and statistics that no two channels share; in every tensor."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(std=0.1, generator=generator)
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.num_batches_tracked.fill_(7)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(std=math.sqrt(1.5 / module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                module.bias.normal_(std=0.1, generator=generator)
    return model


# ---------------------------------------------------------------------------------------------
# mobile-vision: "xif{stage}_{block}", the stem alone is stage 0, the classifier's tail is stage 6
# ---------------------------------------------------------------------------------------------


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of one of our blocks under mobile-vision's names, by what the block does."""
    state, renamed = module.state_dict(), {}
    for name, value in state.items():
        name = re.sub(r"^expand\.", "pw.", name)
        name = re.sub(r"^depthwise\.", "dw.", name)
        name = re.sub(r"^project\.", "pwl.", name)
        name = re.sub(r"^se\.reduce\.", "se.se.0.", name)
        name = re.sub(r"^se\.expand\.", "se.se.1.", name)
        renamed[re.sub(r"(^|\.)norm\.", r"\1bn.", name)] = value
    return renamed


def mobile_vision_stages(arch: ArchSpec) -> list[list]:
    """Our blocks by mobile-vision's stages: stem, rest of ours, then one by one, and the tail."""
    stages = [[block for row in stage.blocks for block in row.copies()] for stage in arch.stages]
    head = [block for row in arch.head.blocks for block in row.copies()]
    return [stages[0][:1], stages[0][1:], *stages[1:], head]


def mobile_vision_blocks(arch: ArchSpec) -> dict[str, nn.Module]:
    """New modules of the blocks by mobile-vision's names of them, in order of execution."""
    blocks, c_in = {}, arch.in_channels
    for s, stage in enumerate(mobile_vision_stages(arch)):
        for b, block in enumerate(stage):
            blocks[f"backbone.stages.xif{s}_{b}"] = build_block(block, c_in)
            c_in = block.out
    return blocks


def mobile_vision_file(blocks: dict[str, nn.Module], classifier: nn.Linear) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes that mobile-vision publishes; its classifier is a 1x1 convolution."""
    state = {f"{name}.{key}": value for name, block in blocks.items() for key, value in tensors_of(block).items()}
    weight = classifier.weight.detach()
    return {**state, "head.conv.weight": weight[..., None, None], "head.conv.bias": classifier.bias.detach()}


# ---------------------------------------------------------------------------------------------
# d2go: "fbnetv2_{stage}_{block}" in trunks of which the first has the stem too
# ---------------------------------------------------------------------------------------------


def d2go_file(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of one of our detectors under d2go's names."""
    rules = [
        (r"^backbone\.stages\.(\d+)\.(\d+)\.", r"backbone.body.trunk\1.fbnetv2_\1_\2."),
        (r"^backbone\.bottom_up\.stages\.(\d+)\.(\d+)\.", r"backbone.bottom_up.trunk\1.fbnetv2_\1_\2."),
        (r"^proposal_generator\.rpn_head\.blocks\.(\d+)\.", r"proposal_generator.rpn_head.rpn_feature.0.fbnetv2_0_\1."),
        (r"^(proposal_generator\.rpn_head)\.objectness_logits\.", r"\1.rpn_regressor.cls_logits."),
        (r"^(proposal_generator\.rpn_head)\.anchor_deltas\.", r"\1.rpn_regressor.bbox_pred."),
        (r"^roi_heads\.box_head\.blocks\.(\d+)\.", r"roi_heads.box_head.roi_box_conv.0.fbnetv2_0_\1."),
    ]
    renamed = {}
    for name, value in model.state_dict().items():
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, name)
            if new != name:
                break
        at = re.search(r"fbnetv2_\d+_\d+\.", new)
        if at:
            inner = new[at.end() :]
            for ours, theirs in (
                ("expand.", "pw."),
                ("depthwise.", "dw."),
                ("project.", "pwl."),
                ("se.reduce.", "se.se.0."),
                ("se.expand.", "se.se.1."),
            ):
                inner = theirs + inner[len(ours) :] if inner.startswith(ours) else inner
            new = new[: at.end()] + re.sub(r"(^|\.)norm\.", r"\1bn.", inner)
        renamed[new] = value
    return renamed
