"""Everything about the accuracy predictor that can be chosen."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from .errors import NARSError

TARGETS = ("log_error", "accuracy")


@dataclass(frozen=True)
class PredictorSettings:
    """Form and training of the predictor; ``PredictorSettings.plain()`` is the paper's form (sections 3.1 to 3.3).

    From the paper: the embedding of 24, 50 and 50 epochs, the Huber loss and its delta. Optimizer (Adam), learning
    rates and batches are not published; those here are this project's.

    Attributes:
        members: networks of the ensemble; their mean is the prediction.
        embedding: width of the shared encoder, which is one layer.
        hidden: width of the accuracy head's hidden layers.
        layers: number of them, from 1.
        linear: a linear path beside the accuracy head, from the codes straight to its output.
        target: what is fitted: "accuracy" in %, or "log_error", the logarithm of 100 % - accuracy (+ 0.5 points), as
            networks differ by factors of their error. Predictions are in % with both.
        huber_delta: where the Huber loss turns from square to linear, in points of accuracy (for "log_error":
            in standard deviations of the target).
        frozen_epochs, frozen_lr: first phase; a pretrained encoder is left as it is.
        tuned_epochs, tuned_lr: second phase, in which all is trained.
        batch_size: samples of a step of either.
        min_steps: either phase takes at least so many steps; with few samples that is more epochs. 0: never more.
        weight_decay: of the fit's matrices (decoupled), at ``weight_decay_samples`` samples; with n samples it is
            ``weight_decay_samples / n`` times that, as a prior weighs less the more is known.
        weight_decay_samples: see there.
        pretrain_share: of the statistics that are trained on; the others are held out.
        pretrain_epochs, pretrain_lr, pretrain_batch_size, pretrain_min_steps: of the encoder with the statistics head.
        pretrain_weight_decay: of its matrices (decoupled).
        calibration_folds: of the cross-validation that calibrates the standard deviation; 0: the members' spread as
            it is.
    """

    members: int = 8
    embedding: int = 24
    hidden: int = 32
    layers: int = 2
    linear: bool = True
    target: str = "log_error"
    huber_delta: float = 1.0
    frozen_epochs: int = 50
    frozen_lr: float = 1e-2
    tuned_epochs: int = 50
    tuned_lr: float = 5e-3
    batch_size: int = 8
    min_steps: int = 1000
    weight_decay: float = 0.03
    weight_decay_samples: int = 50
    pretrain_share: float = 0.8
    pretrain_epochs: int = 40
    pretrain_lr: float = 5e-3
    pretrain_batch_size: int = 128
    pretrain_min_steps: int = 3000
    pretrain_weight_decay: float = 0.0
    calibration_folds: int = 4

    @classmethod
    def plain(cls, **changed: Any) -> PredictorSettings:
        """The paper's form: one network, one hidden layer, accuracies in %, exactly the paper's epochs."""
        paper = {"members": 1, "layers": 1, "linear": False, "target": "accuracy", "min_steps": 0, "weight_decay": 0.0}
        return cls(**{**paper, **changed})

    def __post_init__(self) -> None:
        for key in ("members", "embedding", "hidden", "layers", "batch_size", "pretrain_batch_size"):
            self._check_int(key, 1)
        for key in ("frozen_epochs", "tuned_epochs", "min_steps", "pretrain_epochs", "pretrain_min_steps"):
            self._check_int(key, 0)
        self._check_int("weight_decay_samples", 1)
        self._check_int("calibration_folds", 0)
        if self.calibration_folds == 1:
            raise NARSError("calibration_folds: 1, expected 0 or at least 2")
        if self.frozen_epochs + self.tuned_epochs == 0:
            raise NARSError("frozen_epochs and tuned_epochs are both 0, expected at least one epoch")
        if not isinstance(self.linear, bool):
            raise NARSError(f"linear: {self.linear!r}, expected true or false")
        if self.target not in TARGETS:
            raise NARSError(f"target: {self.target!r}, expected one of {', '.join(TARGETS)}")
        for key in ("huber_delta", "frozen_lr", "tuned_lr", "pretrain_lr"):
            self._check_float(key, positive=True)
        if not 0 < self.pretrain_share < 1:
            raise NARSError(f"pretrain_share: {self.pretrain_share!r}, expected a number between 0 and 1")
        for key in ("weight_decay", "pretrain_weight_decay"):
            self._check_float(key, positive=False)

    def _check_int(self, key: str, low: int) -> None:
        value = getattr(self, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise NARSError(f"{key}: {value!r}, expected an integer of at least {low}")

    def _check_float(self, key: str, positive: bool) -> None:
        value = getattr(self, key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (positive and value == 0):
            raise NARSError(f"{key}: {value!r}, expected a number {'above 0' if positive else 'of at least 0'}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``PredictorSettings(**data)`` is equal."""
        return dataclasses.asdict(self)
