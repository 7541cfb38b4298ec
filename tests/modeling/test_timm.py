"""Counts against timm's own FBNets, which somebody else wrote from the same papers."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from fbnet_plugin.arch import get_arch

timm = pytest.importorskip("timm")


def counts(name):
    """(parameters, conv and linear weights) of timm's model."""
    model = timm.create_model(name)
    layers = [part for part in model.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    return sum(parameter.numel() for parameter in model.parameters()), sum(layer.weight.numel() for layer in layers)


@pytest.mark.parametrize("letter, stem", [("b", 16), ("d", 24), ("g", 32)])
def test_fbnet_v3(letter, stem):
    """All weights; of the biases timm lacks that of the stem, which a norm behind it makes void."""
    cost = get_arch(f"fbnet_v3_{letter}").cost()
    assert (cost.params - stem, cost.weights) == counts(f"fbnetv3_{letter}")


def test_fbnet_c():
    """timm has a plain 5x5 depthwise conv in two blocks that have two 3x3 ones here, and no biases before norms."""

    def plain(block):
        return dataclasses.replace(block, kernel=5, cascade=1) if getattr(block, "cascade", 1) == 2 else block

    cost = get_arch("fbnet_c").map_blocks(plain).cost()
    assert (cost.params - 16 - 1984, cost.weights) == counts("fbnetc_100") == (5_572_200, 5_526_832)
