"""Few networks that run all wanted operators."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable

import pytest
from small_spaces import networks, space_of

from fbnet_plugin.arch import ArchError, ArchSpec, get_arch, load_space
from fbnet_plugin.latency import LatencyError, Operator, arch_operators
from fbnet_plugin.latency.coverage import covering_networks, space_operators

FBNET, V3 = load_space("fbnet"), load_space("fbnet_v3")


def runs_of(archs: Iterable[ArchSpec], resolution: int | None = None) -> Counter[Operator]:
    """Operator -> number of networks that run it."""
    return Counter(itertools.chain.from_iterable(
        {operator for _, operator in arch_operators(arch, resolution)} for arch in archs
    ))  # fmt: skip


@pytest.mark.parametrize("times", [1, 3])
def test_fbnet_is_covered_by_nine_networks_per_time(times: int) -> None:
    """Nine candidates per layer: fewer cannot do, and nine do, each layer taking each candidate once."""
    wanted = space_operators(FBNET)
    archs = list(covering_networks(FBNET, wanted, times))
    runs = runs_of(archs)
    assert set(runs) == set(wanted) and min(runs.values()) == times
    assert len(archs) == len(set(archs)) == 9 * times


def test_fbnet_v3_at_one_resolution_is_covered_by_the_operators_of_its_widest_row() -> None:
    """The sixth group's first block: 13 input widths x 2 kernels x 4 expansions x 12 output widths."""
    wanted = space_operators(V3, 224)
    start = time.process_time()
    archs = list(covering_networks(V3, wanted, resolution=224))
    assert time.process_time() - start < 10
    assert 13 * 2 * 4 * 12 <= len(archs) <= 1.2 * 13 * 2 * 4 * 12
    assert set(runs_of(archs, 224)) == set(wanted)


def test_they_come_one_by_one() -> None:
    wanted = space_operators(V3, 224)
    start = time.process_time()
    first = next(covering_networks(V3, wanted, times=1000, resolution=224))
    assert time.process_time() - start < 3 and isinstance(first, ArchSpec)


def test_the_seed_decides() -> None:
    wanted = space_operators(FBNET)
    first, again, other = (list(covering_networks(FBNET, wanted, seed=seed)) for seed in (0, 0, 1))
    assert first == again and set(first).isdisjoint(other)


def test_only_what_is_wanted() -> None:
    wanted = [operator for _, operator in arch_operators(get_arch("fbnet_s8"))]  # a point of the space
    (arch,) = covering_networks(FBNET, [*wanted, *wanted])
    assert set(wanted) <= set(runs_of([arch]))
    assert list(covering_networks(FBNET, [])) == []
    three = list(covering_networks(FBNET, wanted[3:4], times=3))
    assert len(set(three)) == 3 and runs_of(three)[wanted[3]] == 3


def test_restricted_choices() -> None:
    fixed = {"resolution": 248, "c2": (20, 32), "k1": 5}
    wanted = space_operators(V3, fixed={**fixed, "c3": 24, "c4": 56, "c5": 96, "c6": 200})
    archs = list(covering_networks(V3, wanted, fixed=fixed))
    assert {arch.resolution for arch in archs} == {248} and {arch.stages[1].out for arch in archs} == {20, 32}
    assert {arch.stages[0].blocks[1].kernel for arch in archs} == {5}
    assert {arch.stages[4].out for arch in archs} > {200}  # what is not fixed is free
    assert set(wanted) <= set(runs_of(archs))


def test_different_networks_as_far_as_there_are_any() -> None:
    rows = [[{"op": "conv", "out": "$c", "kernel": "$k"}, {"op": "conv", "out": 8}]]
    space = space_of({"c": [8, 16], "k": [1, 3, 5]}, stages=rows)
    last = max(space_operators(space), key=lambda operator: operator.input[0])  # in three networks
    assert last.input == (16, 32, 32)
    three = list(covering_networks(space, [last], times=3))
    assert len(three) == 3 and set(three) < set(networks(space))
    assert Counter(covering_networks(space, [last], times=5)).keys() == set(three)

    # Here one network has both, but another one each.
    rows = [[{"op": "conv", "out": "$c"}, {"op": "conv", "out": 8}, {"op": "conv", "out": 8, "kernel": "$k"}]]
    space = space_of({"c": [8, 16], "k": [1, 3]}, stages=rows)
    both = [operator for operator in space_operators(space) if dict(operator.fields) in (
        {"kernel": 3, "out": 16, "act": "relu"}, {"kernel": 1, "out": 8, "act": "relu"})]  # fmt: skip
    assert len(both) == 2 and len(list(covering_networks(space, both))) == 1
    assert len(set(covering_networks(space, both, times=2))) == 3
    everything = list(covering_networks(space, space_operators(space), times=3))
    assert set(everything) == set(networks(space))


def test_a_repeated_operator_is_covered_once_per_network() -> None:
    """Layers 3 to 5 of FBNet choose between the same nine operators: three networks cover them."""
    wanted = [operator for operator in space_operators(FBNET) if operator.input == (24, 56, 56)]
    wanted = [operator for operator in wanted if dict(operator.fields)["out"] == 24]
    assert len(wanted) == 9 and len(list(covering_networks(FBNET, wanted))) == 3


def test_operators_of_no_network() -> None:
    stem, *_ = space_operators(V3, 224)
    with pytest.raises(LatencyError) as caught:
        covering_networks(FBNET, [stem, *space_operators(FBNET), *space_operators(FBNET, 192)])
    lines = str(caught.value).split("\n")
    assert lines[:2] == ["no network of fbnet has 112 of the operators:", f"  {stem}"]
    assert lines[-1] == "  and 104 more" and len(lines) == 10


@pytest.mark.parametrize("times", [0, -1, 1.5, True, "3", None])
def test_bad_times(times) -> None:
    with pytest.raises(LatencyError, match="times: got .*, expected an integer of at least 1"):
        covering_networks(FBNET, [], times)


def test_bad_restrictions() -> None:
    with pytest.raises(ArchError, match="layer23: no variable of fbnet, expected one of layer1, layer2"):
        covering_networks(FBNET, [], fixed={"layer23": 0})
    with pytest.raises(ArchError, match=r"fbnet_v3.resolution: got 225, expected one of 224, 232, .*, 272"):
        covering_networks(V3, [], fixed={"resolution": (224, 225)})
