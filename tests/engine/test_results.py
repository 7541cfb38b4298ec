"""What a run says while it goes on and when it is done."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from tiny_task import TinyClassifier, tiny_cfg

from fbnet_plugin.engine import FBNetTrainer, evaluate
from fbnet_plugin.engine.results import EVALUATED, TRAINED, write_results

FASTER = ("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.5, "MODEL.CHANNELS_LAST", True)


def content(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("opts", [(), FASTER])
def test_an_evaluation_of_the_last_checkpoint_gives_the_last_figures_exactly(tmp_path, opts):
    trained = FBNetTrainer(tiny_cfg(tmp_path, *opts)).train()
    written = content(tmp_path, TRAINED)
    assert written["results"] == {group: dict(figures) for group, figures in trained.items()}
    assert written["iterations"] == 6 and written["images"] == 24 and written["images_per_s"] > 0
    weights = str(tmp_path / "model_final.pth")
    evaluated = evaluate(tiny_cfg(tmp_path, *opts, "MODEL.WEIGHTS", weights))
    assert evaluated == trained
    assert content(tmp_path, EVALUATED) == {"results": written["results"], "weights": weights}


def test_a_file_of_results_is_there_exactly_when_the_run_is_done(tmp_path):
    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 3:
            assert not (tmp_path / TRAINED).exists()
            raise Stop

    FBNetTrainer(tiny_cfg(tmp_path)).train()
    assert (tmp_path / TRAINED).exists()
    TinyClassifier.on_step = staticmethod(stop)
    with pytest.raises(Stop):
        FBNetTrainer(tiny_cfg(tmp_path)).train()
    assert not (tmp_path / TRAINED).exists()
    TinyClassifier.on_step = None
    trainer = FBNetTrainer(tiny_cfg(tmp_path))
    trainer.resume_or_load(resume=True)
    trainer.train()
    assert content(tmp_path, TRAINED)["iterations"] == 6 and content(tmp_path, TRAINED)["since_iteration"] == 2
    again = FBNetTrainer(tiny_cfg(tmp_path))  # nothing left to do
    again.resume_or_load(resume=True)
    again.train()
    assert content(tmp_path, TRAINED)["iterations"] == 6 and content(tmp_path, TRAINED)["images_per_s"] == 0


def test_figures_that_json_cannot_hold_are_null(tmp_path):
    write_results(str(tmp_path / "a" / "r.json"), {"bbox": {"AP": math.nan, "AP50": 1}}, {"x": (1, math.inf)})
    assert content(tmp_path / "a", "r.json") == {"results": {"bbox": {"AP": None, "AP50": 1}}, "x": [1, None]}


def test_a_line_tells_time_left_losses_accuracy_and_throughput(tmp_path, caplog):
    opts = ("SOLVER.EPOCHS", 7, "TEST.EVAL_PERIOD", 10, "SOLVER.CHECKPOINT_PERIOD", 100)
    with caplog.at_level("INFO"):
        FBNetTrainer(tiny_cfg(tmp_path, *opts)).train()
    lines = [r.getMessage() for r in caplog.records if r.name == "fbnet_plugin.engine.progress"]
    assert [re.search(r"iter: (\S+) \(epoch ([\d.]+)\)", line).groups() for line in lines] == [
        ("19/42", "3.33"), ("39/42", "6.67"), ("41/42", "7.00"),
    ]  # fmt: skip
    for part in (r"^eta: \d:\d\d:\d\d  ", r"total_loss: \S+", r"img/s: [\d.]+", r"  time: [\d.]+", r"lr: 0\.1"):
        assert all(re.search(part, line) for line in lines), part
    assert all(re.search(r"classification/top1: \d+\.\d\d", line) for line in lines)
    metrics = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert all(one["images_per_s"] > 0 for one in metrics if "total_loss" in one)
    assert list(Path(tmp_path).glob("events.out.tfevents.*"))  # TensorBoard
