"""The accuracy predictor (FBNetV3 sections 3.1 to 3.3, Figure 3): an MLP that first learns free statistics.

Stage 1, ``pretrain``: the encoder, one layer over the architecture's code, learns with the statistics head to predict
MACs, parameters and the like, which need no training. Stage 2, ``fit``: the accuracy head over [embedding, recipe code]
is trained with the Huber loss on the accuracies of trained candidates, for 50 epochs with the encoder frozen and for 50
more with all of it.

``PredictorSettings.plain()`` is that and no more. The default closes its gap to boosted trees and its noise with few
samples by four additions: the mean of 8 networks of different random weights; a second hidden layer and a linear path
from the codes to the output; a least number of steps, as 50 epochs of 50 samples are too few to fit them; and as target
the logarithm of the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch

from .errors import NARSError
from .predictor_net import AccuracyHead, Dense, Phase, encode, huber, one_thread, train
from .predictor_settings import PredictorSettings
from .predictor_target import Calibration, Target, fold_rows
from .run_data import PretrainData

CHUNK = 2048  # rows of a prediction at a time


class Predictor:
    """Predicts accuracies, in %, from codes of joint points (``Encoding``).

    Args:
        arch_width: columns of the architecture's code, the first; 0 in a recipe-only search.
        width: columns of the whole code.
        statistics: names of the statistics to pretrain on, such as ("macs", "params").
        settings: form and training.
        seed: of the weights, of the 80/20 split and of the order of samples. Equal seeds, data and settings give
            equal predictions, bit for bit; the global random state is neither used nor changed.

    Raises:
        NARSError: widths that are no widths.
    """

    def __init__(
        self,
        arch_width: int,
        width: int,
        statistics: Sequence[str] = ("macs", "params"),
        settings: Optional[PredictorSettings] = None,
        seed: int = 0,
    ):
        if not 0 <= arch_width <= width or width == 0:
            raise NARSError(f"code widths {arch_width} (architecture) of {width}, expected 0 <= {arch_width} <= width")
        self.arch_width, self.width, self.seed = int(arch_width), int(width), int(seed)
        self.statistics = tuple(statistics)
        self.settings = settings or PredictorSettings()
        self.pretrained = False
        self.encoder = self._new_encoder(self.settings.members)  # as pretrained; a fit starts from it
        self.fitted: Optional[Fitted] = None

    def pretrain(self, arch_codes: np.ndarray, statistics: np.ndarray) -> PretrainData:
        """Stage 1. Trains the encoder on 80 % of the rows; a fit of before is forgotten.

        Statistics that are all positive are learned as logarithms, as MACs are products; all are standardized.

        Args:
            arch_codes: (n, arch_width), of the pool.
            statistics: (n, len(self.statistics)), raw values.

        Returns:
            truth and prediction on the other 20 %.

        Raises:
            NARSError: non-finite values, wrong shapes, fewer than 5 rows, or there is no architecture part.
        """
        if not self.arch_width or not self.statistics:
            raise NARSError("nothing to pretrain: the codes have no architecture part, or there are no statistics")
        codes = checked("architecture code", arch_codes, self.arch_width)
        values = checked("statistics", statistics, len(self.statistics), rows=len(codes), dtype=np.float64)
        if len(codes) < 5:
            raise NARSError(f"{len(codes)} architectures to pretrain on, expected at least 5")
        logarithmic = (values > 0).all(axis=0)
        scaled = np.where(logarithmic, np.log(np.where(logarithmic, values, 1.0)), values)
        order = np.random.default_rng([self.seed, 1]).permutation(len(codes))
        held_out = max(round(len(codes) * (1 - self.settings.pretrain_share)), 1)
        kept, held = np.split(order, [len(codes) - held_out])
        mean, scale = scaled[kept].mean(axis=0), nonzero(scaled[kept].std(axis=0))
        with one_thread():
            predicted = self._train_statistics(codes, (scaled - mean) / scale, kept, held) * scale + mean
        if not np.isfinite(predicted).all():
            raise NARSError("the statistics head has diverged; lower pretrain_lr")
        predicted = np.where(logarithmic, np.exp(np.where(logarithmic, predicted, 0.0)), predicted)
        self.pretrained, self.fitted = True, None
        return PretrainData(self.statistics, values[held], predicted)

    def fit(self, codes: np.ndarray, accuracy: np.ndarray) -> None:
        """Stage 2. Trains anew, from the pretrained encoder, on all samples.

        Args:
            codes: (n, width).
            accuracy: (n,), in %.

        Raises:
            NARSError: non-finite values, wrong shapes, fewer than 2 samples, or accuracies above 100 %.
        """
        codes = checked("code", codes, self.width)
        accuracy = checked("accuracy", np.reshape(accuracy, (-1, 1)), 1, rows=len(codes), dtype=np.float64)[:, 0]
        if len(codes) < 2:
            raise NARSError(f"{len(codes)} samples to fit the accuracy predictor to, expected at least 2")
        target = Target.of(accuracy, self.settings)
        with one_thread():
            rows = torch.arange(len(codes)).repeat(self.settings.members, 1)
            model = self._train_accuracy(codes, target.to_unit(accuracy), target, rows, 2)
            calibration = self._calibrate(codes, accuracy, target)
        self.fitted = Fitted(*model, target, calibration)

    def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and calibrated standard deviation of the accuracy, float64 (n,) each, in %.

        The standard deviation is such that about 68 % of the samples lay within one of them when they were left out
        of the fit (cross-validation); it grows with the members' disagreement.

        Raises:
            NARSError: not fitted, non-finite codes, wrong shape.
        """
        if self.fitted is None:
            raise NARSError("the accuracy predictor has not been fitted yet")
        codes = checked("code", codes, self.width)
        with one_thread():
            members = self.fitted.members(codes)
        if not np.isfinite(members).all():
            row = int(np.argwhere(~np.isfinite(members))[0][1])
            raise NARSError(f"the predicted accuracy of row {row} is not finite; lower frozen_lr and tuned_lr")
        return members.mean(axis=0), self.fitted.calibration.std(members)

    def _new_encoder(self, members: int) -> Dense:
        return Dense(members, self.arch_width, self.settings.embedding, self._generator(0))

    def _generator(self, purpose: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, purpose]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def _train_statistics(
        self, codes: np.ndarray, targets: np.ndarray, kept: np.ndarray, held: np.ndarray
    ) -> np.ndarray:
        """Trains a new encoder; predictions of the held out rows, standardized, (len(held), S)."""
        settings, generator = self.settings, self._generator(1)
        encoder = self._new_encoder(settings.members)
        head = Dense(settings.members, settings.embedding, len(self.statistics), generator)
        inputs, wanted = torch.from_numpy(codes), torch.from_numpy(targets.astype(np.float32))

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return (head(encode(encoder, inputs[rows])) - wanted[rows]).square().mean(dim=2)

        phase = Phase(
            settings.pretrain_epochs,
            settings.pretrain_lr,
            settings.pretrain_batch_size,
            settings.pretrain_min_steps,
            settings.pretrain_weight_decay,
        )
        rows = torch.from_numpy(kept).repeat(settings.members, 1)
        train([encoder, head], loss, rows, phase, generator)
        self.encoder = encoder
        return head(encode(encoder, inputs[held].expand(settings.members, -1, -1))).mean(dim=0).double().numpy()

    def _train_accuracy(
        self, codes: np.ndarray, targets: np.ndarray, target: Target, rows: torch.Tensor, purpose: int
    ) -> tuple[Dense, AccuracyHead]:
        """Both phases of a fit, of as many networks as ``rows`` (M, n) has rows, a multiple of the members."""
        settings, generator = self.settings, self._generator(purpose)
        encoder = self.encoder.repeated(len(rows) // settings.members)
        head = AccuracyHead(len(rows), self.arch_width, self.width, settings, generator)
        inputs, wanted = torch.from_numpy(codes), torch.from_numpy(targets.astype(np.float32))

        def loss(chosen: torch.Tensor) -> torch.Tensor:
            return huber(head(encoder, inputs[chosen]), wanted[chosen], target.delta)

        decay = settings.weight_decay * settings.weight_decay_samples / rows.shape[1]
        learned = [encoder] if self.arch_width else []
        first = Phase(settings.frozen_epochs, settings.frozen_lr, settings.batch_size, settings.min_steps, decay)
        train(head.parts() + ([] if self.pretrained else learned), loss, rows, first, generator)
        second = Phase(settings.tuned_epochs, settings.tuned_lr, settings.batch_size, settings.min_steps, decay)
        train(head.parts() + learned, loss, rows, second, generator)
        return encoder, head

    def _calibrate(self, codes: np.ndarray, accuracy: np.ndarray, target: Target) -> Calibration:
        """Cross-validation: ensembles that leave out one fold each, all trained side by side."""
        settings = self.settings
        folds = fold_rows(len(codes), settings.calibration_folds, np.random.default_rng([self.seed, 3]))
        if not folds:
            return Calibration()
        rows = torch.from_numpy(np.stack([kept for kept, _ in folds])).repeat_interleave(settings.members, dim=0)
        model = Fitted(*self._train_accuracy(codes, target.to_unit(accuracy), target, rows, 4), target, Calibration())
        everything = model.members(codes).reshape(len(folds), settings.members, len(codes))
        left_out = np.empty((settings.members, len(codes)))
        for number, (_, held) in enumerate(folds):
            left_out[:, held] = everything[number][:, held]
        return Calibration.of(left_out, accuracy)


class Fitted:
    """What a fit leaves: trained layers, the target's scale and the calibration."""

    def __init__(self, encoder: Dense, head: AccuracyHead, target: Target, calibration: Calibration):
        self.encoder, self.head, self.target, self.calibration = encoder, head, target, calibration

    def members(self, codes: np.ndarray) -> np.ndarray:
        """Each network's predictions, in %, float64 (M, n)."""
        count = len(self.head.layers[0].weight)
        units = [
            self.head(self.encoder, part.expand(count, -1, -1)).double().numpy()
            for part in torch.from_numpy(codes).split(CHUNK)
        ]
        return self.target.from_unit(np.concatenate(units, axis=1) if units else np.empty((count, 0)))


def checked(name: str, values: Any, columns: int, rows: Optional[int] = None, dtype: Any = np.float32) -> np.ndarray:
    """The values as an array of ``columns`` columns (and ``rows`` rows), all finite.

    Raises:
        NARSError: they are not; names the first row.
    """
    array: np.ndarray = np.ascontiguousarray(values, dtype=dtype)
    if array.ndim != 2 or array.shape[1] != columns or (rows is not None and len(array) != rows):
        raise NARSError(f"{name}: shape {array.shape}, expected ({'n' if rows is None else rows}, {columns})")
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise NARSError(f"{name}: row {row} has {array[row, column]} in column {column}, expected finite numbers")
    return array


def nonzero(scale: np.ndarray) -> np.ndarray:
    """The same, with 1 instead of what is next to nothing."""
    return np.where(scale > 1e-9, scale, 1.0)
