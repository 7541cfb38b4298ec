"""The accuracy predictor: what it learns, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fbnet_plugin.arch import batch_cost, load_space
from fbnet_plugin.nars.encoding import Encoding
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.predictor import Predictor
from fbnet_plugin.nars.predictor_net import AdamW, Dense, huber
from fbnet_plugin.nars.predictor_settings import PredictorSettings
from fbnet_plugin.nars.predictor_target import Calibration, Target, fold_rows

QUICK = PredictorSettings(members=3, min_steps=100, pretrain_min_steps=400, pretrain_epochs=10, calibration_folds=2)


def additive_space(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One-hot codes of 8 layers of 3 operators and a recipe number (count, 25), two statistics, accuracies in %."""
    rng = np.random.default_rng([1, seed])
    size, width = rng.uniform(0.2, 1, 8), np.array([0.0, 1.0, 2.0])
    layers, recipe = rng.integers(0, 3, (count, 8)), rng.uniform(0, 1, count)
    macs = 5 + (size * width[layers]).sum(axis=1)
    params = 3 + (size[::-1] * width[layers]).sum(axis=1)
    accuracy = 50 + 12 * np.log(macs) + 4 * np.log(params) - 6 * (recipe - 0.6) ** 2
    codes = np.concatenate([np.eye(3)[layers].reshape(count, -1), recipe[:, None]], axis=1).astype(np.float32)
    return codes, 1e6 * np.stack([macs, params], axis=1), accuracy


def trained(settings: PredictorSettings, samples: int, pretrain: bool = True, seed: int = 0) -> tuple[Predictor, float]:
    """A predictor fitted to the first rows, and its mean squared error on the others."""
    codes, statistics, accuracy = additive_space(600, seed)
    predictor = Predictor(24, 25, ("macs", "params"), settings, seed)
    if pretrain:
        predictor.pretrain(codes[:, :24], statistics)
    predictor.fit(codes[:samples], accuracy[:samples])
    mean, _ = predictor.predict(codes[samples:])
    return predictor, float(np.square(mean - accuracy[samples:]).mean())


@pytest.mark.parametrize("settings", [QUICK, PredictorSettings.plain(pretrain_min_steps=400, pretrain_epochs=10)])
def test_same_seed_same_bits_on_any_number_of_threads(settings: PredictorSettings) -> None:
    codes, statistics, accuracy = additive_space(200, 0)
    results = []
    for threads, seed in ((1, 3), (2, 3), (1, 4)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            predictor = Predictor(24, 25, ("macs", "params"), settings, seed)
            shown = predictor.pretrain(codes[:, :24], statistics)
            predictor.fit(codes[:30], accuracy[:30])
            predictor.fit(codes[:40], accuracy[:40])  # a fit leaves nothing behind for the next
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        results.append([shown.predicted, *predictor.predict(codes)])
    for one, two, other in zip(*results):
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)


def test_a_fit_does_not_depend_on_an_earlier_one() -> None:
    codes, _, accuracy = additive_space(60, 0)
    predictor = Predictor(24, 25, settings=QUICK)
    predictor.fit(codes[:30], accuracy[:30])
    first = predictor.predict(codes)
    predictor.fit(codes, accuracy)
    predictor.fit(codes[:30], accuracy[:30])
    np.testing.assert_array_equal(first, predictor.predict(codes))


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, _ = trained(QUICK, 20)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    torch.manual_seed(2)
    two, _ = trained(QUICK, 20)
    codes, _, _ = additive_space(50, 0)
    np.testing.assert_array_equal(one.predict(codes), two.predict(codes))


@pytest.mark.parametrize("form", ["default", "plain"])
def test_pretraining_helps_with_few_samples(form: str) -> None:
    settings = QUICK if form == "default" else PredictorSettings.plain(calibration_folds=0)
    errors = np.array([[trained(settings, 20, pretrain, seed)[1] for pretrain in (True, False)] for seed in range(3)])
    assert errors[:, 0].mean() < 0.75 * errors[:, 1].mean()


def test_the_default_form_is_better_than_the_plain_one() -> None:
    default, plain = PredictorSettings(calibration_folds=0), PredictorSettings.plain(calibration_folds=0)
    assert trained(default, 60)[1] < 0.7 * trained(plain, 60)[1]


def test_statistics_of_a_real_space_are_predicted_on_held_out_architectures() -> None:
    space = load_space("fbnet_v3")
    points = space.sample(5000, np.random.default_rng(0))
    cost = batch_cost([space.arch(point) for point in points])
    encoding = Encoding(space.variables, len(space.variables))
    predictor = Predictor(encoding.width, encoding.width, ("macs", "params"))
    values = np.stack([cost.macs, cost.params], axis=1).astype(np.float64)
    shown = predictor.pretrain(encoding.encode(points), values)
    assert shown.statistics == ("macs", "params") and shown.true.shape == shown.predicted.shape == (1000, 2)
    assert set(shown.true[:, 0]) <= set(values[:, 0])
    for true, predicted, rank, error in zip(shown.true.T, shown.predicted.T, (0.98, 0.995), (0.04, 0.01)):
        assert spearmanr(true, predicted)[0] > rank
        assert np.abs(predicted / true - 1).mean() < error


def test_the_first_phase_leaves_a_pretrained_encoder_as_it_is() -> None:
    still = PredictorSettings(members=2, min_steps=0, tuned_epochs=0, calibration_folds=0, pretrain_epochs=2)
    for pretrain in (True, False):
        predictor, _ = trained(still, 20, pretrain)
        assert torch.equal(predictor.fitted.encoder.weight, predictor.encoder.weight) == pretrain
    moved = PredictorSettings(members=2, min_steps=0, tuned_epochs=1, calibration_folds=0, pretrain_epochs=2)
    predictor, _ = trained(moved, 20)
    assert not torch.equal(predictor.fitted.encoder.weight, predictor.encoder.weight)


def test_huber_is_the_papers_formula() -> None:
    error = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0])
    wanted = [0.5 * value**2 if abs(value) < 1 else abs(value) - 0.5 for value in error.tolist()]
    torch.testing.assert_close(huber(error + 70, torch.full((7,), 70.0), 1.0), torch.tensor(wanted))


def test_a_step_is_torchs_adamw() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Dense(2, 3, 4, generator)
    weight, bias = (tensor.clone().requires_grad_(True) for tensor in layer.tensors())
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    theirs, ours = torch.optim.AdamW(groups, lr=0.01), AdamW([layer], 0.1)
    for _ in range(5):
        x = torch.rand(2, 6, 3, generator=generator)
        theirs.zero_grad()
        torch.baddbmm(bias, x, weight).square().sum().backward()
        theirs.step()
        ours.step(layer(x).square().sum(), 0.01)
    ours.close()
    torch.testing.assert_close(layer.weight, weight.detach())
    torch.testing.assert_close(layer.bias, bias.detach())
    assert not layer.weight.requires_grad


def test_the_plain_forms_delta_is_one_point_of_accuracy() -> None:
    target = Target.of(np.array([60.0, 70.0, 80.0]), PredictorSettings.plain())
    assert target.delta * target.scale == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["accuracy", "log_error"])
def test_targets_are_inverted_and_increase_with_accuracy(kind: str) -> None:
    accuracy = np.array([0.0, 10.0, 76.5, 99.9, 100.0])
    target = Target.of(accuracy, PredictorSettings(target=kind))
    units = target.to_unit(accuracy)
    assert (np.diff(units) > 0).all() and units.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(target.from_unit(units), accuracy, atol=1e-9)
    if kind == "log_error":
        assert target.from_unit(np.array([-1e9, 1e9])).tolist() == pytest.approx([0, 100])


@pytest.mark.parametrize("arch_width, width", [(0, 3), (24, 24)])
def test_recipe_only_and_architecture_only(arch_width: int, width: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.uniform(0, 1, (120, width)).astype(np.float32)
    accuracy = 70 + 5 * codes[:, 0] - 3 * codes[:, 1]
    predictor = Predictor(arch_width, width, settings=QUICK)
    if arch_width:
        predictor.pretrain(codes, np.exp(codes[:, :2]))
    else:
        with pytest.raises(NARSError, match="no architecture part"):
            predictor.pretrain(codes[:, :0], np.ones((120, 2)))
    predictor.fit(codes[:80], accuracy[:80])
    mean, std = predictor.predict(codes[80:])
    assert mean.shape == std.shape == (40,) and mean.dtype == std.dtype == np.float64
    assert np.corrcoef(mean, accuracy[80:])[0, 1] > 0.95


@pytest.mark.parametrize("members", [1, 4])
def test_two_thirds_lie_within_one_standard_deviation(members: int) -> None:
    settings = PredictorSettings(members=members, min_steps=150)
    shares = []
    for seed in range(3):
        codes, _, accuracy = additive_space(500, seed)
        noisy = accuracy + np.random.default_rng(seed).normal(0, 1, 500)
        predictor = Predictor(24, 25, settings=settings, seed=seed)
        predictor.fit(codes[:60], noisy[:60])
        mean, std = predictor.predict(codes[60:])
        shares.append((np.abs(mean - noisy[60:]) <= std).mean())
    assert 0.55 < np.mean(shares) < 0.85


def test_calibration_covers_its_own_samples() -> None:
    rng = np.random.default_rng(0)
    members, accuracy = rng.normal(70, 1, (5, 400)), rng.normal(70, 3, 400)
    found = Calibration.of(members, accuracy)
    inside = np.abs(members.mean(axis=0) - accuracy) <= found.std(members)
    assert inside.mean() == pytest.approx(0.6827, abs=0.01)
    alone = Calibration.of(members[:1], accuracy)
    assert np.ptp(alone.std(members[:1])) == 0 and alone.std(members[:1])[0] > 1


@pytest.mark.parametrize("samples", [4, 5, 11, 48])
def test_folds_leave_out_each_sample_once_and_are_of_one_size(samples: int) -> None:
    folds = fold_rows(samples, 4, np.random.default_rng(0))
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(samples))
    assert len({len(kept) for kept, _ in folds}) == 1
    assert all(not set(kept) & set(held) for kept, held in folds)
    assert fold_rows(3, 4, np.random.default_rng(0)) == []


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_few_samples_and_constant_accuracies(samples: int) -> None:
    codes, _, _ = additive_space(50, 0)
    predictor = Predictor(24, 25, settings=PredictorSettings(members=2, min_steps=20))
    predictor.fit(codes[:samples], np.full(samples, 71.0))
    mean, std = predictor.predict(codes)
    assert np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()
    np.testing.assert_allclose(mean[:samples], 71.0, atol=15)


def test_nothing_to_predict() -> None:
    predictor, _ = trained(QUICK, 20)
    mean, std = predictor.predict(np.empty((0, 25), np.float32))
    assert mean.shape == std.shape == (0,)


def test_what_a_fit_refuses() -> None:
    codes, statistics, accuracy = additive_space(20, 0)
    predictor = Predictor(24, 25, settings=QUICK)
    with pytest.raises(NARSError, match="has not been fitted"):
        predictor.predict(codes)
    for value in (np.nan, np.inf):
        bad = accuracy.copy()
        bad[7] = value
        with pytest.raises(NARSError, match=f"accuracy: row 7 has {value}"):
            predictor.fit(codes, bad)
        bad_codes = codes.copy()
        bad_codes[3, 11] = value
        with pytest.raises(NARSError, match=f"code: row 3 has {value} in column 11"):
            predictor.fit(bad_codes, accuracy)
        bad_statistics = statistics.copy()
        bad_statistics[2, 1] = value
        with pytest.raises(NARSError, match=f"statistics: row 2 has {value} in column 1"):
            predictor.pretrain(codes[:, :24], bad_statistics)
    with pytest.raises(NARSError, match="1 samples"):
        predictor.fit(codes[:1], accuracy[:1])
    with pytest.raises(NARSError, match=r"shape \(20, 24\), expected \(n, 25\)"):
        predictor.fit(codes[:, :24], accuracy)
    with pytest.raises(NARSError, match=r"accuracy: shape \(19, 1\), expected \(20, 1\)"):
        predictor.fit(codes, accuracy[:19])
    with pytest.raises(NARSError, match="row 0 has 8.*at most 100"):
        predictor.fit(codes, accuracy * 100)
    assert predictor.fitted is None


def test_a_prediction_that_is_not_finite_is_an_error() -> None:
    codes, _, _ = additive_space(30, 0)
    predictor, _ = trained(QUICK, 20)
    predictor.fitted.head.layers[-1].bias[1] = float("nan")
    with pytest.raises(NARSError, match="predicted accuracy of row 0 is not finite"):
        predictor.predict(codes)


@pytest.mark.parametrize(
    "field, value",
    [("members", 0), ("members", True), ("hidden", 2.5), ("huber_delta", 0.0), ("frozen_lr", float("nan")),
     ("weight_decay", -1.0), ("target", "error"), ("calibration_folds", 1), ("linear", 1), ("min_steps", -1)],
)  # fmt: skip
def test_settings_name_what_is_wrong(field: str, value: object) -> None:
    with pytest.raises(NARSError, match=f"{field}: {value!r}"):
        PredictorSettings(**{field: value})


def test_widths_are_checked() -> None:
    with pytest.raises(NARSError, match="code widths 5"):
        Predictor(5, 3)
