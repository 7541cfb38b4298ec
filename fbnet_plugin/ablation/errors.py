"""The error of an ablation's own checks."""

from __future__ import annotations

from fbnet_plugin.engine.errors import ConfigError


class AblationError(ConfigError):
    """An ablation, or its folder, that cannot be used; the message is for the user."""
