"""What every exporter does to a network first."""

from __future__ import annotations

import copy

from torch import nn

from .exportable import Exportable
from .fold import fold_batch_norms


def prepared(exportable: Exportable) -> nn.Module:
    """A copy of the module with batch norms folded, where they may be, and no activation in place.

    In place, PyTorch's exporters take a hard swish or sigmoid apart into four operations, and need minutes for it.
    """
    if exportable.foldable:
        module = fold_batch_norms(exportable.module, *exportable.inputs.values())
    else:
        module = copy.deepcopy(exportable.module)
    for layer in module.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # type: ignore[assignment]
    return module
