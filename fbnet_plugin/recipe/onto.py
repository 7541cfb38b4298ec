"""A recipe put onto a config, as a new config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

import yaml

from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.engine.config_file import BASE_KEY, find_config, load_config
from fbnet_plugin.engine.lr_schedule import check_schedule
from fbnet_plugin.engine.optimizer import check_optimizer

from .config import apply_recipe, recipe_overrides
from .errors import RecipeError
from .file import load_recipe


def write_onto(recipe_file: str, config: str, output: str) -> None:
    """Writes a config that inherits another one and trains with a recipe.

    Args:
        recipe_file: of ``save_recipe``, such as a search writes one.
        config: path or name of the config that is inherited.
        output: path of the new one, whose runs go to ``./output/<its name>``.

    Raises:
        RecipeError, ConfigError: a file that cannot be used or written, or a recipe that does not fit the config.
    """
    recipe, base = load_recipe(recipe_file), find_config(config)
    cfg = load_config(base)
    apply_recipe(cfg, recipe)
    check_optimizer(cfg)
    check_schedule(cfg)
    folder = os.path.dirname(os.path.abspath(output))
    data: Dict[str, Any] = {BASE_KEY: os.path.relpath(base, folder)}
    for key, value in recipe_overrides(recipe).items():
        *nodes, last = key.split(".")
        node = data
        for name in nodes:
            node = node.setdefault(name, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    data["OUTPUT_DIR"] = f"./output/{Path(output).stem}"
    data["VERSION"] = 2
    header = f"# {os.path.basename(base)} with the recipe of {os.path.basename(recipe_file)}.\n"
    try:
        os.makedirs(folder, exist_ok=True)
        with atomic_write(output) as file:
            file.write((header + yaml.safe_dump(data, sort_keys=False)).encode("utf-8"))
    except OSError as error:
        raise RecipeError(f"{output}: cannot be written: {error.strerror or error}") from None
