"""One step in any precision, at once or in parts."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.utils.events import EventStorage
from tiny_task import tiny_cfg
from torch import nn

from fbnet_plugin.engine import ConfigError, FBNetTrainer
from fbnet_plugin.engine.precision import check_precision, grad_scaler, precision_from_config
from fbnet_plugin.engine.step import GuardedTrainer, accumulate
from fbnet_plugin.engine.stop import StopSignals
from fbnet_plugin.engine.validate import validate


class Regression(nn.Module):
    """A mean squared error; notes the size and the precision of what it sees."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
        self.seen = []

    def forward(self, batch):
        x, y = (torch.stack(part) for part in zip(*batch))
        out = self.body(x)
        self.seen.append((len(batch), out.dtype))
        return {"loss_square": (out.float() - y).square().mean(), "loss_size": out.float().abs().mean()}


def some_data(count):
    return [(torch.randn(5), torch.randn(1)) for _ in range(count)]


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_add_up_to_the_gradient_and_losses_of_the_whole(parts):
    whole, data = Regression(), some_data(12)
    cut = copy.deepcopy(whole)
    scaler = grad_scaler("cpu", None)
    at_once = accumulate(whole, data, 1, None, scaler)
    in_parts = accumulate(cut, data, parts, None, scaler)
    assert [size for size, _ in cut.seen] == [12 // parts] * parts
    torch.testing.assert_close(gradients(cut), gradients(whole))
    assert in_parts.keys() == at_once.keys()
    for name, loss in in_parts.items():
        torch.testing.assert_close(loss, at_once[name].detach())


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="batch of 5 .* 2 parts .*ACCUMULATION_STEPS"):
        accumulate(Regression(), some_data(5), 2, None, grad_scaler("cpu", None))


def step_of(model, batches, **settings):
    trainer = GuardedTrainer(model, batches, torch.optim.SGD(model.parameters(), 0.1), **settings)
    trainer.signals, trainer.iter = StopSignals(), 0
    return trainer


def test_a_step_is_that_of_plain_pytorch():
    model, data = Regression(), some_data(8)
    plain = copy.deepcopy(model)
    step = step_of(model, [data, data])
    with EventStorage():
        step.run_step()
        step.run_step()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(plain(data).values()).backward()
        optimizer.step()
    for mine, theirs in zip(model.parameters(), plain.parameters()):
        assert torch.equal(mine, theirs)


def test_bfloat16_runs_on_a_cpu_near_full_precision():
    model, data = Regression(), some_data(8)
    full = copy.deepcopy(model)
    for one, precision in ((model, torch.bfloat16), (full, None)):
        with EventStorage():
            step = step_of(one, [data], precision=precision)
            step.run_step()
        assert "grad_scaler" not in step.state_dict()
    assert model.seen == [(8, torch.bfloat16)] and full.seen == [(8, torch.float32)]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert 0 < (gradients(model) - gradients(full)).norm() < 0.02 * gradients(full).norm()


def test_precisions_and_what_is_said_of_them(tmp_path, caplog):
    assert precision_from_config(tiny_cfg(tmp_path)) is None
    half = ["SOLVER.AMP.ENABLED", True]
    assert precision_from_config(tiny_cfg(tmp_path, *half, "SOLVER.AMP.DTYPE", "bfloat16")) == torch.bfloat16
    assert precision_from_config(tiny_cfg(tmp_path, *half)) is None and "bfloat16 works there" in caplog.text
    with pytest.raises(ConfigError, match="AMP.DTYPE is 'float61'; did you mean float16.*known: float16, bfloat16"):
        check_precision(tiny_cfg(tmp_path, "SOLVER.AMP.DTYPE", "float61"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_scale_of_float16_is_part_of_the_state():
    model = Regression().cuda()
    data = [(x.cuda(), y.cuda()) for x, y in some_data(8)]
    step = step_of(model, [data], precision=torch.float16)
    with EventStorage():
        step.run_step()
    state = step.state_dict()
    assert state["grad_scaler"]["scale"] > 1
    state["grad_scaler"]["scale"] = 8.0
    step.load_state_dict(state)
    assert step.scaler.get_scale() == 8.0


@pytest.mark.parametrize("steps, world_size, good", [(1, 1, True), (2, 2, True), (4, 2, False), (0, 1, False)])
def test_accumulation_must_divide_what_a_process_has(tmp_path, steps, world_size, good):
    cfg = tiny_cfg(tmp_path, "SOLVER.ACCUMULATION_STEPS", steps)  # batches of 4
    if good:
        validate(cfg, world_size=world_size)
    else:
        with pytest.raises(ConfigError, match=f"ACCUMULATION_STEPS is {steps}, expected 1 or more that divides"):
            validate(cfg, world_size=world_size)


def test_accumulation_divides_the_batch_that_the_reference_world_size_leaves(tmp_path):
    """The published batch for 8 GPUs, on one: an eighth of it, and an eighth of the learning rate."""
    opts = ["SOLVER.IMS_PER_BATCH", 16, "SOLVER.REFERENCE_WORLD_SIZE", 8, "SOLVER.ACCUMULATION_STEPS"]
    validate(tiny_cfg(tmp_path, *opts, 2))
    with pytest.raises(ConfigError, match="divides the 2 images"):
        validate(tiny_cfg(tmp_path, *opts, 4))
    trainer = FBNetTrainer(tiny_cfg(tmp_path, *opts, 2, "SOLVER.EPOCHS", 2))
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 2 and trainer.cfg.SOLVER.BASE_LR == pytest.approx(0.1 / 8)
    assert trainer.max_iter == 2 * 24 // 2


def test_a_run_in_parts_sees_the_images_of_a_run_at_once(tmp_path):
    """And the optimizer takes as many steps."""
    ends = []
    for steps in (1, 2):
        torch.manual_seed(0)
        trainer = FBNetTrainer(tiny_cfg(tmp_path / str(steps), "SOLVER.ACCUMULATION_STEPS", steps))
        seen = []
        trainer.model.register_forward_pre_hook(
            lambda model, inputs, seen=seen: seen.extend(one["image_id"] for one in inputs[0] if model.training)
        )
        trainer.train()
        ends.append((seen, trainer.optimizer.param_groups[0]["lr"], trainer.iter))
    assert ends[0] == ends[1] and len(ends[0][0]) == 6 * 4
