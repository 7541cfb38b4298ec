"""How many networks a fit needs, and the benchmark that prints it."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from fbnet_plugin.arch import load_space
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Setting
from fbnet_plugin.latency.fit import fit_table
from fbnet_plugin.latency.fit_curve import CurvePoint, learning_curve, networks_needed
from fbnet_plugin.latency.fit_design import Design
from fbnet_plugin.latency.fit_score import FitScore

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "latency_fit.py"
SETTING = Setting(device="phone", processor="some phone", runtime="some runtime")


@pytest.fixture(scope="module")
def measured():
    """The space, a table without rhyme or reason, 260 networks and their exact times."""
    space = load_space("fbnet_cifar")
    design, rng = Design.of(space), np.random.default_rng(0)
    us = np.where(design.identity, 0.0, rng.lognormal(5, 0.5, len(design.operators)))
    points = space.sample(260, rng)
    entries = {operator: Entry(value) for operator, value in zip(design.operators, us)}
    table = LatencyTable(SETTING, {**entries, **dict.fromkeys(design.fixed, Entry(1000.0))})
    return space, table, points, 3000 + design.counts(points) @ us


def test_more_networks_are_better_and_a_prior_saves_them(measured):
    space, table, points, us = measured
    data = (space, points[:200], us[:200], points[200:], us[200:])
    curve = learning_curve(*data, sizes=(20, 60, 160), repeats=3, features=False)
    assert [point.networks for point in curve] == [20, 60, 160]
    assert curve[0].spearman < curve[1].spearman < curve[2].spearman and curve[2].r2 > 1 - 1e-6
    assert networks_needed(curve, 0.999) == 160
    known = learning_curve(*data, sizes=(20, 60), repeats=3, features=False, prior=table)
    assert networks_needed(known, 0.999) == 20


def test_curve_is_that_of_fit_table(measured):
    space, _, points, us = measured
    (point,) = learning_curve(space, points[:50], us[:50], points[200:], us[200:], sizes=[50], repeats=1)
    score = fit_table(space, points[:50], us[:50], setting=SETTING).score(points[200:], us[200:])
    assert point.spearman == pytest.approx(score.spearman) and point.r2 == pytest.approx(score.r2)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(sizes=[2]), "sizes: got 2, expected 3 to 30"),
        (dict(sizes=[31]), "sizes: got 31, expected 3 to 30"),
        (dict(repeats=0), "repeats: got 0"),
        (dict(test_latencies_us=[1.0]), r"latencies: got shape \(1,\)"),
        (dict(latencies_us=np.zeros(30)), r"latencies\[0\]: got 0 µs"),
    ],
)
def test_bad_requests(measured, change, message):
    space, _, points, us = measured
    request = dict(latencies_us=us[:30], test_points=points[30:40], test_latencies_us=us[30:40], sizes=[10])
    with pytest.raises(LatencyError, match=message):
        learning_curve(space, points[:30], **{**request, **change})


@pytest.mark.parametrize(
    "scores, needed",
    [
        ((0.9, 0.96, 0.94, 0.95, 0.99), 40),  # not 20: it falls below again
        ((0.96, 0.97, 0.98, 0.99, 0.99), 10),
        ((0.9, 0.96, 0.94, 0.96, 0.94), None),
        ((0.99, 0.99, 0.99, 0.99, math.nan), None),
    ],
)
def test_networks_needed(scores, needed):
    curve = [CurvePoint(n, score, 0.0) for n, score in zip((10, 20, 30, 40, 50), scores)]
    assert networks_needed(curve[::-1]) == networks_needed(curve) == needed
    assert networks_needed([]) is None


def test_score():
    score = FitScore.of(np.array([100.0, 200.0, 400.0, 300.0]), np.array([110.0, 180.0, 400.0, 410.0]))
    assert score.r2 == pytest.approx(1 - (100 + 400 + 12100) / 50000)
    assert score.mape == pytest.approx((10 + 10 + 0 + 110 / 3) / 4)
    assert score.rmse_us == pytest.approx(math.sqrt(12600 / 4))
    assert (score.networks, score.spearman, score.kendall) == (4, pytest.approx(0.8), pytest.approx(2 / 3))
    tied = FitScore.of(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert tied.spearman == pytest.approx(math.sqrt(3) / 2)
    assert math.isnan(FitScore.of(np.ones(3), np.ones(3)).spearman)


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("latency_fit", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_benchmark(benchmark, measured, tmp_path, capsys):
    space, table, points, us = measured
    with open(tmp_path / "ms.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_id", "ops", "here_1", "there_32"])
        for number, (point, one) in enumerate(zip(points, us)):
            writer.writerow([number, "".join(map(str, point)), f"{one / 1e3:.6f}", f"{one / 4e3:.6f}"])
    matrix = table.matrix(space).us
    with open(tmp_path / "known.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "kind", "layer", *(f"candidate{choice}" for choice in range(8))])
        for layer, row in enumerate(matrix - matrix[:, 8:]):
            writer.writerow(["here_1", "layer", layer, *(f"{value / 1e3:.6f}" for value in row[:8])])
    arguments = ["--data", str(tmp_path / "ms.csv"), "--sizes", "20", "150", "--repeats", "1"]
    benchmark.main([*arguments, "--reference", str(tmp_path / "known.csv")])
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads(lines[-1])
    assert (figures["train"], figures["test"]) == (208, 52)
    here = figures["devices"]["here_1"]
    assert here["r2"] > 0.99999 and here["prior"] == "there_32"
    assert here["networks_needed"] == {"alone": 150, "features": 150, "prior": 20, "both": 20}
    assert figures["largest_difference_to_reference_ms"]["here_1"] < 1e-4
    assert figures["largest_difference_to_reference_ms"]["there_32"] is None
    (row,) = (line for line in lines if line.startswith("there_32"))
    assert row.split()[1] == "1.00000" and row.split()[-1] == "here_1"


def test_benchmark_names_what_is_missing(benchmark, tmp_path, capsys):
    (tmp_path / "ms.csv").write_text("ops,phone\n" + "0" * 22 + ",3.5\n")
    with pytest.raises(SystemExit) as exit:
        benchmark.main(["--data", str(tmp_path / "ms.csv"), "--devices", "tablet"])
    assert exit.value.code == 2 and "no column tablet" in capsys.readouterr().err
