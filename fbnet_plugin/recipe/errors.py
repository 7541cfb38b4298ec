"""The error of a recipe's own checks."""

from __future__ import annotations

from fbnet_plugin.engine.errors import ConfigError


class RecipeError(ConfigError):
    """A recipe, or a file of one, that cannot be used; the message is for the user."""
