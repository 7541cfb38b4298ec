"""The marks beside a config's values: published, or a default."""

from __future__ import annotations

from pathlib import Path

import pytest

from fbnet_plugin.engine import ConfigError
from fbnet_plugin.recipe import Mark, RecipeError, config_marks, recipe_marks
from fbnet_plugin.recipe.marks import find_recipe, recipe_names

BASE = """\
# A recipe.
SOLVER:
  BASE_LR: 0.1    # published: Table 1, "half # of it"
  STEP_EPOCHS: (30, 60)  # default: round numbers
  STEPS:    # default: as a list
    - 30
    - 60
INPUT: {FORMAT: RGB}  # published: in one line
DATASETS:
  TRAIN: "a # b"   # default:  with a sign in its text
VERSION: 2
"""
CHILD = """\
_BASE_: [base.yaml, other.yaml]
SOLVER:
  BASE_LR: 0.2    # default: another one
MODEL_EMA:
  ENABLED: true
"""
OTHER = "SOLVER:\n  GAMMA: 0.5    # published: elsewhere\n  BASE_LR: 0.3    # published: overwritten\n"


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_marks_of_one_file(tmp_path: Path) -> None:
    assert recipe_marks(written(tmp_path, base=BASE) / "base.yaml") == {
        "SOLVER.BASE_LR": Mark(True, 'Table 1, "half # of it"'),
        "SOLVER.STEP_EPOCHS": Mark(False, "round numbers"),
        "SOLVER.STEPS": Mark(False, "as a list"),
        "INPUT.FORMAT": Mark(True, "in one line"),
        "DATASETS.TRAIN": Mark(False, "with a sign in its text"),
    }


def test_a_config_has_the_marks_of_its_bases(tmp_path: Path) -> None:
    folder = written(tmp_path, base=BASE, other=OTHER, child=CHILD)
    origins = config_marks(folder / "child.yaml")
    assert origins["SOLVER.BASE_LR"] == (str(folder / "child.yaml"), Mark(False, "another one"))
    assert origins["SOLVER.GAMMA"] == (str(folder / "other.yaml"), Mark(True, "elsewhere"))
    assert origins["SOLVER.STEP_EPOCHS"].file == str(folder / "base.yaml")
    assert origins["MODEL_EMA.ENABLED"] == (str(folder / "child.yaml"), None)
    with pytest.raises(RecipeError, match="child.yaml: line 5: MODEL_EMA.ENABLED has no mark, expected '# pub"):
        recipe_marks(folder / "child.yaml")


@pytest.mark.parametrize(
    "line", ["GAMMA: 0.5", "GAMMA: 0.5  # publisched: x", "GAMMA: 0.5  # default:", "GAMMA: 0.5  # from default: x"]
)
def test_what_is_no_mark(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, base=f"SOLVER:\n  {line}\n") / "base.yaml"
    with pytest.raises(RecipeError, match="base.yaml: line 2: SOLVER.GAMMA has no mark"):
        recipe_marks(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("- 1\n", "expected keys such as MODEL:"),
        ("", "expected keys such as MODEL:"),
        ("SOLVER: [", "not valid YAML"),
        ("_BASE_: base.yaml\n", "base.yaml: is based on itself"),
        ("_BASE_: none.yaml\n", "none.yaml: cannot be read: No such file"),
    ],
)
def test_files_that_are_no_configs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_marks(written(tmp_path, base=text) / "base.yaml")


def test_recipes_are_found_by_name(tmp_path: Path) -> None:
    assert {"fbnet_360e", "fbnet_v3_400e", "fbnet_v3_search_150e", "coco_c4_3x", "plain_90e"} <= set(recipe_names())
    for name in recipe_names():
        assert Path(find_recipe(name)).stem == name
    own = written(tmp_path, own=BASE) / "own.yaml"
    assert find_recipe(str(own)) == str(own)
    with pytest.raises(RecipeError, match="recipe 'fbnet_360': unknown; did you mean fbnet_360e"):
        find_recipe("fbnet_360")
    with pytest.raises(ConfigError, match="config file 'none.yaml': no such file"):
        find_recipe("none.yaml")


def test_published_values_are_the_papers() -> None:
    """FBNet appendix A; FBNetV3 sections 4.1 to 4.3: which of these are marked as published."""
    marks = {name: recipe_marks(find_recipe(name)) for name in recipe_names()}
    published = {name: {key for key, mark in found.items() if mark.published} for name, found in marks.items()}
    lengths = {"SOLVER.EPOCHS", "SOLVER.LR_SCHEDULER_NAME"}
    decay = {"SOLVER.BASE_LR", "SOLVER.STEP_EPOCHS", "SOLVER.GAMMA", "SOLVER.MOMENTUM", "SOLVER.WEIGHT_DECAY"}
    assert lengths | decay | {"SOLVER.IMS_PER_BATCH", "MODEL.CLASSIFIER.DROPOUT"} <= published["fbnet_360e"]
    assert lengths | {"SOLVER.WARMUP_EPOCHS", "SOLVER.EPOCH_DECAY", "MODEL_EMA.ENABLED"} <= published["fbnet_v3_400e"]
    assert lengths | {"SOLVER.EPOCH_DECAY"} <= published["fbnet_v3_search_150e"]
    assert "SOLVER.EPOCHS" not in published["fbnet_v2_l3_recipe_only"]
    searched = {"SOLVER.BASE_LR", "SOLVER.OPTIMIZER", "SOLVER.WEIGHT_DECAY", "MODEL.CLASSIFIER.MIXUP"}
    for name in ("fbnet_v3_400e", "fbnet_v3_400e_distill", "fbnet_v2_l3_recipe_only", "cifar10"):
        assert not searched & published[name]
