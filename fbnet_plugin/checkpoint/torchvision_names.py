"""Names of torchvision's networks, there and back.

Here a network is cut in two: the backbone keeps torchvision's own names (``backbone.layer1.0.conv1.weight``); of the
classifier behind it the last linear layer is ``head.fc``, the layers before that one are ``head.hidden``.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

from .errors import CheckpointError

# Names in old checkpoints of DenseNets, such as denselayer1.norm.1.weight.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def from_torchvision(linear: str, state: Mapping[str, Any]) -> Dict[str, Any]:
    """A state dict of torchvision's under the names of our ``ImageClassifier`` with that network.

    Published weights are for INPUT.FORMAT RGB with MODEL.PIXEL_MEAN [123.675, 116.28, 103.53] and MODEL.PIXEL_STD
    [58.395, 57.12, 57.375].

    Args:
        linear: the network's last linear layer, such as "fc" or "classifier.6".
        state: torchvision's.
    """
    outer, _, inner = linear.partition(".")
    renamed = {}
    for key, value in state.items():
        key = _OLD_DENSENET.sub(r"\1\2", key)
        if key.startswith(f"{linear}."):
            key = "head.fc" + key[len(linear) :]
        elif inner and key.startswith(f"{outer}."):
            key = "head.hidden" + key[len(outer) :]
        else:
            key = f"backbone.{key}"
        renamed[key] = value
    return renamed


def to_torchvision(linear: str, state: Mapping[str, Any]) -> Dict[str, Any]:
    """The opposite of ``from_torchvision``.

    Raises:
        CheckpointError: a name that no classifier with a network of torchvision has.
    """
    outer, _, inner = linear.partition(".")
    prefixes = {"backbone.": "", "head.fc.": f"{linear}.", **({"head.hidden.": f"{outer}."} if inner else {})}
    renamed = {}
    for key, value in state.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if prefix is None:
            raise CheckpointError(f"has the tensor {key!r}, expected names that begin with {', '.join(prefixes)}")
        renamed[prefixes[prefix] + key[len(prefix) :]] = value
    return renamed


def is_torchvision(state: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    """Whether ``state`` has torchvision's own names of the backbone of which ``target`` has ours."""
    theirs = {_OLD_DENSENET.sub(r"\1\2", name) for name in state}
    if any(name.startswith(("backbone.", "head.fc.")) for name in theirs):
        return False
    return any(f"backbone.{name}" in target for name in theirs)
