"""Names there and back, for networks that nobody has published."""

from __future__ import annotations

import torch
from foreign_files import Classifier, mobile_vision_blocks, mobile_vision_file
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fbnet_plugin.arch import ArchSpec, HeadSpec, StageSpec
from fbnet_plugin.arch.blocks import ConvSpec, InvertedResidualSpec, PoolSpec, SESpec, SkipSpec
from fbnet_plugin.checkpoint.arch_tensors import classifier_blocks
from fbnet_plugin.checkpoint.schemes import convert_foreign
from fbnet_plugin.checkpoint.timm_names import to_timm

widths = st.sampled_from([8, 16, 24])
repeats = st.integers(1, 2)
inverted = st.builds(
    InvertedResidualSpec,
    out=widths,
    repeat=repeats,
    stride=st.integers(1, 2),
    kernel=st.sampled_from([3, 5]),
    expansion=st.sampled_from([1.0, 2.5, 4.0]),
    expand_always=st.booleans(),
    se=st.one_of(st.none(), st.builds(SESpec)),
)
blocks = st.one_of(inverted, st.builds(SkipSpec, out=widths, repeat=repeats))
heads = st.one_of(
    st.builds(ConvSpec, out=st.just(32), kernel=st.just(1), bias=st.just(False)), st.builds(PoolSpec, out=st.just(32))
)


@st.composite
def archs(draw) -> ArchSpec:
    stem = ConvSpec(out=draw(widths), stride=2, bias=False)
    first = StageSpec((stem, draw(inverted)))
    stages = draw(st.lists(st.lists(blocks, min_size=1, max_size=3), max_size=3))
    head = HeadSpec(blocks=(draw(heads),), num_classes=5)
    return ArchSpec("drawn", 64, (first, *(StageSpec(tuple(rows)) for rows in stages)), head)


@settings(max_examples=40, deadline=None)
@given(archs())
def test_ours_to_timm_and_back(arch):
    shapes = {block.prefix + name: shape for block in classifier_blocks(arch) for name, shape in block.tensors.items()}
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    state.update({"head.fc.weight": torch.empty(5, 32), "head.fc.bias": torch.empty(5)})
    theirs = to_timm(state, arch)
    assert len(theirs) == len(state)
    back = convert_foreign(theirs, arch=arch)
    assert back.scheme == "timm" and back.archs == ["drawn"] and not back.unknown
    assert set(back.state) == set(state) and all(back.state[name] is state[name] for name in state)


@settings(max_examples=15, deadline=None)
@given(archs())
def test_mobile_vision_s_to_ours(arch):
    with torch.device("meta"):
        theirs = mobile_vision_file(mobile_vision_blocks(arch), nn.Linear(32, 5))
        ours = Classifier(arch, 5).state_dict()
    found = convert_foreign(theirs, arch=arch)
    assert [id(found.state[key]) for key in ours][:-2] == [id(value) for value in theirs.values()][:-2]
