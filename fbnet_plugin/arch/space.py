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
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple, Union

import numpy as np

from .blocks import BlockSpec, block_from_dict
from .errors import ArchError, short_repr, value_error
from .spec import ArchSpec, StageSpec
from .yaml_file import arch_from_dict, parse_yaml, read_defaults, read_text

SPACES = Path(__file__).parent / "spaces"


@dataclass(frozen=True)
class Variable:
    """One decision of a space.

    Attributes:
        name: as referred to by ``$name``.
        choices: the values it may take, in file order.
    """

    name: str
    choices: Tuple[Any, ...]


class SearchSpace:
    """A set of architectures; a point is one choice index per variable.

    Args:
        name: the space's name; architectures made from it are named after it.
        variables: the decisions, in order.
        template: the plain data of an architecture file with ``$variable`` in it.
    """

    def __init__(self, name: str, variables: Tuple[Variable, ...], template: Mapping[str, Any]):
        self.name, self.variables, self.template = name, variables, template
        self._rows = functools.lru_cache(maxsize=1 << 16)(self._build_row)
        self._names = _variable_names(template)
        unknown = self._names - {variable.name for variable in variables}
        if unknown:
            raise ArchError(f"names the unknown variables {sorted(unknown)}", "architecture")

    @property
    def size(self) -> int:
        """Number of points."""
        total = 1
        for variable in self.variables:
            total *= len(variable.choices)
        return total

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform random points: int64 array of choice indices, shape (count, len(variables))."""
        sizes = [len(variable.choices) for variable in self.variables]
        return rng.integers(0, sizes, size=(count, len(sizes)))

    def arch(self, point: np.ndarray, name: str = "") -> ArchSpec:
        """The architecture of one point.

        Args:
            point: choice indices, shape (len(variables),).
            name: its name; default: the space's name.

        Raises:
            ArchError: an index is out of range, or the template is no architecture.
        """
        if len(point) != len(self.variables):
            raise value_error("point", point, f"{len(self.variables)} choice indices")
        chosen: Dict[str, int] = {}
        for variable, index in zip(self.variables, point):
            if not 0 <= index < len(variable.choices):
                raise value_error(variable.name, index, f"an index from 0 to {len(variable.choices) - 1}")
            chosen[variable.name] = int(index)
        stages = []
        for number, stage in enumerate(self.template["stages"]):
            blocks = tuple(self._row(number, place, chosen) for place in range(len(stage)))
            stages.append(StageSpec(blocks))
        rest = self._rest(tuple(chosen[key] for key in self._rest_names))
        return dataclasses.replace(rest, name=name or self.name, stages=tuple(stages))

    def _row(self, stage: int, place: int, chosen: Mapping[str, int]) -> BlockSpec:
        names = self._row_names[stage, place]
        return self._rows(stage, place, tuple(chosen[key] for key in names))

    @functools.cached_property
    def _row_names(self) -> Dict[Tuple[int, int], Tuple[str, ...]]:
        """Variables of each block row; rows with equal choices share one BlockSpec object."""
        return {
            (number, place): tuple(sorted(_variable_names(row)))
            for number, stage in enumerate(self.template["stages"])
            for place, row in enumerate(stage)
        }

    @functools.cached_property
    def _defaults(self) -> Dict[str, Dict[str, Any]]:
        return read_defaults(self.template.get("defaults"))

    @functools.cached_property
    def _rest_names(self) -> Tuple[str, ...]:
        rest = {key: value for key, value in self.template.items() if key != "stages"}
        return tuple(sorted(_variable_names(rest)))

    def _values(self, names: Tuple[str, ...], indices: Tuple[int, ...]) -> Dict[str, Any]:
        by_name = {variable.name: variable for variable in self.variables}
        return {name: by_name[name].choices[index] for name, index in zip(names, indices)}

    def _build_row(self, stage: int, place: int, indices: Tuple[int, ...]) -> BlockSpec:
        values = self._values(self._row_names[stage, place], indices)
        row = _substitute(self.template["stages"][stage][place], values)
        try:
            return block_from_dict(row, self._defaults)
        except ArchError as error:
            raise error.inside(f"architecture.stages[{stage}][{place}]") from None

    def _rest(self, indices: Tuple[int, ...]) -> ArchSpec:
        """The architecture without its stages (a placeholder stands for them)."""
        return _rest_of(self, indices)


@functools.lru_cache(maxsize=4096)
def _rest_of(space: SearchSpace, indices: Tuple[int, ...]) -> ArchSpec:
    rest = {key: value for key, value in space.template.items() if key != "stages"}
    values = space._values(space._rest_names, indices)
    placeholder = [[{"op": "skip", "out": 8}]]
    return arch_from_dict({"name": space.name, **_substitute(rest, values), "stages": placeholder})


def _variable_names(data: Any) -> set:
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
        use = filled.pop("use", None)
        if use is not None and not isinstance(use, Mapping):
            raise value_error("use", use, "a variable whose choices are mappings of block fields")
        return {**filled, **(use or {})}
    if isinstance(data, list):
        return [_substitute(item, values) for item in data]
    return data


def list_spaces() -> List[str]:
    """Names of the spaces in ``arch/spaces``, sorted."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_space(name_or_path: Union[str, "os.PathLike[str]"]) -> SearchSpace:
    """A space by name (``list_spaces``) or from a ``.yaml`` file.

    Raises:
        ArchError: unknown name, or an unusable file; names file, key, value and what is accepted.
    """
    path = os.fspath(name_or_path)
    if not path.endswith((".yaml", ".yml")):
        if path not in list_spaces():
            raise value_error("space", path, f"a .yaml path or one of {', '.join(list_spaces())}")
        path = str(SPACES / f"{path}.yaml")
    try:
        return _space_from_dict(parse_yaml(read_text(path), path))
    except ArchError as error:
        raise error.inside(file=path) from None


def _space_from_dict(data: Any) -> SearchSpace:
    if not isinstance(data, dict):
        raise ArchError(f"got {short_repr(data)}, expected a mapping with name, variables and architecture")
    for key in data:
        if key not in ("name", "notes", "variables", "architecture"):
            raise ArchError("unknown key, expected one of name, notes, variables, architecture", str(short_repr(key)))
    for key, kind in (("name", str), ("variables", dict), ("architecture", dict)):
        if not isinstance(data.get(key), kind):
            raise value_error(key, data.get(key), "a text" if kind is str else "a mapping")
    stages = data["architecture"].get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, list) for stage in stages):
        raise value_error("architecture.stages", stages, "a list of stages, each a list of blocks")
    variables = tuple(_read_variable(str(key), value) for key, value in data["variables"].items())
    space = SearchSpace(data["name"], variables, data["architecture"])
    for corner in (0, -1):  # the first and the last choice of everything must be architectures
        point = np.array([corner % len(variable.choices) for variable in variables], dtype=np.int64)
        space.arch(point).validate()
    return space


def _read_variable(name: str, data: Any) -> Variable:
    where = f"variables.{name}"
    if isinstance(data, dict) and set(data) == {"choices"} and isinstance(data["choices"], list) and data["choices"]:
        return Variable(name, tuple(data["choices"]))
    if isinstance(data, dict) and {"low", "high"} <= set(data) <= {"low", "high", "step"}:
        low, high, step = data["low"], data["high"], data.get("step", 1)
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high, step))
        if whole and step > 0 and low <= high and (high - low) // step < 100_000:
            return Variable(name, tuple(range(low, high + 1, step)))
    raise value_error(where, data, "{choices: [...]} or {low: INT, high: INT, step: INT} with low <= high")
