"""The error of a search's own checks."""

from __future__ import annotations

from fbnet_plugin.engine.errors import ConfigError


class SearchError(ConfigError):
    """A search, or its result, that cannot be used; the message is for the user."""
