"""tools/recipes.py."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from fbnet_plugin.engine import load_config
from fbnet_plugin.recipe import FIELDS, Recipe, recipe_from_config, save_recipe
from fbnet_plugin.recipe.marks import recipe_names

TOOL = Path(__file__).resolve().parents[2] / "tools" / "recipes.py"
RECIPE = Recipe(0.4, "sgd", True, 0.3, 0.15, 0.2, 1e-5, schedule="step", step_epochs=(10, 20), weight_decay_bias="same")


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("recipes", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(capsys: pytest.CaptureFixture) -> dict[str, str]:
    """First word -> line of what was printed."""
    return {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.split()}


def refused(capsys: pytest.CaptureFixture, *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        tool().main(list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture) -> None:
    tool().main(["list"])
    found = lines(capsys)
    assert set(recipe_names()) <= set(found) and "appendix A" in found["fbnet_360e"]


def test_show(capsys: pytest.CaptureFixture) -> None:
    tool().main(["show", "fbnet_v3_400e_distill"])
    found = lines(capsys)
    assert found["epoch_decay"] == "epoch_decay SOLVER.EPOCH_DECAY 0.9875 published section 4.2"
    assert found["soft_weight"] == "soft_weight MODEL.DISTILLATION.SOFT_WEIGHT 0.8 published section 4.2"
    assert found["temperature"].startswith("temperature MODEL.DISTILLATION.TEMPERATURE 1.0 default")
    assert found["MODEL.FBNET.NORM"].startswith("MODEL.FBNET.NORM 'SyncBN' published")
    assert "step_epochs" not in found  # not said


def test_of_a_config(capsys: pytest.CaptureFixture) -> None:
    tool().main(["of", "ImageNet-Classification/fbnet_v3_g_400e.yaml"])
    found = lines(capsys)
    assert set(FIELDS) <= set(found)
    depth = "stochastic_depth MODEL.FBNET.DROP_PATH 0.2 published section 4.2"
    assert found["stochastic_depth"] == f"{depth} (ImageNet-Classification/fbnet_v3_g_400e.yaml)"
    assert found["epochs"] == "epochs SOLVER.EPOCHS 400 published section 4.2 (Recipes/fbnet_v3_400e.yaml)"
    assert found["temperature"].endswith("1.0 not set: the key's own default")
    tool().main(["of", "nars/digits.yaml"])
    assert lines(capsys)["epochs"] == "epochs SOLVER.EPOCHS 8 set in nars/digits.yaml"


def test_apply(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe, output = tmp_path / "one.recipe.yaml", tmp_path / "new" / "mine.yaml"
    save_recipe(RECIPE, recipe)
    config = "ImageNet-Classification/fbnet_v3_a_400e.yaml"
    tool().main(["apply", str(recipe), "--to", config, "--output", str(output)])
    assert f"wrote {output}" in capsys.readouterr().out
    cfg, before = load_config(str(output)), load_config(config)
    assert recipe_from_config(cfg, RECIPE.to_dict()) == RECIPE
    assert cfg.MODEL.FBNET.ARCH == before.MODEL.FBNET.ARCH and cfg.SOLVER.EPOCHS == before.SOLVER.EPOCHS == 400
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS is None and before.SOLVER.WEIGHT_DECAY_BIAS == 0.0
    assert cfg.OUTPUT_DIR == "./output/mine"
    content = yaml.safe_load(output.read_text())
    assert set(content) == {"_BASE_", "SOLVER", "MODEL", "MODEL_EMA", "OUTPUT_DIR", "VERSION"}  # no more than is said


def test_bad_input_is_one_message_and_nothing_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe, output = tmp_path / "one.yaml", tmp_path / "mine.yaml"
    save_recipe(RECIPE, recipe)
    broken = tmp_path / "broken.yaml"
    broken.write_text("lr: 0\n")
    into = ("--to", "ImageNet-Classification/fbnet_v3_a_400e.yaml", "--output", str(output))
    assert "unknown; did you mean fbnet_v3_400e" in refused(capsys, "show", "fbnet_v3_400")
    assert "no such file" in refused(capsys, "of", "nowhere.yaml")
    assert "optimizer: is missing" in refused(capsys, "apply", str(broken), *into)
    assert "missing.yaml: cannot be read" in refused(capsys, "apply", str(tmp_path / "missing.yaml"), *into)
    save_recipe(Recipe(0.1, "sgd", True, 0.0, 0.0, 0.0, 0.0, schedule="exponential", epochs=0), recipe)
    assert "needs SOLVER.EPOCHS above 0" in refused(capsys, "apply", str(recipe), *into)
    assert sorted(os.listdir(tmp_path)) == ["broken.yaml", "one.yaml"]


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "one.yaml"
    save_recipe(RECIPE, recipe)
    args = ["apply", str(recipe), "--to", "nars/digits.yaml", "--output", str(recipe / "mine.yaml")]
    assert f"{recipe / 'mine.yaml'}: cannot be written" in refused(capsys, *args)


def test_help(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        tool().main(["--help"])
    assert ended.value.code == 0 and "apply RECIPE.yaml --to CONFIG" in capsys.readouterr().out
