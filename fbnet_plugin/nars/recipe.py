"""Training recipes as data (FBNetV3 section 3.5): checked, read, written, and put into a config."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any, Dict

import numpy as np
import yaml
from detectron2.config import CfgNode

from fbnet_plugin.arch import ArchError
from fbnet_plugin.arch.errors import short_key, short_repr
from fbnet_plugin.arch.plain_yaml import parse_yaml, read_text
from fbnet_plugin.atomic_file import atomic_write

from .errors import NARSError

OPTIMIZERS = {"sgd": "SGD", "rmsprop": "RMSProp"}  # in a recipe: in SOLVER.OPTIMIZER

# Field: lowest and highest number that it takes.
_BOUNDS = {
    "lr": (0.0, 100.0),
    "dropout": (0.0, 1.0),
    "stochastic_depth": (0.0, 1.0),
    "mixup": (0.0, 1000.0),
    "weight_decay": (0.0, 1.0),
}

# Field: config key.
CONFIG_KEYS = {
    "lr": "SOLVER.BASE_LR",
    "optimizer": "SOLVER.OPTIMIZER",
    "ema": "MODEL_EMA.ENABLED",
    "dropout": "MODEL.CLASSIFIER.DROPOUT",
    "stochastic_depth": "MODEL.FBNET.DROP_PATH",
    "mixup": "MODEL.CLASSIFIER.MIXUP",
    "weight_decay": "SOLVER.WEIGHT_DECAY",
}

_HEADER = """\
# Training recipe (FBNetV3 section 3.5): peak learning rate as it is used, optimizer (sgd or rmsprop), average of the
# weights, dropout before the classifier, drop probability of the last block (linear in depth), alpha of mixup's Beta
# distribution (0: none), weight decay.
"""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, as far as it is searched.

    Attributes:
        lr: peak learning rate, above 0, as it is used: after the factor 4 of SGD (FBNetV3 Table 2).
        optimizer: "sgd" or "rmsprop".
        ema: keep an exponential moving average of the weights, and use it.
        dropout: probability before the last linear layer, 0 to 1.
        stochastic_depth: probability that the last block drops its residual branch, 0 to below 1, linear in depth.
        mixup: alpha of the Beta distribution, at least 0; 0 mixes nothing.
        weight_decay: at least 0.

    Raises:
        NARSError: names key, value and what is accepted.
    """

    lr: float
    optimizer: str
    ema: bool
    dropout: float
    stochastic_depth: float
    mixup: float
    weight_decay: float

    def __post_init__(self) -> None:
        for key, (low, high) in _BOUNDS.items():
            object.__setattr__(self, key, _check_number(key, getattr(self, key), low, high))
        if self.optimizer not in OPTIMIZERS:
            raise NARSError(f"optimizer: got {short_repr(self.optimizer)}, expected one of {', '.join(OPTIMIZERS)}")
        if not isinstance(self.ema, (bool, np.bool_)):
            raise NARSError(f"ema: got {short_repr(self.ema)}, expected true or false")
        object.__setattr__(self, "ema", bool(self.ema))

    def to_dict(self) -> Dict[str, Any]:
        """Plain data, what a recipe file holds; ``recipe_from_dict`` is the way back."""
        return dataclasses.asdict(self)


FIELDS = tuple(field.name for field in dataclasses.fields(Recipe))


def _check_number(key: str, value: Any, low: float, high: float) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    excluded = {"lr": low, "stochastic_depth": high}.get(key)
    if not number or not low <= value <= high or value == excluded:  # NaN fails both comparisons
        start = f"above {low:g}" if excluded == low else f"from {low:g}"
        end = f"below {high:g}" if excluded == high else f"{high:g}"
        raise NARSError(f"{key}: got {short_repr(value)}, expected a number {start} to {end}")
    return float(value)


def recipe_from_dict(data: Any) -> Recipe:
    """A recipe from the plain data of its file.

    Args:
        data: all fields; a number may be a text such as "1e-5", which YAML does not take for a number.

    Raises:
        NARSError: a key that is unknown or missing, or a value out of range.
    """
    if not isinstance(data, dict):
        raise NARSError(f"got {short_repr(data)}, expected a mapping with {', '.join(FIELDS)}")
    for key in data:
        if key not in FIELDS:
            raise NARSError(f"{short_key(key)}: unknown key, expected {', '.join(FIELDS)}")
    for key in FIELDS:
        if key not in data:
            raise NARSError(f"{key}: is missing, expected all of {', '.join(FIELDS)}")
    return Recipe(**{key: number_of(value) if key in _BOUNDS else value for key, value in data.items()})


def number_of(value: Any) -> Any:
    """The number in a text such as "1e-5", which YAML 1.1 takes for a word; other values as they are."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return value if math.isnan(number) else number


def save_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Writes a recipe to ``path`` through a temporary file and a rename.

    Raises:
        OSError: the file cannot be written; what stood there before stays.
    """
    text = _HEADER + yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a file.

    Raises:
        NARSError: names file, key, value and what is accepted.
    """
    file = os.fspath(path)
    try:
        data = parse_yaml(read_text(file))
    except ArchError as error:
        raise NARSError(f"{file}: {error.problem}") from None
    try:
        return recipe_from_dict(data)
    except NARSError as error:
        raise NARSError(f"{file}: {error}") from None


def recipe_overrides(recipe: Recipe) -> Dict[str, Any]:
    """Config key -> value for a recipe, such as ``{"SOLVER.BASE_LR": 0.02, ...}``."""
    values = {**recipe.to_dict(), "optimizer": OPTIMIZERS[recipe.optimizer]}
    return {key: values[field] for field, key in CONFIG_KEYS.items()}


def apply_recipe(cfg: CfgNode, recipe: Recipe) -> None:
    """Puts a recipe into a config, in place; the config must not be frozen."""
    for key, value in recipe_overrides(recipe).items():
        *nodes, last = key.split(".")
        node = cfg
        for name in nodes:
            node = node[name]
        node[last] = value


def recipe_from_config(cfg: CfgNode) -> Recipe:
    """The recipe that a config trains with; ``apply_recipe`` is the way back.

    Raises:
        NARSError: a value that no recipe can have; names the config key.
    """
    values: Dict[str, Any] = {}
    for field, key in CONFIG_KEYS.items():
        node: Any = cfg
        for name in key.split("."):
            node = node[name]
        values[field] = node
    words = {word: name for name, word in OPTIMIZERS.items()}
    if values["optimizer"] not in words:
        raise NARSError(
            f"SOLVER.OPTIMIZER: got {short_repr(values['optimizer'])}, expected one of {', '.join(words)} in a recipe"
        )
    values["optimizer"] = words[values["optimizer"]]
    try:
        return Recipe(**values)
    except NARSError as error:
        field, _, problem = str(error).partition(": ")
        raise NARSError(f"{CONFIG_KEYS[field]}: {problem}") from None
