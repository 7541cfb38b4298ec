"""Batch norms folded into the convolutions before them.

In evaluation mode a batch norm is a scale and a shift per channel, which the weights and the bias of a convolution can
hold as well. Which norm follows which convolution is not read off names: one forward pass shows it.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, Iterator, List, Set, Tuple

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def fold_batch_norms(model: nn.Module, *inputs: Any) -> nn.Module:
    """A copy of a model with every batch norm that directly follows a convolution folded into it.

    Norms of all kinds that PyTorch and Detectron2 have, synchronized and frozen ones too. A norm stays where it takes
    something else than the output of one convolution (DenseNet's), or where that output is used elsewhere too.

    Args:
        model: on any device, trained or frozen; it stays as it is.
        inputs: that its forward takes; they are run once.

    Returns:
        the copy, in evaluation mode, with ``nn.Identity`` in place of the norms. Its convolutions have biases.
    """
    model = copy.deepcopy(model).eval()
    trace = _Trace(model)
    with torch.no_grad(), trace:
        results = model(*inputs)
    folded = {}
    for conv, norm in trace.pairs(results):
        _fuse(conv, norm)
        folded[norm] = nn.Identity()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if child in folded:
                setattr(module, name, folded[child])
    return model


def batch_norms(model: nn.Module) -> List[nn.Module]:
    """The norms of a model that have running statistics and a fixed scale and shift in evaluation mode."""
    return [module for module in model.modules() if _running_mean(module) is not None]


class _Trace(TorchDispatchMode):
    """Notes, while a model runs, which module's weights made a tensor and which operations took it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._convs = {id(module.weight): module for module in model.modules() if isinstance(module, nn.Conv2d)}
        self._norms = {id(_running_mean(norm)): norm for norm in batch_norms(model)}
        self._made: Dict[int, Tuple[nn.Module, torch.Tensor]] = {}  # id of an output, which is kept alive
        self._taken: Dict[int, List[Any]] = {}  # id of a convolution's output: its users, None where it is no norm
        self._sources: Dict[nn.Module, Set[Any]] = {}  # norm: convolutions, None for anything else

    def __torch_dispatch__(self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = list(_tensors((args, kwargs)))
        norm = self._find(self._norms, tensors)
        for tensor in tensors:
            if id(tensor) in self._made:
                self._taken[id(tensor)].append(norm if tensor is tensors[0] else None)
        if norm is not None:
            self._sources.setdefault(norm, set()).add(self._made.get(id(tensors[0]), (None,))[0])
        conv = self._find(self._convs, tensors) if "convolution" in str(func) or "conv2d" in str(func) else None
        if conv is not None:
            self._made[id(result)] = (conv, result)
            self._taken[id(result)] = []
        return result

    @staticmethod
    def _find(modules: Dict[int, nn.Module], tensors: List[torch.Tensor]) -> Any:
        return next((modules[id(tensor)] for tensor in tensors if id(tensor) in modules), None)

    def pairs(self, results: Any) -> Iterator[Tuple[nn.Conv2d, nn.Module]]:
        """Each convolution whose outputs all go into one norm, and nowhere else, and that norm.

        Args:
            results: of the model; what is a result is used outside.
        """
        outside = {id(tensor) for tensor in _tensors(results)}
        users: Dict[nn.Module, Set[Any]] = {}
        for key, (conv, _) in self._made.items():
            alone = self._taken[key] if len(self._taken[key]) == 1 and key not in outside else [None]
            users.setdefault(conv, set()).update(alone)
        for conv, takers in users.items():
            norm = next(iter(takers))
            if len(takers) == 1 and norm is not None and self._sources[norm] == {conv}:
                yield conv, norm  # type: ignore[misc]


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor))


# Whose norms are norms and nothing else; timm's, for one, apply an activation too.
_PLAIN = ("torch", "detectron2", "fbnet_plugin")


def _running_mean(module: nn.Module) -> Any:
    if type(module).forward.__module__.partition(".")[0] not in _PLAIN:
        return None
    mean = module._buffers.get("running_mean")
    return mean if mean is not None and hasattr(module, "eps") and hasattr(module, "running_var") else None


@torch.no_grad()
def _fuse(conv: nn.Conv2d, norm: Any) -> None:
    """Puts the norm's map into the convolution; computed in float64, since small variances cost digits."""
    values = [conv.weight, conv.bias, norm.running_mean, norm.running_var]
    weight, bias, mean, var = (None if value is None else value.double() for value in values)
    scale, shift = (None if value is None else value.double() for value in (norm.weight, norm.bias))
    fused = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, scale, shift)
    conv.weight, conv.bias = (nn.Parameter(value.to(conv.weight.dtype), requires_grad=False) for value in fused)
