#!/usr/bin/env python3
"""Training recipes: the published ones, the one that a config trains with, and one put onto a config.

    recipes.py list                                         the published recipes
    recipes.py show NAME                                    one of them: each value, and whether it is published
    recipes.py of CONFIG                                    the recipe that a config trains with
    recipes.py apply RECIPE.yaml --to CONFIG --output NEW.yaml    a config that trains with a recipe file

Examples:
    recipes.py show fbnet_v3_400e
    recipes.py of ImageNet-Classification/fbnet_v3_g_400e.yaml
    recipes.py apply output/nars_digits/winners/macs1.2M-1.recipe.yaml \\
        --to ImageNet-Classification/fbnet_v3_a_400e.yaml --output mine.yaml

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List

from tabulate import tabulate

from fbnet_plugin.engine import exit_codes, load_config
from fbnet_plugin.engine.config_file import find_config
from fbnet_plugin.recipe import config_marks, recipe_marks
from fbnet_plugin.recipe.marks import find_recipe, recipe_names
from fbnet_plugin.recipe.onto import write_onto
from fbnet_plugin.recipe.table import Row, config_table, recipe_table


def print_list(args: argparse.Namespace) -> None:
    rows = []
    for name in recipe_names():
        path = find_recipe(name)
        marks = recipe_marks(path).values()
        title = Path(path).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        rows.append((name, sum(mark.published for mark in marks), sum(not mark.published for mark in marks), title))
    print(tabulate(rows, headers=["recipe", "published", "default", "what it is"]))


def show(args: argparse.Namespace) -> None:
    path = find_recipe(args.name)
    cfg = load_config(path)
    print_rows(recipe_table(cfg, recipe_marks(path)))


def of_config(args: argparse.Namespace) -> None:
    path = find_config(args.config)
    cfg = load_config(path)
    print_rows(config_table(cfg, config_marks(path)))


def apply(args: argparse.Namespace) -> None:
    write_onto(args.recipe, args.to, args.output)
    print(f"wrote {args.output}")


def print_rows(rows: List[Row]) -> None:
    text = [(row.field, row.key, repr(row.value), row.source, row.note) for row in rows]
    print(tabulate(text, headers=["field", "config key", "value", "", "where or why"], disable_numparse=True))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    sub = commands.add_parser("list", help="the published recipes", description="The published recipes.")
    sub.set_defaults(run=print_list)

    text = "A published recipe: each value, and whether it is published."
    sub = commands.add_parser("show", help="one of them", description=text)
    sub.add_argument("name", metavar="NAME", help="as in the list, or the path of a config fragment with marks")
    sub.set_defaults(run=show)

    text = "The recipe that a config trains with, and where each value is from."
    sub = commands.add_parser("of", help="the recipe of a config", description=text)
    sub.add_argument("config", metavar="CONFIG", help="path, or path below configs")
    sub.set_defaults(run=of_config)

    text = "Write a config that inherits another one and trains with a recipe."
    sub = commands.add_parser("apply", help="a config that trains with a recipe file", description=text)
    sub.add_argument("recipe", metavar="RECIPE.yaml", help="such as a search writes one")
    sub.add_argument("--to", required=True, metavar="CONFIG", help="that is inherited")
    sub.add_argument("--output", required=True, metavar="NEW.yaml", help="the config to write")
    sub.set_defaults(run=apply)
    return top


def main(argv: List[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with exit_codes():
        args.run(args)


if __name__ == "__main__":
    main()
