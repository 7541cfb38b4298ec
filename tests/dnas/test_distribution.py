"""P_theta and its file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small_searches import BLOCKS, distribution_of, points_of, space_of, table_of

import fbnet_plugin
from fbnet_plugin.arch import SearchSpace, get_arch, load_space, scale_space
from fbnet_plugin.arch.space import Variable
from fbnet_plugin.dnas.candidates import candidate_names
from fbnet_plugin.dnas.distribution import Distribution, inverse_cdf
from fbnet_plugin.dnas.distribution_file import load_distribution, save_distribution
from fbnet_plugin.dnas.errors import SearchError

FBNET = load_space("fbnet")
FBNET_A = (8, 2, 0, 8, 8, 7, 2, 4, 2, 7, 6, 5, 7, 3, 5, 6, 1, 7, 7, 6, 7, 7)
FIELDS = [field.name for field in dataclasses.fields(Distribution) if field.name != "space"]


def assert_equal(one: Distribution, other: Distribution) -> None:
    for key in FIELDS:
        assert getattr(one, key) == getattr(other, key), key
    assert (one.space.name, one.space.variables) == (other.space.name, other.space.variables)
    assert one.space.template == other.space.template


# ---------------------------------------------------------------------------------------------
# Probabilities and latencies
# ---------------------------------------------------------------------------------------------


def test_probabilities_by_hand() -> None:
    theta = [[0.0, math.log(3.0)], [1.0, 1.0, 1.0 + math.log(2.0)]]
    one = Distribution(space_of([2, 3]), theta, [[10.0, 20.0], [1.0, 2.0, 4.0]], 100.0)
    np.testing.assert_allclose(one.probabilities()[0], [0.25, 0.75], rtol=1e-15)
    np.testing.assert_allclose(one.probabilities()[1], [0.25, 0.25, 0.5], rtol=1e-15)
    assert one.log_prob([1, 2]) == pytest.approx(math.log(0.375), rel=1e-14)
    assert one.argmax() == (1, 2)
    assert one.latency_us_of((0, 2)) == 114.0
    assert one.expected_latency_us() == pytest.approx(100 + 17.5 + 2.75, rel=1e-14)
    expected = [0.25 * math.log(4) + 0.75 * math.log(4 / 3), math.log(4) / 2 + math.log(2) / 2]
    np.testing.assert_allclose(one.entropy(), expected, rtol=1e-14)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from([0, 0.3, 3, 30]))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_probabilities_sum_to_one(seed: int, sizes: list[int], scale: float) -> None:
    one = distribution_of(seed, sizes, scale)
    points = list(points_of(one))
    p = [math.exp(one.log_prob(point)) for point in points]
    assert math.fsum(p) == pytest.approx(1, abs=1e-12)
    assert one.log_prob(one.argmax()) == pytest.approx(math.log(max(p)))
    mean = math.fsum(a * one.latency_us_of(point) for a, point in zip(p, points))
    assert one.expected_latency_us() == pytest.approx(mean, rel=1e-12)
    assert one.entropy().sum() == pytest.approx(-math.fsum(a * math.log(a) for a in p if a), abs=1e-10)


def test_extreme_theta() -> None:
    one = Distribution(space_of([3, 2]), [[1e300, -1e300, 0.0], [-1e4, -1e4 - 800]])
    assert [row.tolist() for row in one.probabilities()] == [[1.0, 0.0, 0.0], [1.0, 0.0]]
    assert one.log_prob([0, 1]) == -800 and one.log_prob([1, 0]) == -2e300
    assert one.entropy().tolist() == [0.0, 0.0] and one.argmax() == (0, 0)
    assert set(map(tuple, one.sample(100, np.random.default_rng(0)).tolist())) == {(0, 0)}


def test_samples_follow_the_probabilities() -> None:
    one = distribution_of(4, [3, 2, 4])
    drawn = one.sample(20_000, np.random.default_rng(1))
    assert drawn.shape == (20_000, 3) and drawn.dtype == np.int64
    points = list(points_of(one))
    counts = [int((drawn == point).all(axis=1).sum()) for point in points]
    expected = np.exp([one.log_prob(point) for point in points])
    assert sum(counts) == 20_000 and chisquare(counts, expected / expected.sum() * 20_000).pvalue > 0.01
    assert (one.sample(50, np.random.default_rng(1)) == one.sample(50, np.random.default_rng(1))).all()
    assert one.sample(0, np.random.default_rng(1)).shape == (0, 3)


def test_a_weight_of_zero_is_never_drawn() -> None:
    """Not at either end of the unit interval, where a comparison is an equality or a sum is rounded."""
    weights = np.array([[0.0, 0.1, 0.0, 0.7, 0.2, 0.0]])
    uniform = np.array([0.0, 0.05, 0.1 / weights.sum(), 0.5, 0.85, 1 - 2**-53])
    assert inverse_cdf(weights, uniform).tolist() == [1, 1, 3, 3, 4, 4]
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [1e-300, 0.0]])
    assert inverse_cdf(rows, np.array([0.0, 1 - 2**-53, 0.3])).tolist() == [1, 0, 0]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_latencies_are_those_of_the_table(seed: int, sizes: list[int]) -> None:
    space = space_of(sizes)
    table = table_of(space)
    one = Distribution(space, [[0.0] * size for size in sizes]).with_table(table)
    (point,) = space.sample(1, np.random.default_rng(seed))
    assert one.latency_us_of(point) == pytest.approx(table.latency(space.arch(point)).total_us, rel=1e-12)
    assert one.latency_table == {"file": "table.json", "digest": table.digest()}


def test_fbnet_a_is_a_point() -> None:
    one = Distribution(FBNET, [[5.0 * (i == choice) for i in range(9)] for choice in FBNET_A])
    assert one.argmax() == FBNET_A
    arch = one.arch(FBNET_A, "again")
    assert arch.stages == get_arch("fbnet_a").stages and arch.name == "again"
    names = [labels[choice] for labels, choice in zip(candidate_names(FBNET), FBNET_A)]
    assert names[:6] == ["skip", "k3_e3", "k3_e1", "skip", "skip", "k5_e6"] and names[16] == "k3_e1_g2"
    small = dataclasses.replace(one, resolution=96).arch(FBNET_A)
    assert (small.resolution, small.stages, small.cost().macs) == (96, arch.stages, arch.cost(96).macs)


def test_another_table_forgets_the_target() -> None:
    space = space_of([3, 3])
    table = table_of(space)
    one = dataclasses.replace(Distribution(space, [[0.0] * 3] * 2).with_table(table), target_us=200.0)
    assert one.with_table(table).target_us == 200.0
    table.constant_us += 1
    other = one.with_table(table)
    assert other.target_us is None and other.latency_us_of([0, 0]) == pytest.approx(one.latency_us_of([0, 0]) + 1)


@pytest.mark.parametrize("point", [[0], [0, 3], [0, -1], [0.0, 1.0], [[0, 1]], ["a", "b"], [True, False]])
def test_what_is_no_point(point: Any) -> None:
    one = distribution_of(0, [3, 3])
    for call in (one.log_prob, one.latency_us_of, one.arch):
        with pytest.raises(SearchError, match="^point: "):
            call(point)


def test_without_latencies() -> None:
    one = Distribution(space_of([2]), [[0.0, 1.0]])
    for call in (one.expected_latency_us, lambda: one.latency_us_of([0])):
        with pytest.raises(SearchError, match="has no latencies"):
            call()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"theta": [[0.0, 1.0]]}, "theta: expected 2 layers, as small has variables"),
        ({"theta": [[0.0, 1.0], [0.0]]}, "layers[1].theta: got [0.0], expected 3 numbers"),
        ({"theta": [[0.0, math.nan], [0.0] * 3]}, "layers[0].theta: got nan, expected a finite number"),
        ({"theta": [[0.0, True], [0.0] * 3]}, "layers[0].theta: got True, expected a finite number"),
        ({"latency_us": [[0.0, math.inf], [0.0] * 3]}, "layers[0].latency_us: got inf, expected a finite number"),
        ({"latency_us": None}, "latency_us: is missing beside fixed_us, expected both or neither"),
        ({"fixed_us": None}, "fixed_us: is missing beside latency_us, expected both or neither"),
        ({"epoch": -1}, "epoch: got -1, expected an integer from 0"),
        ({"iteration": 1.5}, "iteration: got 1.5, expected an integer from 0"),
        ({"temperature": 0}, "temperature: got 0, expected a finite number above 0"),
        ({"resolution": 0}, "resolution: got 0, expected an integer from 1 to 8192"),
        ({"target_us": -3}, "target_us: got -3, expected a finite number above 0"),
        ({"latency_table": {"file": "a"}}, "latency_table: got {'file': 'a'}, expected a mapping of file and digest"),
        ({"space": space_of([])}, "space: small has no variables"),
    ],
)
def test_bad_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        dataclasses.replace(distribution_of(0, [2, 3]), **change)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------


def test_names_are_those_of_table_2() -> None:
    names = ["k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"]
    assert candidate_names(FBNET) == candidate_names(scale_space(FBNET, 0.35, 96)) == [names] * 22


def test_names_tell_all_choices_apart() -> None:
    se = {"gate": "sigmoid", "width": "input", "ratio": 0.25}
    blocks = [
        {"op": "mb", "kernel": 3, "expansion": 0.75, "se": se},
        {"op": "mb", "kernel": 3, "expansion": 0.75},
        {"op": "mb", "kernel": 3, "expansion": 6, "repeat": 2, "cascade": 2},
        {"op": "mb", "kernel": 5, "act": "relu"},
        {"op": "mb", "kernel": 5, "act": "hswish"},
        {"op": "skip"},
        {"op": "skip"},
        {"op": "fused", "kernel": 3, "expansion": 4},
        {"op": "mb", "kernel": 7, "se": se},
        {"op": "mb", "kernel": 7, "se": {**se, "gate": "hsigmoid"}},
    ]
    assert candidate_names(space_of([10], blocks)) == [
        [
            "k3_e0.75_se", "k3_e0.75", "k3_e6_x2_r2", "k5_e1_act_relu", "k5_e1_act_hswish", "skip", "skip_2",
            "fused_k3_e4", "k7_e1_se_se_sigmoid_input_0.25", "k7_e1_se_se_hsigmoid_input_0.25",
        ]
    ]  # fmt: skip


def test_names_of_fbnet_v3() -> None:
    space = load_space("fbnet_v3")
    names = dict(zip([variable.name for variable in space.variables], candidate_names(space)))
    assert names["resolution"] == ["224", "232", "240", "248", "256", "264", "272"]
    assert names["n1"] == ["k3_e1", "k3_e1_r2", "k3_e1_r3", "k3_e1_r4"]
    assert names["k3_first"] == ["k3_e4_se", "k5_e4_se"]
    assert names["c2"] == ["k3_e4_out20", "k3_e4_out24", "k3_e4_out28", "k3_e4_out32"]
    assert all(len(set(labels)) == len(labels) for labels in names.values())


def test_names_of_values_that_are_no_blocks() -> None:
    template = {"resolution": "$px", "stages": [[{"op": "conv", "out": 8}]], "head": {"blocks": [{"use": "$last"}]}}
    last = [{"op": "conv", "out": 8}, {"op": "conv", "out": 16}]
    space = SearchSpace("odd", [Variable("px", (32, 32, "32_2")), Variable("last", tuple(last))], template)
    assert candidate_names(space) == [["32", "32_3", "32_2"], ["choice0", "choice1"]]


# ---------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------


def complete() -> Distribution:
    return dataclasses.replace(
        distribution_of(7, [2, 4]),
        resolution=48,
        epoch=3,
        iteration=1234,
        temperature=5 * math.exp(-0.045 * 3),
        latency_table={"file": "über.json", "digest": "0123abcd"},
        target_us=1 / 3,
    )


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), min_size=1, max_size=5), st.floats(1e-300, 1e6))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int], scale: float) -> None:
    path = tmp_path_factory.getbasetemp() / "d.json"
    one = distribution_of(seed, sizes, scale)
    save_distribution(one, path)
    assert_equal(load_distribution(path), one)


@pytest.mark.parametrize("space", [FBNET, scale_space(FBNET, 0.35, 96), load_space("fbnet_v3")])
def test_round_trip_of_spaces(space: SearchSpace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = Distribution(space, [rng.normal(size=len(variable.choices)) for variable in space.variables])
    save_distribution(one, tmp_path / "new" / "d.json")
    again = load_distribution(tmp_path / "new" / "d.json")
    assert_equal(again, one)
    for point in one.sample(5, rng):
        assert again.arch(point) == one.arch(point)


def test_the_file(tmp_path: Path) -> None:
    one = complete()
    save_distribution(one, tmp_path / "d.json")
    assert_equal(load_distribution(tmp_path / "d.json"), one)
    data = json.loads((tmp_path / "d.json").read_text())
    assert set(data) == {
        "format", "space", "resolution", "layers", "fixed_us", "epoch", "iteration", "temperature", "latency_table",
        "target_us",
    }  # fmt: skip
    assert data["format"] == "fbnet_plugin distribution 1"
    assert data["layers"][0] == {
        "variable": "layer1",
        "candidates": ["skip", "k3_e1"],
        "theta": list(one.theta[0]),
        "probability": one.probabilities()[0].tolist(),
        "latency_us": list(one.latency_us[0]),
    }
    assert data["space"]["variables"]["layer1"] == {"choices": BLOCKS[:2]} and len(data["layers"]) == 2


def changed(data: Any, path: str, value: Any) -> None:
    """Sets a place such as "layers.0.theta"; with ``...`` removes it."""
    *outer, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in outer:
        data = data[key]
    if value is ...:
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("format", "fbnet_plugin distribution 2", "format: got 'fbnet_plugin distribution 2', expected 'fbnet_plugin"),
        ("format", ..., "format: got None, expected 'fbnet_plugin distribution 1'"),
        ("tau", 1, "tau: unknown key, expected one of format, resolution, epoch"),
        ("epoch", ..., "epoch: is missing"),
        ("epoch", "last", "epoch: got 'last', expected an integer"),
        ("layers", {}, "layers: got {}, expected a list of 2, as the space has variables"),
        ("layers.1", ..., "layers: got 1 layers, expected a list of 2"),
        ("layers.1", [], "layers[1]: got [], expected a mapping"),
        ("layers.1.theta", ..., "layers[1].theta: is missing"),
        ("layers.1.theta", [0.0], "layers[1].theta: got [0.0], expected 4 numbers"),
        ("layers.1.theta", "abcd", "layers[1].theta: got 'abcd', expected 4 numbers"),
        ("layers.1.theta.0", "0.5", "layers[1].theta: got '0.5', expected a finite number"),
        ("layers.1.theta.0", 99.0, "layers[1].probability: got [0."),
        ("layers.1.variable", "layer9", "layers[1].variable: got 'layer9', expected 'layer2', as in the space"),
        ("layers.0.candidates", ["k3_e1", "skip"], "expected ['skip', 'k3_e1'], as in the space"),
        ("layers.0.latency_us", None, "layers[0].latency_us: got None, expected 2 numbers"),
        ("fixed_us", None, "fixed_us: is missing beside latency_us"),
        ("space", [], "space: got [], expected a mapping with name, variables and architecture"),
        ("space.variables.layer1", {"choices": []}, "space.variables.layer1: 0 choices, expected 1 to 1000"),
        ("space.variables.layer1.choices.0", {"op": "jump"}, "space.architecture.stages[0].blocks[1].op: got 'jump'"),
        ("space.architecture.resolution", 0, "space.architecture.resolution: got 0, expected an integer"),
        ("target_us", [], "target_us: got [], expected a finite number above 0"),
    ],
)
def test_damaged_files(path: str, value: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    save_distribution(complete(), file)
    data = json.loads(file.read_text())
    changed(data, path, value)
    file.write_text(json.dumps(data))
    with pytest.raises(SearchError) as caught:
        load_distribution(file)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a distribution (Expecting value"),
        (b"{\x00\xff}", "not a distribution ("),
        (b"[" * 100_000, "not a distribution (maximum recursion"),
        (b"[1, 2]", "format: got [1, 2], expected"),
        (b'{"format": NaN}', "not a distribution (NaN is not JSON)"),
        (b'{"format": "fbnet_plugin latency table"}', "format: got 'fbnet_plugin latency table', expected"),
    ],
)
def test_foreign_files(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(content)
    with pytest.raises(SearchError) as caught:
        load_distribution(tmp_path / "d.json")
    assert message in str(caught.value)


def test_missing_and_cut_files(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"no\.json: No such file"):
        load_distribution(tmp_path / "no.json")
    with pytest.raises(SearchError, match="Is a directory"):
        load_distribution(tmp_path)
    save_distribution(complete(), tmp_path / "d.json")
    whole = (tmp_path / "d.json").read_bytes()
    for end in range(0, len(whole) - 2, 97):
        (tmp_path / "d.json").write_bytes(whole[:end])
        with pytest.raises(SearchError, match="not a distribution"):
            load_distribution(tmp_path / "d.json")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.json"
    save_distribution(complete(), path)
    before = path.read_bytes()
    space = SearchSpace("odd", [Variable("a", ({1},))], {"resolution": 32, "stages": [[{"op": "conv", "out": 8}]]})
    with pytest.raises(SearchError, match="JSON cannot hold .* of type set"):
        save_distribution(Distribution(space, [[0.0]]), path)

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_distribution(distribution_of(1, [3]), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["d.json"]


def test_reading_needs_neither_torch_nor_detectron2(tmp_path: Path) -> None:
    save_distribution(complete(), tmp_path / "d.json")
    package = str(Path(fbnet_plugin.__file__).parent)
    script = f"""
import os, sys, types
for name in ("torch", "torchvision", "detectron2", "fvcore", "iopath"):
    sys.modules[name] = None
for name in ("fbnet_plugin", "fbnet_plugin.dnas", "fbnet_plugin.engine"):  # what their __init__.py imports is their own
    module = types.ModuleType(name)
    module.__path__ = [os.path.join({package!r}, *name.split(".")[1:])]
    sys.modules[name] = module
import numpy as np
from fbnet_plugin.dnas.distribution_file import load_distribution
from fbnet_plugin.dnas.sampling import most_probable, sample_architectures
one = load_distribution({str(tmp_path / "d.json")!r})
assert most_probable(one, 0, 1e9) == one.argmax()
print(len(sample_architectures(one, 3, np.random.default_rng(0))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
