"""Checks of single values: each gives the value back in its plain Python type, or raises ArchError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import value_error


def assign(spec: Any, **values: Any) -> None:
    """Sets fields of a frozen dataclass, for its ``__post_init__``."""
    for key, value in values.items():
        object.__setattr__(spec, key, value)


def check_int(key: str, value: Any, low: int, high: int) -> int:
    """A Python or NumPy integer from ``low`` to ``high``; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise value_error(key, value, f"an integer from {low} to {high}" if low < high else str(low))
    return int(value)


def check_odd(key: str, value: Any, high: int) -> int:
    """An odd integer from 1 to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= high or value % 2 == 0:
        raise value_error(key, value, f"an odd integer from 1 to {high}")
    return int(value)


def check_float(key: str, value: Any, low: float, high: float) -> float:
    """A finite number from ``low`` to ``high``; True and False are none."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # NaN fails both comparisons
        raise value_error(key, value, f"a number from {low:g} to {high:g}")
    return float(value)


def check_bool(key: str, value: Any) -> bool:
    """True or False, also NumPy's."""
    if not isinstance(value, (bool, np.bool_)):
        raise value_error(key, value, "true or false")
    return bool(value)


def check_choice(key: str, value: Any, choices: Sequence[str]) -> str:
    """One of the words ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise value_error(key, value, "one of " + ", ".join(choices))
    return str(value)


def check_text(key: str, value: Any, high: int) -> str:
    """A text of at most ``high`` characters, all of which UTF-8 can express."""
    if not isinstance(value, str) or len(value) > high or any("\ud800" <= char <= "\udfff" for char in value):
        raise value_error(key, value, f"a text of at most {high} characters")
    return str(value)


def check_line(key: str, value: Any, high: int) -> str:
    """A text of 1 to ``high`` printable characters, so without line breaks."""
    if not isinstance(value, str) or not 1 <= len(value) <= high or not value.isprintable():
        raise value_error(key, value, f"a text of 1 to {high} printable characters")
    return str(value)
