"""Configs that differ from another one in a few keys."""

from __future__ import annotations

from typing import Any, List, Optional

import yaml
from detectron2.config import CfgNode

from fbnet_plugin.arch import list_archs
from fbnet_plugin.engine import find_config, load_config
from fbnet_plugin.engine.teacher import describe
from fbnet_plugin.recipe import FIELDS, load_recipe, recipe_overrides

# Evaluations during a training of which the config asks for none, so that there is a curve.
EVALUATIONS = 15


def variant(cfg: CfgNode, *opts: Any) -> CfgNode:
    """A frozen copy with other values: alternately keys and values of the right types."""
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in zip(opts[::2], opts[1::2]):
        *nodes, last = key.split(".")
        node = cfg
        for name in nodes:
            node = node[name]
        node[last] = value
    cfg.freeze()
    return cfg


def with_curve(cfg: CfgNode) -> CfgNode:
    """A copy that evaluates ``EVALUATIONS`` times or fewer on its way, where the config does not say how often."""
    if cfg.TEST.EVAL_EPOCHS or cfg.TEST.EVAL_PERIOD:
        return variant(cfg)
    key, length = ("EVAL_EPOCHS", cfg.SOLVER.EPOCHS) if cfg.SOLVER.EPOCHS else ("EVAL_PERIOD", cfg.SOLVER.MAX_ITER)
    return variant(cfg, f"TEST.{key}", max(1, -(-length // EVALUATIONS)))


def name_of(cfg: CfgNode) -> str:
    """The network in a few words, such as "fbnet_v3_a x0.5"."""
    width = cfg.MODEL.FBNET.WIDTH_MULT
    scaled = width != 1 and cfg.MODEL.BACKBONE.NAME.startswith("build_fbnet_")
    return describe(cfg) + (f" x{width:g}" if scaled else "")


def network_opts(name: str) -> List[Any]:
    """The keys that choose a network: one of this project's zoo, a file of an architecture, or one of torchvision's."""
    if name in list_archs() or name.endswith((".yaml", ".yml")):
        return ["MODEL.BACKBONE.NAME", "build_fbnet_backbone", "MODEL.FBNET.ARCH", name]
    return ["MODEL.BACKBONE.NAME", "build_torchvision_backbone", "MODEL.TORCHVISION.NAME", name]


def recipe_opts(name: str) -> List[Any]:
    """What a recipe says, alternately keys and values.

    Args:
        name: "" for nothing; a part of a config, such as Recipes/fbnet_v3_400e.yaml, by path or by name; or the file
            of a recipe, as a search writes it.

    Raises:
        ConfigError: there is no such file, or it cannot be used.
    """
    if not name:
        return []
    path = find_config(name)
    if _is_recipe(path):
        return [part for pair in recipe_overrides(load_recipe(path)).items() for part in pair]
    cfg = load_config(path)  # says what is wrong with it
    return _leaves(CfgNode.load_yaml_with_base(path), cfg)


def _is_recipe(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError):
        return False  # load_config says it better
    return isinstance(data, dict) and any(key in FIELDS for key in data)


def _leaves(data: Any, cfg: CfgNode, prefix: str = "") -> List[Any]:
    """Keys of a nested mapping and their values in ``cfg``, where they have their types."""
    found: List[Any] = []
    for key in data:
        value: Optional[Any] = cfg[key]
        name = f"{prefix}{key}"
        if isinstance(value, CfgNode):
            found += _leaves(data[key], value, f"{name}.")
        elif name not in ("VERSION", "OUTPUT_DIR"):
            found += [name, value]
    return found
