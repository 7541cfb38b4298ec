"""How well a run's own candidates are predicted, with and without pretraining (FBNetV3 Figure 4c, 4d and 4e)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Optional

import numpy as np

from .errors import NARSError
from .predictor import Predictor, checked
from .predictor_settings import PredictorSettings
from .run_data import PredictorData

FEWEST = 6  # samples of a study
LIMITS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def study_predictor(
    codes: np.ndarray,
    accuracy: np.ndarray,
    *,
    arch_width: int,
    statistics: Optional[tuple[np.ndarray, np.ndarray]] = None,
    names: Sequence[str] = ("macs", "params"),
    settings: Optional[PredictorSettings] = None,
    seed: int = 0,
    folds: int = 5,
    samples: Optional[Sequence[int]] = None,
    repeats: int = 3,
) -> PredictorData:
    """Predicts each sample from others, and the error over their number.

    The form without pretraining is the same one with the same epochs; its encoder learns from the first epoch on.
    Where there is nothing to pretrain on, the two are one. A quarter of the samples, drawn anew at each repeat, is kept
    from the learning curve's trainings; its points are nested.

    Args:
        codes: (n, width), of trained candidates.
        accuracy: (n,), in %.
        arch_width: columns of the architecture's code.
        statistics: architecture codes (p, arch_width) of the pool and their raw statistics (p, len(names)); None in a
            recipe-only search.
        names: of the statistics.
        settings: of the predictor; calibration is left out, as it changes no prediction.
        seed: of predictor, folds and curve.
        folds: of the cross-validation, at most one per two samples.
        samples: sizes of the curve; default: about five, spread evenly over the logarithm, that the samples allow.
        repeats: of the curve.

    Raises:
        NARSError: fewer than 6 samples, non-finite values, or sizes that the samples do not allow.
    """
    accuracy = np.asarray(accuracy, np.float64).reshape(-1)
    codes = checked("code", codes, np.shape(codes)[-1], rows=len(accuracy))
    if len(accuracy) < FEWEST:
        raise NARSError(f"{len(accuracy)} trained candidates to study the predictor on, expected at least {FEWEST}")
    settings = dataclasses.replace(settings or PredictorSettings(), calibration_folds=0)
    plain = Predictor(arch_width, codes.shape[1], names, settings, seed)
    forms = [plain]
    if statistics is not None and arch_width:
        pretrained = Predictor(arch_width, codes.shape[1], names, settings, seed)
        pretrained.pretrain(*statistics)
        forms.append(pretrained)
    sizes = _sizes(len(accuracy), samples)
    rng = np.random.default_rng([seed, 5])
    parts = np.array_split(rng.permutation(len(accuracy)), max(min(folds, len(accuracy) // 2), 2))
    orders = [rng.permutation(len(accuracy)) for _ in range(repeats)]
    predicted = [_cross_validated(form, codes, accuracy, parts) for form in forms]
    errors = [_curve(form, codes, accuracy, orders, sizes) for form in forms]
    return PredictorData(accuracy, predicted[-1], predicted[0], sizes, errors[-1], errors[0])


def _sizes(count: int, samples: Optional[Sequence[int]]) -> tuple[int, ...]:
    most = count - max(count // 4, 2)
    if samples is None:
        allowed = [size for size in (4, 6, *LIMITS) if size <= most]
        return tuple(allowed[-9::2] if len(allowed) > 5 else allowed)
    bad = [size for size in samples if not 2 <= size <= most]
    if bad:
        raise NARSError(f"samples: {bad[0]}, expected 2 to {most}, as there are {count} and a quarter is for the test")
    return tuple(samples)


def _cross_validated(
    form: Predictor, codes: np.ndarray, accuracy: np.ndarray, parts: Sequence[np.ndarray]
) -> np.ndarray:
    predicted = np.empty(len(accuracy))
    for number, held in enumerate(parts):
        kept = np.concatenate([part for other, part in enumerate(parts) if other != number])
        predicted[held] = _fit_predict(form, codes, accuracy, kept, held)
    return predicted


def _curve(
    form: Predictor, codes: np.ndarray, accuracy: np.ndarray, orders: Sequence[np.ndarray], sizes: Sequence[int]
) -> np.ndarray:
    errors = np.empty((len(orders), len(sizes)))
    for repeat, order in enumerate(orders):
        held = order[-max(len(order) // 4, 2) :]
        for place, size in enumerate(sizes):
            predicted = _fit_predict(form, codes, accuracy, order[:size], held)
            errors[repeat, place] = np.square(predicted - accuracy[held]).mean()
    return errors


def _fit_predict(
    form: Predictor, codes: np.ndarray, accuracy: np.ndarray, kept: np.ndarray, held: np.ndarray
) -> np.ndarray:
    model = copy.copy(form)  # shares the pretrained encoder, which a fit leaves as it is
    model.fit(codes[kept], accuracy[kept])
    return model.predict(codes[held])[0]
