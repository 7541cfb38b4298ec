"""From accuracies in % to what the networks are trained on and back, and how far predictions are to be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import NARSError
from .predictor_settings import PredictorSettings

FLOOR = 0.5  # points of error that are added before a logarithm, so that 100 % has one
SIGMA = 0.6827  # of a normal distribution within one standard deviation


@dataclass(frozen=True)
class Target:
    """Standardized accuracies, or logarithms of errors (negative, so that more is better).

    Attributes:
        kind: PredictorSettings.target.
        mean, scale: that are subtracted and divided by; a scale of constant accuracies is 1.
        delta: of the Huber loss, in units of the standardized target.
    """

    kind: str
    mean: float
    scale: float
    delta: float

    @classmethod
    def of(cls, accuracy: np.ndarray, settings: PredictorSettings) -> Target:
        """Fitted to samples' accuracies, % (n,).

        Raises:
            NARSError: the target is "log_error" and an accuracy is above 100 %.
        """
        if settings.target == "log_error" and (accuracy > 100).any():
            row = int((accuracy > 100).argmax())
            raise NARSError(f"accuracy: row {row} has {accuracy[row]:g}, expected at most 100 (%)")
        values = cls(settings.target, 0.0, 1.0, 1.0).to_unit(accuracy)
        scale = float(values.std())
        scale = scale if scale > 1e-6 else 1.0
        delta = settings.huber_delta / (1.0 if settings.target == "log_error" else scale)
        return cls(settings.target, float(values.mean()), scale, delta)

    def to_unit(self, accuracy: np.ndarray) -> np.ndarray:
        """Accuracies in % -> standardized targets."""
        values = -np.log(100 + FLOOR - accuracy) if self.kind == "log_error" else accuracy
        return (values - self.mean) / self.scale

    def from_unit(self, units: np.ndarray) -> np.ndarray:
        """Standardized targets -> accuracies in %; logarithms give at least 0 % and at most 100 %."""
        values = units * self.scale + self.mean
        if self.kind != "log_error":
            return values
        return 100 + FLOOR - np.exp(-np.clip(values, -math.log(100 + FLOOR), -math.log(FLOOR)))


@dataclass(frozen=True)
class Calibration:
    """std = factor * sqrt(spread^2 + floor^2), spread being the standard deviation over the members.

    Attributes:
        factor: such that 68 % of the left out samples lie within one std of their prediction.
        floor: in points; the median spread, or 1 where there is none, as with a single member.
    """

    factor: float = 1.0
    floor: float = 0.0

    @classmethod
    def of(cls, members: np.ndarray, accuracy: np.ndarray) -> Calibration:
        """From predictions (M, n) of samples by networks that have not seen them, and their accuracies (n,)."""
        spread = members.std(axis=0)
        floor = float(np.median(spread)) or 1.0
        ratio = np.abs(members.mean(axis=0) - accuracy) / np.sqrt(spread**2 + floor**2)
        rank = min(math.ceil(SIGMA * (len(ratio) + 1)), len(ratio))
        return cls(float(np.sort(ratio)[rank - 1]), floor)

    def std(self, members: np.ndarray) -> np.ndarray:
        """Standard deviation, points, (n,), of predictions (M, n)."""
        return self.factor * np.sqrt(members.std(axis=0) ** 2 + self.floor**2)


def fold_rows(samples: int, folds: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows left out, int64, of each fold of a cross-validation.

    All folds train on equally many rows, so that networks can be trained side by side: where the division has a rest,
    a row is left out of some trainings without being in the fold. Empty with fewer than 2 folds or 4 samples.
    """
    folds = min(folds, samples // 2)
    if folds < 2:
        return []
    parts = np.array_split(rng.permutation(samples), folds)
    count = samples - len(parts[0])
    return [(np.concatenate(parts[:i] + parts[i + 1 :])[:count], parts[i]) for i in range(folds)]
