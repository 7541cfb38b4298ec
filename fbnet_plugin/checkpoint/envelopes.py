"""What publishers wrap around a state dict, and the average of the weights beside it."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from .errors import CheckpointError

EMA, PLAIN = "ema", "plain"
# Keys of a file: mobile-vision's and torchvision's, timm's, d2go's.
_AVERAGES = ("model_ema", "state_dict_ema", "ema_state")
_WEIGHTS = ("model", "state_dict")
_WRAPPED = "module."


def state_dicts(content: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """The state dicts in a file: ``EMA`` -> the averaged weights, ``PLAIN`` -> those that were trained.

    A file without any envelope is one state dict. An average that has not all tensors is completed.

    Args:
        content: of the file.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for kind, keys in ((PLAIN, _WEIGHTS), (EMA, _AVERAGES)):
        for key in keys:
            if isinstance(content.get(key), Mapping) and kind not in found:
                found[kind] = unwrapped(content[key])
    if not found:
        return {PLAIN: unwrapped(content)}
    if EMA in found and PLAIN in found:
        found[EMA] = {**found[PLAIN], **found[EMA]}
    return found


def choose(content: Mapping[str, Any], weights: str = EMA) -> "tuple[str, Dict[str, Any]]":
    """The state dict of a file that is wanted, and which one that is.

    Args:
        content: of the file.
        weights: ``EMA`` for the average where there is one, ``PLAIN`` for the weights themselves.

    Raises:
        CheckpointError: ``PLAIN`` of a file that has the average alone; or no state dict at all.
    """
    found = state_dicts(content)
    if weights == PLAIN and PLAIN not in found:
        raise CheckpointError("holds averaged weights alone")
    kind = weights if weights in found else PLAIN
    odd = next((name for name in found[kind] if not isinstance(name, str)), None)
    if odd is not None:
        raise CheckpointError(f"holds no state dict: one of its names is {odd!r}")
    return kind, found[kind]


def unwrapped(state: Mapping[str, Any]) -> Dict[str, Any]:
    """A state dict without the prefix that a parallel or averaged model puts before all names, and its counter."""
    inner = {name: value for name, value in state.items() if name != "n_averaged"}
    if not inner or not all(isinstance(name, str) and name.startswith(_WRAPPED) for name in inner):
        return dict(state)
    return {name[len(_WRAPPED) :]: value for name, value in inner.items()}
