"""What the values of a recipe can be: each kind checks its values and knows their form in a config."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

import numpy as np

from fbnet_plugin.arch.errors import short_repr

from .errors import RecipeError


@dataclass(frozen=True)
class Kind:
    """A field of a recipe.

    Attributes:
        key: config key.
        words: what a recipe calls a value -> what the config has; other values are the same in both.
    """

    key: str
    words: Mapping[str, Any] = field(default_factory=dict)
    numeric = False  # whether ``read`` makes numbers of texts

    def checked(self, name: str, value: Any) -> Any:
        """The value in its own type.

        Args:
            name: for messages.

        Raises:
            RecipeError: names the field, the value and what is accepted.
        """
        if isinstance(value, str) and value in self.words:
            return value
        good, value = self._convert(value)
        if not good:
            raise RecipeError(f"{name}: got {short_repr(value)}, expected {self.accepted()}")
        return value

    def accepted(self) -> str:
        """What a recipe may say, in words."""
        return f"one of {', '.join(self.words)}"

    def read(self, value: Any) -> Any:
        """A value of a file: a number may be a text such as "1e-5", which YAML 1.1 takes for a word."""
        return number_of(value) if self.numeric else value

    def to_config(self, value: Any) -> Any:
        """What the config key has for a value of a recipe."""
        return self.words[value] if isinstance(value, str) else value

    def from_config(self, value: Any) -> Any:
        """What a recipe says for a value of the config key.

        Raises:
            RecipeError: no recipe says so; names the config key.
        """
        for word, meant in self.words.items():
            if type(value) is type(meant) and value == meant:
                return word
        if isinstance(value, str):
            known = [repr(meant) if meant in ("", None) else str(meant) for meant in self.words.values()]
            expected = f"one of {', '.join(known)} in a recipe" if known else self.accepted()
            raise RecipeError(f"{self.key}: got {short_repr(value)}, expected {expected}")
        return self.checked(self.key, value)

    def _convert(self, value: Any) -> Tuple[bool, Any]:
        """Whether a value that is no word is accepted, and the value in its type."""
        return False, value


class Word(Kind):
    """One of ``words``."""


class Flag(Kind):
    """True or false."""

    def accepted(self) -> str:
        return "true or false"

    def _convert(self, value: Any) -> Tuple[bool, Any]:
        good = isinstance(value, (bool, np.bool_))
        return good, bool(value) if good else value


@dataclass(frozen=True)
class Number(Kind):
    """A number in an interval.

    Attributes:
        low, high: its ends.
        excluded: the end that is not accepted itself; None where both are.
    """

    low: float = 0.0
    high: float = 1.0
    excluded: Any = None
    numeric = True

    def accepted(self) -> str:
        start = f"above {self.low:g}" if self.excluded == self.low else f"from {self.low:g}"
        end = f"below {self.high:g}" if self.excluded == self.high else f"{self.high:g}"
        return " or ".join([f"a number {start} to {end}", *self.words])

    def _convert(self, value: Any) -> Tuple[bool, Any]:
        good = _is_number(value) and self.low <= value <= self.high and value != self.excluded  # NaN fails
        return good, float(value) if good else value


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number from ``low`` to ``high``."""

    low: int = 0
    high: int = 1_000_000
    numeric = True

    def accepted(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def _convert(self, value: Any) -> Tuple[bool, Any]:
        good = _is_number(value) and self.low <= value <= self.high and int(value) == value
        return good, int(value) if good else value


class Rising(Kind):
    """Increasing numbers above 0; may be none."""

    def accepted(self) -> str:
        return "a list of increasing numbers above 0"

    def _convert(self, value: Any) -> Tuple[bool, Any]:
        if not isinstance(value, (list, tuple)) or not all(map(_is_number, value)):
            return False, value
        if not all(low < high < math.inf for low, high in zip((0, *value), value)):
            return False, value
        return True, tuple(number if isinstance(number, int) else float(number) for number in value)


def number_of(value: Any) -> Any:
    """The number in a text such as "1e-5"; other values as they are."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return value if math.isnan(number) else number


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
