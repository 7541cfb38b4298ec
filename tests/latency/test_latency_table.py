"""Looking up: sums by hand, many networks at once, per layer and candidate, and what is missing."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from small_spaces import space_of
from tables import SETTING, table_of, us_of

from fbnet_plugin.arch import (
    ArchError,
    ArchSpec,
    ConvSpec,
    HeadSpec,
    SkipSpec,
    StageSpec,
    get_arch,
    list_archs,
    load_space,
)
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Operator, arch_operators
from fbnet_plugin.latency.coverage import space_operators

FBNET, V3 = load_space("fbnet"), load_space("fbnet_v3")
ZOO = [get_arch(name) for name in list_archs()]


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    """All operators of both spaces and of the zoo."""
    operators = [*space_operators(FBNET), *space_operators(V3)]
    return table_of([*operators, *(operator for arch in ZOO for _, operator in arch_operators(arch))], constant_us=7.5)


# ---------------------------------------------------------------------------------------------
# One architecture
# ---------------------------------------------------------------------------------------------

NET = ArchSpec("net", 8, (StageSpec((ConvSpec(4, stride=2), SkipSpec(4, repeat=2))),), HeadSpec((), 10))
CONV = Operator("conv", (3, 8, 8), (("kernel", 3), ("stride", 2), ("out", 4), ("act", "relu")))
SKIP = Operator("skip", (4, 4, 4), (("out", 4),))
CLASSIFIER = Operator("classifier", (4, 4, 4), (("out", 10),))


def test_a_sum_by_hand() -> None:
    entries = {CONV: Entry(30.0, 1.0, 50), SKIP: Entry(0.25), CLASSIFIER: Entry(4.0)}
    latency = LatencyTable(SETTING, entries, constant_us=100.0).latency(NET)
    assert latency.total_us == 30.0 + 2 * 0.25 + 4.0 + 100.0 and latency.constant_us == 100.0
    assert [(place, operator, entry.us) for place, operator, entry in latency.layers] == [
        ("stages[0].0", CONV, 30.0), ("stages[0].1", SKIP, 0.25), ("stages[0].2", SKIP, 0.25),
        ("head.fc", CLASSIFIER, 4.0),
    ]  # fmt: skip
    assert latency.layers[0].entry == Entry(30.0, 1.0, 50)


def test_a_body_without_head_has_no_classifier() -> None:
    table = LatencyTable(SETTING, {CONV: Entry(30.0), SKIP: Entry(-1.0)})
    body = dataclasses.replace(NET, head=None)
    assert table.latency(body).total_us == table.latencies([body])[0] == 28.0


@pytest.mark.parametrize("arch", ZOO, ids=lambda arch: arch.name)
def test_every_layer_of_the_zoo_is_counted(arch: ArchSpec, table: LatencyTable) -> None:
    latency = table.latency(arch)
    assert len(latency.layers) == len(list(arch.layers())) + (arch.head is not None)
    expected = 7.5 + math.fsum(us_of(layer.operator) for layer in latency.layers)
    assert latency.total_us == pytest.approx(expected, rel=1e-12)


def test_another_resolution() -> None:
    arch = get_arch("fbnet_a")
    table = table_of(operator for size in (96, (96, 64)) for _, operator in arch_operators(arch, size))
    assert table.latency(arch, 96).total_us == pytest.approx(table.latencies([arch], 96)[0])
    assert table.latency(arch, 96).total_us != table.latency(arch, (96, 64)).total_us
    distinct = {operator for _, operator in arch_operators(arch)}
    with pytest.raises(LatencyError, match=f"lacks {len(distinct)} operators"):
        table.latency(arch)
    with pytest.raises(ArchError, match="resolution: got 0"):
        table.latency(arch, 0)


# ---------------------------------------------------------------------------------------------
# Many at once
# ---------------------------------------------------------------------------------------------


def test_latencies_are_those_of_one_at_a_time(table: LatencyTable) -> None:
    rng = np.random.default_rng(0)
    archs = [space.arch(point) for space in (FBNET, V3) for point in space.sample(150, rng)] + ZOO
    archs = [archs[place] for place in rng.permutation(len(archs))]
    latencies = table.latencies(archs)
    assert latencies.shape == (len(archs),) and latencies.dtype == np.float64
    np.testing.assert_allclose(latencies, [table.latency(arch).total_us for arch in archs], rtol=1e-12)
    assert len(np.unique(latencies)) > 340  # published twins apart, no two of them are alike


def test_architectures_that_are_gone_do_not_haunt_the_sum(table: LatencyTable) -> None:
    """Objects are known by their id, which Python gives to the next object once the first is gone."""
    base = get_arch("fbnet_a")
    fresh = (dataclasses.replace(base.map_blocks(dataclasses.replace)) for _ in range(50))
    other = (get_arch("fbnet_b").map_blocks(dataclasses.replace) for _ in range(50))
    mixed = [arch for pair in zip(fresh, other) for arch in pair]
    expected = [table.latency(base).total_us, table.latency(get_arch("fbnet_b")).total_us]
    np.testing.assert_allclose(table.latencies(mixed), expected * 50, rtol=1e-12)


def test_no_architectures(table: LatencyTable) -> None:
    assert table.latencies([]).shape == (0,)


def test_twenty_thousand_architectures_take_two_seconds(table: LatencyTable) -> None:
    archs = [V3.arch(point) for point in V3.sample(20_000, np.random.default_rng(1))]
    start = time.process_time()
    latencies = table.latencies(archs)
    assert time.process_time() - start < 4  # on a busy machine
    assert np.isfinite(latencies).all() and latencies.std() > 100


# ---------------------------------------------------------------------------------------------
# Per layer and candidate
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [None, 96, (64, 128)])
def test_the_matrix_adds_up_to_the_latencies(resolution) -> None:
    table = table_of(space_operators(FBNET, resolution), constant_us=50.0)
    matrix = table.matrix(FBNET, resolution)
    assert matrix.us.shape == (22, 9) and matrix.variables[21] == "layer22"
    points = FBNET.sample(100, np.random.default_rng(2))
    summed = matrix.us[np.arange(22), points].sum(1) + matrix.fixed_us
    np.testing.assert_allclose(summed, table.latencies([FBNET.arch(point) for point in points], resolution), rtol=1e-12)


def test_a_matrix_of_unequal_rows() -> None:
    mb = {"op": "mb", "kernel": "$k", "out": 8}
    rows = [{"op": "conv", "out": 8}, {**mb, "repeat": 2}, {"op": "conv", "out": 8, "act": "$act"}]
    space = space_of({"k": [3, 5, 7], "act": ["relu", "hswish"]}, stages=[rows])
    table = table_of(space_operators(space))
    matrix = table.matrix(space)
    assert matrix.us.shape == (2, 3) and np.isnan(matrix.us).tolist() == [[False] * 3, [False, False, True]]
    latency = table.latency(space.arch([2, 1]))
    assert matrix.us[0, 2] == 2 * latency.layers[1].entry.us and matrix.fixed_us == latency.layers[0].entry.us


def test_the_matrix_of_a_space_that_is_no_sum(table: LatencyTable) -> None:
    with pytest.raises(
        ArchError, match="fbnet_v3.variables.resolution: changes the number of layers or the input shape"
    ):
        table.matrix(V3)


# ---------------------------------------------------------------------------------------------
# What is missing
# ---------------------------------------------------------------------------------------------


def message_of(table: LatencyTable, archs: list[ArchSpec], resolution=None) -> list[str]:
    with pytest.raises(LatencyError) as caught:
        table.latencies(archs, resolution)
    return str(caught.value).split("\n")


def test_one_missing_operator_is_named_with_the_command_that_measures_it() -> None:
    arch = get_arch("fbnet_c")
    operators = [operator for _, operator in arch_operators(arch)]
    table = table_of(operators[:-1], file="my tables/cpu.json")
    expected = [
        "my tables/cpu.json lacks 1 operator:",
        "  classifier out=1000 on 1984x7x7",
        "measure them with:",
        "  python tools/benchmark_latency.py --arch fbnet_c --device cpu --runtime eager --threads 2 --batch-size 1"
        " --dtype float32 --output 'my tables/cpu.json'",
    ]
    assert message_of(table, [arch]) == expected
    with pytest.raises(LatencyError) as caught:
        table.latency(arch)
    assert str(caught.value).split("\n") == expected


def test_many_missing_operators_are_counted_once_each() -> None:
    channels_last = dataclasses.replace(SETTING, channels_last=True, threads=1)
    points = [[0] * 22, [0] * 21 + [7], [3] * 22]
    lines = message_of(table_of([], setting=channels_last), [FBNET.arch(point) for point in points], 96)
    missing = {operator for point in points for _, operator in arch_operators(FBNET.arch(point), 96)}
    assert lines[0] == f"the table of Ryzen 5 lacks {len(missing)} operators:" and len(set(lines[1:9])) == 8
    assert lines[9] == f"  and {len(missing) - 8} more"
    assert lines[11] == (
        "  python tools/benchmark_latency.py --space fbnet --resolution 96 --device cpu --runtime eager --threads 1"
        " --batch-size 1 --dtype float32 --channels-last --output TABLE.json"
    )


def test_the_command_covers_all_that_lack_something() -> None:
    mine = dataclasses.replace(NET, name="my net")
    archs = [get_arch("fbnet_b"), V3.arch([0] * 35), mine, get_arch("fbnet_a"), NET]
    table = table_of([operator for _, operator in arch_operators(NET, (64, 32))])
    command = message_of(table, archs, (64, 32))[-1]
    assert "latency.py --space fbnet_v3 --arch fbnet_a fbnet_b --resolution 64 32 --device" in command
    assert " --space fbnet_v3 --resolution 224 --device" in message_of(table, archs[1:2])[-1]
    larger = V3.arch([1] + [0] * 34)
    assert " --space fbnet_v3 --device" in message_of(table, [*archs[1:2], larger])[-1]
    table = table_of([operator for arch in archs[:2] for _, operator in arch_operators(arch)])
    assert " --arch fbnet_a 'my net.yaml' net.yaml --device" in message_of(table, archs)[-1]


def test_the_matrix_names_the_space() -> None:
    with pytest.raises(LatencyError, match=r"lacks 111 operators:(.|\n)* --space fbnet --resolution 192 --device cpu"):
        table_of([]).matrix(FBNET, 192)
    small = space_of({"k": [3, 5]}, stages=[[{"op": "conv", "kernel": "$k", "out": 8}]])
    with pytest.raises(LatencyError, match=r"lacks 2 operators:(.|\n)* --space small.yaml --device cpu"):
        table_of([]).matrix(small)


def test_a_fitted_table_is_not_to_be_measured_into() -> None:
    fitted = dataclasses.replace(SETTING, device="raspi4", runtime="TFLite", threads=None, method="fit")
    lines = message_of(table_of([], setting=fitted, file="raspi4.json"), [NET])
    assert lines[-2] == "on that device, measure a table that has them with:"
    assert lines[-1].endswith("--arch net.yaml --batch-size 1 --dtype float32 --output TABLE.json")
