"""The one error of this room."""

from __future__ import annotations


class LatencyError(ValueError):
    """A latency table, a measurement or a request to one that cannot be used; the message says what would be."""
