"""Files of other projects: which naming scheme they have, and the same weights under our names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ..arch import ArchSpec, get_arch, list_archs
from .arch_tensors import COUNTER, classifier_blocks
from .biases import is_void
from .blocks_of_file import ForeignNetwork, match
from .envelopes import EMA, choose
from .errors import CheckpointError
from .mobile_vision_names import is_d2go, is_mobile_vision, read_mobile_vision, rename_d2go
from .timm_names import is_timm, read_timm

MOBILE_VISION_LICENCE = (
    "the weights that mobile-vision publishes are under CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/):"
    " they may be used for non-commercial purposes alone, with attribution"
)
LICENCE = "licence"  # key of a converted file under which that notice stays
_OF_TIMM = "_timm"  # at the end of the names of the zoo's architectures in timm's form


@dataclass
class Conversion:
    """Weights of another project under our names.

    Attributes:
        scheme: "timm", "mobile-vision", "d2go" or "torchvision".
        state: our names -> tensors; what has no place here keeps its name.
        archs: the zoo's architectures that have these tensors, the best first; empty where none is known.
        weights: "ema" for averaged weights, else "plain".
        licence: what the user has to be told of it, or "".
        unknown: names in ``state`` that have no place here.
    """

    scheme: str
    state: Dict[str, Any]
    archs: List[str] = field(default_factory=list)
    weights: str = ""
    licence: str = ""
    unknown: List[str] = field(default_factory=list)

    def __str__(self) -> str:
        of = f" of {self.archs[0]}" if self.archs else ""
        same = f" (the same tensors: {', '.join(self.archs[1:])})" if len(self.archs) > 1 else ""
        average = ", averaged weights" if self.weights == EMA else ""
        unknown = f", {len(self.unknown)} of them without a place here" if self.unknown else ""
        return f"{self.scheme}'s names{of}{same}{average}, {len(self.state)} tensors{unknown}"


def convert_foreign(
    content: Mapping[str, Any], *, weights: str = EMA, arch: Optional[ArchSpec] = None
) -> Optional[Conversion]:
    """The weights of a file by timm, mobile-vision or d2go under our names; None for a file with other names.

    Args:
        content: of the file, with or without an envelope.
        weights: "ema" for the average where there is one, "plain" for the weights beside it.
        arch: of the network; None to look for it in the zoo.

    Raises:
        CheckpointError: the scheme is known and the architecture is not, or the file is not of ``arch``.
    """
    kind, state = choose(content, weights)
    if not (is_timm(state) or is_mobile_vision(state) or is_d2go(state)):
        return None
    for name, value in state.items():
        if not hasattr(value, "shape"):
            raise CheckpointError(f"holds {name}, a {type(value).__name__}; expected a tensor")
    if is_timm(state):
        return _classifier("timm", read_timm(state), state, kind, arch, _OF_TIMM)
    if is_mobile_vision(state):
        found = _classifier("mobile-vision", read_mobile_vision(state), state, kind, arch)
        found.licence = MOBILE_VISION_LICENCE
        return found
    renamed, unknown = rename_d2go(state)
    archs = [arch.name] if arch is not None else trunk_archs(renamed)
    return Conversion("d2go", renamed, archs, kind, unknown=unknown)


def _classifier(
    scheme: str,
    network: ForeignNetwork,
    state: Mapping[str, Any],
    kind: str,
    arch: Optional[ArchSpec],
    suffix: str = "",
) -> Conversion:
    try:
        found = match(network, arch, suffix)
    except CheckpointError as error:
        raise CheckpointError(f"has {scheme}'s names and {error}") from None
    unknown = {name: state[name] for name in network.unknown}
    return Conversion(scheme, {**found.state, **unknown}, found.names, kind, unknown=list(unknown))


def trunk_archs(state: Mapping[str, Any]) -> List[str]:
    """The zoo's architectures whose stages are those of a detector of ours; the whole trunk has to fit."""
    trunk = {}
    for name, value in state.items():
        plain = name.replace("backbone.bottom_up.", "backbone.", 1)
        if plain.startswith("backbone.stages."):
            trunk[plain] = tuple(value.shape)
    return [name for name in list_archs() if _has_trunk(get_arch(name), trunk)] if trunk else []


def _has_trunk(arch: ArchSpec, trunk: Mapping[str, Any]) -> bool:
    stages = {name.split(".")[2] for name in trunk}
    expected = {
        block.prefix + name: shape
        for block in classifier_blocks(arch)
        if block.prefix.startswith("backbone.") and block.prefix.split(".")[2] in stages
        for name, shape in block.tensors.items()
    }
    if any(expected.get(name) != shape for name, shape in trunk.items() if not is_void(name, trunk)):
        return False
    return not any(
        name not in trunk and not name.endswith(COUNTER) and not is_void(name, expected) for name in expected
    )
