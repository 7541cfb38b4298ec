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
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.recipe import (
    Recipe,
    apply_recipe,
    load_recipe,
    recipe_from_config,
    recipe_from_dict,
    recipe_overrides,
    save_recipe,
)

RECIPE = Recipe(0.096, "sgd", True, 0.12, 0.2, 0.33, 1.4e-5)

share = st.floats(0, 1)
recipes = st.builds(
    Recipe,
    lr=st.floats(0, 100, exclude_min=True),
    optimizer=st.sampled_from(["sgd", "rmsprop"]),
    ema=st.booleans(),
    dropout=share,
    stochastic_depth=st.floats(0, 1, exclude_max=True),
    mixup=st.floats(0, 1000),
    weight_decay=share,
)


def config() -> Any:
    cfg = get_cfg()
    add_fbnet_config(cfg)
    return cfg


@given(recipes)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_files_and_configs_give_back_the_same_numbers(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    save_recipe(recipe, path)
    assert load_recipe(path) == recipe
    assert recipe_from_dict(recipe.to_dict()) == recipe
    cfg = config()
    apply_recipe(cfg, recipe)
    assert recipe_from_config(cfg) == recipe
    other = config()
    other.merge_from_list([str(part) for pair in recipe_overrides(recipe).items() for part in pair])
    assert recipe_from_config(other) == recipe


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
    before = config()
    cfg = config()
    apply_recipe(cfg, dataclasses.replace(RECIPE, optimizer="rmsprop"))
    assert cfg.SOLVER.OPTIMIZER == "RMSProp" and cfg.MODEL.CLASSIFIER.MIXUP == 0.33
    apply_recipe(cfg, recipe_from_config(before))
    assert cfg.dump() == before.dump()  # nothing else was touched


def test_a_file_is_made_to_be_read(tmp_path: Path) -> None:
    save_recipe(RECIPE, tmp_path / "new" / "recipe.yaml")
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
    ]


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    """YAML takes 1e-5 for a word, and 0 for an integer."""
    data = {**RECIPE.to_dict(), "weight_decay": "1e-5", "mixup": 0, "lr": np.float64(0.5)}
    recipe = recipe_from_dict(data)
    assert (recipe.weight_decay, recipe.mixup, recipe.lr) == (1e-5, 0.0, 0.5)
    assert [type(value) for value in (recipe.weight_decay, recipe.mixup, recipe.lr)] == [float] * 3


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("lr", 0, "lr: got 0, expected a number above 0 to 100"),
        ("lr", "fast", "lr: got 'fast', expected a number above 0"),
        ("lr", float("nan"), "lr: got nan, expected a number"),
        ("lr", True, "lr: got True, expected a number"),
        ("optimizer", "adam", "optimizer: got 'adam', expected one of sgd, rmsprop"),
        ("ema", 1, "ema: got 1, expected true or false"),
        ("dropout", 1.5, "dropout: got 1.5, expected a number from 0 to 1"),
        ("stochastic_depth", 1, "stochastic_depth: got 1, expected a number from 0 to below 1"),
        ("mixup", -0.1, "mixup: got -0.1, expected a number from 0"),
        ("weight_decay", float("inf"), "weight_decay: got inf, expected a number from 0 to 1"),
        ("momentum", 0.9, "momentum: unknown key, expected lr, optimizer, ema"),
        ("mixup", None, "mixup: is missing, expected all of lr, optimizer, ema"),
    ],
)
def test_errors_name_file_key_and_value(key: str, value: Any, message: str, tmp_path: Path) -> None:
    data = {**RECIPE.to_dict(), key: value}
    if value is None:
        del data[key]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(NARSError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text, message", [("", "got None, expected a mapping"), ("[", "not valid YAML")])
def test_files_that_hold_no_recipe(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(NARSError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(NARSError, match="missing.yaml: cannot be read: No such file"):
        load_recipe(tmp_path / "missing.yaml")


def test_configs_that_no_recipe_has() -> None:
    cfg = config()
    cfg.SOLVER.OPTIMIZER = "Adam"
    with pytest.raises(NARSError, match="SOLVER.OPTIMIZER: got 'Adam', expected one of SGD, RMSProp"):
        recipe_from_config(cfg)
    cfg.SOLVER.OPTIMIZER = "SGD"
    cfg.MODEL.CLASSIFIER.DROPOUT = 2.0
    with pytest.raises(NARSError, match="MODEL.CLASSIFIER.DROPOUT: got 2.0, expected a number from 0 to 1"):
        recipe_from_config(cfg)


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(RECIPE, path)

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_recipe(dataclasses.replace(RECIPE, lr=1.0), path)
    assert load_recipe(path) == RECIPE and os.listdir(tmp_path) == ["recipe.yaml"]
