"""A measurement from request to table: coverage, medians, drift, interruption, refusals."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from small_spaces import space_of

from fbnet_plugin.arch import ArchSpec, SearchSpace
from fbnet_plugin.latency import LatencyError, arch_operators, load_table
from fbnet_plugin.latency.measure import campaign as module
from fbnet_plugin.latency.measure import validation as validation_module
from fbnet_plugin.latency.measure.campaign import Campaign, Schedule
from fbnet_plugin.latency.measure.options import Options
from fbnet_plugin.latency.measure.reference import Reference, quieter_half, usual
from fbnet_plugin.latency.measure.request import Request, measure, open_table
from fbnet_plugin.latency.measure.validation import Validation, validate

BLOCKS = [{"op": "mb", "kernel": 3, "expansion": 2}, {"op": "mb", "kernel": 5, "expansion": 4}, {"op": "skip"}]
OPTIONS = Options()
QUICK = Schedule(rounds=2, runs=3, warmup=1, extra_rounds=0)


@pytest.fixture
def space() -> SearchSpace:
    stages = [
        [{"op": "conv", "out": 8, "stride": 2}, {"use": "$first", "out": 8}],
        [{"use": "$second", "out": 16, "stride": 2}],
    ]
    return space_of({"first": BLOCKS, "second": BLOCKS}, stages=stages, head={"num_classes": 10})


class FakeReference(Reference):
    """Takes the times that it is given."""

    def __init__(self, time) -> None:
        self.time = time


class FakeMachine:
    """A machine whose every number is known: an operator takes ``us(operator)``, times how slow it is at the moment."""

    def __init__(self) -> None:
        self.slow, self.visits, self.noise, self.stop_at = 1.0, [], {}, None

    def us(self, operator) -> float:
        return 10.0 + len(str(operator)) + sum(operator.input)

    def reference(self, options):
        return FakeReference(lambda: 1000.0 * self.slow)

    def runner(self, network, options):
        machine = self
        machine.visits.append(network.name)
        if machine.stop_at is not None and len(machine.visits) > machine.stop_at:
            raise KeyboardInterrupt

        class Runner:
            def layer_times(self, runs: int, warmup: int) -> np.ndarray:
                factors = [machine.noise.get(op, lambda: 1.0)() for op in network.operators]
                us = [machine.us(op) * machine.slow * factor for op, factor in zip(network.operators, factors)]
                return np.tile(us, (runs, 1))

            def whole_time(self, seconds: float, warmup: int):
                return machine.us(network.operators[0]) * machine.slow + 7, 10

            def run(self) -> None:
                pass

        return Runner()


@pytest.fixture
def machine(monkeypatch) -> FakeMachine:
    fake = FakeMachine()
    for where in (module, validation_module):
        monkeypatch.setattr(where, "Reference", fake.reference)
        monkeypatch.setattr(where, "make_runner", fake.runner)
    return fake


def measured(space: SearchSpace, path: str = "", schedule: Schedule = QUICK, **request):
    table = open_table(path, OPTIONS)
    return measure(Request(spaces=[space], **request), table, OPTIONS, schedule, progress=False)


def test_a_real_measurement_gives_a_table_that_adds_up(space, tmp_path) -> None:
    path = str(tmp_path / "table.json")
    table, campaign = measured(space, path)
    request = Request(spaces=[space])
    assert set(table.entries) == set(request.operators())
    assert all(entry.us >= 0 and entry.runs >= 2 * QUICK.runs for entry in table.entries.values())
    again = load_table(path)
    assert again.digest() == table.digest() and again.setting == OPTIONS.setting()
    assert again.date[:2] == "20" and again.environment["reference_us"] > 0
    assert not list(tmp_path.glob("*.partial"))
    found = validate(again, request.random_networks(4), OPTIONS, rounds=2, progress=False)
    assert np.isfinite(list(found.figures().values())).all()


def test_medians_are_of_the_machine_at_its_usual_speed(space, machine, monkeypatch) -> None:
    speeds = itertools.cycle([1.0, 1.0, 1.5, 1.5, 0.8, 0.8])  # before and after each visit

    def look() -> float:
        machine.slow = next(speeds)
        return 1000.0 * machine.slow

    monkeypatch.setattr(module, "Reference", lambda options: FakeReference(look))
    table, campaign = measured(space, schedule=Schedule(rounds=3, runs=3))
    low, high = campaign.drift()
    # A third of the visits found the machine at 0.8: that is its usual speed, and the others were disturbed.
    assert (campaign.reference_us(), low, high) == pytest.approx((800.0, 1.0, 1.5 / 0.8))
    for operator, entry in table.entries.items():
        assert entry.us == pytest.approx(0.8 * machine.us(operator))
        assert entry.spread_us == pytest.approx(0)


def test_a_visit_during_which_the_speed_changed_is_repeated() -> None:
    looks = iter([100.0, 200.0, 100.0, 110.0])
    done = []
    result, reference_us = FakeReference(lambda: next(looks)).beside(lambda: done.append(1) or len(done))
    assert (result, reference_us) == (2, 105.0)
    wild = itertools.cycle([100.0, 200.0])
    result, reference_us = FakeReference(lambda: next(wild)).beside(lambda: done.append(1) or len(done))
    assert (result, reference_us) == (5, 150.0)  # three times, then as it is


def test_the_reference_is_the_same_network_in_every_setting() -> None:
    slow = Reference(Options(batch_size=8, dtype="bfloat16", channels_last=True)).time()
    assert 0.2 < slow / Reference(Options()).time() < 5


def test_constant_drift_is_taken_out_exactly(space, machine) -> None:
    machine.slow = 1.7
    table, _ = measured(space)
    table.environment["reference_us"] = 1000.0
    fresh = Request(spaces=[space])
    campaign = Campaign(fresh.networks(fresh.operators()), fresh.operators(), OPTIONS, QUICK)
    campaign.run(progress=False)
    for operator, entry in campaign.entries(1000.0).items():
        assert entry.us == pytest.approx(machine.us(operator))
        assert entry.spread_us == pytest.approx(0)


def test_noisy_operators_are_measured_again_and_then_left(space, machine) -> None:
    request = Request(spaces=[space])
    victim = request.operators()[2]
    values = iter([1.0, 2.0, 1.0, 3.0] * 100)
    machine.noise[victim] = lambda: next(values)
    archs = request.networks(request.operators())
    campaign = Campaign(archs, request.operators(), OPTIONS, Schedule(rounds=2, runs=3, extra_rounds=2))
    campaign.run(progress=False)
    assert campaign.noisy() == [victim]
    assert len(machine.visits) == 2 * len(archs) + 2  # one network with it per extra round


def test_an_interrupted_measurement_goes_on_where_it_was(space, machine, tmp_path) -> None:
    path = str(tmp_path / "table.json")
    whole, _ = measured(space)
    expected, visits = whole.digest(), list(machine.visits)
    machine.visits.clear()
    machine.stop_at = 4
    with pytest.raises(KeyboardInterrupt):
        measured(space, path)
    assert not Path(path).exists() and Path(path + ".partial").exists()
    machine.stop_at = None
    table, _ = measured(space, path)
    assert len(machine.visits) == len(visits) + 1  # the visit under way is the only one done twice
    assert table.digest() == expected
    assert not Path(path + ".partial").exists()


def test_a_journal_of_something_else_is_refused(space, machine, tmp_path) -> None:
    path = str(tmp_path / "table.json")
    machine.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        measured(space, path)
    with pytest.raises(LatencyError, match=r"measures 8 operators .* this run 8 operators .* delete .*partial"):
        measured(space, path, schedule=Schedule(rounds=3))
    partial = Path(path + ".partial")
    data = json.loads(partial.read_text())
    data["setting"]["threads"] = 9
    partial.write_text(json.dumps(data))
    with pytest.raises(LatencyError, match="this run has threads 1; .*partial has threads 9; delete"):
        measured(space, path)
    partial.write_text(partial.read_text()[:100])
    with pytest.raises(LatencyError, match="not the journal of a measurement .*delete"):
        measured(space, path)


def test_a_table_is_extended_and_keeps_what_it_has(space, machine, tmp_path) -> None:
    path = str(tmp_path / "table.json")
    table, _ = measured(space, path, fixed={"first": BLOCKS[0]})
    before = dict(table.entries)
    machine.slow = 2.0  # the machine has become slow since; the new entries are scaled to the old ones
    table, campaign = measured(space, path)
    assert {operator: table.entries[operator] for operator in before} == before
    assert 0 < len(campaign.operators) < len(table.entries)
    for operator, entry in table.entries.items():
        assert entry.us == pytest.approx(machine.us(operator))
    visits = len(machine.visits)
    table, campaign = measured(space, path)
    assert campaign is None and len(machine.visits) == visits


def test_a_table_of_another_setting_is_refused(space, machine, tmp_path) -> None:
    path = str(tmp_path / "table.json")
    measured(space, path)
    with pytest.raises(LatencyError, match=r"table.json has .*batch_size 1; this run has .*batch_size 8; give another"):
        open_table(path, Options(batch_size=8))
    with pytest.raises(LatencyError, match="dtype float32; this run has dtype bfloat16"):
        validate(load_table(path), Request(spaces=[space]).random_networks(3), Options(dtype="bfloat16"))


def test_isolated_operators_are_timed_once_per_round(space, machine) -> None:
    options = Options(method="isolated")
    table, campaign = measure(Request(spaces=[space]), open_table("", options), options, QUICK, progress=False)
    assert table.setting.method == "isolated"
    assert {entry.us - 7 for entry in table.entries.values()} == {machine.us(operator) for operator in table.entries}
    assert {len(samples) for samples in campaign.journal.samples.values()} == {QUICK.rounds}


def test_an_operator_in_no_network_is_an_error(space) -> None:
    request = Request(spaces=[space])
    with pytest.raises(LatencyError, match="none of the 1 networks contains"):
        Campaign([space.arch([0, 0])], request.operators(), OPTIONS)


def test_architectures_and_resolutions(space, machine) -> None:
    arch: ArchSpec = space.arch([1, 2])
    request = Request(archs=[arch], resolution=(48, 64))
    assert request.operators() == [operator for _, operator in arch_operators(arch, (48, 64))]
    assert request.networks(request.operators()) == [arch]
    assert request.random_networks(5) == [arch]
    table, _ = measure(request, open_table("", OPTIONS), OPTIONS, QUICK, progress=False)
    assert table.latency(arch, (48, 64)).total_us == pytest.approx(sum(map(machine.us, request.operators())))
    with pytest.raises(LatencyError, match=r"\(--space\).*\(--arch\)"):
        Request().operators()


def test_random_networks_are_of_the_restricted_space_and_repeatable(space) -> None:
    request = Request(spaces=[space], fixed={"first": BLOCKS[2]}, seed=3)
    archs = request.random_networks(12)
    assert archs == request.random_networks(12)
    assert len({repr(arch) for arch in archs}) == 3  # the three choices of the second layer


def test_validation_figures() -> None:
    predicted = np.array([1000.0, 2000.0, 3000.0, 4000.0])
    found = Validation(measured_us=predicted + 100, predicted_us=predicted, slowness=1.02)
    figures = found.figures()
    assert figures["spearman"] == figures["kendall"] == figures["r2_after_constant"] == pytest.approx(1)
    assert figures["constant_us"] == pytest.approx(100)
    assert figures["median_error_after_constant"] == pytest.approx(0)
    assert figures["median_error_before_constant"] == pytest.approx(np.median(100 / (predicted + 100)))
    assert "2.0 % slower" in found.to_text()
    swapped = Validation(measured_us=predicted[::-1], predicted_us=predicted, slowness=1.0)
    assert swapped.figures()["spearman"] == pytest.approx(-1)


def test_validation_needs_some_networks(space, machine) -> None:
    table, _ = measured(space)
    with pytest.raises(LatencyError, match="got 2 networks, expected at least 3"):
        validate(table, Request(spaces=[space]).random_networks(2), OPTIONS)


def test_the_quieter_half_is_kept_and_scaled() -> None:
    us, speeds = [10.0, 24.0, 11.0, 30.0, 12.0], [100.0, 200.0, 110.0, 210.0, 105.0]
    np.testing.assert_allclose(quieter_half(us, speeds, 100.0), [10.0, 12.0 / 1.05, 10.0])
    np.testing.assert_allclose(quieter_half([8.0], [200.0], 100.0), [4.0])
    np.testing.assert_allclose(quieter_half([8.0, 4.0], [200.0, 100.0], 100.0), [4.0, 4.0])
    assert usual([100.0, 200.0, 100.0, 200.0, 200.0]) == 100.0
