"""A space as one network with all candidates in it."""

from __future__ import annotations

import numpy as np
import pytest

from fbnet_plugin.arch import ArchError, ConvSpec, SearchSpace, SkipSpec, dump_arch, load_space
from fbnet_plugin.arch.mixed import MixedSpec
from fbnet_plugin.arch.space import Variable
from fbnet_plugin.arch.supernet import supernet_arch


def mixed_rows(arch) -> list[MixedSpec]:
    return [row for row in arch.rows() if isinstance(row, MixedSpec)]


@pytest.mark.parametrize("name", ["fbnet", "fbnet_cifar", "fbnet_digits", "fbnet_digits_det"])
def test_candidates_are_the_blocks_of_the_space(name):
    space = load_space(name)
    rows = mixed_rows(supernet_arch(space))
    assert [row.variable for row in rows] == [variable.name for variable in space.variables]
    rng = np.random.default_rng(0)
    for point in space.sample(5, rng):
        arch = space.arch(point)
        chosen = iter(row.candidates[choice] for row, choice in zip(rows, point))
        expected = [next(chosen) if isinstance(row, MixedSpec) else row for row in supernet_arch(space).rows()]
        assert list(arch.rows()) == expected


def test_cost_is_that_of_all_candidates():
    """Per layer all nine blocks, the rest of the network once."""
    space = load_space("fbnet")
    cost = supernet_arch(space).cost()
    base = space.arch([8] * 22).cost()
    extra = [space.arch([8] * i + [c] + [8] * (21 - i)).cost() for i in range(22) for c in range(8)]
    assert cost.params == base.params + sum(one.params - base.params for one in extra) + fixed_skips(space)
    assert cost.macs > 20 * base.macs


def fixed_skips(space: SearchSpace) -> int:
    """Each difference above takes away the skip that the candidate replaced, but the supernet has it once."""
    skips = [layer.cost.params for layer in space.arch([8] * 22).layers() if isinstance(layer.block, SkipSpec)]
    return 8 * sum(skips)


def test_padding_and_other_maps_reach_the_candidates():
    space = SearchSpace(
        "one",
        [Variable("a", ({"kernel": 3, "pad": 0}, {"kernel": 3, "pad": 0, "expansion": 6}))],
        {"name": "one", "resolution": 32, "stages": [[{"op": "mb", "use": "$a", "out": 8, "stride": 2}]]},
    )
    (row,) = mixed_rows(supernet_arch(space).with_padding("same"))
    assert [block.pad for block in row.candidates] == [None, None]
    assert row.replaced(stride=1).candidates[1].stride == 1 and row.replaced(stride=1).stride == 1
    assert [copy.stride for copy in row.replaced(repeat=3).copies()] == [2, 1, 1]


def test_a_row_without_a_choice_is_a_plain_block():
    space = load_space("fbnet_digits").restrict({"layer2": {"op": "skip"}})
    arch = supernet_arch(space)
    assert [row.variable for row in mixed_rows(arch)] == [f"layer{i}" for i in (1, 3, 4, 5, 6, 7, 8)]
    assert SkipSpec(24) in arch.stages[1].blocks


@pytest.mark.parametrize(
    ("variables", "row", "problem"),
    [
        ({"a": [8, 16]}, {"op": "conv", "out": "$a"}, "variables.a: the candidates differ in out"),
        ({"a": [1, 2]}, {"op": "conv", "out": 8, "stride": "$a"}, "variables.a: the candidates differ in stride"),
        ({"a": [1, 2]}, {"op": "skip", "out": 8, "repeat": "$a"}, "variables.a: the candidates differ in repeat"),
        ({"a": [3, 5], "b": ["relu", "swish"]}, {"op": "conv", "out": 8, "kernel": "$a", "act": "$b"}, "same layer"),
    ],
)
def test_spaces_that_are_not_layer_wise(variables, row, problem):
    named = [Variable(name, tuple(choices)) for name, choices in variables.items()]
    space = SearchSpace("odd", named, {"name": "odd", "resolution": 32, "stages": [[row]]})
    with pytest.raises(ArchError, match=problem):
        supernet_arch(space)


def test_a_choice_outside_the_stages():
    template = {"name": "odd", "resolution": "$px", "stages": [[{"op": "conv", "out": 8}]]}
    with pytest.raises(ArchError, match="variables.px: chooses no layer"):
        supernet_arch(SearchSpace("odd", [Variable("px", (32, 64))], template))


def test_a_supernet_is_no_architecture_file():
    with pytest.raises(ArchError, match="layer1 is still to be chosen"):
        dump_arch(supernet_arch(load_space("fbnet_digits")))


def test_equal_outputs_are_required():
    with pytest.raises(ArchError, match="variables.a: the candidates differ in out"):
        MixedSpec.of("a", (ConvSpec(8), ConvSpec(16)))
