"""FBNetV3 for CIFAR-10: what section 4.3 of the paper changes, and that nothing else is changed."""

from __future__ import annotations

import dataclasses

import pytest

from fbnet_plugin.arch import ArchError, ArchSpec, ConvSpec, HeadSpec, StageSpec, dump_arch, get_arch, walk
from fbnet_plugin.arch.cost import Shape
from fbnet_plugin.arch.small_images import small_image_form
from fbnet_plugin.arch.zoo import ZOO

# 32 / 224 of the resolution for ImageNet, by hand, and the nearest even number.
SIDES = {"a": (32.0, 32), "b": (35.43, 36), "c": (35.43, 36), "d": (35.43, 36), "e": (37.71, 38), "f": (38.86, 38)}
SIDES["g"] = (45.71, 46)


@pytest.fixture(params=list(SIDES))
def letter(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_file_is_what_the_function_gives(letter: str) -> None:
    name = f"fbnet_v3_{letter}_32px"
    made = small_image_form(get_arch(f"fbnet_v3_{letter}"))
    assert made == get_arch(name)
    text = (ZOO / f"{name}.yaml").read_text(encoding="utf-8")
    header = [line[2:] for line in text.splitlines() if line.startswith("#")]
    assert dump_arch(made, "\n".join(header)) == text
    assert "section 4.3" in header[0] and "Our choice" in header[2]


def test_resolution_keeps_its_ratio_to_the_smallest_network(letter: str) -> None:
    small = get_arch(f"fbnet_v3_{letter}_32px")
    exact, side = SIDES[letter]
    assert small.resolution == small.test_resize() == side
    assert f"{exact:.2f} px" in small.notes
    assert small.resolution / get_arch("fbnet_v3_a_32px").resolution == pytest.approx(
        get_arch(f"fbnet_v3_{letter}").resolution / 224, rel=0.03
    )


def test_only_one_stride_the_padding_and_the_classes_change(letter: str) -> None:
    large, small = get_arch(f"fbnet_v3_{letter}"), get_arch(f"fbnet_v3_{letter}_32px")
    assert [row.stride for row in large.rows() if row.stride > 1] == [2, 2, 2, 2, 2]
    pairs = list(zip(large.with_padding("same").rows(), small.rows()))
    assert len(pairs) == len(list(large.rows()))
    [(before, after)] = [(before, after) for before, after in pairs if before != after]
    assert before == large.stages[1].blocks[0] and before.stride == 2
    assert after == before.replaced(stride=1)
    assert small.strides() == [2, 2, 4, 8, 16]
    assert small.head == HeadSpec(large.head.blocks, 10)
    lost = (1000 - 10) * (1984 + 1)  # outputs of the linear layer
    assert small.cost().params == large.cost().params - lost


def test_maps_of_a_32_px_image() -> None:
    assert [map.height for map in get_arch("fbnet_v3_a_32px").features()] == [16, 16, 8, 4, 2]
    assert [map.height for map in get_arch("fbnet_v3_g_32px").features(32)] == [16, 16, 8, 4, 2]


def test_counts_are_those_of_the_same_blocks_on_small_maps() -> None:
    """A's at 32 px: each block of the ImageNet network, counted on the map that it now gets."""
    large, small = get_arch("fbnet_v3_a").with_padding("same"), get_arch("fbnet_v3_a_32px")
    stem, rest = large.stages[0], [block for stage in large.stages[1:] for block in stage.blocks]
    macs = sum(layer.cost.macs for layer in walk(stem.blocks, Shape(3, 32, 32), "stem"))
    wider = (rest[0].replaced(stride=1), *rest[1:], *large.head.blocks)
    macs += sum(layer.cost.macs for layer in walk(wider, Shape(16, 16, 16), "rest"))
    assert small.cost().macs == macs + 1984 * 10


def test_other_networks_bases_and_classes() -> None:
    made = small_image_form(get_arch("fbnet_c"), num_classes=100, base=48, reference=224)
    assert (made.name, made.resolution, made.head.num_classes) == ("fbnet_c_48px", 48, 100)
    assert made.strides() == [2, 2, 4, 8, 16]
    assert made.published.top1 is None and made.published.macs_m is None


def test_the_second_stride_may_stand_anywhere() -> None:
    rows = (ConvSpec(8), ConvSpec(8, 2), ConvSpec(8, repeat=2), ConvSpec(16, 2, 3), ConvSpec(16, 2))
    spec = ArchSpec("plain", 224, (StageSpec(rows[:3]), StageSpec(rows[3:])), HeadSpec())
    made = small_image_form(spec)
    assert [row.stride for row in made.rows()] == [1, 2, 1, 1, 2]
    assert [row.repeat for row in made.rows()] == [1, 1, 2, 3, 1]


def test_what_has_no_such_form() -> None:
    one = ArchSpec("one", 224, (StageSpec((ConvSpec(8, 2), ConvSpec(8))),), HeadSpec())
    with pytest.raises(ArchError, match="one_32px: stages: has 1 stride-2 blocks, expected two or more"):
        small_image_form(one)
    with pytest.raises(ArchError, match="fbnet_v3_a_det: head: is null, expected the head of a classifier"):
        small_image_form(get_arch("fbnet_v3_a_det"))
    with pytest.raises(ArchError, match="base: got 0, expected an integer from 1 to 8192"):
        small_image_form(get_arch("fbnet_v3_a"), base=0)
    with pytest.raises(ArchError, match="num_classes: got 0"):
        small_image_form(get_arch("fbnet_v3_a"), num_classes=0)
    bare = dataclasses.replace(get_arch("fbnet_v3_a"), head=HeadSpec())
    assert small_image_form(bare).head == HeadSpec((), 10)
