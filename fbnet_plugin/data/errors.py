"""The one error of this package: which dataset, which file, what is wrong and what would help."""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset, or an entry of one, that cannot be used; the message is for the user."""
