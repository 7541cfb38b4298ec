"""The one error of this package: what is wrong, where, and what would be accepted."""

from __future__ import annotations

import reprlib
from typing import Any

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxtuple = _short.maxdict = 4
_short.maxlevel = 2


def short_repr(value: Any) -> str:
    """``repr(value)`` cut to a line, safe for nested and self-referencing values."""
    try:
        return _short.repr(value).replace("\n", " ")
    except ValueError:  # an integer of thousands of digits
        return f"a value of type {type(value).__name__}"


def short_key(key: Any) -> str:
    """A mapping's key for an error message; only short printable text is printed bare."""
    return key if isinstance(key, str) and key.isprintable() and 0 < len(key) <= 60 else short_repr(key)


class ArchError(ValueError):
    """An architecture or search-space description that cannot be used.

    The message names, as far as they are known, the file, the place in it (stage, block), the key,
    the value that was found and what would be accepted.

    Attributes:
        problem: what is wrong, without the place.
        where: path inside the file, such as ``stages[2].blocks[0].kernel``.
        file: the file's path, or None for a spec that was made in Python.
    """

    def __init__(self, problem: str, where: str = "", file: str | None = None):
        self.problem, self.where, self.file = problem, where, file
        super().__init__(": ".join(part for part in (file, where, problem) if part))

    def __reduce__(self) -> tuple[Any, ...]:
        return ArchError, (self.problem, self.where, self.file)

    def inside(self, where: str = "", file: str | None = None) -> ArchError:
        """The same error seen from one level further out."""
        dot = "." if where and self.where and not self.where.startswith("[") else ""
        return ArchError(self.problem, f"{where}{dot}{self.where}", self.file or file)


def value_error(key: str, value: Any, accepted: str) -> ArchError:
    """The usual error: a key holds a value that is not among those accepted."""
    return ArchError(f"got {short_repr(value)}, expected {accepted}", key)
