"""Counts from the spec alone, against published and independently measured figures."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from fbnet_plugin.arch import (
    ArchError,
    ArchSpec,
    BlockSpec,
    ConvSpec,
    Cost,
    HeadSpec,
    InvertedResidualSpec,
    PoolSpec,
    Shape,
    StageSpec,
    batch_cost,
    get_arch,
    list_archs,
    load_space,
)
from fbnet_plugin.arch.cost import round_channels

# name: resolution, all parameters, conv and fc weights, MACs, MACs and pooled elements.
# Measured on the released definitions; "conv and fc weights" and "MACs and pooled elements" are the two figures that
# their model tables print.
RELEASED = {
    "fbnet_a_released": (224, 4_321_232, 4_270_288, 244_452_664, 244_526_360),
    "fbnet_b_released": (224, 4_818_216, 4_766_672, 291_004_424, 291_101_640),
    "fbnet_c_released": (224, 5_592_784, 5_525_424, 378_136_224, 378_233_440),
    "fbnet_a_se": (224, 6_728_334, 6_679_456, 204_317_704, 204_917_792),
    "fbnet_b_se": (224, 7_435_814, 7_389_408, 230_629_464, 231_434_656),
    "fbnet_c_se": (224, 9_299_620, 9_232_736, 329_191_760, 330_261_552),
    "fbnet_d_se": (224, 12_589_340, 12_491_568, 573_773_376, 575_497_024),
    "fbnet_v2_dmasking_f1": (128, 6_029_661, 5_992_970, 56_096_264, 56_274_952),
    "fbnet_v2_dmasking_f4": (224, 7_032_827, 6_991_688, 235_134_434, 235_882_786),
    "fbnet_v2_dmasking_l2_hs": (256, 8_553_864, 8_492_858, 417_763_592, 419_064_776),
    "fbnet_v2_dmasking_l3": (288, 9_464_040, 9_394_060, 751_122_890, 753_163_968),
    "fbnet_v2_f0": (224, 2_822_368, 2_811_448, 66_280_000, 66_554_112),
    "fbnet_v2_f1": (128, 6_024_744, 5_999_408, 56_231_936, 56_410_560),
    "fbnet_v2_f2": (160, 6_024_744, 5_999_408, 85_163_192, 85_441_392),
    "fbnet_v2_f3": (192, 6_924_840, 6_899_504, 121_423_712, 121_824_000),
    "fbnet_v2_f4": (224, 7_022_880, 6_994_824, 237_605_592, 238_351_984),
    "fbnet_v2_l1": (224, 8_538_792, 8_496_520, 325_025_344, 326_023_008),
    "fbnet_v2_l2": (256, 8_538_792, 8_496_520, 422_610_304, 423_912_768),
    "fbnet_v3_a0": (224, 6_309_976, 6_275_532, 217_917_744, 218_578_288),
    "fbnet_v3_a": (224, 8_598_480, 8_542_224, 355_514_328, 356_598_280),
    "fbnet_v3_b": (248, 8_598_480, 8_542_224, 460_150_000, 461_550_136),
    "fbnet_v3_c": (248, 9_973_816, 9_907_136, 555_578_368, 556_969_904),
    "fbnet_v3_d": (248, 10_306_296, 10_237_552, 642_628_864, 644_420_352),
    "fbnet_v3_e": (264, 10_772_896, 10_699_464, 759_952_160, 762_046_336),
    "fbnet_v3_f": (272, 13_896_160, 13_803_072, 1_178_860_656, 1_181_644_520),
    "fbnet_v3_g": (320, 16_623_920, 16_513_648, 2_125_187_200, 2_129_656_384),
    "fbnet_v3_20g": (256, 104_565_696, 104_407_488, 20_387_523_840, 20_392_130_944),
    "fbnet_v3_a_gpu": (224, 9_214_104, 9_159_464, 1_063_679_576, 1_064_763_528),
    "fbnet_v3_b_gpu": (248, 9_214_104, 9_159_464, 1_328_194_392, 1_329_594_528),
    "fbnet_v3_c_gpu": (248, 10_552_384, 10_487_448, 1_324_939_592, 1_326_331_128),
    "fbnet_v3_d_gpu": (248, 10_592_168, 10_525_168, 1_143_947_968, 1_145_739_456),
    "fbnet_v3_e_gpu": (264, 10_901_152, 10_828_232, 1_307_483_936, 1_309_578_112),
    "fbnet_v3_f_gpu": (272, 14_372_128, 14_283_456, 2_547_956_976, 2_550_139_720),
    "fbnet_v3_g_gpu": (320, 17_211_816, 17_106_256, 4_716_708_736, 4_720_294_720),
}

# name: MACs, conv and fc weights of the FBNet paper's form (the 1x1 expansion stays where the expansion is 1).
PAPER_FORM = {
    "fbnet_a": (249_921_848, 4_286_480),
    "fbnet_b": (295_561_032, 4_777_296),
    "fbnet_c": (382_984_480, 5_520_784),
    "fbnet_s8": (292_922_680, 4_431_040),
    "fbnet_iphonex": (321_798_968, 4_471_376),
    "fbnet_96_035_1": (12_944_208, 1_833_968),
}

# name: parameters, conv and fc weights of timm's own networks.
TIMM = {
    "fbnet_c_timm": (5_572_200, 5_526_832),
    "fbnet_v3_b_timm": (8_598_464, 8_542_224),
    "fbnet_v3_d_timm": (10_306_272, 10_237_552),
    "fbnet_v3_g_timm": (16_623_888, 16_513_648),
}

# MACs in millions with ordinary padding (kernel // 2) in place of the published one.
SAME_PADDING = {
    "fbnet_v3_a": 407.5,
    "fbnet_v3_b": 520.0,
    "fbnet_v3_c": 634.0,
    "fbnet_v3_e": 858.5,
    "fbnet_v3_f": 1269.9,
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_networks_to_the_digit(name: str) -> None:
    spec = get_arch(name)
    cost = spec.cost()
    assert (spec.resolution, cost.params, cost.weights, cost.macs, cost.macs + cost.pool) == RELEASED[name]


@pytest.mark.parametrize("name", PAPER_FORM)
def test_paper_form_to_the_digit(name: str) -> None:
    cost = get_arch(name).cost()
    assert (cost.macs, cost.weights) == PAPER_FORM[name]


@pytest.mark.parametrize("name", TIMM)
def test_timm_s_form_to_the_digit(name: str) -> None:
    cost = get_arch(name).cost()
    assert (cost.params, cost.weights) == TIMM[name]


def test_every_classifier_of_the_zoo_is_in_a_table() -> None:
    classifiers = {name for name in list_archs() if get_arch(name).head is not None}
    small = {name for name in classifiers if name.endswith("_32px")}  # those of test_small_images.py
    assert classifiers - small == set(RELEASED) | set(PAPER_FORM) | set(TIMM)


@pytest.mark.parametrize("name", SAME_PADDING)
def test_ordinary_padding_gives_larger_maps(name: str) -> None:
    spec = get_arch(name)
    same = spec.with_padding("same")
    assert round(same.cost().macs / 1e6, 1) == pytest.approx(SAME_PADDING[name], abs=0.051)
    assert same.cost().params == spec.cost().params
    assert spec.with_padding("published") is spec
    with pytest.raises(ArchError, match="padding: got 'valid', expected published or same"):
        spec.with_padding("valid")


@pytest.mark.parametrize("name", list_archs())
def test_published_figures_agree_with_the_counts(name: str) -> None:
    published, cost = get_arch(name).published, get_arch(name).cost()
    if published.macs_m is not None:
        assert (
            min(abs(macs / 1e6 - published.macs_m) for macs in (cost.macs, cost.macs + cost.pool))
            < 0.03 * published.macs_m
        )
    if published.params_m is not None:
        slack = 0.3 if name in ("fbnet_b", "fbnet_c") else 0.05  # the paper's B and C are known not to add up
        assert abs(cost.weights / 1e6 - published.params_m) < slack


@pytest.mark.parametrize("name", list_archs())
def test_blocks_add_up_to_the_network(name: str) -> None:
    spec = get_arch(name)
    layers = list(spec.layers())
    total = sum((layer.cost for layer in layers), spec.head_cost())
    assert total == spec.cost()
    assert all(before.output == after.input for before, after in zip(layers, layers[1:]))
    assert len(layers) == sum(row.repeat for row in spec.rows()) - sum(row.repeat for row in spec.box_head)
    assert all(layer.block.repeat == 1 for layer in layers)
    first = spec.cost(spec.resolution)
    assert first == spec.cost((spec.resolution, spec.resolution)) == spec.cost(np.int64(spec.resolution))


def test_one_block_by_hand() -> None:
    block = InvertedResidualSpec(24, 2, kernel=5, expansion=6, bias=True)
    cost, out = block.count(Shape(16, 112, 96))
    assert out == (24, 56, 48)
    expand, depthwise, project = 16 * 96, 96 * 25, 96 * 24
    assert cost.weights == expand + depthwise + project
    assert cost.params == cost.weights + (96 + 96 + 24) + 2 * (96 + 96 + 24)
    assert cost.macs == expand * 112 * 96 + (depthwise + project) * 56 * 48
    assert cost.pool == 0


def test_head_by_hand() -> None:
    stem = StageSpec((ConvSpec(8, 2),))
    spec = ArchSpec("tiny", 32, (stem,), HeadSpec(num_classes=10))
    stem_weights, linear = 3 * 8 * 9, 8 * 10
    assert spec.cost() == Cost(
        params=stem_weights + 8 + 16 + linear + 10,
        weights=stem_weights + linear,
        macs=stem_weights * 256 + linear,
        pool=8 * 256,
    )
    assert spec.head_cost() == Cost(linear + 10, linear, linear, 8 * 256)
    assert dataclasses.replace(spec, head=None).head_cost() == Cost(0, 0, 0, 0)


@pytest.mark.parametrize(
    "value, divisor, floor_ratio, expected",
    [
        (16, 8, 0.95, 16),
        (20, 8, 0.95, 24),  # halves up
        (19.99, 8, 0.95, 24),  # 16 is below 0.95 * 19.99
        (17, 8, 0.95, 24),
        (16.8, 8, 0.95, 16),
        (1, 8, 0.95, 8),  # at least one divisor
        (130.9584, 8, 0.95, 128),
        (130.9584, 1, 0.95, 131),
        (19.99, 8, 0.8, 16),  # 16 is 0.8004 of it
    ],
)
def test_rounding_rule(value: float, divisor: int, floor_ratio: float, expected: int) -> None:
    assert round_channels(value, divisor, floor_ratio) == expected


def test_features_and_strides() -> None:
    spec = get_arch("fbnet_v3_a_det")
    assert spec.strides() == [2, 4, 8, 16, 32]
    assert spec.features() == [(16, 160, 160), (24, 80, 80), (32, 40, 40), (112, 20, 20), (200, 10, 10)]
    assert spec.features((64, 96))[-1] == (200, 2, 3)
    published = get_arch("fbnet_v3_a")
    assert [shape.height for shape in published.features()] == [112, 56, 28, 13, 6]
    assert [shape.height for shape in published.with_padding("same").features()] == [112, 56, 28, 14, 7]


@pytest.mark.parametrize("resolution", [0, -1, 8193, 224.0, "224", True, (224,), (224, 0), (1, 2, 3)])
def test_bad_resolutions_are_errors(resolution) -> None:
    spec = get_arch("fbnet_a")
    for count in (spec.cost, spec.features, lambda size: batch_cost([spec], size)):
        with pytest.raises(ArchError, match="resolution: got .*, expected "):
            count(resolution)


# ---------------------------------------------------------------------------------------------
# Many networks at once
# ---------------------------------------------------------------------------------------------


def test_batch_counts_like_one_by_one() -> None:
    specs = [get_arch(name) for name in list_archs()]
    for resolution in (None, 256, (320, 224)):
        batch = batch_cost(specs, resolution)
        assert all(counts.dtype == np.int64 and counts.shape == (len(specs),) for counts in batch)
        assert list(zip(*(counts.tolist() for counts in batch))) == [spec.cost(resolution) for spec in specs]


@pytest.mark.parametrize("name", ["fbnet", "fbnet_v3"])
def test_batch_counts_random_networks(name: str) -> None:
    space = load_space(name)
    specs = [space.arch(point) for point in space.sample(60, np.random.default_rng(1))]
    assert list(zip(*(counts.tolist() for counts in batch_cost(specs)))) == [spec.cost() for spec in specs]
    assert len({spec.cost().macs for spec in specs}) == 60


def test_empty_batch() -> None:
    assert [counts.shape for counts in batch_cost([])] == [(0,)] * 4


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "change, problem",
    [
        (
            {"groups": 7},
            r"spoilt: stages\[1\]\.blocks\[0\]\.groups: got 7, expected a divisor of the 16 input channels",
        ),
        (
            {"dw_group_width": 60},
            r"spoilt: stages\[1\]\.blocks\[0\]\.dw_group_width: got 60, expected a divisor of the 48 expanded channels",
        ),
        ({"kernel": 31, "pad": 0}, r"spoilt: stages\[1\]\.blocks\[0\]: the 20x20 px input leaves no output pixel"),
    ],
)
def test_batch_errors_name_network_and_block(change: dict, problem: str) -> None:
    good = get_arch("fbnet_a")
    first, *rest = good.stages[1].blocks
    stages = (good.stages[0], StageSpec((dataclasses.replace(first, **change), *rest)), *good.stages[2:])
    spoilt = dataclasses.replace(good, name="spoilt", stages=stages)
    with pytest.raises(ArchError, match=problem):
        batch_cost([good, spoilt, good], 40)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "block", [ConvSpec(65536), InvertedResidualSpec(65536, expansion=64), PoolSpec(65536, expansion=64)]
)
def test_counts_that_64_bits_cannot_hold_are_errors(block: BlockSpec) -> None:
    spec = ArchSpec("vast", 8192, (StageSpec((ConvSpec(65536, kernel=1), block)),))
    problem = "MACs or parameters on the 8192x8192 px input, expected at most 4503599627370496"
    for count in (spec.validate, lambda: batch_cost([spec])):
        with pytest.raises(ArchError, match=problem):
            count()
    assert spec.cost(8).macs > 2**32


def test_twenty_thousand_networks_in_five_seconds() -> None:
    space = load_space("fbnet_v3")
    points = space.sample(20_000, np.random.default_rng(0))
    start = time.process_time()
    cost = batch_cost([space.arch(point) for point in points])
    assert time.process_time() - start < 5  # 0.2 s to count and 1 s to make them
    assert cost.macs.shape == (20_000,) and cost.macs.min() > 1e8
    some = [0, 777, 19_999]
    assert [tuple(int(counts[i]) for counts in cost) for i in some] == [space.arch(points[i]).cost() for i in some]
