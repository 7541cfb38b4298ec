"""Real trainings: what makes two of them comparable, and one in a process of its own that is stopped and goes on."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import torch
from small_ablation import small_plan

from fbnet_plugin.ablation.one_run import main
from fbnet_plugin.ablation.outcome import read_outcome
from fbnet_plugin.ablation.schedule import one_run_command
from fbnet_plugin.ablation.variants import variant
from fbnet_plugin.checkpoint import read_checkpoint
from fbnet_plugin.data import register_from_config
from fbnet_plugin.engine import FBNetTrainer


def config_of(plan, name: str, folder: Path, *opts) -> str:
    """The config file of a training, as the schedule writes it."""
    trainings = {one.name: one for one in plan.trainings}
    cfg = variant(trainings[name].config_in(str(folder), trainings), *opts)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    path = Path(cfg.OUTPUT_DIR) / "config.yaml"
    path.write_text(cfg.dump())
    return str(path)


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())["results"]


def test_the_average_does_not_act_on_the_training_that_it_is_taken_from(tmp_path) -> None:
    plan = small_plan(tmp_path)
    main(["--config-file", config_of(plan, "labels-seed3", tmp_path / "with")])
    main(["--config-file", config_of(plan, "labels-seed3", tmp_path / "without", "MODEL_EMA.ENABLED", False)])
    one, other = (tmp_path / side / "labels-seed3" for side in ("with", "without"))
    assert results(one)["classification"] == results(other)["classification"]
    assert set(results(other)) == {"classification"} and set(results(one)) == {"classification", "classification_ema"}
    weights = [read_checkpoint(str(folder / "model_final.pth"))["model"] for folder in (one, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    curve = read_outcome(str(one)).curve
    # Detectron2 writes at every 20th iteration and at the end, and then what was evaluated last.
    assert list(curve) == [4, 6] and all("classification_ema/top1" in figures for figures in curve.values())


def test_students_begin_with_the_weights_and_images_of_the_training_without_teacher(tmp_path) -> None:
    plan = small_plan(tmp_path)
    main(["--config-file", config_of(plan, "teacher", tmp_path)])
    trainings = {one.name: one for one in plan.trainings}
    found = []
    for name in ("labels-seed3", "distilled-seed3"):
        cfg = trainings[name].config_in(str(tmp_path), trainings)
        register_from_config(cfg)
        torch.manual_seed(cfg.SEED)
        trainer = FBNetTrainer(cfg)
        batches = iter(trainer._trainer.data_loader)
        found.append((trainer.model.state_dict(), [one["file_name"] for _ in range(3) for one in next(batches)]))
    assert found[0][1] == found[1][1]
    assert found[0][0].keys() == found[1][0].keys()
    assert all(torch.equal(value, found[1][0][name]) for name, value in found[0][0].items())
    main(["--config-file", config_of(plan, "distilled-seed3", tmp_path)])
    assert set(results(tmp_path / "distilled-seed3")) == {"classification", "classification_ema"}


def test_a_training_stops_with_its_owner_and_goes_on_to_the_same_end(tmp_path) -> None:
    plan = small_plan(tmp_path, 1, "SOLVER.MAX_ITER", "60", "TEST.EVAL_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD", "5")
    config, folder = config_of(plan, "labels-seed3", tmp_path / "stopped"), tmp_path / "stopped" / "labels-seed3"
    with open(tmp_path / "output.txt", "wb") as output:
        process = subprocess.Popen(one_run_command(config, 0), stdin=subprocess.PIPE, stdout=output, stderr=output)
        while not (folder / "model_0000004.pth").exists():
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            time.sleep(0.01)
        process.stdin.close()  # as when the owner was killed
        assert process.wait(60) == 143
    assert read_outcome(str(folder)).state != "done"
    stopped_at = read_checkpoint(str(folder / (folder / "last_checkpoint").read_text()))["iteration"]
    assert 4 <= stopped_at < 59
    main(["--config-file", config])
    assert f"Starting training from iteration {stopped_at + 1}" in (folder / "log.txt").read_text()
    main(["--config-file", config_of(plan, "labels-seed3", tmp_path / "whole")])
    assert results(folder) == results(tmp_path / "whole" / "labels-seed3")
