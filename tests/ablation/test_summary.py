"""Figures, curves and tables from the folders of trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_ablation import METRIC, fake_command, small_config, small_plan

from fbnet_plugin.ablation.errors import AblationError
from fbnet_plugin.ablation.outcome import read_outcome, why, write_failure
from fbnet_plugin.ablation.plan import begin
from fbnet_plugin.ablation.recipes import recipes_plan
from fbnet_plugin.ablation.schedule import Schedule
from fbnet_plugin.ablation.summary import summarize
from fbnet_plugin.ablation.table import main_table, markdown, write_tables

ROW = "fbnet_v3_a_dsmask_tiny_det x0.25"


def training(folder: Path, top1: float, average: float, curve: dict) -> None:
    """What a training leaves: figures of the model and of its average, and those of evaluations on its way."""
    folder.mkdir(parents=True)
    lines = [
        {"iteration": done - 1, "classification/top1": a, "classification_ema/top1": b}
        for done, (a, b) in curve.items()
    ]
    lines.append({"iteration": 6, "classification/top1": top1, "classification_ema/top1": average})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = {"classification": {"top1": top1}, "classification_ema": {"top1": average}}
    (folder / "results.json").write_text(json.dumps({"results": results, "iterations": 6}))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two seeds of Table 8; EMA +1 and +3, distillation +2 and +2, both +4 and +6."""
    out = tmp_path / "out"
    begin(small_plan(tmp_path), str(out))
    training(out / "teacher", 70, 72.5, {})
    training(out / "labels-seed3", 80, 81, {2: (10, 20), 4: (50, 70)})
    training(out / "labels-seed4", 84, 87, {2: (12, 22), 4: (54, 72)})
    training(out / "distilled-seed3", 82, 84, {4: (51, 60)})
    training(out / "distilled-seed4", 86, 90, {4: (52, 61)})
    return out


def test_cells_hold_own_and_averaged_figures_and_paired_differences(folder) -> None:
    cells = summarize(str(folder)).final[ROW]
    assert {column: dict(cell.figures) for column, cell in cells.items()} == {
        "Baseline": {3: 80, 4: 84}, "EMA": {3: 81, 4: 87}, "Dist*": {3: 82, 4: 86}, "Dist*+EMA": {3: 84, 4: 90}
    }  # fmt: skip
    assert cells["Baseline"].difference is None
    assert (cells["EMA"].difference.mean, cells["EMA"].difference.error) == (2, pytest.approx(1))
    assert cells["EMA"].difference.high == pytest.approx(2 + 12.7062047)  # Student's t with 1 degree of freedom
    assert (cells["Dist*"].difference.mean, cells["Dist*"].difference.error) == (2, 0)


def test_half_way_is_the_evaluation_nearest_to_it(folder) -> None:
    halfway = summarize(str(folder)).halfway[ROW]
    assert halfway["Baseline"].figures == {3: 10, 4: 12}  # 2 and 4 are as near to 3 of 6: the earlier one
    assert halfway["Dist*+EMA"].figures == {3: 60, 4: 61}
    assert halfway["EMA"].difference.mean == 10


def test_curves_end_with_the_last_iteration(folder) -> None:
    summary = summarize(str(folder))
    assert summary.curves(ROW, "EMA") == {3: {2: 20, 4: 70, 6: 81}, 4: {2: 22, 4: 72, 6: 87}}
    assert summary.epochs_per_iteration() is None


def test_the_table_has_the_form_of_the_papers_table_8(folder) -> None:
    table = main_table(summarize(str(folder))).splitlines()
    assert [cell.strip() for cell in table[0].split("|")[1:-1]] == [
        "Training Model", "Baseline", "EMA", r"Dist\*", r"Dist\*+EMA"
    ]  # fmt: skip
    assert [cell.strip() for cell in table[2].split("|")[1:-1]] == [
        ROW, "82.00 ± 2.83", "84.00 ± 4.24", "84.00 ± 2.83", "87.00 ± 4.24"
    ]  # fmt: skip
    text = markdown(summarize(str(folder)))
    assert "+2.00 ± 1.00 [-10.71, +14.71]" in text and "Teacher (teacher): 72.50" in text
    assert "over the seeds 3, 4;" in text and "Half way through" in text and "Failed" not in text


def test_what_is_missing_is_said(folder, tmp_path) -> None:
    (folder / "labels-seed4" / "results.json").unlink()
    write_failure(str(folder / "labels-seed4"), "exit code 1\nerror: loss not finite")
    for name in ("distilled-seed3", "distilled-seed4"):
        (folder / name / "results.json").unlink()
    text = markdown(summarize(str(folder)))
    assert "80.00 (failed) | 81.00 (failed) | 2 to come" in text
    assert "- labels-seed4: exit code 1: error: loss not finite" in text
    assert summarize(str(folder)).final[ROW]["EMA"].difference.mean == 1
    begin(small_plan(tmp_path), str(tmp_path / "empty"))
    assert "3 failed" not in markdown(summarize(str(tmp_path / "empty")))


def test_all_figures_are_in_the_file(folder) -> None:
    paths = write_tables(summarize(str(folder)), str(folder))
    assert [Path(path).name for path in paths] == ["ablation.json", "ablation.md"]
    data = json.loads(Path(paths[0]).read_text())
    (row,) = data["rows"]
    both = row["columns"]["Dist*+EMA"]
    assert both["figures"] == {"3": 84, "4": 90} and (both["n"], both["mean"]) == (2, 87)
    assert both["difference"]["mean"] == 5 and both["difference"]["low"] == pytest.approx(5 - 12.7062047)
    assert data["teachers"] == {"teacher": 72.5} and data["trainings"]["teacher"] == {"state": "done"}


def test_table_3_has_a_row_per_network_with_the_difference_last(tmp_path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("MODEL_EMA: {ENABLED: true}\n")
    config, out = str(small_config(tmp_path)), str(tmp_path / "out")
    plan = recipes_plan(config, ["resnet18", "alexnet"], [3, 4], METRIC, "", str(recipe))
    begin(plan, out)
    assert Schedule(plan, out, command=fake_command, say=lambda text: None).run() == []
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in main_table(summarize(out)).splitlines()]
    assert lines[0] == ["Model", "Original", "Recipe", "Δ"]
    assert lines[2:] == [
        ["resnet18", "83.50 ± 0.71", "86.50 ± 0.71", "+3.00 ± 0.00 [+3.00, +3.00]"],
        ["alexnet", "83.50 ± 0.71", "86.50 ± 0.71", "+3.00 ± 0.00 [+3.00, +3.00]"],
    ]


def test_iterations_done_twice_count_once_and_a_line_cut_off_does_not(tmp_path) -> None:
    lines = [
        '{"iteration": 1, "classification/top1": 10.0}',
        '{"iteration": 3, "classification/top1": 99.0}',
        '{"iteration": 3, "classification/top1": 20.0, "lr": 0.1}',
        '{"iteration": 5, "classification/to',
    ]
    (tmp_path / "metrics.json").write_text("\n".join(lines))
    outcome = read_outcome(str(tmp_path))
    assert outcome.curve == {2: {METRIC: 10.0}, 4: {METRIC: 20.0}} and outcome.state == "waiting"


def test_states_of_a_training(tmp_path) -> None:
    assert read_outcome(str(tmp_path / "new")).state == "waiting"
    (tmp_path / "output.txt").write_text("\n".join(f"line {number}" for number in range(20)))
    assert read_outcome(str(tmp_path)).state == "begun"
    write_failure(str(tmp_path), why(str(tmp_path), -9))
    failed = read_outcome(str(tmp_path))
    assert failed.state == "failed" and failed.reason.splitlines()[0] == "killed by signal 9"
    assert failed.reason.splitlines()[-1] == "line 19" and "line 9" not in failed.reason
    (tmp_path / "results.json").write_text(
        '{"results": {"classification": {"top1": 5, "loss": null}}, "iterations": 6}'
    )
    done = read_outcome(str(tmp_path))
    assert (done.state, done.figures, done.iterations) == ("done", {METRIC: 5}, 6)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(AblationError, match="results.json: cannot be read"):
        read_outcome(str(tmp_path))
