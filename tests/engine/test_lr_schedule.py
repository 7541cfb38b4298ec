from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_task import tiny_cfg

from fbnet_plugin.data import build_train_loader
from fbnet_plugin.engine import ConfigError, FBNetTrainer
from fbnet_plugin.engine.lr_schedule import (
    build_lr_scheduler,
    counts_epochs,
    epoch_decay,
    epoch_length,
    in_iterations,
    lengths,
)

# The training set of the tiny task has 24 images, batches of 4: 6 iterations per epoch.
EPOCH = 6
DECAY = ("SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.EPOCHS", 4, "SOLVER.EPOCH_DECAY", 0.5)


class Recorded(FBNetTrainer):
    """Remembers the learning rate of each step."""

    def run_step(self):
        self.rates = getattr(self, "rates", {})
        self.rates[self.iter] = self.optimizer.param_groups[0]["lr"]
        super().run_step()


def run(cfg, resume=False):
    torch.manual_seed(0)
    np.random.seed(0)
    trainer = Recorded(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def rates(cfg):
    """The learning rate of each iteration of a schedule of MAX_ITER."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_decay_is_a_staircase_of_whole_epochs_after_the_warm_up(tmp_path):
    cfg = in_iterations(tiny_cfg(tmp_path, *DECAY, "SOLVER.WARMUP_EPOCHS", 1.5, "SOLVER.WARMUP_FACTOR", 0.1), 24)
    found = rates(cfg)
    warmup, last = 9, 4 * EPOCH
    line = [0.1 * (0.1 + 0.9 * i / warmup) for i in range(warmup)]
    stairs = [0.1 * 0.5 ** ((i - warmup) // EPOCH) for i in range(warmup, last)]
    assert found == pytest.approx(line + stairs)
    assert stairs[0] == 0.1 and stairs[-1] == 0.1 / 4


def test_without_warm_up_the_first_epoch_has_the_full_rate():
    decay = epoch_decay(0.9875, iterations=400 * 625, epochs=400)
    for epoch in (0, 1, 2, 57, 399):
        for inside in (0, 1, 624):
            assert decay((epoch * 625 + inside) / (400 * 625)) == 0.9875**epoch


def test_the_published_decay_is_pytorchs_exponential(tmp_path):
    """FBNetV3 section 4.2: 400 epochs, times 0.9875 per epoch after 5 of warm-up; here of 6 iterations each."""
    name = ("SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.EPOCHS", 400, "SOLVER.EPOCH_DECAY", 0.9875)
    found = rates(in_iterations(tiny_cfg(tmp_path, *name, "SOLVER.WARMUP_EPOCHS", 5.0), 24))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    theirs = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9875)
    for epoch in range(5, 400):
        expected = optimizer.param_groups[0]["lr"]
        assert found[epoch * EPOCH : (epoch + 1) * EPOCH] == pytest.approx([expected] * EPOCH, rel=1e-9)
        optimizer.step()
        theirs.step()
    assert len(found) == 400 * EPOCH and found[0] == pytest.approx(0.1 / 1000)


@pytest.mark.parametrize("lengths", [(24, 4, 0), (25, 4, 3), (7, 7, 0), (10, 3, 10), (10, 3, 30), (1, 1, 0)])
def test_any_lengths_give_the_closed_form(lengths):
    iterations, epochs, warmup = lengths
    decay = epoch_decay(0.5, iterations, epochs, warmup)
    for i in range(iterations):
        assert decay(i / iterations) == 0.5 ** (max(i - warmup, 0) * epochs // iterations)


@pytest.mark.parametrize("warmup", [0, 5])
def test_cosine_and_step_in_epochs(tmp_path, warmup):
    """As many epochs of another length are the same curve: PyTorch's own, per epoch."""
    curves = {}
    for size in (24, 240):
        length = size // 4
        opts = ("SOLVER.EPOCHS", 20, "SOLVER.WARMUP_EPOCHS", float(warmup), "SOLVER.WARMUP_ITERS", 0)
        for name in ("WarmupCosineLR", "WarmupMultiStepLR"):
            steps = ("SOLVER.STEP_EPOCHS", (9, 18), "SOLVER.LR_SCHEDULER_NAME", name)
            found = rates(in_iterations(tiny_cfg(tmp_path, *opts, *steps), size))
            curves[name, size] = found[::length]
            assert len(found) == 20 * length
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    step = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1), [9, 18])
    for epoch in range(20):
        if epoch >= warmup:
            for size in (24, 240):
                assert curves["WarmupCosineLR", size][epoch] == pytest.approx(cosine.get_last_lr()[0], rel=1e-6)
                assert curves["WarmupMultiStepLR", size][epoch] == pytest.approx(step.get_last_lr()[0], rel=1e-6)
        for one in (cosine, step):
            one.optimizer.step()
            one.step()


def test_detectron2s_own_schedules_are_unchanged(tmp_path):
    from detectron2.solver import build_lr_scheduler as theirs

    for opts in (("WarmupCosineLR",), ("WarmupMultiStepLR", "SOLVER.STEPS", (2, 4))):
        cfg = tiny_cfg(tmp_path, "SOLVER.LR_SCHEDULER_NAME", *opts)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
        multiplier = theirs(cfg, optimizer)._multiplier
        assert rates(cfg) == [0.1 * multiplier(i / 6) for i in range(6)]


def test_lengths_in_epochs_replace_those_in_iterations(tmp_path):
    cfg = tiny_cfg(tmp_path)
    assert not counts_epochs(cfg)
    plain = in_iterations(cfg, 24)
    assert plain == cfg and lengths(cfg, None) == (cfg, 6)
    opts = ("SOLVER.EPOCHS", 10, "SOLVER.WARMUP_EPOCHS", 0.3, "SOLVER.STEP_EPOCHS", (3, 7.5), "TEST.EVAL_EPOCHS", 2)
    opts += ("SOLVER.CHECKPOINT_EPOCHS", 3)
    cfg = tiny_cfg(tmp_path, *opts)
    assert counts_epochs(cfg)
    # 27 images are 6 whole batches
    done = in_iterations(cfg, 27)
    assert (done.SOLVER.MAX_ITER, done.SOLVER.WARMUP_ITERS, done.SOLVER.STEPS) == (60, 2, (18, 45))
    assert done.TEST.EVAL_PERIOD == 12 and done.SOLVER.CHECKPOINT_PERIOD == 18 and done.is_frozen()
    assert in_iterations(done, 27) == done and cfg.SOLVER.MAX_ITER == 6
    loader = build_train_loader(cfg)
    for stop, last in ((0, 60), (4, 24), (40, 60)):
        stopped, iterations = lengths(tiny_cfg(tmp_path, *opts, "SOLVER.STOP_EPOCH", stop), loader)
        assert (stopped.SOLVER.MAX_ITER, iterations) == (60, last)


@pytest.mark.parametrize(
    "opts",
    [
        ("SOLVER.EPOCHS", 1), ("SOLVER.WARMUP_EPOCHS", 0.5), ("SOLVER.STEP_EPOCHS", (1,)), ("SOLVER.STOP_EPOCH", 1),
        ("SOLVER.CHECKPOINT_EPOCHS", 1), ("TEST.EVAL_EPOCHS", 1),
    ],
)  # fmt: skip
def test_any_length_in_epochs_needs_the_size_of_the_set(tmp_path, opts):
    assert counts_epochs(tiny_cfg(tmp_path, *opts))


def test_checkpoints_after_each_few_epochs(tmp_path):
    run(tiny_cfg(tmp_path, "SOLVER.EPOCHS", 4, "SOLVER.CHECKPOINT_EPOCHS", 2))
    assert sorted(path.name for path in tmp_path.glob("model_0*.pth")) == ["model_0000011.pth", "model_0000023.pth"]


def test_the_images_of_one_epoch_are_those_of_the_set(tmp_path):
    cfg = tiny_cfg(tmp_path)
    loader = build_train_loader(cfg, seed=5)
    for _ in range(2):
        seen = [one["image_id"] for _ in range(epoch_length(cfg, len(loader.dataset))) for one in next(loader)]
        assert sorted(seen) == list(range(24))


@pytest.mark.parametrize("optimizer", ["SGD", "RMSProp"])
def test_a_stopped_run_is_the_beginning_of_the_whole_one(tmp_path, optimizer):
    opts = (*DECAY, "SOLVER.WARMUP_EPOCHS", 0.5, "SOLVER.OPTIMIZER", optimizer, "SOLVER.BASE_LR", 0.01)
    opts += ("MODEL_EMA.ENABLED", True)
    whole = run(tiny_cfg(tmp_path / "whole", *opts))
    stopped = run(tiny_cfg(tmp_path / "parts", *opts, "SOLVER.STOP_EPOCH", 1))
    assert sorted(whole.rates) == list(range(4 * EPOCH)) and len(set(whole.rates.values())) > 4
    assert stopped.rates == {i: whole.rates[i] for i in range(EPOCH)}
    assert stopped._last_eval_results["classification"]["top1"] >= 0
    resumed = run(tiny_cfg(tmp_path / "parts", *opts), resume=True)
    assert resumed.start_iter == EPOCH and resumed.rates == {i: whole.rates[i] for i in range(EPOCH, 4 * EPOCH)}
    for one, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values()):
        assert torch.equal(one, other)


def test_the_training_set_is_read_once(tmp_path, monkeypatch):
    from fbnet_plugin.data import loaders

    reads, read = [], loaders.training_dicts
    monkeypatch.setattr(loaders, "training_dicts", lambda cfg: reads.append(1) or read(cfg))
    trainer = FBNetTrainer(tiny_cfg(tmp_path, "SOLVER.EPOCHS", 2, "TEST.EVAL_EPOCHS", 1))
    assert len(reads) == 1 and trainer.max_iter == 2 * EPOCH and trainer.cfg.TEST.EVAL_PERIOD == EPOCH
    FBNetTrainer(tiny_cfg(tmp_path))
    assert len(reads) == 2


@pytest.mark.parametrize(
    "opts, message",
    [
        (["LR_SCHEDULER_NAME", "WarmupExponential"], "is 'WarmupExponential'; did you mean WarmupExponentialLR"),
        (["LR_SCHEDULER_NAME", "WarmupExponentialLR"], "needs SOLVER.EPOCHS"),
        (["EPOCHS", -1], "SOLVER.EPOCHS is -1, expected 0 or more"),
        (["CHECKPOINT_EPOCHS", -1], "SOLVER.CHECKPOINT_EPOCHS is -1, expected 0 or more"),
        (["WARMUP_EPOCHS", -0.5], "SOLVER.WARMUP_EPOCHS is -0.5"),
        (["STEP_EPOCHS", (4, 2)], "SOLVER.STEP_EPOCHS is .4, 2."),
        (["EPOCH_DECAY", 0.0], "SOLVER.EPOCH_DECAY is 0.0"),
    ],
)
def test_mistakes_are_found_before_the_run(tmp_path, opts, message):
    with pytest.raises(ConfigError, match=message):
        FBNetTrainer.check(tiny_cfg(tmp_path, f"SOLVER.{opts[0]}", opts[1]))


def test_an_epoch_needs_a_batch_and_a_set_of_known_size(tmp_path):
    with pytest.raises(ConfigError, match="IMS_PER_BATCH is 25, but the training set has 24 images"):
        FBNetTrainer(tiny_cfg(tmp_path, "SOLVER.EPOCHS", 2, "SOLVER.IMS_PER_BATCH", 25))

    class Stream(FBNetTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return iter([])

    with pytest.raises(ConfigError, match="training set of known size"):
        Stream(tiny_cfg(tmp_path, "SOLVER.EPOCHS", 2))
