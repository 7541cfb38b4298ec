"""Tables fitted to times of whole networks, against spaces whose tables are known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from fbnet_plugin.arch import ArchError, load_space
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Setting, load_table, save_table
from fbnet_plugin.latency.fit import fit_table
from fbnet_plugin.latency.fit_design import Design
from fbnet_plugin.latency.layerwise import layerwise

SETTING = Setting(device="phone", processor="some phone", runtime="some runtime")
SKIP = 8  # index of the last candidate in fbnet_cifar
IDENTITY_LAYER, CHANGING_LAYER = 3, 5  # the layer keeps, or changes, its input's shape

SPACE = """
name: small
variables:
  one: {{choices: [{one}]}}
  two: {{choices: [{two}]}}
  three: {{choices: [{three}]}}
architecture:
  name: small
  resolution: 16
  stages:
  - - {{op: conv, kernel: 3, out: 16}}
    - {{use: $one, out: 16}}
    - {{use: $two, out: 16}}
    - {{use: $three, out: 24, stride: 2}}
  head: {{num_classes: 10, blocks: []}}
"""
K3, K5, K7 = ("{op: mb, kernel: %d, expansion: 3}" % kernel for kernel in (3, 5, 7))
NONE = "{op: skip}"


@pytest.fixture(scope="module")
def cifar():
    return load_space("fbnet_cifar")


@pytest.fixture(scope="module")
def truth(cifar):
    """A measured kind of table: every operator costs something, skips that change the shape too."""
    return known_table(cifar, np.random.default_rng(5))


def small_space(tmp_path, one, two, three):
    path = tmp_path / "small.yaml"
    path.write_text(SPACE.format(one=", ".join(one), two=", ".join(two), three=", ".join(three)))
    return load_space(str(path))


design_of = functools.lru_cache(Design.of)


def known_table(space, rng, spread=0.3):
    """Costs that grow with the features of the operators, and differ from that by a random factor."""
    design = design_of(space)
    share = design.features / design.features.max(axis=0, initial=1e-9)
    us = 300 * share @ rng.uniform(0, 1, share.shape[1]) * rng.lognormal(0, spread, len(share))
    entries = {operator: Entry(value) for operator, value in zip(design.operators, us)}
    entries.update({operator: Entry(500.0) for operator in design.fixed if operator not in entries})
    return LatencyTable(SETTING, entries, constant_us=1000.0)


def times(table, space, points):
    return table.latencies([space.arch(point) for point in points])


def differences(table, space, fit):
    """The differences that the fit should have found: shape as ``fit.difference_us``."""
    matrix = table.matrix(space).us
    return matrix - np.take_along_axis(matrix, fit.reference[:, None], axis=1)


def networks(table, space, count, seed=0):
    points = space.sample(count, np.random.default_rng(seed))
    return points, times(table, space, points)


def test_exact_times_give_the_table_back(cifar, truth):
    points, us = networks(truth, cifar, 400)
    fit = fit_table(cifar, points[:200], us[:200], setting=SETTING)
    assert np.abs(fit.difference_us - differences(truth, cifar, fit)).max() < 1e-3
    predicted, error = fit.predict(points[200:])
    assert np.abs(predicted - us[200:]).max() < 1e-2 and error.max() < 1
    score = fit.score(points[200:], us[200:])
    assert score.r2 > 1 - 1e-9 and score.spearman == pytest.approx(1) and score.kendall == pytest.approx(1)
    assert score.mape < 1e-4 and score.rmse_us < 1e-2 and score.networks == 200
    assert fit.noise_us < 1 and fit.drift_us == 0
    assert fit.table.setting.method == "fit" and fit.table.setting.device == "phone"


def test_table_and_predict_are_the_same_sum(cifar, truth):
    """With noise, and with fewer networks than operators, the table is still all of the model."""
    points, us = networks(truth, cifar, 120)
    us = us + np.random.default_rng(1).normal(0, 300, len(us))
    fit = fit_table(cifar, points[:40], us[:40], setting=SETTING)
    assert times(fit.table, cifar, points) == pytest.approx(fit.predict(points)[0], rel=1e-9)
    matrix = fit.table.matrix(cifar).us
    change = matrix - matrix[:, [SKIP]]
    assert change == pytest.approx(fit.difference_us, rel=1e-6, abs=1e-6)


def test_what_stands_in_the_constant(cifar, truth):
    """Stem, head, classifier and the skips of layers that change the shape; an identity costs 0 in its own right."""
    points, us = networks(truth, cifar, 200)
    fit = fit_table(cifar, points, us, setting=SETTING)
    entries, layers = fit.table.entries, layerwise(cifar)
    assert (fit.reference == SKIP).all()
    apart = {str(operator) for operator, entry in entries.items() if entry.in_constant}
    changing = [layers.candidates[layer][SKIP][0] for layer in (1, 5, 9, 13, 17, 21)]
    assert apart == {str(operator) for operator in (*layers.fixed, *changing)}
    assert all(entry.us == 0 for entry in entries.values() if entry.in_constant)
    identity = entries[layers.candidates[IDENTITY_LAYER][SKIP][0]]
    assert (identity.us, identity.spread_us, identity.in_constant) == (0, 0, False)
    constant = truth.constant_us + sum(truth.entries[operator].us for operator in (*layers.fixed, *changing))
    assert fit.table.constant_us == pytest.approx(constant, abs=0.01)
    one = entries[layers.candidates[CHANGING_LAYER][0][0]]
    assert one.runs == (points[:, CHANGING_LAYER] == 0).sum()


def test_shifting_a_layer_moves_the_constant_alone(cifar, truth):
    layer = layerwise(cifar).candidates[CHANGING_LAYER]
    shifted = dict(truth.entries)
    for (operator,) in layer:
        shifted[operator] = Entry(truth.entries[operator].us + 700)
    points, us = networks(truth, cifar, 200)
    moved = times(LatencyTable(SETTING, shifted, truth.constant_us), cifar, points)
    before, after = (fit_table(cifar, points, values, setting=SETTING).table for values in (us, moved))
    assert after.constant_us - before.constant_us == pytest.approx(700, abs=0.01)
    assert all(after.entries[key].us == pytest.approx(before.entries[key].us, abs=0.01) for key in before.entries)


@pytest.mark.parametrize("count", [60, 250])
def test_standard_errors_cover_the_truth(cifar, count):
    """95 % intervals of differences and of networks hold the truth about that often; more networks narrow them."""
    inside, inside_networks = [], []
    for seed in range(4):
        table = known_table(cifar, np.random.default_rng(seed))
        points, exact = networks(table, cifar, count + 100, seed)
        noise = np.random.default_rng(seed + 50).normal(0, 0.15 * exact.std(), count)
        fit = fit_table(cifar, points[:count], exact[:count] + noise, setting=SETTING)
        known = fit.difference_error_us > 0
        assert (known.sum(axis=1) == SKIP).all()
        off = np.abs(fit.difference_us - differences(table, cifar, fit))[known]
        inside.append(np.mean(off < 1.96 * fit.difference_error_us[known]))
        predicted, error = fit.predict(points[count:])
        inside_networks.append(np.mean(np.abs(predicted - exact[count:]) < 1.96 * error))
        if count > 100:
            assert fit.noise_us == pytest.approx(noise.std(), rel=0.3)
    assert 0.88 <= np.mean(inside) <= 0.99 and 0.85 <= np.mean(inside_networks) <= 0.99


def test_left_out_score_is_that_of_new_networks(cifar, truth):
    points, us = networks(truth, cifar, 900)
    us = us + np.random.default_rng(3).normal(0, 0.3 * us.std(), len(us))
    fit = fit_table(cifar, points[:150], us[:150], setting=SETTING)
    new = fit.score(points[150:], us[150:])
    assert fit.left_out.r2 == pytest.approx(new.r2, abs=0.07) and fit.left_out.networks == 150
    assert new.r2 < 0.93


def test_outliers_count_little(cifar, truth):
    points, exact = networks(truth, cifar, 300)
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.05 * exact.std(), 300)
    bad = np.where(rng.random(300) < 0.06, 10 * exact.std(), 0.0)
    clean, dirty = (fit_table(cifar, points, exact + n, setting=SETTING) for n in (noise, noise + bad))
    assert math.isinf(clean.noise_tail) and dirty.noise_tail < 10
    known = differences(truth, cifar, clean)
    rms = [np.sqrt(np.mean((fit.difference_us - known) ** 2)) for fit in (clean, dirty)]
    assert rms[1] < 1.5 * rms[0] and dirty.noise_us < 0.1 * np.std(noise + bad)


def test_drift_is_kept_out_of_the_table(cifar, truth):
    points, exact = networks(truth, cifar, 400)
    order = np.arange(400)
    us = exact + 0.02 * exact.std() * order + np.random.default_rng(6).normal(0, 0.02 * exact.std(), 400)
    fit = fit_table(cifar, points[:300], us[:300], setting=SETTING, order=order[:300])
    blind = fit_table(cifar, points[:300], us[:300], setting=SETTING)
    assert fit.drift_us == pytest.approx(0.02 * exact.std(), rel=0.02)
    assert fit.score(points[300:], us[300:], order[300:]).r2 > 0.99 > blind.score(points[300:], us[300:]).r2
    known = differences(truth, cifar, fit)
    rms = [np.sqrt(np.mean((one.difference_us - known) ** 2)) for one in (fit, blind)]
    assert rms[0] < 0.2 * rms[1]
    assert times(fit.table, cifar, points[:9]) == pytest.approx(fit.predict(points[:9])[0], rel=1e-9)
    middle = fit.predict(points[:9], np.full(9, 149.5))[0]
    assert middle == pytest.approx(fit.predict(points[:9])[0], rel=1e-9)


def test_features_and_another_devices_table_help_with_few_networks(cifar):
    truth = known_table(cifar, np.random.default_rng(5), spread=0.1)
    other = {key: Entry(entry.us * 2.5) for key, entry in truth.entries.items()}
    prior = LatencyTable(SETTING, other, constant_us=1.0)
    points, us = networks(truth, cifar, 320)
    few, rest = slice(20), slice(20, None)

    def rho(**options):
        return fit_table(cifar, points[few], us[few], setting=SETTING, **options).score(points[rest], us[rest]).spearman

    alone, features, table = rho(features=False), rho(), rho(features=False, prior=prior)
    assert alone + 0.1 < features < table and features > 0.85 and table > 0.999, (alone, features, table)


def test_an_operator_that_never_ran(cifar, truth):
    """It is estimated from the others and less certain than they are."""
    points, us = networks(truth, cifar, 400)
    without = points[:, CHANGING_LAYER] != 3
    fit = fit_table(cifar, points[without], us[without], setting=SETTING)
    errors = fit.difference_error_us[CHANGING_LAYER, :SKIP]
    assert np.argmax(errors) == 3 and errors[3] > 100 * np.median(errors)
    off = abs(fit.difference_us - differences(truth, cifar, fit))[CHANGING_LAYER, 3]
    assert off < 3 * errors[3]
    assert fit.table.entries[layerwise(cifar).candidates[CHANGING_LAYER][3][0]].runs == 0


def test_same_networks_same_table(cifar, truth):
    points, us = networks(truth, cifar, 50)
    one, two = (fit_table(cifar, points, us, setting=SETTING).table for _ in range(2))
    assert one.digest() == two.digest()


def test_file_round_trip(cifar, truth, tmp_path):
    points, us = networks(truth, cifar, 60)
    table = fit_table(cifar, points, us + np.random.default_rng(0).normal(0, 99, 60), setting=SETTING).table
    save_table(table, tmp_path / "table.json")
    back = load_table(tmp_path / "table.json")
    assert back.digest() == table.digest() and back.notes == table.notes and "60 networks" in back.notes
    assert times(back, cifar, points) == pytest.approx(times(table, cifar, points), abs=0.01)
    assert {key for key, entry in back.entries.items() if entry.in_constant} == {
        key for key, entry in table.entries.items() if entry.in_constant
    }


@pytest.mark.parametrize(
    "choices, reference, apart",
    [
        # Layer two can be skipped, which also tells what its candidates cost in layer one.
        (([K3, K5], [K3, NONE], [K3, K5]), (0, 1, 0), ["mb kernel=3 stride=2"]),
        # Neither can be skipped: one operator of the two linked layers is the reference of both.
        (([K3, K5], [K5, K7], [K3, NONE]), (0, 0, 1), ["mb kernel=3 mid=48", "skip stride=2"]),
        # Two copies of one block against two of another.
        (([K3.replace("}", ", repeat: 2}"), K5.replace("}", ", repeat: 2}")], [K3, NONE], [NONE]), (0, 1, 0), []),
    ],
)
def test_spaces_without_a_skip_in_every_layer(tmp_path, choices, reference, apart):
    space = small_space(tmp_path, *choices)
    table = known_table(space, np.random.default_rng(1))
    points, us = networks(table, space, 30)
    fit = fit_table(space, points, us, setting=SETTING)
    assert tuple(fit.reference) == reference
    assert fit.difference_us == pytest.approx(differences(table, space, fit), abs=0.01, nan_ok=True)
    assert times(fit.table, space, points) == pytest.approx(us, abs=0.01)
    design = Design.of(space)
    named = sorted(str(operator) for operator, one in zip(design.operators, design.in_constant) if one)
    assert len(named) == len(apart) and all(name.startswith(start) for name, start in zip(named, apart))
    for operator, entry in fit.table.entries.items():
        if not entry.in_constant and not apart[1:] and "stride" not in str(operator):
            assert entry.us == pytest.approx(table.entries[operator].us, abs=0.01)


def test_a_layer_that_others_may_choose_too(tmp_path):
    """A fixed layer whose operator is also a candidate is counted wherever it runs."""
    text = SPACE.replace("$two", "$one_or_none").replace("use: $one,", "op: mb, kernel: 3, expansion: 3,")
    text = text.replace("  one: {{choices: [{one}]}}\n", "").replace("  two:", "  one_or_none:")
    path = tmp_path / "small.yaml"
    path.write_text(text.format(two=", ".join([K3, K5, NONE]), three=", ".join([K3, K5])))
    space = load_space(str(path))
    table = known_table(space, np.random.default_rng(2))
    points, us = networks(table, space, 30)
    fit = fit_table(space, points, us, setting=SETTING)
    assert times(fit.table, space, points) == pytest.approx(us, abs=0.01)
    fixed = Design.of(space).fixed[1]
    assert fit.table.entries[fixed].us == pytest.approx(table.entries[fixed].us, abs=0.01)


BAD = [
    (dict(count=2), "at least 3"),
    (dict(us=lambda us: np.full_like(us, 5e3)), "expected some that differ"),
    (dict(us=lambda us: np.where(np.arange(9) == 4, np.nan, us)), r"latencies\[4\]: got nan"),
    (dict(us=lambda us: np.where(np.arange(9) == 2, -1.0, us)), r"latencies\[2\]: got -1 µs, expected a time above 0"),
    (dict(us=lambda us: us[:8]), r"latencies: got shape \(8,\), expected \(9,\)"),
    (dict(us=lambda us: ["fast"] * 9), "latencies: expected 9 numbers"),
    (dict(points=lambda p: p[:, :5]), r"expected choice indices of shape \(n, 22\)"),
    (dict(points=lambda p: p + 0.0), "points: got float64"),
    (dict(points=lambda p: p[0]), "points: got int64 of shape"),
    (
        dict(points=lambda p: np.where(np.arange(22) == 3, 9, p)),
        r"points\[0, 3\]: got 9, expected .* 0 to 8",
    ),
    (dict(points=lambda p: np.where(np.arange(22) == 1, -1, p)), r"points\[0, 1\]: got -1"),
    (dict(order=range(8)), r"order: got shape \(8,\)"),
    (dict(order=[0, 1, 2, 3, math.inf, 5, 6, 7, 8]), r"order\[4\]: got inf"),
]


@pytest.mark.parametrize("change, message", BAD)
def test_bad_input(cifar, truth, change, message):
    points, us = networks(truth, cifar, change.get("count", 9))
    points, us = change.get("points", lambda p: p)(points), change.get("us", lambda u: u)(us)
    with pytest.raises(LatencyError, match=message):
        fit_table(cifar, points, us, setting=SETTING, order=change.get("order"))


def test_bad_prior_and_order(cifar, truth):
    points, us = networks(truth, cifar, 9)
    lacking = LatencyTable(SETTING, dict(list(truth.entries.items())[4:]))
    with pytest.raises(LatencyError, match="lacks 4 operators"):
        fit_table(cifar, points, us, setting=SETTING, prior=lacking)
    fit = fit_table(cifar, points, us, setting=SETTING)
    with pytest.raises(LatencyError, match="order: given, but"):
        fit.predict(points, range(9))
    with pytest.raises(LatencyError, match="time above 0"):
        fit.score(points, -us)


def test_space_that_is_not_layerwise():
    with pytest.raises(ArchError):
        Design.of(load_space("fbnet_v3"))
