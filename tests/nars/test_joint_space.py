"""Joint spaces: the paper's, what the files may hold, and what is wrong with others."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fbnet_plugin.arch import get_arch, load_space, save_space
from fbnet_plugin.nars.encoding import Encoding
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.space import JointSpace, joint_space_from_dict, list_joint_spaces, load_joint_space
from fbnet_plugin.recipe import FIELDS, Recipe

SPACES = {name: load_joint_space(name) for name in list_joint_spaces()}
V3 = SPACES["fbnet_v3"]
RECIPE = {
    "lr": {"low": 1, "high": 3, "unit": 0.1, "times": {"optimizer": {"sgd": 4}}},
    "optimizer": {"choices": ["rmsprop", "sgd"]},
    "ema": True,
    "dropout": 0.2,
    "stochastic_depth": {"choices": [0.1, 0.0]},
    "mixup": {"choices": [0, 0.2, 1], "ordered": True},
    "weight_decay": "1e-5",
}
SMALL = {"name": "small", "space": "fbnet_v3_digits", "recipe": RECIPE}


def choices(space: JointSpace) -> dict[str, tuple[Any, ...]]:
    return {variable.name: variable.choices for variable in space.variables}


# ---------------------------------------------------------------------------------------------
# The paper's spaces
# ---------------------------------------------------------------------------------------------


def test_recipes_of_table_2() -> None:
    """FBNetV3 Table 2 and section 3.5: "10^7 possible training recipes", bounds inclusive."""
    assert V3.size // V3.arch_space.size == 11 * 2 * 2 * 31 * 22 * 42 * 15 == 18_905_040
    assert V3.arch_space.name == "fbnet_v3" and V3.num_arch == 35 and len(V3.variables) == 42
    values = choices(V3)
    assert values["lr"] == (0.02, 0.021, 0.022, 0.023, 0.024, 0.025, 0.026, 0.027, 0.028, 0.029, 0.03)
    assert set(values["optimizer"]) == {"rmsprop", "sgd"} and set(values["ema"]) == {True, False}
    ends = {name: (values[name][0], values[name][-1]) for name in ("dropout", "stochastic_depth", "mixup")}
    assert ends == {"dropout": (0.01, 0.31), "stochastic_depth": (0.1, 0.31), "mixup": (0.0, 0.41)}
    assert values["weight_decay"] == tuple(float(f"{n}e-6") for n in range(7, 22))
    assert [v.name for v in V3.variables[35:] if not v.ordered] == ["optimizer", "ema"]


def test_sgd_has_four_times_the_learning_rate() -> None:
    """Table 2's note."""
    names = [variable.name for variable in V3.variables]
    point = np.zeros(42, np.int64)
    for place in range(11):
        point[names.index("lr")] = place
        found = {}
        for choice in range(2):
            point[names.index("optimizer")] = choice
            recipe = V3.recipe(point)
            found[recipe.optimizer] = recipe.lr
        assert found == {"rmsprop": (20 + place) / 1000, "sgd": (80 + 4 * place) / 1000}


def test_variants_of_the_paper() -> None:
    ema, alone = SPACES["fbnet_v3_ema"], SPACES["recipe_fbnet_v2_l3"]
    assert 2 * ema.size == V3.size and all(ema.recipe(p).ema for p in ema.sample(20, np.random.default_rng(0)))
    assert (alone.size, alone.num_arch) == (18_905_040, 0)
    spec = alone.arch(alone.sample(1, np.random.default_rng(0))[0])
    assert spec == get_arch("fbnet_v2_dmasking_l3")


@pytest.mark.parametrize("name", SPACES)
def test_points_are_pairs(name: str) -> None:
    space = SPACES[name]
    points = space.sample(30, np.random.default_rng(0))
    assert points.shape == (30, len(space.variables)) and points.dtype == np.int64
    assert (points >= 0).all() and (points < space.sizes).all() and space.size == math.prod(map(int, space.sizes))
    for point in points:
        arch, recipe = space.arch(point, "one"), space.recipe(point.tolist())
        assert arch == space.arch_space.arch(point[: space.num_arch], "one").validate()
        for variable, index in zip(space.variables[space.num_arch :], point[space.num_arch :]):
            if variable.name != "lr":
                assert getattr(recipe, variable.name) == variable.choices[index]
        numbers = [value for value in recipe.to_dict().values() if isinstance(value, float)]
        assert all(len(repr(value)) < 9 for value in numbers)  # no 0.020000000000000004


@pytest.mark.parametrize("name", SPACES)
def test_plain_data_round_trip(name: str) -> None:
    space = SPACES[name]
    again = joint_space_from_dict(json.loads(json.dumps(space.to_dict())))
    assert again.variables == space.variables and again.num_arch == space.num_arch and again.name == space.name
    assert again.digest() == space.digest() and again.to_dict() == space.to_dict()
    for point in space.sample(5, np.random.default_rng(0)):
        assert (again.arch(point), again.recipe(point)) == (space.arch(point), space.recipe(point))


# ---------------------------------------------------------------------------------------------
# Parts and files
# ---------------------------------------------------------------------------------------------


def test_one_side_fixed() -> None:
    recipe = Recipe(0.5, "sgd", False, 0.0, 0.0, 0.0, 0.0)
    archs = V3.with_recipe(recipe)
    assert archs.variables == V3.variables[:35] and archs.size == V3.arch_space.size
    assert archs.recipe([0] * 35) == recipe  # the learning rate as it is, not four times that
    spec = get_arch("fbnet_v3_b")
    recipes = V3.with_arch(spec)
    assert recipes.variables == V3.variables[35:] and recipes.num_arch == 0
    assert recipes.arch([0] * 7) == spec and recipes.arch([0] * 7, "other").name == "other"
    assert recipes.recipe([3] + [0] * 6) == V3.recipe([0] * 35 + [3] + [0] * 6)
    both = recipes.with_recipe(recipe)
    assert (both.size, both.arch([]), both.recipe([])) == (1, spec, recipe)
    for part in (archs, recipes, both):
        assert joint_space_from_dict(json.loads(json.dumps(part.to_dict()))).digest() == part.digest()
    assert len({part.digest() for part in (V3, archs, recipes, both)}) == 4


def test_a_small_space(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    space = load_joint_space(path)
    values = choices(space)
    assert values["lr"] == (0.1, 0.2, 0.3) and values["stochastic_depth"] == (0.1, 0.0)
    assert values["mixup"] == (0, 0.2, 1) and set(values) & {"ema", "dropout", "weight_decay"} == set()
    assert [v.name for v in space.variables[17:]] == ["lr", "optimizer", "stochastic_depth", "mixup"]
    assert [v.ordered for v in space.variables[17:]] == [True, False, False, True]
    assert space.recipe([0] * 17 + [2, 1, 0, 2]) == Recipe(1.2, "sgd", True, 0.2, 0.1, 1.0, 1e-5)
    shuffled = {**SMALL, "recipe": dict(reversed(RECIPE.items()))}
    assert joint_space_from_dict(shuffled).digest() == space.digest()


FURTHER = {
    "label_smoothing": {"low": 0, "high": 2, "unit": 0.1},
    "rand_augment_magnitude": {"low": 5, "high": 15, "step": 5},
    "auto_augment": {"choices": ["randaugment", "none"]},
    "step_epochs": {"choices": [[30, 60], [45, 60], []]},
    "weight_decay_bias": {"choices": [0, "same"]},
    "schedule": "step",
    "epochs": 90,
    "gamma": "1e-1",
}


def test_any_field_of_a_recipe_can_be_searched() -> None:
    """Beside the seven of the paper: further ones, fixed or as choices, come back as the recipe's own values."""
    space = joint_space_from_dict({**SMALL, "recipe": {**RECIPE, **FURTHER}})
    names = [variable.name for variable in space.variables[space.num_arch :]]
    assert names[4:] == [name for name in FIELDS if isinstance(FURTHER.get(name), dict)]
    assert choices(space)["rand_augment_magnitude"] == (5, 10, 15) and space.variables[-1].ordered
    assert all(type(value) is int for value in choices(space)["rand_augment_magnitude"])
    for point in space.sample(20, np.random.default_rng(0)):
        recipe, chosen = space.recipe(point), dict(zip(names, point[space.num_arch :]))
        assert (recipe.schedule, recipe.epochs, recipe.gamma, recipe.momentum) == ("step", 90, 0.1, None)
        assert recipe.step_epochs == [(30, 60), (45, 60), ()][chosen["step_epochs"]]
        assert recipe.weight_decay_bias == [0.0, "same"][chosen["weight_decay_bias"]]
        assert recipe.label_smoothing == [0.0, 0.1, 0.2][chosen["label_smoothing"]]
    again = joint_space_from_dict(json.loads(json.dumps(space.to_dict())))
    assert again.digest() == space.digest() != joint_space_from_dict(SMALL).digest()
    assert again.recipe([0] * len(space.variables)) == space.recipe([0] * len(space.variables))


def test_further_fields_are_encoded_as_the_others_are() -> None:
    space = joint_space_from_dict({**SMALL, "recipe": {**RECIPE, **FURTHER}})
    encoding = Encoding(space.variables, space.num_arch)
    points = space.sample(50, np.random.default_rng(1))
    assert (encoding.decode(encoding.encode(points)) == points).all()
    columns = [name for name in encoding.columns if name.partition("=")[0] in FURTHER]
    assert columns == [
        *("step_epochs=0", "step_epochs=1", "step_epochs=2", "weight_decay_bias=0", "weight_decay_bias=same"),
        *("label_smoothing", "auto_augment=randaugment", "auto_augment=none", "rand_augment_magnitude"),
    ]


def test_paths_are_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    save_space(load_space("fbnet_digits"), tmp_path / "sub" / "mine.yaml")
    (tmp_path / "joint.yaml").write_text(yaml.safe_dump({**SMALL, "space": "sub/mine.yaml"}))
    monkeypatch.chdir(tmp_path / "sub")
    assert load_joint_space(str(tmp_path / "joint.yaml")).arch_space.size == load_space("fbnet_digits").size
    monkeypatch.chdir(tmp_path)
    assert load_joint_space("joint.yaml").num_arch == 8


def test_the_digest_tells_spaces_apart() -> None:
    space = joint_space_from_dict(SMALL)
    assert len(space.digest()) == 64
    assert joint_space_from_dict({**SMALL, "notes": "new"}).digest() == space.digest()
    data = space.to_dict()
    data["space"]["variables"] = dict(reversed(data["space"]["variables"].items()))  # other points
    assert joint_space_from_dict(data).digest() != space.digest()
    for key, value in (
        ("dropout", 0.3),
        ("lr", {"low": 1, "high": 4, "unit": 0.1}),
        ("mixup", {"choices": [0, 0.2, 1]}),
    ):
        assert joint_space_from_dict({**SMALL, "recipe": {**RECIPE, key: value}}).digest() != space.digest()


@pytest.mark.parametrize("name", ["fbnet_v4", "", 3, None])
def test_unknown_names(name: Any) -> None:
    with pytest.raises(NARSError, match="joint space: got .*, expected a .yaml path or one of digits, fbnet_v3"):
        load_joint_space(name)


@pytest.mark.parametrize(
    "point, message",
    [
        ([0] * 41, "point: got .*, expected 42 choice indices"),
        ([0.0] * 42, "point: got .*, expected 42"),
        ([7] + [0] * 41, "resolution: got 7, expected an index from 0 to 6"),
        ([0] * 41 + [-1], "weight_decay: got -1, expected an index from 0 to 14"),
    ],
)
def test_points_of_another_space(point: list, message: str) -> None:
    for use in (V3.arch, V3.recipe):
        with pytest.raises(NARSError, match=message):
            use(point)


REMOVED = object()
ERRORS = [
    (("name",), "", "name: got '', expected a text"),
    (("space",), REMOVED, "got neither of space and arch, expected one"),
    (("arch",), "fbnet_a", "got both of space and arch, expected one"),
    (("space",), "fbnet_v4", "space: got 'fbnet_v4', expected a .yaml path or one of fbnet"),
    (("space",), "none.yaml", "none.yaml: space: cannot be read: No such file"),
    (("space",), {"name": "x"}, "space.variables: got None, expected a mapping"),
    (("recipes",), {}, "recipes: unknown key, expected one of name, notes, space, arch, recipe"),
    (("recipe",), REMOVED, "recipe: is missing, expected a mapping"),
    (("recipe",), 3, "recipe: got 3, expected a mapping with lr, optimizer"),
    (("recipe", "mixup"), REMOVED, "recipe.mixup: is missing, expected a value, {choices: [...]}, or {low: INT"),
    (("recipe", "warm_up"), 0.9, "recipe.warm_up: unknown key, expected lr, optimizer"),
    (("recipe", "epochs"), {"low": 10, "high": 20}, "recipe.epochs: candidates are compared epoch by epoch"),
    (("recipe", "schedule"), {"choices": ["step", "poly"]}, "recipe.schedule: got 'poly', expected one of cosine"),
    (("recipe", "rand_augment_magnitude"), {"low": 28, "high": 31}, "rand_augment_magnitude: got 31, expected a whole"),
    (("recipe", "dropout"), 1.5, "recipe.dropout: got 1.5, expected a number from 0 to 1"),
    (("recipe", "optimizer"), {"choices": ["sgd", "adam"]}, "recipe.optimizer: got 'adam', expected one of sgd"),
    (("recipe", "optimizer"), {"low": 1, "high": 2}, "recipe.optimizer: got {"),
    (("recipe", "dropout"), {"low": 1, "high": 200, "unit": 0.01}, "recipe.dropout: got 1.01, expected a number"),
    (("recipe", "dropout"), {"low": 3, "high": 2}, "recipe.dropout: got {"),
    (("recipe", "dropout"), {"low": 0, "high": 1, "unit": 0}, "recipe.dropout: got {"),
    (("recipe", "dropout"), {"low": 0, "high": 0.5}, "recipe.dropout: got {"),
    (("recipe", "dropout"), {"low": 0, "high": 10**6}, "at most 1000 choices"),
    (("recipe", "dropout"), {"choices": []}, "recipe.dropout.choices: got [], expected a list of 1 to 1000 values"),
    (("recipe", "dropout"), {"choices": [0.1, 0.1]}, "dropout.choices: got [0.1, 0.1], expected each value once"),
    (("recipe", "dropout"), {"choices": [0.2, 0.1], "ordered": True}, "expected increasing numbers if ordered"),
    (("recipe", "dropout"), {"choices": [0.2], "ordered": 1}, "recipe.dropout.ordered: got 1, expected true or false"),
    (("recipe", "lr"), {"choices": [50], "times": {"optimizer": {"sgd": 4}}}, "recipe.lr: got 200.0, expected"),
    (("recipe", "lr", "times"), {"ema": 4}, "recipe.lr.times: got {'ema': 4}, expected such as {optimizer: {sgd: 4}}"),
    (("recipe", "lr", "times"), {"optimizer": {"sgd": "x"}}, "recipe.lr.times: got {"),
]  # fmt: skip


@pytest.mark.parametrize("place, value, message", ERRORS)
def test_errors_say_where_and_what(place: tuple[str, ...], value: Any, message: str, tmp_path: Path) -> None:
    data = json.loads(json.dumps(SMALL))
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    if value is REMOVED:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    path = tmp_path / "joint.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(NARSError) as caught:
        load_joint_space(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))


def test_fixed_rates_can_have_a_factor() -> None:
    lr = {"choices": [0.02], "times": {"optimizer": {"sgd": 4}}}
    space = joint_space_from_dict({**SMALL, "recipe": {**RECIPE, "lr": lr}})
    assert {space.recipe([0] * 18 + [choice, 0, 0]).lr for choice in (0, 1)} == {0.02, 0.08}


def test_variables_of_one_name() -> None:
    space = load_space("fbnet_v3_digits").to_dict()
    text = json.dumps(space).replace('"c0"', '"mixup"').replace('"$c0"', '"$mixup"')
    with pytest.raises(NARSError, match="recipe.mixup: fbnet_v3_digits has a variable of this name too"):
        joint_space_from_dict({**SMALL, "space": json.loads(text)})
