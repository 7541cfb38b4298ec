"""Recipe files: YAML in and out."""

from __future__ import annotations

import os
from typing import Any

import yaml

from fbnet_plugin.arch import ArchError
from fbnet_plugin.arch.errors import short_key, short_repr
from fbnet_plugin.arch.plain_yaml import parse_yaml, read_text
from fbnet_plugin.atomic_file import atomic_write

from .errors import RecipeError
from .recipe import FIELDS, SEARCHED, Recipe

_HEADER = """\
# Training recipe (FBNetV3 section 3.5): peak learning rate as it is used, optimizer (sgd or rmsprop), average of the
# weights, dropout before the classifier, drop probability of the last block (linear in depth), alpha of mixup's Beta
# distribution (0: none), weight decay; and what else is said. tools/recipes.py puts it into a config.
"""


def recipe_from_dict(data: Any) -> Recipe:
    """A recipe from the plain data of its file.

    Args:
        data: at least the fields that are searched; a number may be a text such as "1e-5", which YAML does not take
            for a number.

    Raises:
        RecipeError: a key that is unknown or missing, or a value out of range.
    """
    if not isinstance(data, dict):
        raise RecipeError(f"got {short_repr(data)}, expected a mapping with {', '.join(SEARCHED)}")
    for key in data:
        if key not in FIELDS:
            raise RecipeError(f"{short_key(key)}: unknown key, expected {', '.join(FIELDS)}")
    for key in SEARCHED:
        if key not in data:
            raise RecipeError(f"{key}: is missing, expected all of {', '.join(SEARCHED)}")
    return Recipe(**{key: FIELDS[key].read(value) for key, value in data.items()})


def save_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Writes a recipe to ``path`` through a temporary file and a rename.

    Raises:
        OSError: the file cannot be written; what stood there before stays.
    """
    text = _HEADER + yaml.safe_dump(recipe.to_dict(), sort_keys=False, default_flow_style=None)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a file.

    Raises:
        RecipeError: names file, key, value and what is accepted.
    """
    file = os.fspath(path)
    try:
        data = parse_yaml(read_text(file))
    except ArchError as error:
        raise RecipeError(f"{file}: {error.problem}") from None
    try:
        return recipe_from_dict(data)
    except RecipeError as error:
        raise RecipeError(f"{file}: {error}") from None
