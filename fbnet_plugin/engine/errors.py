"""The error of this package's own checks."""

from __future__ import annotations

import difflib
from typing import Iterable


class ConfigError(Exception):
    """A config, or the command line, that cannot be used; the message is for the user."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The ending ``; did you mean A or B?`` with the names nearest to ``word``, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
