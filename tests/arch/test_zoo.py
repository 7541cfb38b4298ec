"""The files of the zoo: found by name, and each says where it comes from."""

from __future__ import annotations

import re

import pytest

from fbnet_plugin.arch import ArchError, get_arch, list_archs
from fbnet_plugin.arch.zoo import ZOO

PAPERS = {
    "fbnet_a", "fbnet_b", "fbnet_c", "fbnet_96_035_1", "fbnet_s8", "fbnet_iphonex", "fbnet_v2_f1", "fbnet_v2_f2",
    "fbnet_v2_f3", "fbnet_v2_f4", "fbnet_v2_l1", "fbnet_v2_l2", "fbnet_v2_dmasking_l3", "fbnet_v3_a", "fbnet_v3_b",
    "fbnet_v3_c", "fbnet_v3_d", "fbnet_v3_e", "fbnet_v3_f", "fbnet_v3_g", "fbnet_v3_a_det", "fbnet_v3_g_det",
    "fbnet_v3_a_32px", "fbnet_v3_b_32px", "fbnet_v3_c_32px", "fbnet_v3_d_32px", "fbnet_v3_e_32px", "fbnet_v3_f_32px",
    "fbnet_v3_g_32px",
}  # fmt: skip

# ImageNet top-1 in percent as published.
TOP1 = {
    "fbnet_a": 73.0,
    "fbnet_a_released": 73.298,
    "fbnet_b_released": 74.544,
    "fbnet_c_released": 75.25,
    "fbnet_v2_f1": 68.278,
    "fbnet_v2_l2": 78.243,
    "fbnet_v3_a": 79.574,
    "fbnet_v3_g": 82.794,
    "fbnet_v3_a_gpu": None,
    "fbnet_v3_a_det": None,
}


def test_all_published_networks_are_there() -> None:
    assert PAPERS <= set(list_archs())
    assert list_archs() == sorted(list_archs())


@pytest.mark.parametrize("name", list_archs())
def test_a_file_says_what_it_is(name: str) -> None:
    spec = get_arch(name)
    assert spec.name == name
    assert re.fullmatch(r"[a-z0-9_]+", name)
    assert re.search(r"arXiv:\d{4}\.\d{5}|facebookresearch/", spec.source)
    header = [line for line in (ZOO / f"{name}.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert len(header) >= 2 and len(header[0]) > 20
    # The header prints the counts of the network below it.
    cost = spec.cost()
    counts = f"{cost.macs:,} MACs, {cost.params:,} parameters, {cost.weights:,} conv and fc weights"
    assert any(counts in line and f"at {spec.resolution} px" in line.lower() for line in header)
    if spec.published.top1 is not None:
        assert str(spec.published.top1) in header[0]


@pytest.mark.parametrize("name", TOP1)
def test_published_accuracy(name: str) -> None:
    assert get_arch(name).published.top1 == TOP1[name]


@pytest.mark.parametrize("name", list_archs())
def test_features_have_the_strides_that_detectors_expect(name: str) -> None:
    small = name.endswith("_32px")  # for CIFAR-10: the second stride-2 block has stride 1
    assert get_arch(name).strides() == ([2, 2, 4, 8, 16] if small else [2, 4, 8, 16, 32])


def test_test_resize_is_as_published_or_by_the_rule() -> None:
    assert get_arch("fbnet_v3_a").test_resize() == 242
    assert get_arch("fbnet_v3_g").test_resize() == 325
    assert get_arch("fbnet_a").test_resize() == 256
    assert get_arch("fbnet_96_035_1").test_resize() == 112  # 96 * 256 / 224 = 109.7


def test_paths_and_names() -> None:
    path = ZOO / "fbnet_a.yaml"
    assert get_arch(path) == get_arch(str(path)) == get_arch("fbnet_a")
    assert get_arch("fbnet_a") is get_arch("fbnet_a")


@pytest.mark.parametrize(
    "name, message",
    [
        ("FBNetV3_A", "unknown architecture 'FBNetV3_A': did you mean fbnet_v3_a"),
        (
            "nothing like it",
            "unknown architecture 'nothing like it': expected the path of a .yaml file or one of fbnet_96",
        ),
        ("", "unknown architecture ''"),
        ("../zoo/fbnet_a", "unknown architecture '../zoo/fbnet_a'"),
        ("absent.yaml", "absent.yaml: cannot be read: No such file or directory"),
        (3, "architecture: got 3, expected a name in the zoo or the path of a .yaml file"),
        (None, "architecture: got None, expected a name in the zoo or the path of a .yaml file"),
    ],
)
def test_unknown_names(name, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        get_arch(name)
    assert str(caught.value).startswith(message)
