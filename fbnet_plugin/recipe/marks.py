"""Which values of a config are published, and which are this project's defaults: marks beside the values in its file.

A marked line is ``KEY: value    # published: where`` or ``KEY: value    # default: why``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import yaml

from fbnet_plugin.engine.config_file import BASE_KEY, base_path, config_folders, find_config
from fbnet_plugin.engine.errors import did_you_mean

from .errors import RecipeError

FOLDER = "Recipes"  # of the published recipes, below the folder of configs
_MARK = re.compile(r"[^#]*#\s*(published|default):\s*(\S.*?)\s*$")  # from the end of the value on
_PLAIN = (BASE_KEY, "VERSION")  # keys that are no values of a recipe


class Mark(NamedTuple):
    """Where a value is from.

    Attributes:
        published: in a paper, or in code that its authors published; else it is a default of this project.
        note: where, or why.
    """

    published: bool
    note: str


class Origin(NamedTuple):
    """The last file that sets a key.

    Attributes:
        file: its path.
        mark: beside the value; None where the line has none.
    """

    file: str
    mark: Optional[Mark]


def recipe_names() -> List[str]:
    """Names of the published recipes, sorted."""
    return sorted(path.stem for folder in config_folders() for path in (folder / FOLDER).glob("*.yaml"))


def find_recipe(name: str) -> str:
    """Path of the config fragment of a published recipe.

    Args:
        name: of ``recipe_names``, or a path that ends in ".yaml".

    Raises:
        RecipeError: nobody knows it.
        ConfigError: there is no such file.
    """
    if name.endswith((".yaml", ".yml")):
        return find_config(name)
    known = recipe_names()
    if name not in known:
        raise RecipeError(f"recipe {name!r}: unknown{did_you_mean(name, known)} (known: {', '.join(known)})")
    return find_config(os.path.join(FOLDER, f"{name}.yaml"))


def recipe_marks(path: str | os.PathLike[str]) -> Dict[str, Mark]:
    """Config key -> mark of all values in a recipe's file and in those that it is based on.

    Raises:
        RecipeError: a value without a mark; names file, line and key.
    """
    marks: Dict[str, Mark] = {}
    for file in _with_bases(os.fspath(path)):
        for key, line, mark in _leaves(file):
            if mark is None:
                expected = "'# published: where' or '# default: why' behind it"
                raise RecipeError(f"{file}: line {line}: {key} has no mark, expected {expected}")
            marks[key] = mark
    return marks


def config_marks(path: str | os.PathLike[str]) -> Dict[str, Origin]:
    """Config key -> the file that it is from, of all values in a config and in those that it is based on."""
    return {key: Origin(file, mark) for file in _with_bases(os.fspath(path)) for key, _, mark in _leaves(file)}


def _with_bases(path: str, seen: Tuple[str, ...] = ()) -> Iterator[str]:
    """The files that a config is made of, in the order in which they are merged."""
    if path in seen:
        raise RecipeError(f"{path}: is based on itself ({BASE_KEY})")
    for key, value in _mapping(path).value:
        if key.value == BASE_KEY:
            for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _with_bases(os.path.normpath(base_path(base.value, path)), (*seen, path))
    yield path


def _mapping(path: str) -> yaml.MappingNode:
    try:
        node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{path}: expected keys such as MODEL: and SOLVER:")
    return node


def _leaves(path: str) -> Iterator[Tuple[str, int, Optional[Mark]]]:
    """Key, line from 1, and mark of each value in one file."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()

    def walk(node: yaml.MappingNode, where: str) -> Iterator[Tuple[str, int, Optional[Mark]]]:
        for key, value in node.value:
            name = f"{where}{key.value}"
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from walk(value, f"{name}.")
            elif name not in _PLAIN:
                # A sequence of several lines ends where the next key begins; its mark is beside the key.
                end = value.end_mark if value.end_mark.line == value.start_mark.line else key.end_mark
                found = _MARK.match(lines[end.line][end.column :])
                mark = Mark(found.group(1) == "published", found.group(2)) if found else None
                yield name, key.start_mark.line + 1, mark

    return walk(_mapping(path), "")
