"""Biases in front of norms change nothing, whichever side has them."""

from __future__ import annotations

import torch
from foreign_files import randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fbnet_plugin.checkpoint.biases import settle_biases
from fbnet_plugin.layers.conv import ConvNormAct


def stack(biases: "list[bool]", norms: "list[bool]") -> nn.Sequential:
    return nn.Sequential(
        *(
            ConvNormAct(4, 4, 3, bias=bias, norm=nn.BatchNorm2d if norm else None, act="relu")
            for bias, norm in zip(biases, norms)
        )
    )


flags = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(flags)
def test_outputs_stay(layers) -> None:
    """A bias without a norm behind it is needed, so both sides have it."""
    norms = [norm for norm, _, _ in layers]
    source = randomize(stack([not norm or bias for norm, bias, _ in layers], norms)).double().eval()
    target = stack([not norm or bias for norm, _, bias in layers], norms).double().eval()
    state = dict(source.state_dict())
    folded, zeros = settle_biases(state, target.state_dict())
    assert not any(target.load_state_dict(state))
    images = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(target(images), source(images))
    assert len(folded) == sum(norm and here and not there for norm, here, there in layers)
    assert len(zeros) == sum(norm and there and not here for norm, here, there in layers)


def test_nothing_else_is_touched() -> None:
    state = {"a.conv.bias": torch.ones(2), "b.conv.bias": torch.ones(2), "b.norm.weight": torch.ones(2)}
    assert settle_biases(state, {}) == ([], []) and len(state) == 3
