"""A file of weights in another form: other projects' names here, ours there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

import torch
from detectron2.utils.file_io import PathManager

from ..arch import ArchSpec, get_arch
from ..arch.blocks import InvertedResidualSpec
from ..atomic_file import atomic_write
from .arch_tensors import classifier_blocks
from .biases import settle_biases
from .blocks_of_file import CLASSIFIER, NOT_IN_ZOO, match
from .envelopes import EMA, choose
from .errors import CheckpointError
from .file_formats import as_detectron2, read_checkpoint
from .own_names import is_own, read_own
from .schemes import LICENCE, Conversion, convert_foreign, trunk_archs
from .timm_names import to_timm
from .torchvision_names import from_torchvision, to_torchvision

OURS, TIMM, TORCHVISION = "fbnet_plugin", "timm", "torchvision"
FORMS = (OURS, TIMM, TORCHVISION)


@dataclass
class Converted:
    """Weights ready to be written.

    Attributes:
        scheme: whose names the input has.
        archs: architectures that have these tensors, the best first; empty where none is known.
        weights: "ema" or "plain".
        content: of the new file.
        tensors: number of tensors in it.
        notices: what the user should know, a line each.
    """

    scheme: str
    archs: List[str]
    weights: str
    content: Dict[str, Any]
    tensors: int
    notices: List[str] = field(default_factory=list)


def convert_file(
    path: str,
    *,
    to: str = OURS,
    arch: Optional[ArchSpec] = None,
    linear: str = "",
    weights: str = EMA,
    allow_pickle: bool = False,
) -> Converted:
    """Reads weights and gives them other names.

    Args:
        path: a file, or an address that Detectron2 resolves, such as ``timm://fbnetv3_b.ra2_in1k``.
        to: the names that are wanted, one of ``FORMS``.
        arch: of the network; None to look for it in the zoo.
        linear: of a network of torchvision, the name of its last linear layer; "" for all other networks.
        weights: "ema" for averaged weights where the file has them, "plain" for the others.
        allow_pickle: see ``read_checkpoint``.

    Raises:
        CheckpointError: the file cannot be read, or is of no known network, or has no such names.
    """
    local = PathManager.get_local_path(path) if "://" in path else path
    content = as_detectron2(read_checkpoint(local, allow_pickle), local)
    try:
        if content.get("matching_heuristics", False):
            return _by_heuristics(content, to)
        found = convert_foreign(content, weights=weights, arch=arch) or _own(content, weights, arch, linear)
        return _converted(found, content, to, arch, linear)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {path}: {error}") from None


def write_converted(converted: Converted, path: str) -> None:
    """Writes the file as a whole: safetensors if the name ends so, else PyTorch's format."""
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise CheckpointError(f"{path}: there is no such folder")
    content = converted.content
    if path.endswith(".safetensors"):
        try:
            from safetensors.torch import save
        except ImportError as error:
            raise CheckpointError(f"{path}: safetensors is not installed; pip install 'fbnet_plugin[timm]'") from error
        tensors = {name: value.contiguous() for name, value in content.get("model", content).items()}
        data = save(tensors, {"format": "pt"})
        with atomic_write(path) as file:
            file.write(data)
        return
    with atomic_write(path) as file:
        torch.save(content, file)


def _by_heuristics(content: Dict[str, Any], to: str) -> Converted:
    if to != OURS:
        raise CheckpointError(f"is of {content['__author__']}, whose names cannot be changed to {to}'s")
    state = _tensors(content["model"])
    kept = {"model": state, "__author__": str(content["__author__"]), "matching_heuristics": True}
    notice = "the names stay; Detectron2 matches them with the model's when the file is loaded"
    return Converted(str(content["__author__"]), [], "plain", kept, len(state), [notice])


def _own(content: Mapping[str, Any], weights: str, arch: Optional[ArchSpec], linear: str) -> Conversion:
    """A file that is not another project's: ours, or torchvision's where ``linear`` says so."""
    kind, state = choose(content, weights)
    licence = str(content.get(LICENCE, ""))
    if is_own(state) or any(name.startswith(("backbone.", "head.")) for name in state):
        return Conversion(OURS, state, _own_archs(state, arch), kind, licence)
    if not linear:
        raise CheckpointError(
            "its names are not those of timm, mobile-vision, d2go or fbnet_plugin; name a network of torchvision with "
            f"--arch if it is one (the first of {len(state)} names: {', '.join(list(state)[:3])})"
        )
    return Conversion(TORCHVISION, from_torchvision(linear, state), [], kind, licence)


def _own_archs(state: Mapping[str, Any], arch: Optional[ArchSpec]) -> List[str]:
    """The architectures that a file of ours may be of; empty where none is known.

    Raises:
        CheckpointError: a classifier that is not of ``arch``.
    """
    if not any(name.startswith(CLASSIFIER) for name in state):
        return [arch.name] if arch is not None else trunk_archs(state)
    if arch is not None and is_own(state):
        return match(read_own(state), arch).names
    try:
        return match(read_own(state)).names
    except CheckpointError:
        return []


def _converted(
    found: Conversion, content: Mapping[str, Any], to: str, arch: Optional[ArchSpec], linear: str
) -> Converted:
    notices = [found.licence] if found.licence else []
    if found.unknown:
        notices.append(f"{len(found.unknown)} tensors have no place here ({', '.join(found.unknown[:3])}, ...)")
    state = _tensors(found.state)
    if to == TORCHVISION:
        if not linear:
            raise CheckpointError("name the network of torchvision with --arch, such as --arch resnet50")
        state = to_torchvision(linear, state)
    elif to == TIMM:
        if not found.archs:
            raise CheckpointError(f"has {read_own(state)}; {NOT_IN_ZOO}")
        state = to_timm(state, arch or get_arch(found.archs[0]))
        notices += _padding([arch] if arch is not None else [get_arch(name) for name in found.archs])
    elif found.archs and found.scheme != "d2go":
        _settle(state, arch or get_arch(found.archs[0]))
    extra = {LICENCE: found.licence} if found.licence else {}
    whole = {"model": state, **extra} if to == OURS else state
    return Converted(found.scheme, found.archs, found.weights, whole, len(state), notices)


def _settle(state: Dict[str, Any], arch: ArchSpec) -> None:
    settle_biases(state, {block.prefix + name for block in classifier_blocks(arch) for name in block.tensors})


def _padding(archs: List[ArchSpec]) -> List[str]:
    """What to know where one of the architectures that the weights may be of has padding of its own."""
    own = [
        arch.name
        for arch in archs
        for block in classifier_blocks(arch)
        if isinstance(block.spec, InvertedResidualSpec) and block.spec.pad is not None
    ]
    if not own:
        return []
    return [f"timm pads by kernel // 2, as MODEL.FBNET.PADDING same does; the published padding of {own[0]} is less"]


def _tensors(state: Mapping[str, Any]) -> Dict[str, Any]:
    """``state`` as tensors.

    Raises:
        CheckpointError: something in it is neither a tensor nor an array.
    """
    tensors = {}
    for name, value in state.items():
        try:
            tensors[name] = value if isinstance(value, torch.Tensor) else torch.from_numpy(value)
        except TypeError:
            raise CheckpointError(f"{name} is a {type(value).__name__}, expected a tensor") from None
    return tensors
