"""Joint spaces: architectures and training recipes that are searched together (FBNetV3 section 3.5, Table 2).

A file holds ``name``, ``notes``, one of ``space`` (a search space, by name or file) and ``arch`` (one architecture, by
name or file), and ``recipe``. A point is one choice index per variable, those of the architecture first.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from fbnet_plugin.arch import ArchError, ArchSpec, SearchSpace, dump_arch, get_arch, load_space
from fbnet_plugin.arch.checks import check_line, check_text
from fbnet_plugin.arch.errors import short_key, short_repr
from fbnet_plugin.arch.plain_yaml import parse_yaml, read_text
from fbnet_plugin.arch.space import space_from_dict
from fbnet_plugin.recipe import Recipe

from .errors import NARSError
from .recipe_space import RecipeSpace, recipe_space_from_dict

SPACES = Path(__file__).parent / "spaces"
_KEYS = ("name", "notes", "space", "arch", "recipe")


class JointSpace:
    """A set of pairs of an architecture and a recipe.

    Args:
        name: for reports.
        arch_space: the architectures; one without variables holds a single architecture.
        recipe_space: the recipes.
        notes: free text.

    Attributes:
        variables: the decisions, the architectures' before the recipes'.
        num_arch: number of the former.
        sizes: choices of each variable, int64, shape (len(variables),).

    Raises:
        NARSError: a variable of the architectures bears the name of one of the recipes.
    """

    def __init__(self, name: str, arch_space: SearchSpace, recipe_space: RecipeSpace, notes: str = ""):
        self.name, self.notes = name, notes
        self.arch_space, self.recipe_space = arch_space, recipe_space
        clash = {one.name for one in arch_space.variables} & {one.name for one in recipe_space.variables}
        if clash:
            raise NARSError(
                f"recipe.{sorted(clash)[0]}: {arch_space.name} has a variable of this name too, expected another there"
            )
        self.variables = (*arch_space.variables, *recipe_space.variables)
        self.num_arch = len(arch_space.variables)
        self.sizes = np.array([len(variable.choices) for variable in self.variables], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(len(variable.choices) for variable in self.variables)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform random points: int64 array of choice indices, shape (count, len(variables))."""
        return rng.integers(0, self.sizes, size=(count, len(self.sizes)))

    def arch(self, point: Any, name: str = "") -> ArchSpec:
        """The architecture of one point.

        Args:
            point: choice indices, shape (len(variables),).
            name: its name; default: that of the architectures' space.

        Raises:
            NARSError: the point is not one of this space.
            ArchError: its choices do not fit each other.
        """
        return self.arch_space.arch(self._checked(point)[: self.num_arch], name)

    def recipe(self, point: Any) -> Recipe:
        """The recipe of one point; raises NARSError as ``arch`` does."""
        indices = self._checked(point)[self.num_arch :]
        return self.recipe_space.recipe({one.name: int(at) for one, at in zip(self.recipe_space.variables, indices)})

    def with_recipe(self, recipe: Recipe) -> JointSpace:
        """The same architectures, all with one recipe."""
        return JointSpace(self.name, self.arch_space, RecipeSpace.of(recipe), self.notes)

    def with_arch(self, spec: ArchSpec) -> JointSpace:
        """The same recipes, all for one architecture."""
        return JointSpace(self.name, fixed_architecture(spec), self.recipe_space, self.notes)

    def to_dict(self) -> Dict[str, Any]:
        """Plain data that needs no other file; ``joint_space_from_dict`` is the way back."""
        space = copy.deepcopy(self.arch_space.to_dict())
        notes = {"notes": self.notes} if self.notes else {}
        return {"name": self.name, **notes, "space": space, "recipe": self.recipe_space.to_dict()}

    def digest(self) -> str:
        """SHA-256 as hex digits over all that makes the points what they are: not the notes."""
        data = {key: value for key, value in self.to_dict().items() if key != "notes"}
        order = [variable.name for variable in self.variables]  # keys are sorted, but indices depend on their order
        return hashlib.sha256(json.dumps([order, data], sort_keys=True).encode()).hexdigest()

    def _checked(self, point: Any) -> np.ndarray:
        indices = np.asarray(point) if len(point) else np.zeros(0, np.int64)
        if indices.shape != self.sizes.shape or indices.dtype.kind not in "iu":
            raise NARSError(f"point: got {short_repr(point)}, expected {len(self.sizes)} choice indices")
        wrong = np.flatnonzero((indices < 0) | (indices >= self.sizes))
        if len(wrong):
            name, last = self.variables[wrong[0]].name, self.sizes[wrong[0]] - 1
            raise NARSError(f"{name}: got {indices[wrong[0]]}, expected an index from 0 to {last}")
        return indices


def fixed_architecture(spec: ArchSpec) -> SearchSpace:
    """The space of one architecture: without variables."""
    return SearchSpace(spec.name, (), parse_yaml(dump_arch(spec)))


def list_joint_spaces() -> List[str]:
    """Names of the joint spaces in ``nars/spaces``, sorted."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_joint_space(name_or_path: str | os.PathLike[str]) -> JointSpace:
    """A joint space by name (``list_joint_spaces``) or from a ``.yaml`` file.

    Raises:
        NARSError: unknown name, or an unusable file; names file, key, value and what is accepted.
    """
    known = f"a .yaml path or one of {', '.join(list_joint_spaces())}"
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise NARSError(f"joint space: got {short_repr(name_or_path)}, expected {known}")
    path = os.fspath(name_or_path)
    if not path.endswith((".yaml", ".yml")):
        if path not in list_joint_spaces():
            raise NARSError(f"joint space: got {short_repr(path)}, expected {known}")
        path = str(SPACES / f"{path}.yaml")
    try:
        data = parse_yaml(read_text(path))
    except ArchError as error:
        raise NARSError(f"{path}: {error.problem}") from None
    try:
        return joint_space_from_dict(data, os.path.dirname(path))
    except NARSError as error:
        raise NARSError(f"{path}: {error}") from None


def joint_space_from_dict(data: Any, folder: str = "") -> JointSpace:
    """A joint space from the plain data of its file.

    Args:
        data: ``space`` may hold the data of a space's file instead of its name.
        folder: that paths in it are relative to.

    Raises:
        NARSError: key, value and what is accepted.
    """
    if not isinstance(data, dict):
        raise NARSError(f"got {short_repr(data)}, expected a mapping with name, space or arch, and recipe")
    for key in data:
        if key not in _KEYS:
            raise NARSError(f"{short_key(key)}: unknown key, expected one of {', '.join(_KEYS)}")
    if ("space" in data) == ("arch" in data):
        count = "both" if "space" in data else "neither"
        raise NARSError(f"got {count} of space and arch, expected one: a search space, or the one architecture to keep")
    try:
        name = check_line("name", data.get("name"), 100)
        notes = check_text("notes", data.get("notes", ""), 4000)
        architectures = _read_space(data["space"], folder) if "space" in data else _read_arch(data["arch"], folder)
    except ArchError as error:
        raise NARSError(str(error)) from None
    if "recipe" not in data:
        raise NARSError("recipe: is missing, expected a mapping with the fields of a recipe")
    return JointSpace(name, architectures, recipe_space_from_dict(data["recipe"]), notes)


def _read_space(value: Any, folder: str) -> SearchSpace:
    try:
        return space_from_dict(value) if isinstance(value, dict) else load_space(_beside(value, folder))
    except ArchError as error:
        raise error if error.where == "space" and not error.file else error.inside("space")  # noqa: B904


def _read_arch(value: Any, folder: str) -> SearchSpace:
    try:
        return fixed_architecture(get_arch(_beside(value, folder)))
    except ArchError as error:
        raise error.inside("arch") from None


def _beside(value: Any, folder: str) -> Any:
    """A path as seen from the folder of the file that it stands in; anything else as it is."""
    return os.path.join(folder, value) if isinstance(value, str) and value.endswith((".yaml", ".yml")) else value
