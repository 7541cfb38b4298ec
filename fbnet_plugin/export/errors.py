"""The errors of this room."""

from __future__ import annotations

from ..engine.errors import ConfigError


class ExportInputError(ConfigError):
    """A model or an option that cannot be exported so; the message says what would be accepted."""


class ExportError(RuntimeError):
    """A network that cannot be exported, or an exported one that does not give what the model gives."""
