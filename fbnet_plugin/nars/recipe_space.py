"""The recipes of a joint space: per field of a recipe a fixed value or a range of choices (FBNetV3 Table 2)."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Tuple, Union

from fbnet_plugin.arch.errors import short_key, short_repr
from fbnet_plugin.arch.space import MAX_CHOICES, Variable
from fbnet_plugin.recipe import FIELDS, SEARCHED, Recipe, RecipeError
from fbnet_plugin.recipe.kinds import Integer, number_of

from .errors import NARSError

Value = Union[float, str, bool, Tuple[float, ...]]

NUMBERS = tuple(field for field, kind in FIELDS.items() if kind.numeric)
_FORMS = "a value, {choices: [...]}, or {low: INT, high: INT, step: INT, unit: NUMBER}"


@dataclass(frozen=True)
class RecipeSpace:
    """A set of recipes.

    Attributes:
        fixed: field -> value of the fields that are not searched.
        variables: those that are, named after their fields, in the order of ``Recipe``.
        lr_times: optimizer -> factor on ``lr`` under it (FBNetV3 Table 2: 4 for SGD); others have 1.

    Raises:
        NARSError: one of the fields that every recipe says is neither, a field is both, a choice that no recipe can
            have, or several numbers of epochs, as candidates are compared epoch by epoch.
    """

    fixed: Mapping[str, Value]
    variables: Tuple[Variable, ...] = ()
    lr_times: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*self.fixed, *(variable.name for variable in self.variables)]
        for field in FIELDS:
            if names.count(field) > 1 or field in SEARCHED and field not in names:
                problem = "is missing" if field not in names else "given twice"
                raise NARSError(f"recipe.{field}: {problem}, expected {_FORMS}")
        if any(variable.name == "epochs" for variable in self.variables):
            raise NARSError("recipe.epochs: candidates are compared epoch by epoch, expected one value for all of them")
        self._check_choices()

    @classmethod
    def of(cls, recipe: Recipe) -> RecipeSpace:
        """The space of one recipe."""
        return cls(recipe.to_dict())

    def recipe(self, chosen: Mapping[str, int]) -> Recipe:
        """The recipe of one point.

        Args:
            chosen: field -> choice index, for all variables.
        """
        values = {variable.name: variable.choices[chosen[variable.name]] for variable in self.variables}
        return self._make({**self.fixed, **values})

    def to_dict(self) -> Dict[str, Any]:
        """Plain data, what a joint space's file holds under ``recipe``, ranges as their choices."""
        variables = {variable.name: variable for variable in self.variables}
        data: Dict[str, Any] = {}
        for field in FIELDS:
            if field in variables:
                choices = variables[field].choices
                data[field] = {"choices": [list(one) if isinstance(one, tuple) else one for one in choices]}
                data[field].update({"ordered": True} if variables[field].ordered else {})
            elif field == "lr" and self.lr_times:
                data[field] = {"choices": [self.fixed[field]]}
            elif field in self.fixed:
                value = self.fixed[field]
                data[field] = list(value) if isinstance(value, tuple) else value
        if self.lr_times:
            data["lr"]["times"] = {"optimizer": dict(self.lr_times)}
        return data

    def _make(self, values: Dict[str, Any]) -> Recipe:
        factor = self.lr_times.get(values["optimizer"], 1)
        return Recipe(**{**values, "lr": _product(values["lr"], factor) if factor != 1 else values["lr"]})

    def _check_choices(self) -> None:
        """Every choice of every variable by itself, and all learning rates with all optimizers."""
        choices: Dict[str, Tuple[Any, ...]] = {field: (value,) for field, value in self.fixed.items()}
        choices.update({variable.name: variable.choices for variable in self.variables})
        first = {field: values[0] for field, values in choices.items()}
        for field, values in choices.items():
            for value in values:
                _check({**first, field: value}, self._make, field)
        for lr, optimizer in itertools.product(choices["lr"], choices["optimizer"]):
            _check({**first, "lr": lr, "optimizer": optimizer}, self._make, "lr")


def _check(values: Dict[str, Any], make: Any, field: str) -> None:
    try:
        make(values)
    except RecipeError as error:
        raise NARSError(f"recipe.{error}") from None
    except (TypeError, ArithmeticError):  # a factor on what is no number
        raise NARSError(f"recipe.{field}: got {short_repr(values[field])}, expected a number") from None


def _product(number: float, factor: float) -> float:
    """The product as decimals, so that 20 * 0.001 is 0.02 and 3 * 0.1 is 0.3."""
    return float(Decimal(repr(number)) * Decimal(repr(factor)))


def recipe_space_from_dict(data: Any) -> RecipeSpace:
    """Recipes from the plain data of a joint space's file.

    Args:
        data: per field of ``Recipe`` a value, ``{choices: [...]}`` (categories), ``{choices: [...], ordered: true}``
            or ``{low, high, step: 1, unit: 1}``, an inclusive range of integers times the unit. ``lr`` may have
            ``times: {optimizer: {sgd: 4}}``.

    Raises:
        NARSError: names key, value and what is accepted.
    """
    if not isinstance(data, dict):
        raise NARSError(f"recipe: got {short_repr(data)}, expected a mapping with {', '.join(SEARCHED)}")
    for key in data:
        if key not in FIELDS:
            raise NARSError(f"recipe.{short_key(key)}: unknown key, expected {', '.join(FIELDS)}")
    fixed: Dict[str, Value] = {}
    variables: List[Variable] = []
    times: Dict[str, float] = {}
    for field in (field for field in FIELDS if field in data):
        given = data[field]
        if field == "lr" and isinstance(given, dict) and "times" in given:
            times = _read_times(given["times"])
            given = {key: value for key, value in given.items() if key != "times"}
        if isinstance(given, dict):
            variables.append(_read_variable(field, given))
        else:
            fixed[field] = _value(field, given)
    return RecipeSpace(fixed, tuple(variables), times)


def _value(field: str, given: Any) -> Any:
    """A value as a recipe has it; one that no recipe has is found out later."""
    return tuple(given) if isinstance(given, list) else FIELDS[field].read(given)


def _read_times(data: Any) -> Dict[str, float]:
    good = isinstance(data, dict) and set(data) == {"optimizer"} and isinstance(data["optimizer"], dict)
    factors = data["optimizer"] if good else {}
    if not factors or not all(isinstance(name, str) and _is_number(value) for name, value in factors.items()):
        raise NARSError(f"recipe.lr.times: got {short_repr(data)}, expected such as {{optimizer: {{sgd: 4}}}}")
    return dict(factors)


def _read_variable(field: str, data: Dict[Any, Any]) -> Variable:
    where = f"recipe.{field}"
    if {"choices"} <= set(data) <= {"choices", "ordered"}:
        return _read_choices(field, data["choices"], data.get("ordered", False))
    if field in NUMBERS and {"low", "high"} <= set(data) <= {"low", "high", "step", "unit"}:
        low, high, step, unit = data["low"], data["high"], data.get("step", 1), number_of(data.get("unit", 1))
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high, step))
        if whole and step > 0 and low <= high and (high - low) // step < MAX_CHOICES and _is_number(unit) and unit > 0:
            values = [_product(value, unit) for value in range(low, high + 1, step)]
            whole = isinstance(FIELDS[field], Integer) and all(value.is_integer() for value in values)
            return Variable(field, tuple(map(int, values) if whole else values), ordered=True)
    raise NARSError(f"{where}: got {short_repr(data)}, expected {_FORMS}, at most {MAX_CHOICES} choices")


def _read_choices(field: str, choices: Any, ordered: Any) -> Variable:
    where = f"recipe.{field}"
    if not isinstance(choices, list) or not 1 <= len(choices) <= MAX_CHOICES:
        raise NARSError(f"{where}.choices: got {short_repr(choices)}, expected a list of 1 to {MAX_CHOICES} values")
    if not isinstance(ordered, bool):
        raise NARSError(f"{where}.ordered: got {short_repr(ordered)}, expected true or false")
    values = [_value(field, value) for value in choices]
    if any(value in values[:place] for place, value in enumerate(values)):
        raise NARSError(f"{where}.choices: got {short_repr(choices)}, expected each value once")
    if ordered:
        rising = all(map(_is_number, values)) and all(low < high for low, high in zip(values, values[1:]))
        if not rising:
            raise NARSError(f"{where}.choices: got {short_repr(choices)}, expected increasing numbers if ordered")
    return Variable(field, tuple(values), ordered)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
