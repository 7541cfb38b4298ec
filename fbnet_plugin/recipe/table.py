"""Recipes as rows of a table, for people."""

from __future__ import annotations

import os
from typing import Any, List, Mapping, NamedTuple

from detectron2.config import CfgNode

from fbnet_plugin.engine.config_file import config_folders

from .config import recipe_from_config, value_of
from .marks import Mark, Origin
from .recipe import FIELDS

_NAMES = {kind.key: name for name, kind in FIELDS.items()}


class Row(NamedTuple):
    """One value.

    Attributes:
        field: of the recipe; "" for a config key that is no field.
        key: of the config.
        value: as the config has it.
        source: "published", "default", or "" where nobody says.
        note: where or why; or the file that sets the value.
    """

    field: str
    key: str
    value: Any
    source: str
    note: str


def recipe_table(cfg: CfgNode, marks: Mapping[str, Mark]) -> List[Row]:
    """What a published recipe says, field by field, then its other config keys.

    Args:
        cfg: loaded from the recipe's file.
        marks: of ``recipe_marks``.
    """
    order = [kind.key for kind in FIELDS.values() if kind.key in marks]
    order += [key for key in marks if key not in _NAMES]
    return [Row(_NAMES.get(key, ""), key, value_of(cfg, key), *_said(marks[key])) for key in order]


def config_table(cfg: CfgNode, origins: Mapping[str, Origin]) -> List[Row]:
    """All fields of the recipe that a config trains with.

    Args:
        cfg: the config.
        origins: of ``config_marks``.

    Raises:
        RecipeError: a value that no recipe can have.
    """
    recipe_from_config(cfg)  # raises
    rows = []
    for name, kind in FIELDS.items():
        origin = origins.get(kind.key)
        if origin is None:
            source, note = "", "not set: the key's own default"
        elif origin.mark is None:
            source, note = "", f"set in {_short(origin.file)}"
        else:
            source, note = _said(origin.mark)
            note = f"{note} ({_short(origin.file)})"
        rows.append(Row(name, kind.key, value_of(cfg, kind.key), source, note))
    return rows


def _said(mark: Mark) -> List[str]:
    return ["published" if mark.published else "default", mark.note]


def _short(path: str) -> str:
    """A config's path below the project's own folder of configs, others as they are."""
    for folder in config_folders():
        if os.path.abspath(path).startswith(str(folder) + os.sep):
            return os.path.relpath(path, folder)
    return path
