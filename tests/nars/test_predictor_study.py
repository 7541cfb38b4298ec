"""Cross-validation and learning curve for the report."""

from __future__ import annotations

import numpy as np
import pytest

from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.predictor_settings import PredictorSettings
from fbnet_plugin.nars.predictor_study import study_predictor

SETTINGS = PredictorSettings(members=2, min_steps=100, pretrain_min_steps=300, pretrain_epochs=5)


def additive(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One-hot codes of 8 layers of 3 operators, a statistic, accuracies."""
    rng = np.random.default_rng(0)
    layers, size = rng.integers(0, 3, (count, 8)), rng.uniform(0.2, 1, 8)
    macs = 5 + (size * layers).sum(axis=1)
    return np.eye(3, dtype=np.float32)[layers].reshape(count, -1), macs[:, None], 50 + 14 * np.log(macs)


def test_pretraining_shows_in_both_figures() -> None:
    codes, statistics, accuracy = additive(400)
    found = study_predictor(
        codes[:60], accuracy[:60], arch_width=24, statistics=(codes, statistics), names=("macs",), settings=SETTINGS
    )
    np.testing.assert_array_equal(found.true, accuracy[:60])
    for predicted in (found.pretrained, found.plain):
        assert np.corrcoef(predicted, found.true)[0, 1] > 0.6
    assert np.square(found.pretrained - found.true).mean() < 0.7 * np.square(found.plain - found.true).mean()
    assert found.samples == tuple(sorted(found.samples)) and found.samples[-1] <= 45
    assert found.mse_pretrained.shape == found.mse_plain.shape == (3, len(found.samples))
    assert (found.mse_pretrained.mean(axis=0) < found.mse_plain.mean(axis=0)).all()
    assert found.mse_pretrained.mean(axis=0)[-1] < found.mse_pretrained.mean(axis=0)[0]


@pytest.mark.parametrize("count", [6, 12, 13])
def test_few_candidates(count: int) -> None:
    codes, _, accuracy = additive(count)
    found = study_predictor(codes, accuracy, arch_width=24, settings=SETTINGS, seed=1, repeats=2)
    assert np.isfinite(found.plain).all() and np.isfinite(found.mse_plain).all()
    assert len(found.samples) >= 1 and found.samples[-1] < count
    np.testing.assert_array_equal(found.pretrained, found.plain)  # nothing to pretrain on


def test_same_seed_same_figures() -> None:
    codes, statistics, accuracy = additive(30)
    one, two, other = (
        study_predictor(
            codes, accuracy, arch_width=24, statistics=(codes, statistics), names=("macs",), settings=SETTINGS,
            samples=(10, 20), repeats=1, seed=seed,
        )
        for seed in (1, 1, 2)
    )  # fmt: skip
    assert one.samples == (10, 20)
    np.testing.assert_array_equal(one.pretrained, two.pretrained)
    np.testing.assert_array_equal(one.mse_plain, two.mse_plain)
    assert not np.array_equal(one.pretrained, other.pretrained)


def test_each_sample_is_predicted_from_others() -> None:
    """Accuracies that no code explains are not predicted, however well a fit would learn them by heart."""
    rng = np.random.default_rng(0)
    codes, accuracy = rng.uniform(0, 1, (40, 6)).astype(np.float32), rng.uniform(60, 70, 40)
    found = study_predictor(codes, accuracy, arch_width=0, settings=SETTINGS, repeats=1)
    assert np.corrcoef(found.plain, accuracy)[0, 1] < 0.4


def test_what_is_refused() -> None:
    codes, _, accuracy = additive(20)
    with pytest.raises(NARSError, match="5 trained candidates"):
        study_predictor(codes[:5], accuracy[:5], arch_width=24)
    with pytest.raises(NARSError, match="samples: 18, expected 2 to 15"):
        study_predictor(codes, accuracy, arch_width=24, samples=(8, 18))
    accuracy[4] = np.nan
    with pytest.raises(NARSError, match="accuracy"):
        study_predictor(codes, accuracy, arch_width=24)
