"""Two processes on a CPU train what one does (promise 10): synchronized norms, average of the weights, parts."""

from __future__ import annotations

import os

import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from test_resume_exact import RECIPE, classification, detection

from fbnet_plugin.checkpoint import read_checkpoint
from fbnet_plugin.engine import FBNetTrainer, launch

EMA = ("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.9)


def synchronized(output, *opts):
    """A small classifier without what each process draws by itself: no crops, dropout or mixup."""
    keys = {key: value for key, value in RECIPE.items() if not key.startswith("SOLVER.AMP")}
    model = {
        "META_ARCHITECTURE": "ImageClassifier",
        "BACKBONE.NAME": "build_fbnet_backbone",
        "FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        "FBNET.WIDTH_MULT": 0.25,
        "FBNET.NORM": "SyncBN",
        "CLASSIFIER.LABEL_SMOOTHING": 0.1,
        "PIXEL_MEAN": [128.0] * 3,
        "PIXEL_STD": [64.0] * 3,
    }
    size = {"TRAIN_SIZE": 64, "TEST_SIZE": 64, "CROP_AREA": [1.0, 1.0], "CROP_ASPECT": [1.0, 1.0]}
    keys.update({f"MODEL.{key}": value for key, value in model.items()})
    keys.update({f"INPUT.CLASSIFICATION.{key}": value for key, value in size.items()})
    keys.update({"INPUT.FORMAT": "RGB", "INPUT.RANDOM_FLIP": "none", "SOLVER.ACCUMULATION_STEPS": 1})
    keys.update({"SOLVER.IMS_PER_BATCH": 12, "SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 0.02})
    return classification(output, *(part for pair in keys.items() for part in pair), *opts)


def train(task, output, *opts, resume=False):
    """Trains in one process or as one of two; what it ends with."""
    cfg = task(output, *opts)
    seed_all_rng(cfg.SEED)
    trainer = FBNetTrainer(cfg)
    trainer.resume_or_load(resume)
    results = trainer.train()
    model = getattr(trainer.model, "module", trainer.model)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    return {"weights": weights, "average": dict(trainer.average.module.named_parameters()), "results": dict(results)}


GROUPS = ("MODEL.FBNET.NORM", "GN")
# Rounding grows tenfold with each step through batch norms of a few pixels, so these are compared after two.
SHORT = ("SOLVER.STOP_EPOCH", 1)
SYNC_DETECTOR = ("MODEL.FBNET.NORM", "SyncBN", *EMA, "SOLVER.MAX_ITER", 4)


def all_runs(folder):
    """What each of two processes does."""
    ends = {
        "sync": train(synchronized, os.path.join(folder, "sync"), *SHORT),
        "groups": train(synchronized, os.path.join(folder, "groups"), *GROUPS),
        "half": train(synchronized, os.path.join(folder, "half"), *GROUPS, "SOLVER.STOP_EPOCH", 2),
        "detector": train(detection, os.path.join(folder, "detector"), *SYNC_DETECTOR),
    }
    torch.save(ends, os.path.join(folder, f"ends{comm.get_rank()}.pt"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of two processes' runs, and per process what they ended with."""
    folder = tmp_path_factory.mktemp("two")
    launch(all_runs, num_gpus=0, num_processes=2, args=(str(folder),))
    return folder, [torch.load(folder / f"ends{rank}.pt", weights_only=True) for rank in (0, 1)]


def distance(one, two):
    return max((one[name] - two[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("run", ["sync", "groups", "half", "detector"])
def test_all_processes_hold_the_same_weights_and_averages(two, run):
    _, (one, other) = two
    for kind in ("weights", "average"):
        assert distance(one[run][kind], other[run][kind]) == 0
    assert distance(one[run]["weights"], one[run]["average"]) > 0


@pytest.mark.parametrize("run, opts", [("sync", SHORT), ("groups", GROUPS)])
def test_a_classifier_is_trained_as_by_one_process(tmp_path, two, run, opts):
    _, (one, _) = two
    alone = train(synchronized, tmp_path, *opts)
    moved = distance(alone["weights"], alone["average"])
    for kind in ("weights", "average"):
        assert distance(one[run][kind], alone[kind]) < 0.02 * moved
    assert one[run]["results"]["classification"]["loss"] == pytest.approx(
        alone["results"]["classification"]["loss"], rel=0.02
    )


def test_a_checkpoint_of_two_processes_goes_on_in_one(tmp_path, two):
    """Optimizer, schedule, average and position in the data are the same whoever wrote them."""
    folder, (one, _) = two
    resumed = train(synchronized, folder / "half", *GROUPS, resume=True)
    assert read_checkpoint(str(folder / "half" / "model_final.pth"))["iteration"] == 7
    moved = distance(one["groups"]["weights"], one["groups"]["average"])
    assert distance(resumed["average"], one["groups"]["average"]) < 0.02 * moved
    assert distance(one["half"]["average"], one["groups"]["average"]) > 0.1 * moved


def test_the_average_of_a_detector_is_in_its_file(two):
    folder, (one, _) = two
    written = read_checkpoint(str(folder / "detector" / "model_ema_final.pth"))["model"]
    average = one["detector"]["average"]
    assert distance(average, {name: written[name] for name in average}) == 0
