"""What an ablation trains, and that its folder keeps to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_ablation import METRIC, small_config, small_plan

from fbnet_plugin.ablation.errors import AblationError
from fbnet_plugin.ablation.plan import Entry, begin, check_metric, metric_key, read_outline, refuse_another
from fbnet_plugin.ablation.recipes import recipes_plan
from fbnet_plugin.ablation.techniques import techniques_plan
from fbnet_plugin.ablation.variants import name_of, recipe_opts, variant, with_curve
from fbnet_plugin.arch import ArchError, get_arch, save_arch
from fbnet_plugin.engine import ConfigError, load_config
from fbnet_plugin.engine.identity import config_lines


def by_name(plan, name):
    return next(one for one in plan.trainings if one.name == name)


def changed_keys(one, other) -> set:
    lines = set(config_lines(one)) ^ set(config_lines(other))
    return {line.partition(":")[0] for line in lines}


def test_each_training_of_table_8_gives_two_of_its_columns(tmp_path) -> None:
    plan = small_plan(tmp_path)
    names = ["teacher", "labels-seed3", "distilled-seed3", "labels-seed4", "distilled-seed4"]
    assert [one.name for one in plan.trainings] == names == plan.outline.trainings()
    row = "fbnet_v3_a_dsmask_tiny_det x0.25"
    assert plan.outline.entries[:4] == (
        Entry(row, "Baseline", 3, "labels-seed3", False),
        Entry(row, "EMA", 3, "labels-seed3", True),
        Entry(row, "Dist*", 3, "distilled-seed3", False),
        Entry(row, "Dist*+EMA", 3, "distilled-seed3", True),
    )
    labels, distilled, teacher = (by_name(plan, name) for name in ("labels-seed4", "distilled-seed4", "teacher"))
    assert labels.cfg.MODEL_EMA.ENABLED and distilled.cfg.MODEL_EMA.ENABLED and labels.cfg.SEED == 4
    assert changed_keys(labels.cfg, distilled.cfg) == {"MODEL.DISTILLATION.ENABLED"}
    assert changed_keys(labels.cfg, teacher.cfg) == {"SEED"}
    assert teacher.cfg.SEED not in (3, 4)


def test_students_learn_from_the_average_that_the_teacher_leaves(tmp_path) -> None:
    plan = small_plan(tmp_path)
    student = by_name(plan, "distilled-seed3")
    cfg = student.config_in("out", {one.name: one for one in plan.trainings})
    assert cfg.MODEL.DISTILLATION.TEACHER_CONFIG == "out/teacher/config.yaml"
    assert cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS == "out/teacher/model_ema_final.pth"
    assert cfg.OUTPUT_DIR == "out/distilled-seed3"


def test_a_teacher_that_is_given_is_not_trained(tmp_path) -> None:
    cfg = load_config(str(small_config(tmp_path)))
    plan = techniques_plan(cfg, [3], METRIC, cfg, weights="g.pth", config_file="g.yaml")
    assert [one.name for one in plan.trainings] == ["labels-seed3", "distilled-seed3"]
    keys = by_name(plan, "distilled-seed3").config_in("out", {}).MODEL.DISTILLATION
    assert (keys.ENABLED, keys.TEACHER_CONFIG, keys.TEACHER_WEIGHTS) == (True, "g.yaml", "g.pth")


def test_another_network_may_be_the_teacher(tmp_path) -> None:
    cfg = load_config(str(small_config(tmp_path)))
    plan = techniques_plan(cfg, [3], METRIC, variant(cfg, "MODEL.FBNET.WIDTH_MULT", 0.5))
    assert by_name(plan, "teacher").cfg.MODEL.FBNET.WIDTH_MULT == 0.5
    assert by_name(plan, "labels-seed3").cfg.MODEL.FBNET.WIDTH_MULT == 0.25


def fragment(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_recipes_come_after_the_config_and_before_what_the_command_line_says(tmp_path) -> None:
    config = str(small_config(tmp_path))
    base = fragment(tmp_path, "base.yaml", "SOLVER: {BASE_LR: 0.4, MOMENTUM: 0.5}\n")
    plain = fragment(tmp_path, "plain.yaml", f"_BASE_: {base}\nSOLVER: {{BASE_LR: 0.3, MAX_ITER: 99}}\n")
    recipe = (
        "lr: 0.02\noptimizer: rmsprop\nema: true\ndropout: 0.3\nstochastic_depth: 0.1\nmixup: 0.2\nweight_decay: 1e-5\n"
    )
    recipe = fragment(tmp_path, "recipe.yaml", recipe)
    plan = recipes_plan(
        config, ["resnet18", "fbnet_v3_a"], [3], METRIC, plain, recipe,
        ["SOLVER.MAX_ITER", "7"], ["SOLVER.MOMENTUM", "0.25"], ["MODEL.CLASSIFIER.MIXUP", "0.5"],
    )  # fmt: skip
    assert [one.name for one in plan.trainings] == [
        "resnet18-plain-seed3", "resnet18-recipe-seed3", "fbnet_v3_a_x0.25-plain-seed3", "fbnet_v3_a_x0.25-recipe-seed3"
    ]  # fmt: skip
    one, other = (by_name(plan, f"resnet18-{side}-seed3").cfg for side in ("plain", "recipe"))
    assert (one.MODEL.BACKBONE.NAME, one.MODEL.TORCHVISION.NAME) == ("build_torchvision_backbone", "resnet18")
    solver = one.SOLVER
    assert (solver.BASE_LR, solver.MOMENTUM, solver.MAX_ITER, solver.OPTIMIZER) == (0.3, 0.25, 7, "SGD")
    assert (other.SOLVER.BASE_LR, other.SOLVER.OPTIMIZER, other.SOLVER.WEIGHT_DECAY) == (0.02, "RMSProp", 1e-5)
    assert (other.MODEL.CLASSIFIER.MIXUP, other.MODEL.CLASSIFIER.DROPOUT, other.SOLVER.MAX_ITER) == (0.5, 0.3, 7)
    entries = [(entry.row, entry.column, entry.average) for entry in plan.outline.entries]
    assert entries[:2] == [("resnet18", "Original", False), ("resnet18", "Recipe", True)]


def test_published_recipes_are_found_by_name_with_all_that_they_say() -> None:
    opts = recipe_opts("Recipes/fbnet_v3_400e.yaml")
    said = dict(zip(opts[::2], opts[1::2]))
    assert (said["SOLVER.EPOCHS"], said["SOLVER.EPOCH_DECAY"], said["MODEL_EMA.ENABLED"]) == (400, 0.9875, True)
    assert "VERSION" not in said and "OUTPUT_DIR" not in said


def test_recipes_that_cannot_be_used_are_named(tmp_path) -> None:
    config = str(small_config(tmp_path))
    with pytest.raises(ConfigError, match="typo.yaml: unknown key SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR"):
        recipes_plan(config, ["resnet18"], [3], METRIC, fragment(tmp_path, "typo.yaml", "SOLVER: {BASE_LRR: 1}"), "")
    with pytest.raises(ConfigError, match="half.yaml: optimizer: is missing"):
        recipes_plan(config, ["resnet18"], [3], METRIC, "", fragment(tmp_path, "half.yaml", "lr: 0.1\n"))
    with pytest.raises(ConfigError, match="'nowhere.yaml': no such file"):
        recipes_plan(config, ["resnet18"], [3], METRIC, "", "nowhere.yaml")
    with pytest.raises(AblationError, match="make the same config of resnet18"):
        recipes_plan(config, ["resnet18"], [3], METRIC, "", "")


def test_a_folder_goes_on_with_the_same_trainings_and_with_more(tmp_path) -> None:
    folder = str(tmp_path / "out")
    begin(small_plan(tmp_path), folder)
    first = read_outline(folder)
    assert begin(small_plan(tmp_path, 2, "SOLVER.CHECKPOINT_PERIOD", "3"), folder) == first
    refuse_another(small_plan(tmp_path, 3), folder)
    more = begin(small_plan(tmp_path, 3), folder)
    assert more == read_outline(folder) and more.entries[: len(first.entries)] == first.entries
    assert [entry.seed for entry in more.entries[len(first.entries) :]] == [5] * 4
    assert begin(small_plan(tmp_path, 1), folder) == more


def test_a_folder_refuses_another_config_with_the_difference(tmp_path) -> None:
    folder = tmp_path / "out"
    begin(small_plan(tmp_path), str(folder))
    before = (folder / "plan.json").read_bytes()
    other = small_plan(tmp_path, 2, "SOLVER.BASE_LR", "0.1")
    for refuse in (begin, refuse_another):
        with pytest.raises(AblationError, match=r"- SOLVER.BASE_LR: 0.05\n.*\+ SOLVER.BASE_LR: 0.1"):
            refuse(other, str(folder))
    lr = fragment(tmp_path, "lr.yaml", "SOLVER: {BASE_LR: 0.3}")
    with pytest.raises(AblationError, match="is an ablation of techniques, not of recipes"):
        begin(recipes_plan(str(small_config(tmp_path)), ["resnet18"], [3], METRIC, "", lr), str(folder))
    assert (folder / "plan.json").read_bytes() == before


def test_another_content_of_an_architecture_file_is_another_config(tmp_path) -> None:
    file, folder = tmp_path / "arch.yaml", str(tmp_path / "out")
    for name, refused in (("fbnet_a", False), ("fbnet_a", False), ("fbnet_b", True)):
        save_arch(get_arch(name), str(file))
        plan = small_plan(tmp_path, 1, "MODEL.FBNET.ARCH", str(file), "MODEL.FBNET.WIDTH_MULT", "1.0")
        if refused:
            with pytest.raises(AblationError, match="the config of"):
                begin(plan, folder)
        else:
            begin(plan, folder)


def test_a_damaged_plan_and_a_folder_without_one_are_named(tmp_path) -> None:
    with pytest.raises(AblationError, match="holds no ablation"):
        read_outline(str(tmp_path))
    for text in ("{", "[]", json.dumps({"outline": {"kind": "techniques"}, "identities": {}})):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(AblationError, match="plan.json: is not the plan of an ablation"):
            read_outline(str(tmp_path))


def test_metrics_have_a_group_and_a_name() -> None:
    assert metric_key(check_metric("classification/top1"), False) == "classification/top1"
    assert metric_key("classification/top1", True) == "classification_ema/top1"
    for wrong in ("top1", "/top1", "classification/", "classification_ema/top1"):
        with pytest.raises(AblationError, match="expected group/name"):
            check_metric(wrong)


def test_a_config_without_evaluations_gets_some_for_the_curve(tmp_path) -> None:
    cfg = load_config(str(small_config(tmp_path)), ["TEST.EVAL_PERIOD", "0"])
    assert with_curve(cfg).TEST.EVAL_PERIOD == 1
    assert with_curve(variant(cfg, "SOLVER.EPOCHS", 90)).TEST.EVAL_EPOCHS == 6
    assert with_curve(variant(cfg, "TEST.EVAL_PERIOD", 4)).TEST.EVAL_PERIOD == 4


def test_rows_have_the_network_in_a_few_words(tmp_path) -> None:
    cfg = load_config(str(small_config(tmp_path)))
    assert name_of(cfg) == "fbnet_v3_a_dsmask_tiny_det x0.25"
    cfg = variant(cfg, "MODEL.BACKBONE.NAME", "build_torchvision_backbone", "MODEL.TORCHVISION.NAME", "vgg11")
    assert name_of(cfg) == "vgg11"
    with pytest.raises(ArchError, match="fbnet_z"):
        small_plan(tmp_path, 1, "MODEL.FBNET.ARCH", "fbnet_z").trainings[0].identity()
