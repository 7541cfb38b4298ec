"""Our own classifiers' state dicts as lists of blocks, so that their architecture can be found too."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Tuple

from .blocks_of_file import CLASSIFIER, ForeignNetwork

_BLOCK = re.compile(r"(backbone\.stages|head\.blocks)\.(?:(\d+)\.)?(\d+)\.")


def is_own(state: Mapping[str, Any]) -> bool:
    """Whether the names are those of a model of ours."""
    return any(re.match(r"backbone\.(bottom_up\.)?stages\.\d+\.\d+\.", name) for name in state)


def read_own(state: Mapping[str, Any]) -> ForeignNetwork:
    """The blocks in order of execution: stages, then head."""
    blocks: Dict[Tuple[str, int, int], Dict[str, Any]] = {}
    network = ForeignNetwork()
    for name, value in state.items():
        match = _BLOCK.match(name)
        if match:
            part, stage, index = match.groups()
            block = blocks.setdefault((part, int(stage or 0), int(index)), {})
            block[name[match.end() :]] = value
        elif name.startswith(CLASSIFIER):
            network.classifier[name[len(CLASSIFIER) :]] = value
        else:
            network.unknown.append(name)
    network.blocks = [blocks[place] for place in sorted(blocks)]  # "backbone.stages" comes before "head.blocks"
    return network
