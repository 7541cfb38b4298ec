"""Search spaces at other resolutions and with other widths."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.arch import (
    ArchError,
    ConvSpec,
    SearchSpace,
    get_arch,
    list_spaces,
    load_space,
    scale_space,
    scale_width,
    small_map_warning,
)
from fbnet_plugin.arch.space import Variable

SPACES = {name: load_space(name) for name in list_spaces()}
FBNET = SPACES["fbnet"]
PLAIN = sorted(set(SPACES) - {"fbnet_v3", "fbnet_v3_digits"})  # widths and resolution are numbers

# FBNet Table 2, in its order, and Figure 4.
CANDIDATES = ["k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"]
FBNET_96_035_1 = (
    "k3_e1 k3_e6 k3_e6 skip skip k5_e6 k5_e6 skip skip k5_e6 skip skip skip k3_e6 skip skip skip "
    "k5_e6 k5_e6 skip skip k5_e6"
)


def widths(space: SearchSpace) -> list[list[int]]:
    return [[row["out"] for row in stage] for stage in space.template["stages"]]


def with_template(**changes: Any) -> SearchSpace:
    """FBNet's space, its template changed: ``stages_0_1={...}`` updates the second row of the first stage."""
    template = copy.deepcopy(FBNET.template)
    for key, value in changes.items():
        if key.startswith("stages_"):
            i, j = map(int, key.split("_")[1:])
            template["stages"][i][j] = value
        else:
            template[key] = value
    variables = [*FBNET.variables, Variable("v", ({"op": "skip", "out": 16},)), Variable("n", (16, 24))]
    return SearchSpace("changed", variables, template)


def test_published_widths() -> None:
    """The seven widths of FBNet-96-0.35-1, and the stem's."""
    scaled = widths(scale_space(FBNET, 0.35, 96))
    assert scaled == [[8, 8], [16] * 4, [16] * 4, [24] * 4 + [40] * 4, [72] * 4 + [128]]


def test_fbnet_96_035_1_is_a_point_of_the_scaled_space() -> None:
    space = scale_space(FBNET, 0.35, 96).validate()
    published = get_arch("fbnet_96_035_1")
    arch = space.arch([CANDIDATES.index(word) for word in FBNET_96_035_1.split()])
    assert (arch.stages, arch.resolution) == (published.stages, published.resolution)
    assert arch.head == FBNET.frame({}).head  # 1504 channels: the published 1416 follow from no rule
    head = dataclasses.replace(arch.head, blocks=(ConvSpec(1416, kernel=1),))
    assert dataclasses.replace(arch, head=head).cost() == published.cost()
    assert published.cost().macs == 12_944_208


def test_names_say_what_has_changed() -> None:
    assert scale_space(FBNET, 0.35, 96).name == "fbnet_r96_w0.35"
    assert scale_space(FBNET, 1.0, 96).name == "fbnet_r96"
    assert scale_space(FBNET, 0.5, 224).name == "fbnet_w0.5"
    assert scale_space(scale_space(FBNET, 0.5), 2, 128).name == "fbnet_w0.5_r128_w2"
    space = scale_space(FBNET, 0.35, 96, name="small")
    assert (space.name, space.template["name"], space.arch([0] * 22).name) == ("small", "small", "small")
    assert scale_space(FBNET, name="other").name == "other"


@pytest.mark.parametrize("name", list_spaces())
def test_nothing_to_scale(name: str) -> None:
    assert scale_space(SPACES[name]) is SPACES[name]
    assert scale_space(SPACES[name], 1, name=name) is SPACES[name]


def test_the_given_space_stays_as_it_is() -> None:
    before = copy.deepcopy(FBNET.template)
    assert scale_space(FBNET, 0.35, 96).variables == FBNET.variables
    assert FBNET.template == before


@given(
    st.sampled_from(PLAIN),
    st.floats(0.05, 4),
    st.integers(1, 600),
    st.sampled_from(["ceil", "nearest"]),
    st.sampled_from([2, 4, 8, 16]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_a_point_is_the_scaled_network(name, width, resolution, rounding, divisor, seed) -> None:
    space = SPACES[name]
    scaled = scale_space(space, width, resolution, rounding=rounding, divisor=divisor)
    for point in space.sample(3, np.random.default_rng(seed)):
        wide = scale_width(space.arch(point), width, divisor, rounding, scale_head=False)
        assert scaled.arch(point) == dataclasses.replace(wide, name=scaled.name, resolution=resolution)


def test_box_heads_are_scaled_and_published_figures_dropped() -> None:
    box_head = [{"op": "mb", "out": 64, "stride": 2}, {"op": "mb", "out": 112}]
    space = with_template(box_head=box_head, published={"top1": 70.0, "test_resize": 256})
    point = [0] * 24
    assert space.arch(point).published.top1 == 70.0
    scaled = scale_space(space, 0.35).arch(point)
    assert [block.out for block in scaled.box_head] == [24, 40]
    assert scaled.published.top1 is None and scaled.test_resize() == 256 == scaled.resolution * 8 // 7


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"stages_0_1": {"use": "$layer1", "out": "$n"}}, "stages[0].blocks[1].out: the channels are chosen by $n"),
        ({"stages_0_1": {"use": "$v", "out": 16}}, "stages[0].blocks[1]: the channels are chosen by use: $v"),
        ({"stages_0_1": {"use": {"op": "skip", "out": 16}}}, "stages[0].blocks[1]: the channels are chosen by use: {"),
        ({"stages_0_1": "$v"}, "stages[0].blocks[1]: got '$v', expected a block in place of a variable"),
        ({"stages_0_1": {"op": "mb"}, "defaults": {"mb": {"out": 16}}}, "stages[0].blocks[1].out: is missing; only"),
        ({"box_head": "$v"}, "box_head: got '$v', expected a list of blocks"),
        ({"box_head": [{"op": "skip", "out": "$n"}]}, "box_head[0].out: the channels are chosen by $n"),
    ],
)
def test_channels_that_a_variable_chooses(changes, message: str) -> None:
    space = with_template(**changes)
    with pytest.raises(ArchError) as caught:
        scale_space(space, 0.5)
    assert str(caught.value).startswith(f"changed: architecture.{message}"), str(caught.value)


def test_variables_elsewhere_do_not_matter() -> None:
    space = with_template(resolution="$n", stages_0_1={"use": "$v", "out": 16})
    with pytest.raises(ArchError, match=r"^changed: architecture.resolution: is chosen by \$n, so that no other"):
        scale_space(space, 1.0, 96)
    space = with_template(resolution="$n", stages_0_1={"op": "mb", "kernel": 3, "out": 16})
    assert [scale_space(space, 0.35).arch([0] * 23 + [n]).resolution for n in (0, 1)] == [16, 24]
    space = with_template(stages_0_1={"use": "$layer1", "out": "$n"})
    assert scale_space(space, 1.0, 96).arch([0] * 24).resolution == 96
    with pytest.raises(ArchError, match=r"fbnet_v3: architecture.stages\[0\].blocks\[0\].out: .* chosen by \$c0"):
        scale_space(SPACES["fbnet_v3"], 0.5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"width": 0}, "width factor: got 0, expected a number from 0.01 to 64"),
        ({"width": float("nan")}, "width factor: got nan"),
        ({"resolution": 0}, "resolution: got 0, expected an integer from 1 to 8192"),
        ({"resolution": 96.0}, "resolution: got 96.0, expected an integer"),
        ({"width": 0.5, "rounding": "floor"}, "rounding: got 'floor', expected one of nearest, ceil"),
        ({"width": 0.5, "divisor": 0}, "divisor: got 0, expected an integer from 1 to 1024"),
        ({"width": 0.5, "name": "two\nlines"}, "name: got 'two"),
    ],
)
def test_bad_arguments(arguments, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        scale_space(FBNET, **arguments)
    assert str(caught.value).startswith(message)


def test_every_candidate_must_fit_the_new_widths() -> None:
    """Neither the first candidate of all layers nor the last has groups."""
    with pytest.raises(ArchError, match=r"^fbnet_w0.55: .*groups: got 2, expected a divisor of the 9 input channels"):
        scale_space(FBNET, 0.55, divisor=1)
    assert widths(scale_space(FBNET, 0.5, divisor=1))[-1] == [92] * 4 + [176]


# ---------------------------------------------------------------------------------------------
# Maps of a single pixel
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution, size", [(32, "1x1"), (8, "1x1"), ((32, 64), "1x2"), ((224, 20), "7x1")])
def test_a_map_of_one_pixel(resolution, size: str) -> None:
    side = "x".join(map(str, resolution)) if isinstance(resolution, tuple) else resolution
    warning = small_map_warning(FBNET, resolution)
    assert warning.startswith(f"fbnet at {side} px: the last map has only {size} px; ") and "96 px or more" in warning
    assert ("fbnet_cifar" in warning) == (resolution != 8)  # whose last map has one pixel there too


def test_maps_that_are_large_enough() -> None:
    assert all(small_map_warning(space) == "" for space in SPACES.values())
    assert all(small_map_warning(FBNET, px) == "" for px in (33, 64, 96, 224, (64, 48)))
    assert small_map_warning(scale_space(FBNET, 0.35, 96)) == "" and small_map_warning(SPACES["fbnet_cifar"], 9) == ""


def test_advice_for_the_space_with_few_strides() -> None:
    warning = small_map_warning(SPACES["fbnet_cifar"], 8)
    assert warning == "fbnet_cifar at 8 px: the last map has only 1x1 px; use a resolution of 24 px or more"
    assert small_map_warning(scale_space(FBNET, 1, 32)).startswith("fbnet_r32 at 32 px: ")


def test_a_pool_is_meant_to_leave_one_pixel() -> None:
    space = with_template(stages_4_4={"op": "pool", "out": 352})
    assert space.arch([0] * 24).features()[-1].height == 1
    assert small_map_warning(space) == "" and "1x1" in small_map_warning(space, 32)


def test_bad_resolutions_of_the_warning() -> None:
    with pytest.raises(ArchError, match="resolution: got 0"):
        small_map_warning(FBNET, 0)
