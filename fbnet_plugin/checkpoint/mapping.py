"""Weights of one task for the model of another: where a classifier's blocks go in a detector.

Names are those of the modules: ``backbone.stages.{stage}.{block}`` in a classifier and in a plain backbone,
``backbone.bottom_up.stages.{stage}.{block}`` below a feature pyramid, ``roi_heads.box_head.blocks.{block}`` for the
stages that a C4 detector runs per region.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

from torch import nn

from .arch_tensors import COUNTER
from .biases import is_void, settle_biases

PLAIN = "backbone.stages"
PYRAMID = "backbone.bottom_up.stages"
BOX_HEAD = "roi_heads.box_head.blocks"

_BLOCK = re.compile(rf"(?:{re.escape(PLAIN)}|{re.escape(PYRAMID)})\.(\d+)\.(\d+)\.")
State = Mapping[str, Any]


@dataclass
class Moves:
    """What became of the tensors of a checkpoint.

    Attributes:
        kept: tensors whose name is also one of the model's.
        moved: per prefix in the model, tensors that got it instead of their own.
        unused: names of the tensors that fit nowhere.
        folded: biases in front of norms that the model does not have; they went into the norms' running means.
        zeros: biases in front of norms that only the model has.
    """

    kept: int = 0
    moved: Dict[str, int] = field(default_factory=dict)
    unused: List[str] = field(default_factory=list)
    folded: int = 0
    zeros: int = 0

    def __str__(self) -> str:
        parts = [f"{self.kept} tensors by name"] if self.kept else []
        parts += [f"{count} to {prefix}" for prefix, count in self.moved.items()]
        if self.unused:
            shown = ", ".join(self.unused[:3]) + (", ..." if len(self.unused) > 3 else "")
            parts.append(f"{len(self.unused)} not used ({shown})")
        if self.folded:
            parts.append(f"{self.folded} biases folded into running means")
        if self.zeros:
            parts.append(f"{self.zeros} biases in front of norms are zero")
        return "; ".join(parts) or "no tensors"


def convert_state_dict(model: nn.Module, state: State) -> Tuple["OrderedDict[str, Any]", Moves]:
    """Renames the blocks of another task's checkpoint to the names that they have in ``model``.

    A name that the model knows stays, whatever its shape. Any other block of a trunk is tried at the places of
    ``_places`` in order, and moves where all its tensors are known with equal shapes: a block moves as a whole or
    not at all. What fits nowhere keeps its name. Biases in front of batch norms, which one side may have without the
    other, change nothing: see ``biases.py``.

    Args:
        model: that the weights are for.
        state: names to tensors or arrays, as in a checkpoint; not changed.

    Returns:
        the renamed state dict and an account of it.
    """
    target = model.state_dict()
    renamed: "OrderedDict[str, Any]" = OrderedDict()
    moves = Moves()
    places = _places(target, state)
    for name, value in state.items():
        block = _BLOCK.match(name)
        if name in target:
            moves.kept += 1
        elif block and block.group() in places:
            place = places[block.group()]
            prefix = next(known for known in (PYRAMID, PLAIN, BOX_HEAD) if place.startswith(known))
            moves.moved[prefix] = moves.moved.get(prefix, 0) + 1
            name = place + name[block.end() :]
        else:
            moves.unused.append(name)
        renamed[name] = value
    folded, zeros = settle_biases(renamed, target)
    moves.folded, moves.zeros = len(folded), len(zeros)
    moves.unused = [name for name in moves.unused if name not in folded]
    if hasattr(state, "_metadata"):  # versions of the modules, which load_state_dict reads
        renamed._metadata = state._metadata  # type: ignore[attr-defined]
    return renamed, moves


def _places(target: State, state: State) -> Dict[str, str]:
    """New prefix of each block of ``state`` that is not in ``target`` under its own name but fits elsewhere."""
    blocks: Dict[str, List[str]] = {}
    for name in state:
        match = _BLOCK.match(name)
        if match and name not in target:
            blocks.setdefault(match.group(), []).append(name)
    first_missing = 1 + max((int(m.group(1)) for m in map(_BLOCK.match, target) if m), default=-1)
    in_box_head = _numbered_from(blocks, first_missing)
    places = {}
    for old, names in blocks.items():
        stage, block = _stage_and_block(old)
        candidates = [f"{PYRAMID}.{stage}.{block}.", f"{PLAIN}.{stage}.{block}.", in_box_head.get(old, "")]
        for new in filter(None, candidates):
            if _fits(names, old, new, target, state):
                places[old] = new
                break
    return places


def _numbered_from(blocks: Mapping[str, Any], first: int) -> Dict[str, str]:
    """Prefix in the box head of each block of stages ``first`` and later, counted through in order."""
    last = sorted((old for old in blocks if _stage_and_block(old)[0] >= first), key=_stage_and_block)
    return {old: f"{BOX_HEAD}.{number}." for number, old in enumerate(last)}


def _stage_and_block(prefix: str) -> Tuple[int, int]:
    stage, block = prefix.rstrip(".").split(".")[-2:]
    return int(stage), int(block)


def _fits(names: List[str], old: str, new: str, target: State, state: State) -> bool:
    """Whether all tensors of a block exist in ``target`` under the prefix ``new``, with the same shapes.

    A frozen normalization has no counter, and a convolution in front of a norm needs no bias.
    """
    optional = [name for name in names if name.endswith(COUNTER) or is_void(name, state)]
    if len(optional) == len(names):
        return False
    for name in names:
        place = new + name[len(old) :]
        if name in optional and place not in target:
            continue
        if place not in target or tuple(target[place].shape) != tuple(state[name].shape):
            return False
    return True
