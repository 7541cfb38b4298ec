"""Names in timm's EfficientNet family, to which its FBNets belong: there and back."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from ..arch import ArchSpec
from ..arch.blocks import ConvSpec, InvertedResidualSpec, PoolSpec, SkipSpec
from .arch_tensors import COUNTER, PlacedBlock, classifier_blocks
from .biases import is_void, settle_biases
from .blocks_of_file import CLASSIFIER, ForeignNetwork, fill
from .errors import CheckpointError

_SE = {"se.conv_reduce": "se.reduce.conv", "se.conv_expand": "se.expand"}
# timm's part of a block -> the same part here.
INVERTED = {
    "conv_pw": "expand.conv",
    "bn1": "expand.norm",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.norm",
    **_SE,
    "conv_pwl": "project.conv",
    "bn3": "project.norm",
}
SEPARABLE = {  # without the expansion
    "conv_dw": "depthwise.conv",
    "bn1": "depthwise.norm",
    **_SE,
    "conv_pw": "project.conv",
    "bn2": "project.norm",
}
CONV = {"conv": "conv.conv", "bn1": "conv.norm"}
POOL = {"conv": "expand.conv", "bn1": "expand.norm"}  # its projection is conv_head

_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")
STEM = "backbone.stages.0.0."
# The layers outside of the blocks: timm's name -> the part.
_STEM = {"conv_stem": "conv", "bn1": "norm"}
_HEAD = {"conv_head": "conv", "bn2": "norm"}


def is_timm(state: Mapping[str, Any]) -> bool:
    """Whether the names are those of timm's EfficientNet family."""
    return "conv_stem.weight" in state and any(_BLOCK.match(name) for name in state)


def read_timm(state: Mapping[str, Any]) -> ForeignNetwork:
    """The blocks in order of execution: stem, blocks by stage and place, head."""
    network = ForeignNetwork()
    stem: Dict[str, Any] = {}
    head: Dict[str, Any] = {}
    raw: Dict[Tuple[int, int], Dict[str, Any]] = {}
    for name, value in state.items():
        match, part = _BLOCK.match(name), name.rpartition(".")[0]
        if match:
            raw.setdefault((int(match.group(1)), int(match.group(2))), {})[name[match.end() :]] = value
        elif part in _STEM:
            fill(stem, _STEM, name, value, name, network.unknown)
        elif part in _HEAD:
            fill(head, _HEAD, name, value, name, network.unknown)
        elif part == "classifier":
            network.classifier[name.rpartition(".")[2]] = value
        else:
            network.unknown.append(name)
    blocks = [_read_block(f"blocks.{s}.{b}.", raw[s, b], network.unknown) for s, b in sorted(raw)]
    network.blocks = [stem, *blocks]
    if "norm.weight" in head:  # a block of its own
        network.blocks.append(head)
    elif head:  # the second half of a pooling block
        last = network.blocks.pop()
        expand = {name.replace("conv.", "expand.", 1): value for name, value in last.items()}
        network.blocks.append({**expand, **{f"project.{name}": value for name, value in head.items()}})
    return network


def _read_block(prefix: str, tensors: Mapping[str, Any], unknown: List[str]) -> Dict[str, Any]:
    parts = CONV
    if "conv_dw.weight" in tensors:
        parts = INVERTED if "conv_pwl.weight" in tensors else SEPARABLE
    block: Dict[str, Any] = {}
    for name, value in tensors.items():
        fill(block, parts, name, value, prefix + name, unknown)
    return block


def to_timm(state: Mapping[str, Any], arch: ArchSpec) -> Dict[str, Any]:
    """The state dict of our ``ImageClassifier`` under timm's names, for timm's network of the same blocks.

    timm has no biases in front of norms; ours go into the running means.

    Raises:
        CheckpointError: the architecture has a block that timm has not, or ``state`` is not of this architecture.
    """
    placed = classifier_blocks(arch)
    if not placed or placed[0].prefix != STEM or not isinstance(placed[0].spec, ConvSpec):
        raise CheckpointError(f"cannot be converted for timm: {arch.name} does not begin with a convolution")
    names = {f"{CLASSIFIER}{leaf}": f"classifier.{leaf}" for leaf in ("weight", "bias")}  # ours -> timm's
    for block, place in zip(placed, timm_stages(placed)):
        parts = _timm_parts(block, place)
        for tensor in block.tensors:
            part, _, leaf = tensor.rpartition(".")
            names[block.prefix + tensor] = f"{parts[part]}.{leaf}"
    kept = {name for name in names if not is_void(name, names)}
    settled = dict(state)
    settle_biases(settled, kept)
    missing = sorted(name for name in kept - set(settled) if not name.endswith(COUNTER))
    if missing:
        raise CheckpointError(f"is not of {arch.name}: {missing[0]} is missing")
    unknown = sorted(set(settled) - kept)
    if unknown:
        raise CheckpointError(f"is not of {arch.name}: it has {unknown[0]}")
    return {names[name]: value for name, value in settled.items()}


def timm_stages(placed: List[PlacedBlock]) -> List[Tuple[int, int]]:
    """Stage and place in it of each block under ``blocks`` in timm; what is outside of them has (-1, 0).

    timm begins a stage where the stride is not 1 and where the width changes, but for the last width of a network
    with a pooling head.
    """
    pooled = isinstance(placed[-1].spec, PoolSpec)
    trunk = [block for block in placed[1:] if block.prefix.startswith("backbone.")]
    last = trunk[-1].spec.out if trunk else 0
    places, stage, index, width = [(-1, 0)], -1, 0, 0
    for block in placed[1:]:
        spec = block.spec
        if isinstance(spec, ConvSpec):
            places.append((-1, 0))
            continue
        stays = spec.stride == 1 and (spec.out == width or (pooled and spec.out == last and stage >= 0))
        if isinstance(spec, PoolSpec) or not stays:
            stage, index = stage + 1, 0
        places.append((stage, index))
        index, width = index + 1, spec.out
    return places


def _timm_parts(block: PlacedBlock, place: Tuple[int, int]) -> Dict[str, str]:
    """Our parts of a block -> timm's whole names of them."""
    spec, prefix = block.spec, f"blocks.{place[0]}.{place[1]}."
    parts: Dict[str, str] = {}
    if block.prefix == STEM and isinstance(spec, ConvSpec):
        return {ours: theirs for theirs, ours in _STEM.items()}
    if block.prefix.startswith("head.") and isinstance(spec, ConvSpec):
        return {ours: theirs for theirs, ours in _HEAD.items()}
    if isinstance(spec, PoolSpec):
        return {**{ours: prefix + theirs for theirs, ours in POOL.items()}, "project.conv": "conv_head"}
    if isinstance(spec, SkipSpec):
        parts = CONV
    elif isinstance(spec, InvertedResidualSpec) and spec.groups == spec.cascade == 1 and spec.dw_norm_act:
        parts = INVERTED if spec.has_expand(block.c_in) else SEPARABLE
    if not parts:
        raise CheckpointError(
            f"cannot be converted for timm: {block.prefix[:-1]} is a block that timm's EfficientNets do not have "
            "(a channel shuffle, stacked or bare depthwise convs, a fused or a further plain convolution)"
        )
    return {ours: prefix + theirs for theirs, ours in parts.items()}
