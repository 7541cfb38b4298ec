"""Biases in front of norms, which some publishers' convolutions have and others' have not.

A batch norm takes the mean away again, so that ``norm(conv(x) + b)`` is ``norm(conv(x))`` with ``b`` less in the
running mean: the same values in evaluation mode, and in training mode the bias has no effect at all.
"""

from __future__ import annotations

from typing import Any, Container, Dict, List, Mapping, MutableMapping, Tuple

import torch

_BIAS = "conv.bias"


def norm_behind(bias: str) -> str:
    """Prefix of the norm behind the convolution that has this bias; "" for the name of anything else."""
    if bias == _BIAS or bias.endswith(f".{_BIAS}"):
        return f"{bias[: -len(_BIAS)]}norm."
    return ""


def is_void(name: str, state: Mapping[str, Any]) -> bool:
    """Whether ``name`` is a bias that a batch norm of ``state`` behind it makes void."""
    norm = norm_behind(name)
    return bool(norm) and f"{norm}running_mean" in state


def settle_biases(state: MutableMapping[str, Any], wanted: Container[str]) -> Tuple[List[str], List[str]]:
    """Gives ``state`` the biases in front of batch norms that ``wanted`` has, and no others; what it computes stays.

    Args:
        state: changed in place.
        wanted: names of the model's tensors.

    Returns:
        the names of the biases that went into running means, and of those that are new and zero.
    """
    folded = [
        name
        for name in state
        if is_void(name, state) and name not in wanted and f"{norm_behind(name)}running_mean" in wanted
    ]
    for name in folded:
        mean = f"{norm_behind(name)}running_mean"
        state[mean] = torch.as_tensor(state[mean]) - torch.as_tensor(state.pop(name))
    zeros: Dict[str, torch.Tensor] = {}
    for name in state:
        if name.endswith("norm.running_mean"):
            bias = f"{name[: -len('norm.running_mean')]}{_BIAS}"
            if bias in wanted and bias not in state and f"{bias[: -len('bias')]}weight" in state:
                zeros[bias] = torch.zeros_like(torch.as_tensor(state[name]))
    state.update(zeros)
    return folded, list(zeros)
