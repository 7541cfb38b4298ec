"""Training recipes: checked, written, read, and put into a config."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from detectron2.config import get_cfg
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.config import add_fbnet_config
from fbnet_plugin.recipe import (
    FIELDS,
    SEARCHED,
    Recipe,
    RecipeError,
    apply_recipe,
    load_recipe,
    recipe_from_config,
    recipe_from_dict,
    recipe_overrides,
    save_recipe,
)

RECIPE = Recipe(0.096, "sgd", True, 0.12, 0.2, 0.33, 1.4e-5)

share, small, lengths = st.floats(0, 1), st.floats(0, 1, exclude_max=True), st.floats(0, 1000)
rising = st.lists(st.one_of(st.integers(1, 500), st.floats(0.5, 500)), max_size=4, unique=True).map(
    lambda numbers: tuple(sorted(numbers))
)
VALUES = {
    "lr": st.floats(0, 100, exclude_min=True),
    "optimizer": st.sampled_from(["sgd", "rmsprop"]),
    "ema": st.booleans(),
    "dropout": share,
    "stochastic_depth": small,
    "mixup": st.floats(0, 1000),
    "weight_decay": share,
    "batch_size": st.integers(1, 10**6),
    "epochs": st.integers(0, 10**5),
    "warmup_epochs": lengths,
    "warmup_factor": share,
    "schedule": st.sampled_from(["cosine", "step", "exponential"]),
    "step_epochs": rising,
    "gamma": share,
    "epoch_decay": st.floats(0, 1, exclude_min=True),
    "momentum": small,
    "nesterov": st.booleans(),
    "rmsprop_momentum": small,
    "rmsprop_alpha": small,
    "rmsprop_eps": st.floats(0, 100, exclude_min=True),
    "weight_decay_norm": share,
    "weight_decay_bias": st.one_of(share, st.just("same")),
    "label_smoothing": small,
    "auto_augment": st.sampled_from(["none", "autoaugment", "autoaugment-cifar10", "randaugment", "trivialaugment"]),
    "rand_augment_ops": st.integers(1, 100),
    "rand_augment_magnitude": st.integers(0, 30),
    "ema_decay": small,
    "distillation": st.booleans(),
    "soft_weight": lengths,
    "hard_weight": lengths,
    "temperature": st.floats(0, 1000, exclude_min=True),
}
whole = st.builds(Recipe, **VALUES)
partial = st.builds(
    Recipe, **{name: values if name in SEARCHED else st.none() | values for name, values in VALUES.items()}
)


def config() -> Any:
    cfg = get_cfg()
    add_fbnet_config(cfg)
    return cfg


def test_every_field_is_tried() -> None:
    assert list(VALUES) == list(FIELDS) and list(FIELDS)[:7] == list(SEARCHED)


@given(whole)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_config_recipe_file_recipe_config(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    """One-to-one for every field, from an arbitrary config to the same one."""
    cfg = config()
    apply_recipe(cfg, recipe)
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    save_recipe(recipe_from_config(cfg), path)
    again = load_recipe(path)
    assert again == recipe
    other = config()
    apply_recipe(other, again)
    assert other.dump() == cfg.dump()


@given(partial)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_what_is_not_said_is_left_alone(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.getbasetemp() / "partial.yaml"
    save_recipe(recipe, path)
    assert load_recipe(path) == recipe and recipe_from_dict(recipe.to_dict()) == recipe
    assert None not in recipe.to_dict().values()
    cfg, before = config(), recipe_from_config(config())
    apply_recipe(cfg, recipe)
    merged = {name: getattr(before, name) for name in FIELDS}
    merged.update({name: getattr(recipe, name) for name in FIELDS if getattr(recipe, name) is not None})
    assert recipe_from_config(cfg) == Recipe(**merged)
    other = config()
    other.merge_from_list([str(part) for pair in recipe_overrides(recipe).items() for part in pair])
    assert recipe_from_config(other) == Recipe(**merged)


def test_every_config_key_is_one_field_s() -> None:
    """Two fields of one key would overwrite each other."""
    keys = [kind.key for kind in FIELDS.values()]
    assert len(set(keys)) == len(keys)
    cfg = config()
    apply_recipe(cfg, recipe_from_config(cfg))
    assert cfg.dump() == config().dump()


def test_config_keys() -> None:
    assert recipe_overrides(RECIPE) == {
        "SOLVER.BASE_LR": 0.096,
        "SOLVER.OPTIMIZER": "SGD",
        "MODEL_EMA.ENABLED": True,
        "MODEL.CLASSIFIER.DROPOUT": 0.12,
        "MODEL.FBNET.DROP_PATH": 0.2,
        "MODEL.CLASSIFIER.MIXUP": 0.33,
        "SOLVER.WEIGHT_DECAY": 1.4e-5,
    }
    more = dataclasses.replace(RECIPE, schedule="exponential", auto_augment="none", weight_decay_bias="same")
    assert {key: value for key, value in recipe_overrides(more).items() if key not in recipe_overrides(RECIPE)} == {
        "SOLVER.LR_SCHEDULER_NAME": "WarmupExponentialLR",
        "INPUT.CLASSIFICATION.AUTO_AUGMENT": "",
        "SOLVER.WEIGHT_DECAY_BIAS": None,
    }
    cfg = config()
    apply_recipe(cfg, dataclasses.replace(RECIPE, optimizer="rmsprop"))
    assert cfg.SOLVER.OPTIMIZER == "RMSProp" and cfg.MODEL.CLASSIFIER.MIXUP == 0.33
    assert recipe_from_config(cfg, SEARCHED) == dataclasses.replace(RECIPE, optimizer="rmsprop")
    apply_recipe(cfg, recipe_from_config(config(), SEARCHED))
    assert cfg.dump() == config().dump()  # nothing else was touched


def test_a_file_is_made_to_be_read(tmp_path: Path) -> None:
    save_recipe(dataclasses.replace(RECIPE, step_epochs=[30, 60]), tmp_path / "new" / "recipe.yaml")
    text = (tmp_path / "new" / "recipe.yaml").read_text()
    assert text.startswith("# Training recipe")
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "lr: 0.096",
        "optimizer: sgd",
        "ema: true",
        "dropout: 0.12",
        "stochastic_depth: 0.2",
        "mixup: 0.33",
        "weight_decay: 1.4e-05",
        "step_epochs: [30, 60]",
    ]


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    """YAML takes 1e-5 for a word, and 0 for an integer."""
    data = {**RECIPE.to_dict(), "weight_decay": "1e-5", "mixup": 0, "lr": np.float64(0.5), "epochs": 5.0}
    recipe = recipe_from_dict(data)
    assert (recipe.weight_decay, recipe.mixup, recipe.lr, recipe.epochs) == (1e-5, 0.0, 0.5, 5)
    assert [type(value) for value in (recipe.weight_decay, recipe.mixup, recipe.lr)] == [float] * 3
    assert type(recipe.epochs) is int


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("lr", 0, "lr: got 0, expected a number above 0 to 100"),
        ("lr", "fast", "lr: got 'fast', expected a number above 0"),
        ("lr", float("nan"), "lr: got nan, expected a number"),
        ("lr", True, "lr: got True, expected a number"),
        ("optimizer", "adam", "optimizer: got 'adam', expected one of sgd, rmsprop"),
        ("optimizer", ["sgd"], "optimizer: got ['sgd'], expected one of sgd, rmsprop"),
        ("ema", 1, "ema: got 1, expected true or false"),
        ("dropout", 1.5, "dropout: got 1.5, expected a number from 0 to 1"),
        ("stochastic_depth", 1, "stochastic_depth: got 1, expected a number from 0 to below 1"),
        ("mixup", -0.1, "mixup: got -0.1, expected a number from 0"),
        ("weight_decay", float("inf"), "weight_decay: got inf, expected a number from 0 to 1"),
        ("warm_up", 0.9, "warm_up: unknown key, expected lr, optimizer, ema"),
        ("mixup", None, "mixup: is missing, expected all of lr, optimizer, ema"),
        ("epochs", 1.5, "epochs: got 1.5, expected a whole number from 0 to 100000"),
        ("epochs", float("inf"), "epochs: got inf, expected a whole number"),
        ("batch_size", 0, "batch_size: got 0, expected a whole number from 1"),
        ("schedule", "linear", "schedule: got 'linear', expected one of cosine, step, exponential"),
        ("step_epochs", [30, 20], "step_epochs: got [30, 20], expected a list of increasing numbers above 0"),
        ("step_epochs", [0, 20], "step_epochs: got [0, 20], expected a list"),
        ("step_epochs", 30, "step_epochs: got 30, expected a list"),
        ("step_epochs", [True], "step_epochs: got [True], expected a list"),
        ("weight_decay_bias", "none", "weight_decay_bias: got 'none', expected a number from 0 to 1 or same"),
        ("auto_augment", "", "auto_augment: got '', expected one of none, autoaugment"),
    ],
)
def test_errors_name_file_key_and_value(key: str, value: Any, message: str, tmp_path: Path) -> None:
    data = {**RECIPE.to_dict(), key: value}
    if value is None:
        del data[key]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text, message", [("", "got None, expected a mapping"), ("[", "not valid YAML")])
def test_files_that_hold_no_recipe(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(RecipeError, match="missing.yaml: cannot be read: No such file"):
        load_recipe(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SOLVER.OPTIMIZER", "Adam", "got 'Adam', expected one of SGD, RMSProp"),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "got 'WarmupPolyLR', expected one of WarmupCosineLR"),
        ("INPUT.CLASSIFICATION.AUTO_AUGMENT", "none", "got 'none', expected one of '', autoaugment"),
        ("MODEL.CLASSIFIER.DROPOUT", 2.0, "got 2.0, expected a number from 0 to 1"),
        ("SOLVER.IMS_PER_BATCH", 0, "got 0, expected a whole number from 1"),
    ],
)
def test_configs_that_no_recipe_has(key: str, value: Any, message: str) -> None:
    cfg = config()
    cfg.merge_from_list([key, value])
    with pytest.raises(RecipeError) as caught:
        recipe_from_config(cfg)
    assert str(caught.value).startswith(f"{key}: {message}")


def test_a_config_is_asked_for_no_more_than_is_wanted() -> None:
    cfg = config()
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR"
    recipe = recipe_from_config(cfg, ["label_smoothing"])
    assert recipe.label_smoothing == 0.0 and recipe.schedule is None and set(recipe.to_dict()) == {
        *SEARCHED,
        "label_smoothing",
    }


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(RECIPE, path)

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_recipe(dataclasses.replace(RECIPE, lr=1.0), path)
    assert load_recipe(path) == RECIPE and os.listdir(tmp_path) == ["recipe.yaml"]
