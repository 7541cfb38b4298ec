"""Recipes and configs: every field of the one is a key of the other."""

from __future__ import annotations

from typing import Any, Dict, Iterable

from detectron2.config import CfgNode

from .recipe import FIELDS, SEARCHED, Recipe


def recipe_overrides(recipe: Recipe) -> Dict[str, Any]:
    """Config key -> value of what a recipe says, such as ``{"SOLVER.BASE_LR": 0.02, ...}``."""
    values = {name: getattr(recipe, name) for name in FIELDS}
    return {kind.key: kind.to_config(values[name]) for name, kind in FIELDS.items() if values[name] is not None}


def apply_recipe(cfg: CfgNode, recipe: Recipe) -> None:
    """Puts what a recipe says into a config, in place; the config must not be frozen."""
    for key, value in recipe_overrides(recipe).items():
        *nodes, last = key.split(".")
        node = cfg
        for name in nodes:
            node = node[name]
        node[last] = value


def recipe_from_config(cfg: CfgNode, fields: Iterable[str] = tuple(FIELDS)) -> Recipe:
    """The recipe that a config trains with; ``apply_recipe`` is the way back.

    Args:
        cfg: complete.
        fields: those that it is to say, besides those that every recipe says.

    Raises:
        RecipeError: a value that no recipe can have; names the config key.
    """
    wanted = {name: FIELDS[name] for name in (*SEARCHED, *fields)}
    return Recipe(**{name: kind.from_config(value_of(cfg, kind.key)) for name, kind in wanted.items()})


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a key such as "SOLVER.BASE_LR"."""
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node
