"""A foreign classifier as a list of blocks, and the architecture that such a list is of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ..arch import ArchSpec, get_arch, list_archs
from .arch_tensors import COUNTER, PlacedBlock, classifier_blocks, classifier_channels
from .biases import is_void
from .errors import CheckpointError

CLASSIFIER = "head.fc."
NOT_IN_ZOO = (
    "no architecture in the zoo has these tensors. Name yours, in a file, with tools/convert_weights.py --arch FILE"
)


@dataclass
class ForeignNetwork:
    """What a naming scheme reads from a state dict.

    Attributes:
        blocks: in order of execution; per block, tensors by their names in our module of the block.
        classifier: "weight" (N, C) and "bias" (N,) of the linear layer; empty where there is none.
        unknown: names that the scheme does not know.
    """

    blocks: List[Dict[str, Any]] = field(default_factory=list)
    classifier: Dict[str, Any] = field(default_factory=dict)
    unknown: List[str] = field(default_factory=list)

    def __str__(self) -> str:
        widths = [str(block_width(block)) for block in self.blocks]
        shown = "-".join(widths) if len(widths) <= 12 else "-".join([*widths[:8], "...", *widths[-3:]])
        classes = f", {len(self.classifier['weight'])} classes" if "weight" in self.classifier else ", no classifier"
        return f"{len(self.blocks)} blocks of widths {shown}{classes}"


@dataclass
class Match:
    """A foreign network whose architecture is known.

    Attributes:
        arch: the architecture.
        names: of the zoo's architectures whose tensors are the same, that of ``arch`` first.
        state: the tensors under the names of our ``ImageClassifier``.
    """

    arch: ArchSpec
    names: List[str]
    state: Dict[str, Any]


def fill(
    block: Dict[str, Any], parts: Mapping[str, str], inner: str, value: Any, name: str, unknown: List[str]
) -> None:
    """Puts one tensor into ``block`` under our name, or ``name``, its whole name, into ``unknown``.

    Args:
        parts: their part of a block -> our part.
        inner: the tensor's name inside the block, such as "pw.conv.weight".
    """
    part, _, leaf = inner.rpartition(".")
    if part in parts:
        block[f"{parts[part]}.{leaf}"] = value
    else:
        unknown.append(name)


def block_width(block: Mapping[str, Any]) -> int:
    """Output channels of a block."""
    for part in ("project.conv.weight", "conv.conv.weight", "conv.weight"):
        if part in block:
            return len(block[part])
    return 0


def match(network: ForeignNetwork, arch: Optional[ArchSpec] = None, suffix: str = "") -> Match:
    """Finds the architecture of a foreign network, or checks the one that is given, and names its tensors.

    Of the zoo's architectures with the same shapes the best is the one with the same biases and number of classes,
    then the one whose name ends with ``suffix``.

    Raises:
        CheckpointError: the tensors are not those of the architecture, or of any in the zoo.
    """
    if arch is not None:
        problem = difference(network, arch)
        if problem:
            raise CheckpointError(f"is not of {arch.name}: {problem}")
        return Match(arch, [arch.name], name_tensors(network, arch))
    fitting = [one for one in map(get_arch, list_archs()) if difference(network, one) is None]
    if not fitting:
        raise CheckpointError(f"has {network}; {NOT_IN_ZOO}")
    ranks = {one.name: _rank(network, one, suffix) for one in fitting}
    best = min(fitting, key=lambda one: ranks[one.name])
    same = sorted(name for name, rank in ranks.items() if rank[0] == ranks[best.name][0] and name != best.name)
    return Match(best, [best.name, *same], name_tensors(network, best))


def _rank(network: ForeignNetwork, arch: ArchSpec, suffix: str) -> tuple:
    names = [{name for name in block if name.endswith("conv.bias")} for block in network.blocks]
    other = sum(
        len(found ^ {name for name in placed.tensors if name.endswith("conv.bias")})
        for found, placed in zip(names, classifier_blocks(arch))
    )
    classes = arch.head.num_classes if arch.head is not None else None
    weight = network.classifier.get("weight")
    fits_classes = weight is None or len(weight) == classes
    return other, not fits_classes, not (suffix and arch.name.endswith(suffix)), len(arch.name), arch.name


def difference(network: ForeignNetwork, arch: ArchSpec) -> Optional[str]:
    """The first difference between the tensors of a network and of an architecture, or None.

    A bias in front of a norm may be there or not, see ``biases.py``; so may the counter of a norm.
    """
    placed = classifier_blocks(arch)
    if len(placed) != len(network.blocks):
        return f"the file has {len(network.blocks)} blocks with tensors, the architecture {len(placed)}"
    for block, found in zip(placed, network.blocks):
        problem = _block_difference(block, found)
        if problem:
            return problem
    weight = network.classifier.get("weight")
    if weight is not None and weight.shape[1] != classifier_channels(arch):
        return f"the classifier takes {weight.shape[1]} channels, the architecture has {classifier_channels(arch)}"
    return None


def _block_difference(block: PlacedBlock, found: Mapping[str, Any]) -> Optional[str]:
    for name, shape in block.tensors.items():
        optional = name.endswith(COUNTER) or is_void(name, block.tensors)
        if name not in found and not optional:
            return f"{block.prefix}{name} is missing"
        if name in found and tuple(found[name].shape) != shape:
            return f"{block.prefix}{name} is {tuple(found[name].shape)} in the file, {shape} in the architecture"
    extra = [name for name in found if name not in block.tensors and not is_void(name, found)]
    return f"{block.prefix}{extra[0]} is not in the architecture" if extra else None


def name_tensors(network: ForeignNetwork, arch: ArchSpec) -> Dict[str, Any]:
    """The tensors of a network under the names of our ``ImageClassifier`` with this architecture."""
    state = {
        block.prefix + name: value
        for block, found in zip(classifier_blocks(arch), network.blocks)
        for name, value in found.items()
    }
    return {**state, **{CLASSIFIER + name: value for name, value in network.classifier.items()}}
