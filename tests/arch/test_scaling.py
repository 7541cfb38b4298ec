"""Wider, deeper and larger networks."""

from __future__ import annotations

import pytest

from fbnet_plugin.arch import (
    ArchError,
    ArchSpec,
    ConvSpec,
    InvertedResidualSpec,
    PoolSpec,
    SkipSpec,
    StageSpec,
    get_arch,
    list_archs,
    scale,
    scale_depth,
    scale_width,
)
from fbnet_plugin.arch.scaling import scale_channels

WIDTHS_035 = {16: 8, 24: 16, 32: 16, 64: 24, 112: 40, 184: 72, 352: 128}


def test_widths_of_fbnet_96_035() -> None:
    """FBNet section 4.2: the published widths at a factor of 0.35 are rounded up."""
    assert {width: scale_channels(width, 0.35, rounding="ceil") for width in WIDTHS_035} == WIDTHS_035
    nearest = {width: scale_channels(width, 0.35) for width in WIDTHS_035}
    assert nearest == {16: 8, 24: 8, 32: 16, 64: 24, 112: 40, 184: 64, 352: 120}


def test_scaling_fbnet_a_gives_the_widths_of_fbnet_96_035_1() -> None:
    scaled = scale_width(get_arch("fbnet_a"), 0.35, rounding="ceil", scale_head=False)
    published = get_arch("fbnet_96_035_1")
    assert [stage.out for stage in scaled.stages] == [stage.out for stage in published.stages]
    assert scaled.head == get_arch("fbnet_a").head


def test_factor_one_changes_nothing() -> None:
    spec = get_arch("fbnet_v3_20g")  # has widths that are no multiples of 8
    assert scale_width(spec, 1.0) is spec and scale_width(spec, 1) is spec
    assert scale_depth(spec, 1.0) == spec
    assert scale(spec) == spec


@pytest.mark.parametrize("factor", [0.35, 0.5, 0.75, 1.25, 2.0])
@pytest.mark.parametrize("rounding", ["nearest", "ceil"])
def test_every_network_scales(factor: float, rounding: str) -> None:
    for name in set(list_archs()) - {"fbnet_v3_20g"}:  # its group widths fit its own channels alone
        spec = get_arch(name)
        scaled = scale_width(spec, factor, rounding=rounding)
        assert (scaled.cost().macs > spec.cost().macs) == (factor > 1)
        assert all(row.out % 8 == 0 for row in scaled.rows())
        assert [row.repeat for row in scaled.rows()] == [row.repeat for row in spec.rows()]


def rows_of(spec: ArchSpec) -> list[tuple[int, int]]:
    return [(row.out, row.repeat) for row in spec.rows()]


def test_depth_keeps_what_changes_the_shape() -> None:
    spec = ArchSpec(
        "deep",
        64,
        (
            StageSpec((ConvSpec(16, 2), InvertedResidualSpec(16, repeat=2))),
            StageSpec((InvertedResidualSpec(24, 2), InvertedResidualSpec(24, repeat=3), SkipSpec(24))),
            StageSpec((InvertedResidualSpec(32, 2, 4), PoolSpec(64))),
        ),
    )
    assert rows_of(scale_depth(spec, 1.5)) == [(16, 1), (16, 3), (24, 1), (24, 5), (24, 1), (32, 6), (64, 1)]
    assert rows_of(scale_depth(spec, 2)) == [(16, 1), (16, 4), (24, 1), (24, 6), (24, 1), (32, 7), (64, 1)]
    assert rows_of(scale_depth(spec, 0.5)) == [(16, 1), (16, 1), (24, 1), (24, 2), (24, 1), (32, 3), (64, 1)]
    assert rows_of(scale_depth(spec, 0.01)) == [(16, 1), (16, 1), (24, 1), (24, 1), (24, 1), (32, 2), (64, 1)]
    assert scale_depth(spec, 1.5).strides() == spec.strides()


def test_compound_scaling() -> None:
    spec = get_arch("fbnet_v3_a")
    large = scale(spec, width=1.2, depth=1.5, resolution=320)
    assert large.resolution == 320 and large.head == spec.head and large.name == spec.name
    assert large == scale_depth(scale_width(scale(spec, resolution=320), 1.2, scale_head=False), 1.5)
    assert large.cost().macs > 3 * spec.cost().macs


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), 65, True, "1", None])
def test_bad_factors(factor) -> None:
    spec = get_arch("fbnet_a")
    with pytest.raises(ArchError, match="width factor: got .*, expected a number from 0.01 to 64"):
        scale_width(spec, factor)
    with pytest.raises(ArchError, match="depth factor: got .*, expected a number from 0.01 to 64"):
        scale_depth(spec, factor)


def test_other_bad_arguments() -> None:
    spec = get_arch("fbnet_a")
    with pytest.raises(ArchError, match="rounding: got 'floor', expected one of nearest, ceil"):
        scale_width(spec, 0.5, rounding="floor")
    with pytest.raises(ArchError, match="divisor: got 0, expected an integer from 1 to 1024"):
        scale_width(spec, 0.5, divisor=0)
    with pytest.raises(ArchError, match="resolution: got 0, expected an integer from 1 to 8192"):
        scale(spec, resolution=0)
    with pytest.raises(ArchError, match=r"groups: got 2, expected a divisor of the \d+ .* channels"):
        scale_width(spec, 0.8, divisor=1)
    with pytest.raises(ArchError, match="dw_group_width: got 32, expected a divisor of the 24 expanded channels"):
        scale_width(get_arch("fbnet_v3_20g"), 0.75)
    with pytest.raises(ArchError, match=r"stages: 1480 blocks \(copies counted\) in all, expected at most 512"):
        scale_depth(get_arch("fbnet_v3_a"), 64)
    with pytest.raises(ArchError, match="out: got .*, expected an integer from 1 to 65536"):
        scale_width(spec, 64)
