"""Spaces as sums over layers and candidates."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from small_spaces import networks, space_of

from fbnet_plugin.arch import ArchError, load_space
from fbnet_plugin.latency import arch_operators
from fbnet_plugin.latency.layerwise import layerwise

FBNET = load_space("fbnet")


def test_fbnet_is_22_layers_of_9_candidates() -> None:
    layers = layerwise(FBNET)
    assert layers.variables == tuple(f"layer{number}" for number in range(1, 23))
    assert [[len(candidate) for candidate in candidates] for candidates in layers.candidates] == [[1] * 9] * 22
    assert [(operator.op, operator.input) for operator in layers.fixed] == [
        ("conv", (3, 224, 224)), ("conv", (352, 7, 7)), ("classifier", (1504, 7, 7))
    ]  # fmt: skip
    first, last = layers.candidates[0], layers.candidates[21]
    assert {operator.input for (operator,) in first} == {(16, 112, 112)}
    assert [operator.op for (operator,) in last] == ["mb"] * 8 + ["skip"]
    assert [dict(operator.fields).get("mid") for (operator,) in last] == [184, 184, 552, 1104] * 2 + [None]
    assert len(list(layers.operators())) == 22 * 9 + 3 and len(list(layers.searched())) == 22 * 9


def test_the_layers_of_a_point_are_its_candidates_and_the_fixed_ones() -> None:
    layers = layerwise(FBNET, 96)
    for point in ([0] * 22, [8] * 22, [(3 * place) % 9 for place in range(22)]):
        chosen = [candidates[choice] for candidates, choice in zip(layers.candidates, point)]
        expected = Counter([*layers.fixed, *itertools.chain.from_iterable(chosen)])
        assert Counter(operator for _, operator in arch_operators(FBNET.arch(point), 96)) == expected


def test_a_row_of_copies_is_one_layer_of_several_operators() -> None:
    mb = {"op": "mb", "kernel": "$k", "repeat": 2, "stride": 2}
    rows = [{"op": "conv", "out": 8}, {**mb, "out": 16}, {"op": "skip", "out": 16}]
    layers = layerwise(space_of({"k": [3, 5, 7]}, stages=[rows]))
    first, second = layers.candidates[0][1]
    assert (first.input, second.input) == ((8, 32, 32), (16, 16, 16))
    assert (dict(first.fields)["stride"], dict(first.fields)["kernel"]) == (2, 5) and first.op == second.op == "mb"
    assert [len(candidate) for candidate in layers.candidates[0]] == [2, 2, 2]
    assert [operator.op for operator in layers.fixed] == ["conv", "skip"]


def test_one_variable_may_choose_several_rows() -> None:
    row = {"op": "mb", "kernel": "$k", "out": 8}
    space = space_of({"k": [3, 5]}, stages=[[{"op": "conv", "out": 8}, row], [row]], head={"num_classes": 10})
    layers = layerwise(space)
    assert [len(candidate) for candidate in layers.candidates[0]] == [2, 2] and len(layers.fixed) == 2
    for arch, candidate in zip(networks(space), layers.candidates[0]):
        assert Counter(operator for _, operator in arch_operators(arch)) == Counter([*layers.fixed, *candidate])


def test_fbnet_v3_is_refused_with_the_variable_that_is_to_blame() -> None:
    space = load_space("fbnet_v3")
    reason = "changes the number of layers or the input shape of others, so it has no latency per layer and candidate"
    with pytest.raises(ArchError, match=f"^fbnet_v3.variables.resolution: {reason}$"):
        layerwise(space)
    with pytest.raises(ArchError, match=f"^fbnet_v3.variables.c0: {reason}$"):
        layerwise(space, 224)
    with pytest.raises(ArchError, match=f"^fbnet_v3.variables.n1: {reason}$"):
        layerwise(space.restrict({"resolution": 224, "c0": 16, "c1": 16}))


def test_a_part_of_fbnet_v3_is_layerwise() -> None:
    space = load_space("fbnet_v3")
    point = {variable.name: variable.choices[0] for variable in space.variables}
    for name in ("k1", "e2_rest", "k7"):
        del point[name]
    layers = layerwise(space.restrict(point))
    sizes = {name: [len(one) for one in found] for name, found in zip(layers.variables, layers.candidates)}
    assert {name: size for name, size in sizes.items() if size != [0]} == {
        "k1": [1, 1],
        "e2_rest": [3] * 4,
        "k7": [1, 1],
    }


def test_two_variables_for_one_layer_are_refused() -> None:
    """With the first candidate, which has its own expansion, ``e`` changes nothing; with the second one it does."""
    row = {"op": "mb", "use": "$candidate", "expansion": "$e", "out": 8}
    space = space_of({"candidate": [{"kernel": 3, "expansion": 2}, {"kernel": 5}], "e": [1, 6]}, stages=[[row]])
    with pytest.raises(ArchError, match="small.variables.e: chooses the same layer as candidate, so it has no latency"):
        layerwise(space)
