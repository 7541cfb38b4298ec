"""The error of a NARS search's own checks."""

from __future__ import annotations

from fbnet_plugin.engine.errors import ConfigError


class NARSError(ConfigError):
    """A search, or a part or result of it, that cannot be used; the message is for the user."""
