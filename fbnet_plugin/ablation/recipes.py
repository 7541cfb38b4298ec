"""The published recipe against a plain one, on several networks (FBNetV3 section 4.1, Table 3)."""

from __future__ import annotations

from typing import Any, List, Sequence

from detectron2.config import CfgNode

from fbnet_plugin.engine import load_config

from .errors import AblationError
from .plan import RECIPES, Entry, Plan, Training, outline_of
from .variants import name_of, network_opts, recipe_opts, variant, with_curve

ORIGINAL, RECIPE = COLUMNS = ("Original", "Recipe")


def side(config_file: str, network: str, recipe: str, opts: Sequence[Any], own_opts: Sequence[Any]) -> CfgNode:
    """A network's config with one of the two recipes.

    Args:
        config_file: path or name of the common config.
        network: see ``network_opts``.
        recipe: see ``recipe_opts``.
        opts, own_opts: keys and values on top of it, of both sides and of this one.

    Raises:
        ConfigError: a file, a key or a value that cannot be used.
    """
    every = [*network_opts(network), *recipe_opts(recipe), *opts, *own_opts]
    return with_curve(load_config(config_file, every))


def recipes_plan(
    config_file: str,
    networks: Sequence[str],
    seeds: Sequence[int],
    metric: str,
    plain: str,
    recipe: str,
    opts: Sequence[Any] = (),
    plain_opts: Sequence[Any] = (),
    recipe_opts: Sequence[Any] = (),
) -> Plan:
    """Two trainings per network and seed. A recipe with MODEL_EMA.ENABLED counts with its averaged weights.

    Args:
        config_file: what all have in common.
        networks: see ``variants.network_opts``.
        seeds: of the trainings.
        metric: "group/name".
        plain, recipe: see ``variants.recipe_opts``.
        opts, plain_opts, recipe_opts: keys and values on top, of both and of one.

    Raises:
        ConfigError: a file, a key or a value that cannot be used.
        AblationError: the two recipes are the same for a network.
    """
    trainings: List[Training] = []
    entries: List[Entry] = []
    sides = (("plain", ORIGINAL, plain, plain_opts), ("recipe", RECIPE, recipe, recipe_opts))
    for network in dict.fromkeys(networks):
        cfgs = [side(config_file, network, file, opts, own) for _, _, file, own in sides]
        if cfgs[0] == cfgs[1]:
            raise AblationError(f"--plain {plain!r} and --recipe {recipe!r} make the same config of {network}")
        row = name_of(cfgs[0])
        for seed in seeds:
            for (word, column, _, _), cfg in zip(sides, cfgs):
                name = f"{_folder(row)}-{word}-seed{seed}"
                trainings.append(Training(name, variant(cfg, "SEED", seed)))
                entries.append(Entry(row, column, seed, name, bool(cfg.MODEL_EMA.ENABLED)))
    return Plan(outline_of(RECIPES, metric, COLUMNS, entries, trainings), tuple(trainings))


def _folder(row: str) -> str:
    """A network's name as a part of a folder's."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in row)
