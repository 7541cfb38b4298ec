"""Writing search spaces, in the form that those in ``arch/spaces`` have."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..atomic_file import atomic_write
from .errors import ArchError, short_repr, value_error
from .plain_yaml import parse_yaml
from .space import MAX_CHOICES, SearchSpace, Variable, read_variable
from .yaml_file import flow


def dump_space(space: SearchSpace, header: str = "") -> str:
    """The YAML text of a space; ``load_space`` of it gives back its name, choices and architectures.

    Args:
        space: any space.
        header: text for a comment on top; its lines may be of any length.

    Raises:
        ArchError: the space is not valid, or holds what a file cannot.
    """
    space.validate()
    for variable in space.variables:
        if not isinstance(variable.name, str) or not variable.name.isidentifier():
            raise value_error("variable", variable.name, "a name of letters, digits and underscores")
        if len(variable.choices) > MAX_CHOICES:
            raise ArchError(f"{len(variable.choices)} choices, expected 1 to {MAX_CHOICES}", variable.name)
    variables = {variable.name: _variable_data(variable) for variable in space.variables}
    template = _plain(space.template)
    lines = ["# " + "".join(char if char.isprintable() else " " for char in line) for line in header.splitlines()]
    lines = [line.rstrip() for line in lines]
    lines.append(f"name: {flow(space.name)}")
    lines += ["variables:", *_variable_lines(variables)] if variables else ["variables: {}"]
    lines += ["architecture:", *_mapping_lines(template, "  ")]
    text = "\n".join(lines) + "\n"

    if parse_yaml(text) != {"name": space.name, "variables": variables, "architecture": template}:
        raise ArchError("holds values that a file does not give back, such as NaN", space.name)
    return text


def save_space(space: SearchSpace, path: str | os.PathLike[str], header: str = "") -> None:
    """Writes a space to ``path`` through a temporary file and a rename.

    Args:
        path: of a ``.yaml`` or ``.yml`` file, as ``load_space`` takes it.
        header: see ``dump_space``.

    Raises:
        ArchError: another ending, or see ``dump_space``; no file is touched.
        OSError: the file cannot be written; what stood there before stays.
    """
    if not os.fspath(path).endswith((".yaml", ".yml")):
        raise value_error("path", os.fspath(path), "the name of a .yaml file")
    text = dump_space(space, header)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def _plain(value: Any) -> Any:
    """A copy without shared parts, tuples and NumPy's numbers, which YAML would write in its own way."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise ArchError(f"a file cannot hold {short_repr(value)}, a value of type {type(value).__name__}")
    return value


def _variable_data(variable: Variable) -> dict[str, Any]:
    """A variable as it stands in a file: an inclusive range where its choices are one, else the list of them.

    Raises:
        ArchError: it is ordered, but its choices are no increasing numbers.
    """
    choices = _plain(variable.choices)
    if not variable.ordered:
        return {"choices": choices}
    read_variable(variable.name, {"choices": choices, "ordered": True})
    step = choices[1] - choices[0] if len(choices) > 1 else 1
    whole = all(isinstance(value, int) for value in choices)
    if not whole or choices != list(range(choices[0], choices[-1] + 1, step)):
        return {"choices": choices, "ordered": True}
    return {"low": choices[0], "high": choices[-1], **({"step": step} if step != 1 else {})}


def _variable_lines(variables: Mapping[str, dict[str, Any]]) -> list[str]:
    """Numbers and words on one line, mappings one per line; the first of equal lists of those bears an anchor."""
    texts = {name: tuple(flow(value) for value in data.get("choices", ())) for name, data in variables.items()}
    times = Counter(texts.values())
    anchors: dict[tuple[str, ...], str] = {}
    lines = []
    for name, data in variables.items():
        text, key = texts[name], f"  {flow(name)}:"
        if not any(isinstance(value, (dict, list)) for value in data.get("choices", ())):
            lines.append(f"{key} {flow(data)}")
        elif text in anchors:
            lines.append(f"{key} *{anchors[text]}")
        else:
            if times[text] > 1:
                anchors[text] = "candidates" if not anchors else f"candidates{len(anchors) + 1}"
                key += f" &{anchors[text]}"
            lines += [key, "    choices:", *(f"    - {value}" for value in text)]
    return lines


def _mapping_lines(data: Mapping[str, Any], indent: str) -> list[str]:
    """An architecture or its head: a line per block and per kind's defaults, the rest in flow style."""
    lines = []
    for key, value in data.items():
        key = f"{indent}{flow(key)}:"
        if value and isinstance(value, dict) and key.strip() in ("head:", "defaults:"):
            lines += [key, *_mapping_lines(value, indent + "  ")]
        elif value and isinstance(value, list) and key.strip() in ("blocks:", "box_head:"):
            lines += [key, *(f"{indent}- {flow(row)}" for row in value)]
        elif value and isinstance(value, list) and key.strip() == "stages:":
            lines.append(key)
            for stage in value:
                first, *rest = (f"{indent}  - {flow(row)}" for row in stage)
                lines += [f"{indent}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{key} {flow(value)}")
    return lines
