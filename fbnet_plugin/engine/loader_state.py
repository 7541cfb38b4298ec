"""Where the data loaders of a run stand, kept in its checkpoints."""

from __future__ import annotations

import logging
from typing import Any, Dict, Mapping

_logger = logging.getLogger(__name__)


def loader_states(loaders: Mapping[str, Any]) -> Dict[str, Any]:
    """The position of each loader that knows its own, by name."""
    return {name: loader.state_dict() for name, loader in loaders.items() if hasattr(loader, "state_dict")}


def resume_loaders(loaders: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Takes each loader to the position that ``loader_states`` gave; one warning names those that begin anew."""
    anew = []
    for name, loader in loaders.items():
        if name in states and hasattr(loader, "load_state_dict"):
            loader.load_state_dict(states[name])
        else:
            anew.append(name)
    if anew:
        _logger.warning(
            f"The order of the data begins anew ({', '.join(anew)}): the checkpoint, which an earlier version may "
            "have written, or the loader has no position to resume from"
        )


def stop_workers(loaders: Mapping[str, Any]) -> None:
    """Ends the processes of the loaders that can start them again; garbage collection would wait for each of them."""
    for loader in loaders.values():
        if hasattr(loader, "stop"):
            loader.stop()
