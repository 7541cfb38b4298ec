from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from test_resume_exact import Run, assert_same_end, classification, detection, roll_back, same
from tiny_task import TinyClassifier, tiny_cfg

from fbnet_plugin.checkpoint import CheckpointError, read_checkpoint
from fbnet_plugin.engine import ConfigError, FBNetTrainer, evaluate, launch
from fbnet_plugin.engine.ema import ModelAverage, evaluate_average

EMA = ("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.9)


def train(cfg, resume=False):
    torch.manual_seed(0)
    np.random.seed(0)
    trainer = FBNetTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def tiny(tmp_path):
    torch.manual_seed(0)
    return TinyClassifier(tiny_cfg(tmp_path))


def change(model, number):
    """Other weights, statistics and counter."""
    generator = torch.Generator().manual_seed(number)
    for value in model.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) if value.is_floating_point() else number)


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_is_that_of_the_formula_with_statistics_and_counters(tmp_path, warmup):
    model = tiny(tmp_path)
    average = ModelAverage(model, 0.7, warmup)
    change(model, 100)
    average.start(model)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for number in range(5):
        change(model, number)
        average.update(model)
        decay = min(0.7, (1 + number) / (10 + number)) if warmup else 0.7
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    expected["body.1.num_batches_tracked"] = torch.tensor(4.0, dtype=torch.float64)
    assert {"body.1.running_mean", "body.1.running_var", "head.fc.weight"} <= set(expected)
    assert expected.keys() == average.state_dict().keys() and average.updates == 5
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_average_has_tensors_of_its_own(tmp_path):
    model = tiny(tmp_path)
    average = ModelAverage(model, 0.9)
    average.start(model)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    change(model, 1)
    assert same(dict(average.state_dict()), before)
    assert not any(weight.requires_grad for weight in average.module.parameters()) and not average.module.training
    ours = {weight.data_ptr() for weight in model.parameters()}
    assert not ours & {weight.data_ptr() for weight in average.module.parameters()}


def test_it_can_lie_on_another_device(tmp_path):
    average = ModelAverage(tiny(tmp_path), 0.9, device="meta")
    assert {weight.device.type for weight in average.module.parameters()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_another_device_for_the_evaluation_and_back(tmp_path):
    model = tiny(tmp_path).cuda()
    average = ModelAverage(model, 0.9, device="cpu")
    average.start(model)
    average.update(model)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    with average.on(torch.device("cuda")) as module:
        assert {weight.device.type for weight in module.parameters()} == {"cuda"}
    assert same(dict(average.state_dict()), before)


def test_a_run_writes_and_evaluates_both(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        trainer = train(tiny_cfg(tmp_path, *EMA, "SOLVER.MAX_ITER", 60, "TEST.EVAL_PERIOD", 30))
    results = trainer._last_eval_results
    assert set(results) == {"classification", "classification_ema"}
    assert results["classification_ema"]["top1"] > 60  # 33.3 is chance
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    both = [line for line in lines if "classification_ema/top1" in line]
    assert len(both) >= 2 and all("classification/top1" in line for line in both)
    assert both[-1]["classification_ema/top1"] == results["classification_ema"]["top1"]
    state = read_checkpoint(str(tmp_path / "model_final.pth"))
    assert state["model"].keys() == state["model_ema"].keys()
    assert not same(dict(state["model"]), dict(state["model_ema"]))
    assert same(dict(state["model_ema"]), dict(trainer.average.state_dict()))
    assert state["trainer"]["hooks"]["AverageHook"] == {"updates": 60}
    assert hasattr(state["model_ema"], "_metadata")  # the versions of its modules


def test_the_first_average_is_of_the_weights_before_the_first_step(tmp_path):
    cfg = tiny_cfg(tmp_path, *EMA, "MODEL_EMA.WARMUP", False, "SOLVER.MAX_ITER", 1)
    torch.manual_seed(0)
    trainer = FBNetTrainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    for name, value in trainer.average.state_dict().items():
        if value.is_floating_point():
            after = trainer.model.state_dict()[name]
            torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * after)


def test_evaluation_of_the_file_gives_the_figures_of_the_run(tmp_path):
    cfg = tiny_cfg(tmp_path / "run", *EMA, "SOLVER.MAX_ITER", 12)
    results = train(cfg)._last_eval_results
    weights = ("MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth"))
    assert results["classification"] != results["classification_ema"]
    assert evaluate(tiny_cfg(tmp_path / "a", *EMA, *weights)) == results
    assert evaluate(cfg, resume=True) == results
    assert evaluate(tiny_cfg(tmp_path / "b", *weights)) == {"classification": results["classification"]}


def test_the_averaged_weights_can_begin_another_run_or_be_evaluated(tmp_path, caplog):
    first = train(tiny_cfg(tmp_path / "first", *EMA))
    path = tmp_path / "first" / "model_ema_final.pth"
    assert set(read_checkpoint(str(path))) == {"model"}
    cfg = tiny_cfg(tmp_path / "second", *EMA, "MODEL.WEIGHTS", str(path))
    second = FBNetTrainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 0
    assert same(dict(second.model.state_dict()), dict(first.average.state_dict()))
    results = evaluate(cfg)
    assert results == {"classification": first._last_eval_results["classification_ema"]}
    assert "the file holds no average" in caplog.text
    assert (tmp_path / "first" / "last_checkpoint").read_text() == "model_final.pth"


def test_a_run_without_checkpoints_writes_no_average(tmp_path):
    trainer = FBNetTrainer(tiny_cfg(tmp_path, *EMA))
    trainer._hooks = [hook for hook in trainer._hooks if "Checkpointer" not in type(hook).__name__]
    trainer.train()
    assert trainer.average.updates == 6 and not list(tmp_path.glob("*.pth"))


def recipe(output, *opts):
    """A network of this project with all that a recipe has."""
    model = {
        "META_ARCHITECTURE": "ImageClassifier",
        "BACKBONE.NAME": "build_fbnet_backbone",
        "FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        "FBNET.WIDTH_MULT": 0.25,
        "FBNET.DROP_PATH": 0.3,
        "CLASSIFIER.DROPOUT": 0.3,
        "CLASSIFIER.LABEL_SMOOTHING": 0.1,
        "CLASSIFIER.MIXUP": 0.4,
    }
    keys = [part for key, value in model.items() for part in (f"MODEL.{key}", value)]
    keys += ["INPUT.CLASSIFICATION.TRAIN_SIZE", 32, "SOLVER.OPTIMIZER", "RMSProp", "SOLVER.BASE_LR", 0.01]
    keys += ["SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.EPOCHS", 2]
    return classification(output, *keys, "SOLVER.IMS_PER_BATCH", 6, *opts)  # 2 epochs of 4 iterations


@pytest.mark.parametrize("task", [classification, recipe, detection])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, task):
    whole = Run(task(tmp_path / "whole", *EMA))
    cfg = task(tmp_path / "parts", *EMA)
    parts = [Run(cfg, crash_at=4), Run(cfg, resume=True, crash_at=6), Run(cfg, resume=True)]
    assert [part.first for part in parts] == [0, 3, 6]
    assert_same_end(whole, parts)
    ends = [run.trainer.average for run in (whole, parts[-1])]
    assert same(*(dict(average.state_dict()) for average in ends)) and [end.updates for end in ends] == [8, 8]
    assert not same(dict(ends[0].state_dict()), dict(whole.trainer.model.state_dict()))


def test_a_checkpoint_without_average_begins_one_and_says_so(tmp_path, caplog):
    train(tiny_cfg(tmp_path, "DATASETS.TEST", ()))
    roll_back(tmp_path, "model_0000003.pth")
    trainer = FBNetTrainer(tiny_cfg(tmp_path, *EMA, "SOLVER.MAX_ITER", 4, "DATASETS.TEST", ()))
    trainer.resume_or_load(resume=True)
    trainer.train()
    found = read_checkpoint(str(tmp_path / "model_0000003.pth"))["model"]
    assert same(dict(trainer.average.state_dict()), dict(found)) and trainer.average.updates == 0
    warnings = [record.message for record in caplog.records if "holds no average" in record.message]
    assert len(warnings) == 1 and "iteration 3" in warnings[0]


def test_an_average_of_another_model_is_refused(tmp_path):
    average = ModelAverage(tiny(tmp_path), 0.9)
    with pytest.raises(CheckpointError, match="model_ema does not fit the model.*head.fc.weight"):
        average.load_state_dict({})


class Constant(FBNetTrainer):
    """Its test gives the sum of the weights."""

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        figures = {"box": {"AP": float(sum(weight.sum() for weight in model.parameters())), "at": cfg.OUTPUT_DIR}}
        names = cfg.DATASETS.TEST
        return figures if len(names) == 1 else {name: figures for name in names}


def test_names_with_several_datasets_and_folders_of_their_own(tmp_path):
    one, other = tiny(tmp_path), tiny(tmp_path)
    change(other, 3)
    cfg = tiny_cfg("out", "DATASETS.TEST", ("tiny_test", "tiny_train"))
    results = evaluate_average(Constant, cfg, other, Constant.test(cfg, one))
    assert results.keys() == {"tiny_test", "tiny_train"}
    assert results["tiny_test"].keys() == {"box", "box_ema"}
    assert results["tiny_test"]["box"]["AP"] != results["tiny_test"]["box_ema"]["AP"]
    assert results["tiny_test"]["box"]["at"] == "out" and results["tiny_test"]["box_ema"]["at"] == os.path.join(
        "out", "ema"
    )
    nothing = tiny_cfg("out", "DATASETS.TEST", ())
    assert evaluate_average(Constant, nothing, other, {}) == {}


def two_at_once(folder):
    """What each of two processes does in the test below."""
    whole = Run(classification(os.path.join(folder, "whole"), *EMA))
    mine = [weight.detach() for weight in whole.trainer.average.module.parameters()]
    assert same(*comm.all_gather(mine))
    cfg = classification(os.path.join(folder, "parts"), *EMA)
    parts = [Run(cfg, crash_at=5), Run(cfg, resume=True)]
    assert same(mine, [weight.detach() for weight in parts[1].trainer.average.module.parameters()])
    if comm.is_main_process():
        assert_same_end(whole, parts)
        assert same(dict(whole.trainer.average.state_dict()), dict(parts[1].trainer.average.state_dict()))
        assert set(whole.trainer._last_eval_results) == {"classification", "classification_ema"}


def test_two_processes_have_the_same_average(tmp_path):
    launch(two_at_once, num_gpus=0, num_processes=2, args=(str(tmp_path),))
    state = read_checkpoint(str(tmp_path / "whole" / "model_ema_final.pth"))
    assert same(dict(state["model"]), dict(read_checkpoint(str(tmp_path / "parts" / "model_final.pth"))["model_ema"]))


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL_EMA.DECAY", 1.0], "MODEL_EMA.DECAY is 1.0, expected at least 0 and below 1"),
        (["MODEL_EMA.DEVICE", "nowhere"], "MODEL_EMA.DEVICE is 'nowhere'"),
    ],
)
def test_mistakes_are_found_before_the_run(tmp_path, opts, message):
    with pytest.raises(ConfigError, match=message):
        FBNetTrainer.check(tiny_cfg(tmp_path, *EMA, *opts))
