from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.modeling import build_model
from tiny_task import TinyClassifier, tiny_cfg
from torch import nn

from fbnet_plugin.engine import ConfigError, FBNetTrainer, load_config
from fbnet_plugin.engine.optimizer import OPTIMIZERS, RMSPropTF, build_optimizer

RMSPROP = ("SOLVER.OPTIMIZER", "RMSProp")
NORMS = {"BN": nn.BatchNorm2d, "SyncBN": (nn.SyncBatchNorm, NaiveSyncBatchNorm), "naiveSyncBN": NaiveSyncBatchNorm}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def walk(model, optimizer, steps=5, rates=(0.1, 0.1, 0.02, 0.05, 0.05), first=0):
    """Steps on random data; the weights after each."""
    path = []
    for step in range(first, first + steps):
        inputs = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(step))
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
        path.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    return path


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_equals_timms_at_every_step(momentum, weight_decay):
    optim = pytest.importorskip("timm.optim")
    settings = {"alpha": 0.8, "eps": 1e-3, "momentum": momentum, "weight_decay": weight_decay}
    ours, theirs = network(), network()
    ours_path = walk(ours, RMSPropTF(ours.parameters(), 0.1, **settings))
    theirs_path = walk(theirs, optim.RMSpropTF(theirs.parameters(), 0.1, **settings))
    for one, other in zip(ours_path, theirs_path):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert (ours_path[0] - ours_path[-1]).abs().max() > 0.01


def test_one_step_by_hand():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = RMSPropTF([weight], 0.1, alpha=0.9, eps=0.5, momentum=0.5, weight_decay=0.25)
    expected, mean, buffer = 2.0, 1.0, 0.0
    for rate in (0.1, 0.3):
        weight.grad = torch.tensor([1.5])
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        grad = 1.5 + 0.25 * expected
        mean = 0.9 * mean + 0.1 * grad**2
        buffer = 0.5 * buffer + rate * grad / (mean + 0.5) ** 0.5
        expected -= buffer
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_interrupted_by_a_checkpoint_is_uninterrupted(tmp_path):
    whole = network()
    end = walk(whole, RMSPropTF(whole.parameters(), 0.1, momentum=0.9))[-1]
    first = network()
    optimizer = RMSPropTF(first.parameters(), 0.1, momentum=0.9)
    walk(first, optimizer, steps=3)
    torch.save(optimizer.state_dict(), tmp_path / "state.pth")
    second = copy.deepcopy(first)
    optimizer = RMSPropTF(second.parameters(), 0.7)
    optimizer.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(walk(second, optimizer, steps=2, first=3)[-1], end)


def test_parameters_without_gradient_stay():
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = RMSPropTF([used, unused], 0.1, weight_decay=0.1)
    used.sum().backward()
    assert optimizer.step(lambda: 7) == 7
    assert torch.equal(unused, torch.ones(3)) and (used < 1).all()


@pytest.mark.parametrize(
    "settings", [{"lr": -1.0}, {"alpha": 1.0}, {"eps": 0.0}, {"momentum": 1.0}, {"weight_decay": -0.1}]
)
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is .*expected"):
        RMSPropTF(network().parameters(), **{"lr": 0.1, **settings})


@pytest.mark.parametrize("clip", [False, True])
def test_groups_and_clipping_are_detectron2s(tmp_path, clip):
    decay = ("SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.WEIGHT_DECAY_NORM", 0.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.2)
    rates = ("SOLVER.BASE_LR", 0.5, "SOLVER.BIAS_LR_FACTOR", 2.0)
    clipping = ("SOLVER.CLIP_GRADIENTS.ENABLED", clip, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 1e-3)
    model = network()
    built = {}
    for name in OPTIMIZERS:
        cfg = tiny_cfg(tmp_path, *decay, *rates, *clipping, "SOLVER.OPTIMIZER", name)
        built[name] = build_optimizer(cfg, model)
        found = [(g["lr"], g["weight_decay"], list(map(id, g["params"]))) for g in built[name].param_groups]
        assert found == [(g["lr"], g["weight_decay"], list(map(id, g["params"]))) for g in built["SGD"].param_groups]
    assert {group["weight_decay"] for group in built["RMSProp"].param_groups} == {0.1, 0.0, 0.2}
    assert isinstance(built["RMSProp"], RMSPropTF) and type(built["SGD"]).__name__.startswith("SGD")
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    built["RMSProp"].step()
    assert all((weight.grad.abs().max() <= 1e-3) == clip for weight in model.parameters())


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("norm", list(NORMS))
def test_norms_and_biases_of_an_fbnet_are_not_decayed(name, norm):
    """Each parameter of a real classifier: what its layer's type says, found without Detectron2's own list of types."""
    cfg = load_config("ImageNet-Classification/fbnet_v3_a_400e.yaml")
    small = ("MODEL.DEVICE", "cpu", "MODEL.FBNET.WIDTH_MULT", 0.25, "MODEL.FBNET.NORM", norm)
    cfg.merge_from_list([*small, "SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", 0.125])
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    found = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    counts = {"norm": 0, "bias": 0, "weight": 0}
    for module in model.modules():
        for key, weight in module.named_parameters(recurse=False):
            kind = "norm" if isinstance(module, NORMS[norm]) else "bias" if key == "bias" else "weight"
            counts[kind] += 1
            assert found.pop(id(weight)) == (0.125 if kind == "weight" else 0.0), (type(module), key)
            assert kind != "weight" or isinstance(module, (nn.Conv2d, nn.Linear))
    assert not found and min(counts.values()) > 10


@pytest.mark.parametrize("key, field", [("WEIGHT_DECAY_NORM", 0.0), ("WEIGHT_DECAY_BIAS", None)])
def test_the_keys_decays_are_detectron2s(tmp_path, key, field):
    """Without a word in the config, biases are decayed as weights are."""
    assert tiny_cfg(tmp_path).SOLVER[key] == field
    groups = build_optimizer(tiny_cfg(tmp_path, "SOLVER.WEIGHT_DECAY", 0.125), network()).param_groups
    assert {group["weight_decay"]: len(group["params"]) for group in groups} == {0.125: 4, 0.0: 2}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_a_step_with_clipped_gradients_is_one_of_clipped_gradients(tmp_path, name, kind):
    """torch.nn.utils clips per parameter, as Detectron2 says that it does."""
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind)
    clip += ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.01)
    ours, theirs = network(), network()
    clipped = build_optimizer(tiny_cfg(tmp_path, *clip, "SOLVER.OPTIMIZER", name), ours)
    plain = build_optimizer(tiny_cfg(tmp_path, "SOLVER.OPTIMIZER", name), theirs)
    for step in range(3):
        for model, optimizer in ((ours, clipped), (theirs, plain)):
            inputs = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
        for weight in theirs.parameters():
            before = weight.grad.abs().max()
            if kind == "value":
                nn.utils.clip_grad_value_([weight], 0.01)
            else:
                nn.utils.clip_grad_norm_([weight], 0.01)
            assert before == 0 or weight.grad.abs().max() <= 0.01
        clipped.step()
        plain.step()
        for one, other in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(next(ours.parameters()), next(network().parameters()))


def test_the_settings_come_from_the_config(tmp_path):
    opts = ("SOLVER.RMSPROP.ALPHA", 0.7, "SOLVER.RMSPROP.EPS", 0.02, "SOLVER.RMSPROP.MOMENTUM", 0.3)
    cfg = tiny_cfg(tmp_path, *RMSPROP, *opts, "SOLVER.BASE_LR", 0.04)
    group = FBNetTrainer.build_optimizer(cfg, TinyClassifier(cfg)).param_groups[0]
    assert (group["alpha"], group["eps"], group["momentum"], group["lr"]) == (0.7, 0.02, 0.3, 0.04)


@pytest.mark.parametrize(
    "opts, message",
    [
        (["SOLVER.OPTIMIZER", "RMSprop"], "SOLVER.OPTIMIZER is 'RMSprop'; did you mean RMSProp.*known: SGD, RMSProp"),
        ([*RMSPROP, "SOLVER.RMSPROP.ALPHA", 1.5], "RMSProp: alpha is 1.5, expected at least 0 and below 1"),
        ([*RMSPROP, "SOLVER.BASE_LR", -0.1], "RMSProp: lr is -0.1"),
    ],
)
def test_mistakes_are_found_before_the_run(tmp_path, opts, message):
    with pytest.raises(ConfigError, match=message):
        FBNetTrainer.check(tiny_cfg(tmp_path, *opts))
    with pytest.raises(ConfigError, match=message):
        FBNetTrainer(tiny_cfg(tmp_path, *opts))


def test_a_run_with_it_learns(tmp_path):
    cfg = tiny_cfg(tmp_path, *RMSPROP, "SOLVER.BASE_LR", 0.01, "SOLVER.MAX_ITER", 60, "SOLVER.CHECKPOINT_PERIOD", 60)
    torch.manual_seed(0)
    trainer = FBNetTrainer(cfg)
    trainer.train()
    assert trainer._last_eval_results["classification"]["top1"] > 60  # 33.3 is chance
