"""The one error of this package: which file, which tensor, and which config key would help."""

from __future__ import annotations


class CheckpointError(Exception):
    """A checkpoint that cannot be used, or does not belong to this model; the message is for the user."""
