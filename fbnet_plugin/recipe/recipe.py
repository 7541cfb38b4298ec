"""How a network is trained, as one value (FBNetV3 section 3.5)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

from .kinds import Flag, Integer, Kind, Number, Rising, Word

LONGEST = 100_000.0  # epochs

OPTIMIZERS = {"sgd": "SGD", "rmsprop": "RMSProp"}
SCHEDULES = {"cosine": "WarmupCosineLR", "step": "WarmupMultiStepLR", "exponential": "WarmupExponentialLR"}
# In a config the policy "none" is the empty word.
POLICIES = {
    "none": "",
    **{name: name for name in ("autoaugment", "autoaugment-cifar10", "autoaugment-svhn", "randaugment")},
    "trivialaugment": "trivialaugment",
}


def _said(kind: Kind) -> Any:
    """A field that every recipe says."""
    return dataclasses.field(metadata={"kind": kind})


def _may(kind: Kind) -> Any:
    """A field that a recipe may leave to the config."""
    return dataclasses.field(default=None, metadata={"kind": kind})


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. A line below is all there is to a field: name, config key, and what is accepted.

    The first seven are those that FBNetV3 searches, and every recipe has them. The others may be None, which is "not
    said": a config keeps its own value. Lengths are in epochs; a length of 0 is none in epochs, and the config's key in
    iterations counts.

    Attributes:
        lr: peak learning rate, above 0, as it is used: after the factor 4 of SGD (FBNetV3 Table 2).
        optimizer: "sgd" or "rmsprop".
        ema: keep an exponential moving average of the weights, and use it.
        dropout: probability before the last linear layer, 0 to 1.
        stochastic_depth: probability that the last block drops its residual branch, 0 to below 1, linear in depth.
        mixup: alpha of the Beta distribution, at least 0; 0 mixes nothing.
        weight_decay: at least 0.
        batch_size: images per step, of all processes together.
        epochs, warmup_epochs: of the whole schedule, and of the warm-up in it.
        warmup_factor: share of ``lr`` that the warm-up begins with.
        schedule: "cosine", "step" or "exponential".
        step_epochs, gamma: of "step": after these epochs the learning rate is multiplied by ``gamma``.
        epoch_decay: of "exponential": factor per epoch.
        momentum, nesterov: of SGD.
        rmsprop_momentum, rmsprop_alpha, rmsprop_eps: of RMSProp, whose momentum is another number than SGD's in a
            config too.
        weight_decay_norm: of the norm layers.
        weight_decay_bias: of the biases, or "same" for ``weight_decay``.
        label_smoothing: of the cross entropy, 0 to below 1.
        auto_augment: policy, or "none".
        rand_augment_ops, rand_augment_magnitude: of the policy "randaugment".
        ema_decay: share of the old average that stays at each step.
        distillation: learn from a teacher, which the config names.
        soft_weight, hard_weight: factors on the teacher's term and on the cross entropy.
        temperature: of the teacher's term.

    Raises:
        RecipeError: names field, value and what is accepted.
    """

    lr: float = _said(Number("SOLVER.BASE_LR", high=100.0, excluded=0.0))
    optimizer: str = _said(Word("SOLVER.OPTIMIZER", OPTIMIZERS))
    ema: bool = _said(Flag("MODEL_EMA.ENABLED"))
    dropout: float = _said(Number("MODEL.CLASSIFIER.DROPOUT"))
    stochastic_depth: float = _said(Number("MODEL.FBNET.DROP_PATH", excluded=1.0))
    mixup: float = _said(Number("MODEL.CLASSIFIER.MIXUP", high=1000.0))
    weight_decay: float = _said(Number("SOLVER.WEIGHT_DECAY"))

    batch_size: Optional[int] = _may(Integer("SOLVER.IMS_PER_BATCH", low=1))
    epochs: Optional[int] = _may(Integer("SOLVER.EPOCHS", high=int(LONGEST)))
    warmup_epochs: Optional[float] = _may(Number("SOLVER.WARMUP_EPOCHS", high=LONGEST))
    warmup_factor: Optional[float] = _may(Number("SOLVER.WARMUP_FACTOR"))
    schedule: Optional[str] = _may(Word("SOLVER.LR_SCHEDULER_NAME", SCHEDULES))
    step_epochs: Optional[Tuple[float, ...]] = _may(Rising("SOLVER.STEP_EPOCHS"))
    gamma: Optional[float] = _may(Number("SOLVER.GAMMA"))
    epoch_decay: Optional[float] = _may(Number("SOLVER.EPOCH_DECAY", excluded=0.0))
    momentum: Optional[float] = _may(Number("SOLVER.MOMENTUM", excluded=1.0))
    nesterov: Optional[bool] = _may(Flag("SOLVER.NESTEROV"))
    rmsprop_momentum: Optional[float] = _may(Number("SOLVER.RMSPROP.MOMENTUM", excluded=1.0))
    rmsprop_alpha: Optional[float] = _may(Number("SOLVER.RMSPROP.ALPHA", excluded=1.0))
    rmsprop_eps: Optional[float] = _may(Number("SOLVER.RMSPROP.EPS", high=100.0, excluded=0.0))
    weight_decay_norm: Optional[float] = _may(Number("SOLVER.WEIGHT_DECAY_NORM"))
    weight_decay_bias: Union[float, str, None] = _may(Number("SOLVER.WEIGHT_DECAY_BIAS", {"same": None}))
    label_smoothing: Optional[float] = _may(Number("MODEL.CLASSIFIER.LABEL_SMOOTHING", excluded=1.0))
    auto_augment: Optional[str] = _may(Word("INPUT.CLASSIFICATION.AUTO_AUGMENT", POLICIES))
    rand_augment_ops: Optional[int] = _may(Integer("INPUT.CLASSIFICATION.RAND_AUGMENT_OPS", low=1, high=100))
    rand_augment_magnitude: Optional[int] = _may(Integer("INPUT.CLASSIFICATION.RAND_AUGMENT_MAGNITUDE", high=30))
    ema_decay: Optional[float] = _may(Number("MODEL_EMA.DECAY", excluded=1.0))
    distillation: Optional[bool] = _may(Flag("MODEL.DISTILLATION.ENABLED"))
    soft_weight: Optional[float] = _may(Number("MODEL.DISTILLATION.SOFT_WEIGHT", high=1000.0))
    hard_weight: Optional[float] = _may(Number("MODEL.DISTILLATION.HARD_WEIGHT", high=1000.0))
    temperature: Optional[float] = _may(Number("MODEL.DISTILLATION.TEMPERATURE", high=1000.0, excluded=0.0))

    def __post_init__(self) -> None:
        for name, kind in FIELDS.items():
            value = getattr(self, name)
            if value is not None or name in SEARCHED:
                object.__setattr__(self, name, kind.checked(name, value))

    def to_dict(self) -> Dict[str, Any]:
        """Plain data, what a recipe file holds: the fields that are said; ``recipe_from_dict`` is the way back."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }


# Field -> its kind; and the fields that FBNetV3 searches, which every recipe says.
FIELDS: Dict[str, Kind] = {one.name: one.metadata["kind"] for one in dataclasses.fields(Recipe)}
SEARCHED = tuple(one.name for one in dataclasses.fields(Recipe) if one.default is dataclasses.MISSING)
