"""One kind of block at a time: what it accepts, what it says otherwise, what it becomes."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from fbnet_plugin.arch import (
    ArchError,
    ArchSpec,
    BlockSpec,
    ConvSpec,
    FusedSpec,
    HeadSpec,
    InvertedResidualSpec,
    PoolSpec,
    Published,
    SESpec,
    Shape,
    SkipSpec,
    StageSpec,
    dump_arch,
    parse_arch,
)

MAP = Shape(16, 28, 28)


@pytest.mark.parametrize(
    "kind, fields, problem",
    [
        (ConvSpec, {"out": 0}, "out: got 0, expected an integer from 1 to 65536"),
        (ConvSpec, {"out": 16.0}, "out: got 16.0, expected an integer from 1 to 65536"),
        (ConvSpec, {"out": True}, "out: got True, expected an integer from 1 to 65536"),
        (ConvSpec, {"out": np.array([8, 16])}, r"out: got array\(\[ 8, 16\]\), expected an integer"),
        (ConvSpec, {"stride": 9}, "stride: got 9, expected an integer from 1 to 8"),
        (ConvSpec, {"repeat": 513}, "repeat: got 513, expected an integer from 1 to 512"),
        (ConvSpec, {"kernel": 4}, "kernel: got 4, expected an odd integer from 1 to 31"),
        (ConvSpec, {"kernel": 33}, "kernel: got 33, expected an odd integer from 1 to 31"),
        (ConvSpec, {"act": "gelu"}, "act: got 'gelu', expected one of relu, relu6, hswish, swish"),
        (ConvSpec, {"bias": 1}, "bias: got 1, expected true or false"),
        (InvertedResidualSpec, {"expansion": 0}, "expansion: got 0, expected a number from 0.01 to 64"),
        (InvertedResidualSpec, {"expansion": float("nan")}, "expansion: got nan, expected a number from 0.01 to 64"),
        (InvertedResidualSpec, {"expansion": 10**400}, "expansion: got 1000.*, expected a number from 0.01 to 64"),
        (InvertedResidualSpec, {"expansion": "6"}, "expansion: got '6', expected a number"),
        (InvertedResidualSpec, {"se": True}, "se: got True, expected null, or a mapping with gate, width, ratio"),
        (InvertedResidualSpec, {"pad": -1}, "pad: got -1, expected an integer from 0 to 31"),
        (InvertedResidualSpec, {"cascade": 0}, "cascade: got 0, expected an integer from 1 to 8"),
        (FusedSpec, {"project": None}, "project: got None, expected true or false"),
        (PoolSpec, {"stride": 2}, "stride: got 2, expected 1$"),
        (PoolSpec, {"repeat": 2}, "repeat: got 2, expected 1$"),
        (SESpec, {"gate": "relu"}, "gate: got 'relu', expected one of sigmoid, hsigmoid"),
        (SESpec, {"width": "output"}, "width: got 'output', expected one of expanded, input"),
        (SESpec, {"ratio": float("inf")}, "ratio: got inf, expected a number from 0.001 to 16"),
    ],
)
def test_bad_values_are_named(kind: type, fields: dict, problem: str) -> None:
    usual = {"out": 16} if kind is not SESpec else {}
    with pytest.raises(ArchError, match=f"^{problem}"):
        kind(**{**usual, **fields})


def test_numpy_values_become_plain_ones() -> None:
    block = InvertedResidualSpec(
        np.int64(24), np.uint8(2), np.int32(3), kernel=np.int16(5), expansion=np.float32(4.5), groups=np.int64(2),
        act=np.str_("hswish"), se=SESpec(ratio=np.float64(0.25)), pad=np.int64(1), bias=np.bool_(True),
    )  # fmt: skip
    values = [getattr(block, field.name) for field in dataclasses.fields(block)] + [block.se.ratio]
    assert {type(value) for value in values} == {int, float, str, bool, SESpec}
    head = HeadSpec([ConvSpec(np.int64(32), kernel=1)], np.int64(10))
    published = Published(top1=np.float64(73), test_resize=np.int64(256))
    spec = ArchSpec(
        np.str_("n"), np.int64(64), [StageSpec([block])], head, in_channels=np.int64(4), published=published
    )
    assert parse_arch(dump_arch(spec)) == spec
    assert spec.stages == (StageSpec((block,)),) and isinstance(hash(spec), int)


def test_specs_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ConvSpec(16).out = 8
    assert pickle.loads(pickle.dumps(InvertedResidualSpec(16, se=SESpec()))) == InvertedResidualSpec(16, se=SESpec())


@pytest.mark.parametrize(
    "make, problem",
    [
        (lambda: StageSpec(()), "blocks: is empty, expected at least one block"),
        (lambda: StageSpec("skip"), "blocks: got 'skip', expected a list of blocks"),
        (lambda: StageSpec((SkipSpec(8), "skip")), r"blocks\[1\]: got 'skip', expected a block such as"),
        (lambda: StageSpec((BlockSpec(8),)), r"blocks\[0\]: got BlockSpec\(.*, expected a block such as"),
        (lambda: HeadSpec(num_classes=0), "num_classes: got 0, expected an integer from 1 to 16777216"),
        (lambda: Published(top1=100.5), "top1: got 100.5, expected a number from 0 to 100"),
        (lambda: Published(weights=3), "weights: got 3, expected a text of 1 to 1000 printable characters"),
        (lambda: ArchSpec("n", 64, ()), "stages: is empty, expected at least one stage"),
        (lambda: ArchSpec("n", 64, (SkipSpec(8),)), "stages: got .*, expected a list of StageSpec"),
        (lambda: ArchSpec("", 64, ()), "name: got '', expected a text of 1 to 100 printable characters"),
        (lambda: ArchSpec("n", 64, (StageSpec([SkipSpec(8)]),), head=10), "head: got 10, expected null or a HeadSpec"),
    ],
)
def test_bad_parts_are_named(make, problem: str) -> None:
    with pytest.raises(ArchError, match=f"^{problem}"):
        make()


def test_only_the_first_copy_has_the_stride() -> None:
    row = InvertedResidualSpec(24, 2, 3, kernel=5, expansion=6, pad=1)
    first, second, third = row.copies()
    assert first == dataclasses.replace(row, repeat=1)
    assert second == third == dataclasses.replace(row, repeat=1, stride=1)
    assert SkipSpec(8).copies() == (SkipSpec(8),)


@pytest.mark.parametrize("groups, c_in, out", [(3, 16, 24), (2, 15, 24), (2, 16, 25)])
def test_groups_must_divide_all_channels(groups: int, c_in: int, out: int) -> None:
    with pytest.raises(ArchError, match=f"groups: got {groups}, expected a divisor of the .* channels"):
        InvertedResidualSpec(out, expansion=1, groups=groups, divisor=1).count(Shape(c_in, 8, 8))


def test_a_map_that_vanishes_is_an_error() -> None:
    with pytest.raises(ArchError, match="the 4x9 px input leaves no output pixel"):
        InvertedResidualSpec(16, kernel=5, pad=0).count(Shape(16, 4, 9))


def test_expansion_conv_is_dropped_only_where_it_does_nothing() -> None:
    slim = InvertedResidualSpec(16, expansion=1)
    wide = InvertedResidualSpec(16, expansion=1, expand_always=True)
    assert not slim.has_expand(16) and slim.has_expand(12)  # 12 rounds to 16
    assert wide.has_expand(16)
    assert wide.count(MAP)[0].weights - slim.count(MAP)[0].weights == 16 * 16


def test_groups_divide_the_pointwise_weights() -> None:
    dense = InvertedResidualSpec(16, expansion=4).count(MAP)[0]
    grouped = InvertedResidualSpec(16, expansion=4, groups=2).count(MAP)[0]
    assert dense.weights - grouped.weights == (16 * 64 + 64 * 16) // 2


def test_cascade_repeats_the_depthwise_conv_behind_the_stride() -> None:
    one = InvertedResidualSpec(16, 2, kernel=3, expansion=4).count(MAP)
    two = InvertedResidualSpec(16, 2, kernel=3, expansion=4, cascade=2).count(MAP)
    assert two[1] == one[1] == (16, 14, 14)
    assert two[0].weights - one[0].weights == 64 * 9
    assert two[0].params - one[0].params == 64 * 9 + 2 * 64
    assert two[0].macs - one[0].macs == 64 * 9 * 14 * 14


def test_depthwise_conv_without_norm() -> None:
    usual = InvertedResidualSpec(16, expansion=4).count(MAP)[0]
    bare = InvertedResidualSpec(16, expansion=4, dw_norm_act=False).count(MAP)[0]
    assert (usual.params - bare.params, usual.weights - bare.weights, usual.macs - bare.macs) == (2 * 64, 0, 0)


def test_explicit_padding() -> None:
    usual, tight = InvertedResidualSpec(16, 2, kernel=5), InvertedResidualSpec(16, 2, kernel=5, pad=1)
    assert usual.count(MAP)[1].height == 14 and tight.count(MAP)[1].height == 13
    assert InvertedResidualSpec(16, kernel=5, pad=2).has_residual(16)
    assert not InvertedResidualSpec(16, kernel=5, pad=1).has_residual(16)


@pytest.mark.parametrize("width, hidden", [("expanded", 24), ("input", 8)])
def test_squeeze_width(width: str, hidden: int) -> None:
    """FBNetV2 takes a quarter of the expanded channels, FBNetV3 of the input channels; both rounded."""
    block = InvertedResidualSpec(24, expansion=4, se=SESpec(width=width, ratio=0.25))
    assert block.squeezed(24) == hidden
    plain = dataclasses.replace(block, se=None)
    with_se, without = block.count(Shape(24, 7, 7))[0], plain.count(Shape(24, 7, 7))[0]
    assert with_se.weights - without.weights == with_se.macs - without.macs == 2 * 96 * hidden
    assert with_se.params - without.params == 2 * 96 * hidden + 96 + hidden
    assert with_se.pool == 96 * 7 * 7


def test_skip_is_a_conv_only_where_the_shape_changes() -> None:
    assert SkipSpec(16).count(MAP) == ((0, 0, 0, 0), MAP)
    for skip, size in ((SkipSpec(24), 28), (SkipSpec(16, 2), 14)):
        cost, out = skip.count(MAP)
        assert out == (skip.out, size, size)
        assert cost == (16 * skip.out + 2 * skip.out, 16 * skip.out, 16 * skip.out * size**2, 0)


def test_pooling_head() -> None:
    cost, out = PoolSpec(1984, expansion=6).count(Shape(224, 6, 5))
    assert out == (1984, 1, 1)
    assert cost.weights == 224 * 1344 + 1344 * 1984
    assert cost.params == cost.weights + 2 * 1344
    assert cost.macs == 224 * 1344 * 30 + 1344 * 1984
    assert cost.pool == 1344 * 30


@pytest.mark.parametrize("project, dense, extra", [(True, 64, 64 * 24), (False, 24, 0)])
def test_fused_block(project: bool, dense: int, extra: int) -> None:
    block = FusedSpec(24, 2, kernel=3, expansion=4, project=project)
    cost, out = block.count(MAP)
    assert block.expanded(16) == dense and out == (24, 14, 14)
    assert cost.weights == 16 * dense * 9 + extra
    assert cost.macs == cost.weights * 14 * 14


def test_errors_survive_pickling() -> None:
    error = ArchError("got 4, expected 3", "stages[0].blocks[0].kernel", "net.yaml")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.where, again.file) == (str(error), error.where, error.file)
    assert str(error) == "net.yaml: stages[0].blocks[0].kernel: got 4, expected 3"
