"""The operators of a space, against lists of all its networks."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_spaces import listed_operators, space_of

from fbnet_plugin.arch import ArchError, SearchSpace, load_space
from fbnet_plugin.latency import arch_operators, space_graph
from fbnet_plugin.latency.coverage import space_operators
from fbnet_plugin.latency.space_graph import SpaceGraph

CONV, MB, SKIP = {"op": "conv"}, {"op": "mb", "expand_always": True}, {"op": "skip"}


def test_fbnet_has_nine_candidates_per_shape() -> None:
    operators = space_operators(load_space("fbnet"))
    assert len(operators) == len(set(operators)) == 111
    per_input = Counter((operator.input, dict(operator.fields)["out"]) for operator in operators)
    shapes = {(16, 112, 112): 16, (24, 56, 56): 24, (184, 7, 7): 352}
    assert [per_input[shape, out] for shape, out in shapes.items()] == [9, 9, 9]
    assert [operators[0].op, *(operator.op for operator in operators[-2:])] == ["conv", "conv", "classifier"]


def test_fbnet_v3_has_as_many_operators_as_its_table_says() -> None:
    """Counted by hand from FBNetV3 Table 2, per row: maps x input widths x kernels x expansions x output widths.

    The seven resolutions give 7, 7, 7, 7, 4 and 3 sizes of map behind each stride.
    """
    stem, first = 7 * 5, 7 * 5 * 2 * 5  # the rows of copies of stage 0 see no shape of their own
    second = 7 * 5 * 2 * 4 * 4 + 7 * 4 * 2 * 4
    third = 7 * 4 * 2 * 4 * 7 + 7 * 7 * 2 * 4
    fourth = 7 * 7 * 2 * 4 * 8 + 4 * 8 * 2 * 4
    fifth = 4 * 8 * 2 * 4 * 13 + 4 * 13 * 2 * 4
    sixth = 4 * 13 * 2 * 4 * 12 + 3 * 12 * 2 * 4
    seventh = 3 * 12 * 2 * 12 - 3 * 12 * 2  # with expansion 6 and the same width it is one of the sixth's copies
    head = 3 * 12 + 1
    start = time.process_time()
    operators = space_operators(load_space("fbnet_v3"))
    assert time.process_time() - start < 10
    assert len(operators) == stem + first + second + third + fourth + fifth + sixth + seventh + head == 16934


def test_one_resolution_by_choice_and_by_force() -> None:
    space = load_space("fbnet_v3")
    at_240 = space_operators(space, fixed={"resolution": 240})
    assert at_240 == space_operators(space, 240)
    assert set(at_240) < set(space_operators(space, fixed={"resolution": (232, 240)}))
    assert space_operators(space, 120)[0].input == (3, 120, 120)  # not a size that the space itself has
    assert {operator.input[1:] for operator in space_operators(space, (64, 32))} >= {(64, 32), (2, 1)}


def test_random_networks_have_no_other_operators() -> None:
    space = load_space("fbnet_v3")
    known = set(space_operators(space, fixed={"c4": (56, 84)}))
    for point in space.restrict({"c4": (56, 84)}).sample(100, np.random.default_rng(0)):
        arch = space.restrict({"c4": (56, 84)}).arch(point)
        assert known.issuperset(operator for _, operator in arch_operators(arch))


def test_copies_that_shrink_the_map_are_different_operators() -> None:
    space = space_of({"n": [1, 3]}, stages=[[{**MB, "kernel": 5, "pad": 0, "out": 8, "repeat": "$n"}]])
    assert [operator.input for operator in space_operators(space)] == [(3, 32, 32), (8, 28, 28), (8, 24, 24)]


def test_choices_that_lead_nowhere_are_left_out() -> None:
    """A map of 9 px bears two kernels of 5 without padding, but not a third; 7 channels have no 2 groups."""
    shrink = {**MB, "kernel": 5, "pad": 0, "out": 8}
    space = space_of(
        {"c": [7, 8], "g": [1, 2], "n": [1, 2]},
        resolution=9,
        stages=[[{**CONV, "out": "$c"}], [{**MB, "out": 8, "groups": "$g"}], [{**shrink, "repeat": "$n"}, shrink]],
    )
    operators = space_operators(space)
    assert set(operators) == listed_operators(space)
    assert Counter(operator.input for operator in operators) == {(3, 9, 9): 2, (7, 9, 9): 1, (8, 9, 9): 3, (8, 5, 5): 1}


def test_networks_with_too_many_blocks_are_left_out() -> None:
    """Kernel 5 on 16 channels is only in a network of 600 blocks, and no network may have more than 512."""
    space = space_of(
        {
            "x": [{"repeat": 1, "out": 8}, {"repeat": 300, "out": 16}],
            "y": [{"repeat": 1}, {"repeat": 300, "kernel": 5}],
        },
        stages=[[{**CONV, "use": "$x"}, {**MB, "use": "$y", "out": 8}]],
    )
    operators = space_operators(space)
    assert set(operators) == listed_operators(space)
    kernels = {(operator.input[0], dict(operator.fields)["kernel"]) for operator in operators if operator.op == "mb"}
    assert kernels == {(8, 3), (16, 3), (8, 5)}


def test_no_network_at_all() -> None:
    stages = [[{**MB, "kernel": 5, "pad": 0, "out": 8, "repeat": "$n"}]]
    with pytest.raises(ArchError, match="^small: no network of the space fits an image of 4x4 px$"):
        space_operators(space_of({"n": [1, 2]}, stages=stages), 4)
    with pytest.raises(ArchError, match="resolution: got 0, expected an integer from 1"):
        space_operators(load_space("fbnet"), 0)
    with pytest.raises(ArchError, match="fbnet.layer1: got 3, expected one of {'op': 'mb'"):
        space_operators(load_space("fbnet"), fixed={"layer1": 3})


def test_a_space_that_ties_distant_rows_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_graph, "MAX_EDGES", 3**7)
    names = [f"v{number}" for number in range(8)]
    rows = [{**CONV, "out": f"${name}"} for name in names * 2]
    with pytest.raises(ArchError, match="small: too many variables are shared between distant rows .*v0, v1"):
        space_operators(space_of({name: [8, 16, 24] for name in names}, stages=[rows]))


def test_every_path_is_a_network_with_the_operators_of_its_edges() -> None:
    space = load_space("fbnet_v3")
    graph, rng = SpaceGraph(space, 64), np.random.default_rng(0)
    assert graph.steps[0].first_edge.tolist() == [0, 1]  # one image
    for _ in range(30):
        path, node, run = [], 0, set()
        for step in graph.steps:
            edge = int(rng.integers(step.first_edge[node], step.first_edge[node + 1]))
            run |= set(step.operators[step.first_operator[edge] : step.first_operator[edge + 1]].tolist())
            path.append(edge)
            node = int(step.target[edge])
        arch = space.arch(graph.point(path))
        assert {operator for _, operator in arch_operators(arch, 64)} == {
            graph.operators[number] for number in run if number < len(graph.operators)
        }


# ---------------------------------------------------------------------------------------------
# Any small space
# ---------------------------------------------------------------------------------------------

VARIABLES = {"a": [8, 12], "b": [8, 16], "k": [3, 7], "n": [1, 3], "s": [CONV, SKIP, {**MB, "groups": 4}], "r": [9, 32]}
widths = st.sampled_from(["$a", "$b", 8, 12])
rows = st.one_of(
    st.fixed_dictionaries({"op": st.just("conv"), "out": widths, "stride": st.sampled_from([1, 2])}),
    st.fixed_dictionaries({"use": st.just("$s"), "out": widths, "repeat": st.sampled_from(["$n", 1, 2])}),
    st.fixed_dictionaries(
        {
            "op": st.just("mb"),
            "out": widths,
            "kernel": st.sampled_from(["$k", 3]),
            "repeat": st.sampled_from(["$n", 1]),
        },
        optional={"pad": st.just(0), "stride": st.just(2), "expansion": st.sampled_from(["$n", 2])},
    ),
    st.fixed_dictionaries({"op": st.just("skip"), "out": widths, "stride": st.sampled_from([1, 2])}),
)
heads = st.none() | st.fixed_dictionaries(
    {"num_classes": st.sampled_from(["$a", 10]), "blocks": st.lists(rows, max_size=1)}
)


@given(st.lists(st.lists(rows, min_size=1, max_size=3), min_size=1, max_size=3), heads, st.sampled_from(["$r", 16]))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_space_has_the_operators_of_its_networks(stages: Any, head: Any, resolution: Any) -> None:
    space = used_only(space_of(VARIABLES, stages=stages, head=head, resolution=resolution))
    assume(space.size <= 100)
    listed = listed_operators(space)
    if not listed:
        with pytest.raises(ArchError, match="no network of the space fits"):
            space_operators(space)
        return
    operators = space_operators(space)
    assert len(operators) == len(set(operators)) and set(operators) == listed


def used_only(space: SearchSpace) -> SearchSpace:
    """The space with one choice for each variable that it does not use, so that there is less to list."""
    used = str(space.template)
    return space.restrict({v.name: v.choices[0] for v in space.variables if f"'${v.name}'" not in used})
