from __future__ import annotations

import json
import logging
import os
import signal

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer
from tiny_task import TinyClassifier, tiny_cfg

from fbnet_plugin.checkpoint import CheckpointError, read_checkpoint
from fbnet_plugin.data import DatasetError
from fbnet_plugin.engine import FBNetTrainer, TrainingStopped


def train(cfg, resume=False):
    torch.manual_seed(cfg.SEED)
    np.random.seed(cfg.SEED)
    trainer = FBNetTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_classification_trains_evaluates_and_writes_metrics(tmp_path):
    cfg = tiny_cfg(tmp_path, "SOLVER.MAX_ITER", 60, "SOLVER.CHECKPOINT_PERIOD", 60)
    trainer = train(cfg)
    assert trainer._last_eval_results["classification"]["top1"] > 60  # 33.3 is chance
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["classification/top1"] == trainer._last_eval_results["classification"]["top1"]
    assert {"eta_seconds", "loss_cls", "lr", "time"} <= set(lines[0])
    assert lines[0]["total_loss"] > lines[2]["total_loss"]  # iterations 19 and 59


def test_detection_data_goes_to_detectron2s_loader_and_mixtures_are_refused(tmp_path):
    name = "tiny_boxes"
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, lambda: [{"file_name": "a.jpg", "height": 9, "width": 7, "annotations": [{}]}])
        MetadataCatalog.get(name).set(evaluator_type="coco")
    loader = FBNetTrainer.build_test_loader(tiny_cfg(tmp_path), name)
    assert len(loader.dataset) == 1 and loader.dataset._map_func._obj.is_train is False
    with pytest.raises(DatasetError, match="mixed.*tiny_train, tiny_boxes"):
        FBNetTrainer.build_train_loader(tiny_cfg(tmp_path, "DATASETS.TRAIN", ("tiny_train", name)))


def test_evaluators_of_several_datasets_do_not_share_a_folder(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr("fbnet_plugin.engine.trainer.build_evaluator", lambda cfg, name, folder: folders.append(folder))
    FBNetTrainer.build_evaluator(tiny_cfg("out"), "tiny_test")
    FBNetTrainer.build_evaluator(tiny_cfg("out", "DATASETS.TEST", ("tiny_test", "tiny_train")), "tiny_test")
    assert folders == [os.path.join("out", "inference"), os.path.join("out", "inference", "tiny_test")]


def test_resume_continues_with_the_optimizer_and_the_schedule_of_an_uninterrupted_run(tmp_path):
    steps = []
    batches = np.random.default_rng(3).random((6, 4, 3, 8, 8)).astype(np.float32) * 255
    labels = torch.arange(24).reshape(6, 4) % 3

    class Replay(FBNetTrainer):
        """The data of iteration i, whichever iteration the run begins with."""

        @classmethod
        def build_train_loader(cls, cfg):
            return [None]

        def run_step(self):
            batch = zip(torch.from_numpy(batches[self.iter]), labels[self.iter])
            self._trainer._data_loader_iter_obj = self._trainer.__dict__["_data_loader_iter"] = iter(
                [[{"image": image, "label": int(label)} for image, label in batch]]
            )
            steps.append((self.iter, self.optimizer.param_groups[0]["lr"]))
            super().run_step()

    def run(folder, max_iter, resume=False):
        torch.manual_seed(0)
        trainer = Replay(tiny_cfg(folder, "SOLVER.MAX_ITER", 6, "DATASETS.TEST", ()))
        trainer.max_iter = max_iter
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return trainer

    whole = run(tmp_path / "whole", 6)
    whole_steps = steps[:]
    steps.clear()
    run(tmp_path / "parts", 4)
    resumed = run(tmp_path / "parts", 6, resume=True)
    assert [number for number, _ in steps] == [0, 1, 2, 3, 4, 5]  # 4 comes after 3, in another trainer
    assert steps == whole_steps
    assert whole_steps[0][1] != whole_steps[3][1]  # there is a schedule to continue
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    for a, b in zip(whole.optimizer.state.values(), resumed.optimizer.state.values()):
        assert a["momentum_buffer"].abs().sum() > 0 and torch.equal(a["momentum_buffer"], b["momentum_buffer"])


def test_checkpoint_holds_the_whole_state_as_plain_data(tmp_path):
    train(tiny_cfg(tmp_path))
    state = torch.load(tmp_path / "model_0000003.pth", weights_only=True)
    assert set(state) == {"model", "trainer", "iteration"} and state["iteration"] == 3
    assert set(state["trainer"]) == {"iteration", "hooks", "_trainer", "seed", "loaders"}
    assert state["trainer"]["seed"] == 1 and state["trainer"]["loaders"] == {"train": {"seed": 1, "batches": 4}}
    assert state["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 4
    assert len(state["trainer"]["_trainer"]["optimizer"]["state"]) == 6
    assert state["model"]._metadata["body.1"]["version"] == 2


def test_resuming_a_state_without_optimizer_is_refused(tmp_path):
    cfg = tiny_cfg(tmp_path)
    trainer = train(cfg)
    path = tmp_path / "model_final.pth"
    state = read_checkpoint(str(path))
    del state["trainer"]["_trainer"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="no optimizer state"):
        trainer.resume_or_load(resume=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path, value):
    before = {}

    def poison(step, losses):
        if step == 5:  # the last iteration, after which Detectron2 evaluates even a failed run
            before.update({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
            return {**losses, "loss_extra": losses["loss_cls"] * value}

    TinyClassifier.on_step = staticmethod(poison)
    cfg = tiny_cfg(tmp_path)
    trainer = FBNetTrainer(cfg)
    with pytest.raises(FloatingPointError, match=f"iteration 5: loss_extra = {value}; no step was taken"):
        trainer.train()
    assert before and all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000001.pth", "model_0000003.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    assert not hasattr(trainer, "_last_eval_results")


def test_a_model_that_diverged_in_its_step_is_never_saved(tmp_path):
    """Finite losses can have gradients that are not."""

    def poison(step, losses):
        if step == 3:
            bias = trainer.model.head["fc"].bias
            return {"loss_cls": losses["loss_cls"] + (bias - bias.detach()).abs().sum().sqrt()}  # 0, with slope NaN

    TinyClassifier.on_step = staticmethod(poison)
    trainer = FBNetTrainer(tiny_cfg(tmp_path))
    with pytest.raises(FloatingPointError, match="parameter head.fc.bias is not finite"):
        trainer.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_0000001.pth"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_lets_the_iteration_finish_and_writes_its_state(tmp_path, signum):
    def interrupt(step, losses):
        if step == 2:
            os.kill(os.getpid(), signum)

    TinyClassifier.on_step = staticmethod(interrupt)
    cfg = tiny_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 100)
    trainer = FBNetTrainer(cfg)
    handler = signal.getsignal(signum)
    with pytest.raises(TrainingStopped) as stopped:
        trainer.train()
    assert signal.getsignal(signum) is handler
    assert (stopped.value.signum, stopped.value.iteration) == (signum, 2)
    assert stopped.value.checkpoint == str(tmp_path / "model_0000002.pth")
    assert not hasattr(trainer, "_last_eval_results")
    TinyClassifier.on_step = None
    saved = weights(trainer)
    resumed = FBNetTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3
    assert all(torch.equal(value, saved[name]) for name, value in weights(resumed).items())


def test_second_signal_stops_at_once_and_saves_nothing_half_done(tmp_path):
    def interrupt(step, losses):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    TinyClassifier.on_step = staticmethod(interrupt)
    trainer = FBNetTrainer(tiny_cfg(tmp_path))
    with pytest.raises(TrainingStopped) as stopped:
        trainer.train()
    assert stopped.value.checkpoint == ""
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_signal_during_the_last_evaluation_leaves_a_finished_run(tmp_path):
    class InterruptedEvaluation(FBNetTrainer):
        @classmethod
        def test(cls, cfg, model, evaluators=None):
            os.kill(os.getpid(), signal.SIGINT)

    cfg = tiny_cfg(tmp_path)
    with pytest.raises(TrainingStopped) as stopped:
        InterruptedEvaluation(cfg).train()
    assert stopped.value.iteration == 5
    resumed = FBNetTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 6
    resumed.train()
    assert resumed._last_eval_results["classification"]["top1"] >= 0


def test_signal_during_evaluation_stops_at_once_with_the_state_of_the_iteration(tmp_path):
    class InterruptedEvaluation(FBNetTrainer):
        @classmethod
        def test(cls, cfg, model, evaluators=None):
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("evaluation went on")

    trainer = InterruptedEvaluation(tiny_cfg(tmp_path, "TEST.EVAL_PERIOD", 3))
    with pytest.raises(TrainingStopped) as stopped:
        trainer.train()
    assert stopped.value.iteration == 2
    assert read_checkpoint(stopped.value.checkpoint)["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 3


def test_data_loading_workers_that_end_by_the_signal_do_not_spoil_the_stop(tmp_path):
    """A signal to the whole process group ends the workers, and PyTorch raises for it where the next batch is due."""

    class Loader:
        def __iter__(self):
            batch = [{"image": torch.rand(3, 8, 8), "label": 0}] * 2
            yield from [batch] * 3
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")

    class Ending(FBNetTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return Loader()

    with pytest.raises(TrainingStopped) as stopped:
        Ending(tiny_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 100)).train()
    assert stopped.value.iteration == 2
    resumed = FBNetTrainer(tiny_cfg(tmp_path))
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3 and resumed.scheduler.last_epoch == 3


def test_mixed_precision_on_a_cpu_falls_back_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = train(tiny_cfg(tmp_path, "SOLVER.AMP.ENABLED", True, "SOLVER.MAX_ITER", 2))
    assert trainer.iter == 2
    assert [r.message for r in caplog.records if "SOLVER.AMP.ENABLED needs a CUDA device, not cpu" in r.message]


def test_a_new_run_in_a_used_folder_and_a_finished_run(tmp_path, caplog):
    cfg = tiny_cfg(tmp_path, "SOLVER.MAX_ITER", 2)
    train(cfg)
    assert "earlier run" not in caplog.text
    train(cfg, resume=True)  # evaluates again
    assert "earlier run" not in caplog.text
    train(cfg)
    assert "holds checkpoints of an earlier run" in caplog.text and "--resume" in caplog.text


def test_the_state_has_upstreams_layout(tmp_path):
    """Upstream's DefaultTrainer keeps the optimizer under _trainer; 0.6 leaves it out."""
    trainer = FBNetTrainer(tiny_cfg(tmp_path))
    trainer.iter = 4
    ours = FBNetTrainer.state_dict(trainer)
    theirs = DefaultTrainer.state_dict(trainer)
    assert set(theirs) <= set(ours) and ours["_trainer"]["optimizer"]["param_groups"][0]["lr"] > 0
