"""The networks for ``torch.hub``, one entry per architecture of the zoo.

    torch.hub.load(REPOSITORY, "fbnet_v3_a", num_classes=10)
    torch.hub.load(REPOSITORY, "build_model", "my_net.yaml", features_only=True)

REPOSITORY is this one on GitHub, ``owner/name``, or with ``source="local"`` the path of a checkout. Keyword arguments
are those of ``build_model``; ``torch.hub.help(REPOSITORY, "build_model")`` shows them.
"""

from typing import Any as _Any
from typing import Callable as _Callable

from torch import nn as _nn

from fbnet_plugin import build_model, list_models
from fbnet_plugin.arch import get_arch as _get_arch

dependencies = ["torch", "torchvision", "detectron2", "fvcore", "iopath", "numpy", "scipy", "yaml"]

__all__ = ["build_model", "list_models"]


def _entry(name: str) -> "_Callable[..., _nn.Module]":
    def entry(**kwargs: _Any) -> _nn.Module:
        return build_model(name, **kwargs)

    arch = _get_arch(name)
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"``build_model({name!r}, **kwargs)``: {arch.source or name}. {arch.notes}".strip()
    return entry


for _name in list_models():
    globals()[_name] = _entry(_name)
    __all__.append(_name)
