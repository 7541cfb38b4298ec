"""When two layers are the same operator, and how an operator stands in a file."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.arch import (
    ArchError,
    BlockSpec,
    ConvSpec,
    FusedSpec,
    InvertedResidualSpec,
    PoolSpec,
    SESpec,
    Shape,
    SkipSpec,
    get_arch,
    list_archs,
    load_space,
)
from fbnet_plugin.latency import LatencyError, Operator, arch_operators, classifier_of, operator_of

MAP = Shape(16, 56, 56)
MB = InvertedResidualSpec(24, kernel=3, expansion=6.0)


def mb(**changes: Any) -> InvertedResidualSpec:
    return dataclasses.replace(MB, **changes)


SAME = {
    "rounding that rounds nothing": (MB, mb(divisor=1)),
    "expansions that round to the same": (mb(expansion=5.9), mb(expansion=6.1)),
    "the last norm's first value": (MB, mb(zero_init=True)),
    "bias, which the norm takes in": (MB, mb(bias=True)),
    "copies": (MB, mb(repeat=4)),
    "padding written out": (mb(kernel=5), mb(kernel=5, pad=2)),
    "an expand conv that is there anyway": (MB, mb(expand_always=True)),
    "squeeze of input or expanded": (mb(se=SESpec(ratio=1.0)), mb(se=SESpec(ratio=1 / 6, width="expanded"))),
    "stem's bias": (ConvSpec(24, bias=True), ConvSpec(24, bias=False)),
    "pool's bias": (PoolSpec(24, bias=True), PoolSpec(24, bias=False)),
    "expansion of a fused block without projection": (
        FusedSpec(24, project=False, expansion=2), FusedSpec(24, project=False, expansion=4)),
}  # fmt: skip

DIFFERENT = {
    "kernel": (MB, mb(kernel=5)),
    "stride": (MB, mb(stride=2)),
    "output": (MB, mb(out=32)),
    "expansion": (MB, mb(expansion=3)),
    "activation": (MB, mb(act="hswish")),
    "groups": (MB, mb(groups=2)),
    "padding": (mb(kernel=5), mb(kernel=5, pad=1)),
    "no padding": (MB, mb(pad=0)),
    "an expand conv that does not expand": (mb(expansion=1), mb(expansion=1, expand_always=True)),
    "squeeze": (MB, mb(se=SESpec())),
    "squeezed channels": (mb(se=SESpec(ratio=0.5)), mb(se=SESpec(ratio=1.0))),
    "gate": (mb(se=SESpec()), mb(se=SESpec(gate="sigmoid"))),
    "cascade": (MB, mb(cascade=2)),
    "group width": (MB, mb(dw_group_width=8)),
    "norm behind the depthwise conv": (MB, mb(dw_norm_act=False)),
    "kind": (ConvSpec(24), FusedSpec(24, project=False)),
    "projection": (FusedSpec(24, expansion=1.5), FusedSpec(24, expansion=1.5, project=False)),
    "skip of another width": (SkipSpec(16), SkipSpec(24)),
    "skip of another stride": (SkipSpec(16), SkipSpec(16, stride=2)),
    "pool's width": (PoolSpec(24), PoolSpec(24, expansion=4)),
}


@pytest.mark.parametrize("one, other", SAME.values(), ids=SAME)
def test_the_same_computation_is_the_same_operator(one: BlockSpec, other: BlockSpec) -> None:
    assert one != other and operator_of(one, MAP) == operator_of(other, MAP)
    assert hash(operator_of(one, MAP)) == hash(operator_of(other, MAP))


@pytest.mark.parametrize("one, other", DIFFERENT.values(), ids=DIFFERENT)
def test_another_computation_is_another_operator(one: BlockSpec, other: BlockSpec) -> None:
    assert operator_of(one, MAP) != operator_of(other, MAP)


def test_the_input_is_part_of_the_operator() -> None:
    shapes = [MAP, Shape(24, 56, 56), Shape(16, 28, 56), Shape(16, 56, 28)]
    assert len({operator_of(block, shape) for block in (MB, SkipSpec(24)) for shape in shapes}) == 8
    assert operator_of(MB, Shape(np.int64(16), 56.0, 56.0)) == operator_of(MB, MAP)
    assert len({classifier_of(classes, shape) for classes in (10, 1000) for shape in shapes}) == 8


def test_one_block_in_two_architectures() -> None:
    """FBNet-A rounds channels to multiples of 1, its released model as FBNetV2 does; most layers are the same."""
    ours, released = (
        {operator for _, operator in arch_operators(get_arch(name))} for name in ("fbnet_a", "fbnet_a_released")
    )
    assert len(ours & released) > 0.6 * len(ours)


def test_text_and_row() -> None:
    block = InvertedResidualSpec(24, stride=2, kernel=5, expansion=6, se=SESpec(ratio=1.0), act="hswish", pad=1)
    operator = operator_of(block, MAP)
    assert str(operator) == "mb kernel=5 stride=2 mid=96 out=24 pad=1 se=16 gate=hsigmoid act=hswish on 16x56x56"
    assert operator.to_dict() == {
        "op": "mb", "input": [16, 56, 56], "kernel": 5, "stride": 2, "mid": 96, "out": 24, "pad": 1, "se": 16,
        "gate": "hsigmoid", "act": "hswish",
    }  # fmt: skip
    assert str(classifier_of(10, Shape(1984, 1, 1))) == "classifier out=10 on 1984x1x1"


def test_order_and_usual_values_of_a_row_do_not_matter() -> None:
    row = operator_of(mb(kernel=5), MAP).to_dict()
    usual = {"groups": 1, "cascade": 1, "dw_group_width": 1, "dw_norm_act": True, "expand": True, "stride": 1, "pad": 2}
    assert Operator.from_dict({**usual, **dict(reversed(row.items()))}) == operator_of(mb(kernel=5), MAP)


# ---------------------------------------------------------------------------------------------
# All networks
# ---------------------------------------------------------------------------------------------


def check(operator: Operator) -> None:
    again = Operator.from_dict(json.loads(json.dumps(operator.to_dict())))
    assert again == operator and hash(again) == hash(operator) and str(again) == str(operator)


@pytest.mark.parametrize("name", list_archs())
def test_every_layer_of_the_zoo_has_an_operator(name: str) -> None:
    arch = get_arch(name)
    places = list(arch_operators(arch))
    layers = list(arch.layers())
    assert [place for place, _ in places[: len(layers)]] == [f"{layer.part}.{layer.index}" for layer in layers]
    assert [place for place, _ in places[len(layers) :]] == ([] if arch.head is None else ["head.fc"])
    for (_, operator), layer in zip(places, layers):
        assert (operator.op, operator.input) == (layer.block.op, layer.input)
        assert dict(operator.fields)["out"] == layer.output.channels
        check(operator)
    if arch.head is not None:
        assert places[-1][1] == classifier_of(arch.head.num_classes, layers[-1].output)
        check(places[-1][1])


V3 = load_space("fbnet_v3")
points = st.tuples(*(st.integers(0, len(variable.choices) - 1) for variable in V3.variables))
sides = st.none() | st.integers(1, 300) | st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(points, sides)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_operators_of_fbnet_v3_networks_survive_a_file(point: Any, resolution: Any) -> None:
    for _, operator in arch_operators(V3.arch(point), resolution):
        check(operator)


def test_a_network_that_does_not_fit() -> None:
    with pytest.raises(ArchError, match="resolution: got 0, expected an integer from 1"):
        list(arch_operators(get_arch("fbnet_a"), 0))


# ---------------------------------------------------------------------------------------------
# Rows with something wrong in them
# ---------------------------------------------------------------------------------------------

ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"op": "conv2d"}, "op: got 'conv2d', expected one of conv, mb, skip, fused, pool, classifier"),
    ({"op": None}, "op: got None, expected one of"),
    ({"op": ["mb"]}, "op: got ['mb'], expected one of"),
    ({"input": [16, 56]}, "input: got [16, 56], expected [channels, height, width]"),
    ({"input": [16, 56, 0]}, "input: got [16, 56, 0]"),
    ({"input": [16, 56, 56.0]}, "input: got [16, 56, 56.0]"),
    ({"input": "16x56x56"}, "input: got '16x56x56'"),
    ({"kernal": 3}, "kernal: unknown key of mb, expected one of kernel, stride, mid, out, groups"),
    ({"op": "skip"}, "kernel: unknown key of skip, expected one of stride, out"),
    ({"project": True}, "project: unknown key of mb"),
    ({"kernel": 3.0}, "kernel: got 3.0, expected an integer of at least 1"),
    ({"kernel": 0}, "kernel: got 0, expected an integer of at least 1"),
    ({"mid": True}, "mid: got True, expected an integer of at least 1"),
    ({"pad": -1}, "pad: got -1, expected an integer of at least 0"),
    ({"act": "gelu"}, "act: got 'gelu', expected one of relu, relu6, hswish, swish"),
    ({"act": ["relu"]}, "act: got ['relu'], expected one of relu"),
    ({"expand": 1}, "expand: got 1, expected true or false"),
    ({"se": 8}, "gate: is missing, an operator mb needs kernel, mid, out, act"),
]


@pytest.mark.parametrize("change, message", ERRORS)
def test_errors_say_what_is_accepted(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LatencyError) as caught:
        Operator.from_dict({**operator_of(MB, MAP).to_dict(), **change})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("key", ["kernel", "mid", "out", "act"])
def test_nothing_may_be_missing(key: str) -> None:
    row = operator_of(MB, MAP).to_dict()
    del row[key]
    with pytest.raises(LatencyError, match=f"^{key}: is missing, an operator mb needs kernel, mid, out, act$"):
        Operator.from_dict(row)
