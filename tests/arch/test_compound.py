"""Compound scaling to a number of MACs."""

from __future__ import annotations

import pytest

from fbnet_plugin.arch import ArchError, Coefficients, compound_scale, get_arch, parse_arch
from fbnet_plugin.arch.yaml_file import dump_arch


@pytest.mark.parametrize("base, target", [("e", "f"), ("e", "g"), ("b", "a")])
def test_the_papers_largest_and_smallest(base: str, target: str) -> None:
    """FBNetV3 section 4.2: F and G are scaled up, A is scaled down."""
    spec, macs = get_arch(f"fbnet_v3_{base}"), get_arch(f"fbnet_v3_{target}").cost().macs
    scaled = compound_scale(spec, macs)
    assert 0.95 * macs <= scaled.macs <= macs and scaled.macs == scaled.arch.cost().macs
    assert (scaled.phi > 0) == (macs > spec.cost().macs)
    grown = [
        scaled.arch.resolution - spec.resolution,
        sum(row.repeat for row in scaled.arch.rows()) - sum(row.repeat for row in spec.rows()),
        sum(stage.out for stage in scaled.arch.stages) - sum(stage.out for stage in spec.stages),
    ]
    assert all(change * scaled.phi >= 0 for change in grown) and grown.count(0) <= 1  # all the same way
    assert scaled.arch.resolution % 8 == 0 and all(stage.out % 8 == 0 for stage in scaled.arch.stages)
    assert scaled.arch.head == spec.head and scaled.arch.name == f"fbnet_v3_{base}_{scaled.macs // 10**6}m"
    assert scaled.arch.published.top1 is None and spec.published.top1 is not None
    assert parse_arch(dump_arch(scaled.arch)) == scaled.arch


def test_a_network_is_its_own_copy() -> None:
    spec = get_arch("fbnet_v3_e")
    scaled = compound_scale(spec, spec.cost().macs, name="same")
    assert (scaled.phi, scaled.macs, scaled.arch.stages, scaled.arch.name) == (0, spec.cost().macs, spec.stages, "same")


def test_one_dimension_alone() -> None:
    spec = get_arch("fbnet_v3_b")
    wide = compound_scale(spec, 600e6, Coefficients(1.1, 1, 1), divisor=4)
    assert wide.arch.resolution == spec.resolution and 0.95 * 600e6 <= wide.macs <= 600e6
    assert [row.repeat for row in wide.arch.rows()] == [row.repeat for row in spec.rows()]
    assert any(stage.out % 8 for stage in wide.arch.stages)
    large = compound_scale(spec, 600e6, Coefficients(1, 1, 1.15))
    assert large.arch.stages == spec.stages and large.arch.resolution > spec.resolution


def test_targets_out_of_reach_name_the_nearest() -> None:
    spec = get_arch("fbnet_a")
    with pytest.raises(ArchError) as caught:
        compound_scale(spec, 1e6)
    nearest = int(str(caught.value).rpartition(" ")[2])
    assert "target_macs: got 1000000, expected MACs that a scaled fbnet_a can have within 5.0%" in str(caught.value)
    assert 1e6 < nearest < 5e6
    macs = spec.cost().macs
    with pytest.raises(ArchError, match=f"within 0.0%; the nearest has {macs}"):
        compound_scale(spec, macs + 1, tolerance=0.0)


@pytest.mark.parametrize("factor", [0.4, 0.9, 1.2, 2.5])
def test_where_a_step_of_depth_is_a_large_one(factor: float) -> None:
    """Most rows of FBNet-A are one block."""
    target = factor * get_arch("fbnet_a").cost().macs
    assert 0.95 * target <= compound_scale(get_arch("fbnet_a"), target).macs <= target


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_macs": 0}, "target_macs: got 0, expected a number from 1"),
        ({"target_macs": float("nan")}, "target_macs: got nan"),
        ({"coefficients": (1.1, 0.9, 1.15)}, "coefficients.depth: got 0.9, expected a number from 1 to 4"),
        ({"divisor": 0}, "divisor: got 0"),
        ({"tolerance": 2}, "tolerance: got 2"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        compound_scale(get_arch("fbnet_a"), **{"target_macs": 3e8, **changes})
    assert message in str(caught.value)
