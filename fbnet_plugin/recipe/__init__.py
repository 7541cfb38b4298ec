"""Training recipes as data (FBNetV3 section 3.5): their files, their keys in a config, and which are published."""

from .config import apply_recipe, recipe_from_config, recipe_overrides
from .errors import RecipeError
from .file import load_recipe, recipe_from_dict, save_recipe
from .marks import Mark, config_marks, recipe_marks
from .recipe import FIELDS, SEARCHED, Recipe

__all__ = [
    "FIELDS", "Mark", "Recipe", "RecipeError", "SEARCHED", "apply_recipe", "config_marks", "load_recipe",
    "recipe_from_config", "recipe_from_dict", "recipe_marks", "recipe_overrides", "save_recipe",
]  # fmt: skip
