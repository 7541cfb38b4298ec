"""Search spaces as data: an architecture file with named choices in it.

A space file holds ``name``, ``variables`` and ``architecture``. A variable is either
``{choices: [...]}`` or an inclusive range ``{low: 20, high: 32, step: 4}`` (FBNetV3 Table 2). In the
architecture, the text ``$variable`` stands for the chosen value; two places that name one variable
share its value (the paper's superscripts). In a block, ``use: $variable`` merges a chosen mapping of
fields into the block (FBNet Table 2's candidates).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .blocks import BlockSpec, block_from_dict
from .checks import check_line, check_text
from .errors import ArchError, short_key, short_repr, value_error
from .plain_yaml import parse_yaml, read_text
from .spec import ArchSpec, StageSpec
from .yaml_file import arch_from_dict, read_defaults

SPACES = Path(__file__).parent / "spaces"
MAX_CHOICES = 1000  # of one variable
MAX_ROW_CHOICES = 20_000  # summed over variables and the rows that name them


@dataclass(frozen=True)
class Variable:
    """One decision of a space.

    Attributes:
        name: as referred to by ``$name``.
        choices: the values it may take, in file order.
        ordered: the choices are increasing numbers of a range, near ones alike, and no mere categories.
    """

    name: str
    choices: tuple[Any, ...]
    ordered: bool = False


class Row(NamedTuple):
    """A row of a space's stages: number of its stage, place in it, names of the variables in it."""

    stage: int
    place: int
    variables: tuple[str, ...]


class SearchSpace:
    """A set of architectures; a point is one choice index per variable.

    Args:
        name: the space's name; architectures made from it are named after it.
        variables: the decisions, in order.
        template: the plain data of an architecture file with ``$variable`` in it.

    Raises:
        ArchError: the template has no list of stages, names an unknown variable, or is too large.
    """

    def __init__(self, name: str, variables: Sequence[Variable], template: Mapping[str, Any]):
        self.name, self.variables, self.template = check_line("name", name, 100), tuple(variables), template
        stages = template.get("stages")
        if not isinstance(stages, list) or not all(isinstance(stage, list) for stage in stages):
            raise value_error("architecture.stages", stages, "a list of stages, each a list of blocks")
        self._choices = {variable.name: variable.choices for variable in self.variables}
        unknown = sorted(_variable_names(template) - set(self._choices))
        if unknown:
            known = ", ".join(self._choices) or "none, as there are no variables"
            raise ArchError(f"unknown variable ${unknown[0]}, expected one of {known}", "architecture")

        self._rest = {key: value for key, value in template.items() if key != "stages"}
        self._rest_names = tuple(sorted(_variable_names(self._rest)))
        # Variables of each row; rows with equal choices share one BlockSpec object.
        self._row_names = [[tuple(sorted(_variable_names(row))) for row in stage] for stage in stages]
        self._row = functools.lru_cache(maxsize=1 << 16)(self._build_row)
        self._without_stages = functools.lru_cache(maxsize=1 << 12)(self._build_without_stages)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(len(variable.choices) for variable in self.variables)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform random points: int64 array of choice indices, shape (count, len(variables))."""
        sizes = [len(variable.choices) for variable in self.variables]
        return rng.integers(0, sizes, size=(count, len(sizes)))

    def arch(self, point: Any, name: str = "") -> ArchSpec:
        """The architecture of one point.

        Args:
            point: choice indices, shape (len(variables),).
            name: its name; default: the space's name.

        Raises:
            ArchError: an index is out of range, or the template is no architecture.
        """
        indices = np.asarray(point) if len(point) else np.zeros(0, np.int64)
        if indices.shape != (len(self.variables),) or indices.dtype.kind not in "iu":
            raise value_error("point", point, f"{len(self.variables)} choice indices")
        chosen: dict[str, int] = {}
        for variable, index in zip(self.variables, indices.tolist()):
            if not 0 <= index < len(variable.choices):
                raise value_error(variable.name, index, f"an index from 0 to {len(variable.choices) - 1}")
            chosen[variable.name] = index
        stages = []
        for number, stage in enumerate(self._row_names):
            blocks = [self._row(number, place, tuple(map(chosen.get, names))) for place, names in enumerate(stage)]
            if not blocks:
                raise ArchError("is empty, expected at least one block", f"architecture.stages[{number}]")
            stages.append(StageSpec(tuple(blocks)))
        rest = self._without_stages(tuple(chosen[key] for key in self._rest_names))
        try:
            return dataclasses.replace(rest, name=name or self.name, stages=tuple(stages))
        except ArchError as error:
            raise error.inside("architecture") from None

    def restrict(self, fixed: Mapping[str, Any]) -> SearchSpace:
        """The same space with fewer choices.

        Args:
            fixed: variable name -> the value that it keeps, or a tuple of such values.

        Raises:
            ArchError: no such variable, or a value that is not among its choices.
        """
        kept = dict(self._choices)
        for name, wanted in fixed.items():
            if name not in kept:
                known = ", ".join(kept) or "none, as there are no variables"
                raise ArchError(f"no variable of {self.name}, expected one of {known}", short_key(name))
            values = wanted if isinstance(wanted, tuple) else (wanted,)
            for value in values:
                if value not in kept[name]:
                    raise value_error(f"{self.name}.{name}", value, "one of " + ", ".join(map(str, kept[name])))
            if not values:
                raise value_error(f"{self.name}.{name}", wanted, "at least one of its values")
            kept[name] = tuple(value for value in kept[name] if value in values)
        variables = [dataclasses.replace(variable, choices=kept[variable.name]) for variable in self.variables]
        return SearchSpace(self.name, variables, self.template)

    def to_dict(self) -> dict[str, Any]:
        """The data of the space's file, every variable with its list of choices; shares them with the space."""
        variables = {variable.name: _variable_to_dict(variable) for variable in self.variables}
        return {"name": self.name, "variables": variables, "architecture": self.template}

    def rows(self) -> list[Row]:
        """The rows of all stages in order, as far as they can be told without choosing."""
        return [Row(i, j, names) for i, stage in enumerate(self._row_names) for j, names in enumerate(stage)]

    def block(self, row: Row, chosen: Mapping[str, int]) -> BlockSpec:
        """A row's block; the same object for the same choices.

        Args:
            row: one of ``rows()``.
            chosen: choice index of (at least) each of the row's variables.

        Raises:
            ArchError: the choices do not fit each other.
        """
        return self._row(row.stage, row.place, tuple(chosen[name] for name in row.variables))

    def variables_of(self, *keys: str) -> tuple[str, ...]:
        """The variables that some keys of the template name, such as "resolution" or "head"."""
        names = set().union(*(_variable_names(self._rest.get(key)) for key in keys))
        return tuple(name for name in self._choices if name in names)

    def frame_variables(self) -> tuple[str, ...]:
        """The variables that ``frame`` depends on."""
        return self._rest_names

    def frame(self, chosen: Mapping[str, int]) -> ArchSpec:
        """What surrounds the stages: a network with its resolution and head, in which one skip stands for the stages.

        Args:
            chosen: choice indices; a variable that is left out takes its first choice.

        Raises:
            ArchError: the choices do not fit each other.
        """
        return self._without_stages(tuple(chosen.get(name, 0) for name in self._rest_names))

    def validate(self) -> SearchSpace:
        """Checks every choice of every variable by itself, and the networks of all first and all last choices.

        Raises:
            ArchError: a choice does not fit a place that names its variable, or such a network has no cost.
        """
        rows = self.rows()
        if sum(len(self._choices[name]) for _, _, names in rows for name in names) > MAX_ROW_CHOICES:
            raise ArchError(f"too large: the rows have more than {MAX_ROW_CHOICES} choices", "architecture.stages")
        for stage, place, names in rows:
            for indices in _one_by_one([len(self._choices[name]) for name in names]):
                self._row(stage, place, indices)
        for indices in _one_by_one([len(self._choices[name]) for name in self._rest_names]):
            self._without_stages(indices)
        for which, corner in (("first", 0), ("last", -1)):
            arch = self.arch([corner % len(variable.choices) for variable in self.variables])
            try:
                arch.validate()
            except ArchError as error:
                raise ArchError(f"with the {which} choices: {error.problem}", f"architecture.{error.where}") from None
        return self

    def _values(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, Any]:
        return {name: self._choices[name][index] for name, index in zip(names, indices)}

    def _build_row(self, stage: int, place: int, indices: tuple[int, ...]) -> BlockSpec:
        values = self._values(self._row_names[stage][place], indices)
        try:
            return block_from_dict(_substitute(self.template["stages"][stage][place], values), self._defaults)
        except ArchError as error:
            raise error.inside(f"architecture.stages[{stage}].blocks[{place}]") from None

    @functools.cached_property
    def _defaults(self) -> dict[str, dict[str, Any]]:
        try:
            return read_defaults(self.template.get("defaults"))
        except ArchError as error:
            raise error.inside("architecture") from None

    def _build_without_stages(self, indices: tuple[int, ...]) -> ArchSpec:
        """The architecture without its stages, for which one skip stands."""
        values = self._values(self._rest_names, indices)
        placeholder = [[{"op": "skip", "out": 8}]]
        try:
            return arch_from_dict({"name": self.name, **_substitute(self._rest, values), "stages": placeholder})
        except ArchError as error:
            raise error.inside("architecture") from None


def _one_by_one(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """All zeros, then each index of each variable with the others at zero."""
    points = [(0,) * len(sizes)]
    for position, size in enumerate(sizes):
        points += [(0,) * position + (index,) + (0,) * (len(sizes) - position - 1) for index in range(1, size)]
    return points


def _variable_names(data: Any) -> set[str]:
    if isinstance(data, str):
        return {data[1:]} if data.startswith("$") else set()
    if isinstance(data, Mapping):
        return set().union(*map(_variable_names, data.values()))
    if isinstance(data, (list, tuple)):
        return set().union(*map(_variable_names, data))
    return set()


def _substitute(data: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(data, str) and data.startswith("$"):
        return values[data[1:]]
    if isinstance(data, Mapping):
        filled = {key: _substitute(value, values) for key, value in data.items()}
        use = filled.pop("use", {})
        if not isinstance(use, Mapping):
            raise value_error("use", use, "a variable whose choices are mappings of block fields")
        return {**filled, **use}
    if isinstance(data, (list, tuple)):
        return [_substitute(item, values) for item in data]
    return data


def list_spaces() -> list[str]:
    """Names of the spaces in ``arch/spaces``, sorted."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_space(name_or_path: str | os.PathLike[str]) -> SearchSpace:
    """A space by name (``list_spaces``) or from a ``.yaml`` file.

    Raises:
        ArchError: unknown name, or an unusable file; names file, key, value and what is accepted.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise value_error("space", name_or_path, f"a .yaml path or one of {', '.join(list_spaces())}")
    path = os.fspath(name_or_path)
    if not path.endswith((".yaml", ".yml")):
        if path not in list_spaces():
            raise value_error("space", path, f"a .yaml path or one of {', '.join(list_spaces())}")
        path = str(SPACES / f"{path}.yaml")
    try:
        return space_from_dict(parse_yaml(read_text(path), path))
    except ArchError as error:
        raise error.inside(file=path) from None


def space_from_dict(data: Any) -> SearchSpace:
    """A space from the plain data of its file; ``SearchSpace.to_dict`` is the way back.

    Raises:
        ArchError: key, value and what is accepted.
    """
    if not isinstance(data, dict):
        raise ArchError(f"got {short_repr(data)}, expected a mapping with name, variables and architecture")
    for key in data:
        if key not in ("name", "notes", "variables", "architecture"):
            raise ArchError("unknown key, expected one of name, notes, variables, architecture", short_key(key))
    check_line("name", data.get("name"), 100)
    check_text("notes", data.get("notes", ""), 4000)
    for key in ("variables", "architecture"):
        if not isinstance(data.get(key), dict):
            raise value_error(key, data.get(key), "a mapping")
    variables = [read_variable(key, value) for key, value in data["variables"].items()]
    return SearchSpace(data["name"], variables, data["architecture"]).validate()


def _variable_to_dict(variable: Variable) -> dict[str, Any]:
    data: dict[str, Any] = {"choices": list(variable.choices)}
    return {**data, "ordered": True} if variable.ordered else data


def read_variable(name: Any, data: Any) -> Variable:
    """A variable from the plain data of a file.

    Raises:
        ArchError: neither choices nor an inclusive range of integers.
    """
    where = f"variables.{short_key(name)}"
    if not isinstance(name, str) or not name.isidentifier():
        raise ArchError("a bad name, expected letters, digits and underscores", where)
    if isinstance(data, dict) and {"choices"} <= set(data) <= {"choices", "ordered"}:
        return _read_choices(name, data["choices"], data.get("ordered", False), where)
    if isinstance(data, dict) and {"low", "high"} <= set(data) <= {"low", "high", "step"}:
        low, high, step = data["low"], data["high"], data.get("step", 1)
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high, step))
        if whole and step > 0 and low <= high and (high - low) // step < MAX_CHOICES:
            return Variable(name, tuple(range(low, high + 1, step)), ordered=True)
    raise value_error(where, data, f"{{choices: [...]}} or {{low: INT, high: INT, step: INT}}, at most {MAX_CHOICES}")


def _read_choices(name: str, choices: Any, ordered: Any, where: str) -> Variable:
    if not isinstance(choices, list):
        raise value_error(f"{where}.choices", choices, "a list")
    if not 1 <= len(choices) <= MAX_CHOICES:
        raise ArchError(f"{len(choices)} choices, expected 1 to {MAX_CHOICES}", where)
    if not isinstance(ordered, bool):
        raise value_error(f"{where}.ordered", ordered, "true or false")
    if ordered:
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in choices)
        if not numbers or not all(low < high for low, high in zip(choices, choices[1:])):
            raise value_error(f"{where}.choices", choices, "increasing numbers, as ordered is true")
    return Variable(name, tuple(choices), ordered)
