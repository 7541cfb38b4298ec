"""A run that is interrupted and resumed ends with the same bits as one that is not."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import BoxMode
from detectron2.utils import comm
from PIL import Image
from tiny_task import TinyClassifier, tiny_cfg
from torch import nn

from fbnet_plugin.checkpoint import read_checkpoint
from fbnet_plugin.engine import FBNetTrainer, launch, load_config

HERE = Path(__file__).resolve().parent
TOOL = HERE.parents[1] / "tools" / "train_net.py"


@META_ARCH_REGISTRY.register()
class DropoutClassifier(TinyClassifier):
    """Its step draws from all the generators."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.body.append(nn.Dropout(0.5))

    def forward(self, batch):
        losses = super().forward(batch)
        if self.training:
            losses["loss_cls"] = losses["loss_cls"] * (1 + random.random() + float(np.random.rand()))
        return losses


def classification(output, *opts):
    """8 iterations, a checkpoint after each 3."""
    random_too = ("MODEL.META_ARCHITECTURE", "DropoutClassifier", "INPUT.RANDOM_FLIP", "horizontal")
    return tiny_cfg(output, "SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 3, *random_too, *opts)


def some_boxes(folder):
    """Nine images, of which each third one is higher than wide."""
    os.makedirs(folder, exist_ok=True)
    rng, dicts = np.random.default_rng(0), []
    for number in range(9):
        height, width = (64, 48) if number % 3 == 0 else (48, 64)
        path = os.path.join(folder, f"{number}.png")
        Image.fromarray(rng.integers(0, 255, (height, width, 3)).astype(np.uint8)).save(path)
        box = {"bbox": [8, 8, 30, 36], "bbox_mode": BoxMode.XYXY_ABS, "category_id": number % 2, "iscrowd": 0}
        size = {"height": height, "width": width}
        dicts.append({"file_name": path, "image_id": number, **size, "annotations": [box]})
    return dicts


def detection(output, *opts):
    """A narrow Faster R-CNN; its heads sample proposals at random."""
    if "resume_boxes" not in DatasetCatalog:
        folder = os.path.join(os.path.dirname(str(output)), "images")
        DatasetCatalog.register("resume_boxes", lambda: some_boxes(folder))
        MetadataCatalog.get("resume_boxes").set(evaluator_type="coco", thing_classes=["even", "odd"])
    trunk = ["trunk3"]
    model = {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "DEVICE": "cpu",
        "BACKBONE.NAME": "build_fbnet_backbone",
        "FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        "FBNET.WIDTH_MULT": 0.25,
        "FBNET.OUT_FEATURES": trunk,
        "FBNET.RPN_REPEAT": 1,
        "RPN.IN_FEATURES": trunk,
        "ROI_HEADS.IN_FEATURES": trunk,
        "RPN.HEAD_NAME": "FBNetRPNHead",
        "ROI_BOX_HEAD.NAME": "FBNetRoIBoxHead",
        "ROI_BOX_HEAD.POOLER_RESOLUTION": 6,
        "ROI_HEADS.NAME": "StandardROIHeads",
        "ROI_HEADS.NUM_CLASSES": 2,
        "ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
        "RPN.BATCH_SIZE_PER_IMAGE": 8,
        "RPN.POST_NMS_TOPK_TRAIN": 50,
    }
    cfg = load_config(
        opts=[
            *(part for key, value in model.items() for part in (f"MODEL.{key}", value)),
            *("DATASETS.TRAIN", ("resume_boxes",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0),
            *("INPUT.MIN_SIZE_TRAIN", (48, 56, 64), "INPUT.RANDOM_FLIP", "horizontal", "SOLVER.IMS_PER_BATCH", 2),
            *("SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.01),
            *("OUTPUT_DIR", str(output), "SEED", 1, *opts),
        ]
    )
    cfg.freeze()
    return cfg


# What a recipe adds to the state of a run, or draws from its random numbers.
RECIPE = {
    "SOLVER.OPTIMIZER": "RMSProp",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupExponentialLR",
    "SOLVER.EPOCHS": 4,
    "SOLVER.EPOCH_DECAY": 0.7,
    "SOLVER.WARMUP_EPOCHS": 1.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.ACCUMULATION_STEPS": 2,
    "SOLVER.AMP.ENABLED": True,
    "SOLVER.AMP.DTYPE": "bfloat16",
    "MODEL_EMA.ENABLED": True,
    "MODEL_EMA.DECAY": 0.9,
}


def recipe(output, *opts):
    """8 iterations of a small network with all that a recipe has."""
    model = {
        "META_ARCHITECTURE": "ImageClassifier",
        "BACKBONE.NAME": "build_fbnet_backbone",
        "FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        "FBNET.WIDTH_MULT": 0.25,
        "FBNET.DROP_PATH": 0.3,
        "CLASSIFIER.DROPOUT": 0.2,
        "CLASSIFIER.MIXUP": 0.4,
        "CLASSIFIER.LABEL_SMOOTHING": 0.1,
        "CHANNELS_LAST": True,
        "PIXEL_MEAN": [128.0] * 3,
        "PIXEL_STD": [64.0] * 3,
    }
    keys = {**RECIPE, **{f"MODEL.{key}": value for key, value in model.items()}}
    keys.update({"SOLVER.IMS_PER_BATCH": 12, "INPUT.FORMAT": "RGB", "INPUT.CLASSIFICATION.AUTO_AUGMENT": "randaugment"})
    keys.update({"INPUT.CLASSIFICATION.TRAIN_SIZE": 32, "INPUT.CLASSIFICATION.TEST_SIZE": 32})
    plain = [part for pair in keys.items() for part in pair]
    teacher = os.path.join(os.path.dirname(str(output)), "teacher.pth")
    if not os.path.exists(teacher):
        os.makedirs(os.path.dirname(teacher), exist_ok=True)
        torch.save({"model": build_model(classification(output, *plain)).state_dict()}, teacher)
    distilled = ("MODEL.DISTILLATION.ENABLED", True, "MODEL.DISTILLATION.TEACHER_WEIGHTS", teacher)
    return classification(output, *plain, *distilled, *opts)


class Crash(Exception):
    """Ends a run where nothing is saved."""


class Run:
    """One run of the trainer.

    Attributes:
        seen: (iteration, image_id, sum of the augmented pixels) of each training image, in order.
        seeds: of the global generator of PyTorch in each iteration.
    """

    def __init__(self, cfg, resume=False, crash_at=None):
        torch.manual_seed(3)
        self.seen, self.seeds, self.crash_at = [], [], crash_at
        self.trainer = FBNetTrainer(cfg)
        getattr(self.trainer.model, "module", self.trainer.model).register_forward_pre_hook(self.see)
        self.trainer.resume_or_load(resume=resume)
        self.first = self.trainer.start_iter
        try:
            self.trainer.train()
        except Crash:
            pass
        assert not multiprocessing.active_children()  # the workers have ended with the run

    def see(self, model, inputs):
        if model.training:
            iteration = self.trainer.iter
            self.seeds.append(torch.initial_seed())
            self.seen += [(iteration, one["image_id"], int(one["image"].sum())) for one in inputs[0]]
            if iteration == self.crash_at and self.whole_batch(iteration):
                raise Crash

    def whole_batch(self, iteration):
        """Whether all parts of this iteration's batch have been seen."""
        share = self.trainer.cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
        return sum(image[0] == iteration for image in self.seen) == share


def same(one, two):
    """Whether two nested states have the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def assert_same_end(whole, parts):
    end = [dict(run.trainer.model.state_dict()) for run in (whole, parts[-1])]
    if not comm.is_main_process():  # checkpoints hold the main process's running statistics; they move no weight
        end = [{name: value for name, value in state.items() if "running_" not in name} for state in end]
    assert same(*end)
    assert same(whole.trainer.state_dict(), parts[-1].trainer.state_dict())
    for part in parts:
        last = part.crash_at if part.crash_at is not None else whole.trainer.max_iter
        assert part.seen == [image for image in whole.seen if part.first <= image[0] <= last]


@pytest.mark.parametrize("before, after", [(0, 0), (2, 2), (2, 0), (0, 2)])
@pytest.mark.parametrize("task", [classification, detection, recipe])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, task, before, after):
    whole = Run(task(tmp_path / "whole"))
    assert len({image[2] for image in whole.seen}) > 0.8 * len(whole.seen)  # augmented each time
    cfgs = [task(tmp_path / "parts", "DATALOADER.NUM_WORKERS", workers) for workers in (before, after)]
    parts = [Run(cfgs[0], crash_at=4), Run(cfgs[1], resume=True, crash_at=6), Run(cfgs[0], resume=True)]
    assert [part.first for part in parts] == [0, 3, 6]
    assert_same_end(whole, parts)


def roll_back(folder, checkpoint):
    """What a run leaves that was killed after this checkpoint."""
    for path in Path(folder).glob("model_*.pth"):
        if path.name > checkpoint:
            path.unlink()
    Path(folder, "last_checkpoint").write_text(checkpoint)


@pytest.mark.parametrize("opts", [(), ("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2)])
def test_a_random_seed_is_kept(tmp_path, opts):
    """With it all that hangs on it, such as the images that Detectron2 computes precise statistics from."""
    cfg = classification(tmp_path, "SEED", -1, "TEST.EVAL_PERIOD", 2, *opts)
    whole, other = Run(cfg), Run(classification(tmp_path / "other", "SEED", -1))
    assert whole.seen != other.seen and whole.trainer.seed != other.trainer.seed
    assert whole.trainer.loaders().keys() == ({"train", "precise_bn"} if opts else {"train"})
    roll_back(tmp_path, "model_0000002.pth")
    np.random.seed(1)  # the new process's own choice would be another one
    resumed = Run(cfg, resume=True)
    assert resumed.first == 3
    assert_same_end(whole, [resumed])


def test_checkpoints_without_a_position_resume_and_say_that_the_order_begins_anew(tmp_path, caplog):
    whole = Run(classification(tmp_path))
    roll_back(tmp_path, "model_0000002.pth")
    state = read_checkpoint(str(tmp_path / "model_0000002.pth"))
    for key in ("seed", "loaders"):
        del state["trainer"][key]
    torch.save(state, tmp_path / "model_0000002.pth")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        resumed = Run(classification(tmp_path), resume=True)
    assert [record.message for record in caplog.records if "order of the data begins anew (train)" in record.message]
    assert len([record for record in caplog.records if record.name.startswith("fbnet_plugin")]) == 1
    assert [image[1:] for image in resumed.seen] == [image[1:] for image in whole.seen[: 5 * 4]]
    assert resumed.trainer.iter == 8


def two_at_once(folder):
    """What each of two processes does in the test below."""
    whole = Run(classification(os.path.join(folder, "whole"), "DATALOADER.NUM_WORKERS", 1))
    cfg = classification(os.path.join(folder, "parts"))
    parts = [Run(cfg, crash_at=5), Run(cfg, resume=True)]
    assert parts[1].first == 3
    assert_same_end(whole, parts)
    assert not set(whole.seeds) & set(comm.all_gather(whole.seeds)[1 - comm.get_rank()])
    torch.save(whole.seen, os.path.join(folder, f"seen{comm.get_rank()}.pt"))


def test_two_processes_resume_and_see_the_global_batches_of_one(tmp_path):
    launch(two_at_once, num_gpus=0, num_processes=2, args=(str(tmp_path),))
    ranks = [torch.load(tmp_path / f"seen{rank}.pt", weights_only=True) for rank in (0, 1)]
    together = [image for pair in zip(*ranks) for image in pair]
    assert together == Run(classification(tmp_path / "one")).seen


def tool(argv, pace=0.0):
    """The real tools/train_net.py, which says on stdout where it is."""

    def step(number, losses):
        print(f"step {number}", flush=True)
        time.sleep(pace)

    TinyClassifier.on_step = staticmethod(step)
    spec = importlib.util.spec_from_file_location("train_net", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_net"] = module
    spec.loader.exec_module(module)
    module.main(argv)


@pytest.mark.parametrize("opts", [(), tuple(part for pair in RECIPE.items() for part in pair)])
def test_killed_at_a_random_moment(tmp_path, opts):
    steps = 30
    config = tmp_path / "tiny.yaml"
    longer = ("SOLVER.EPOCHS", 5) if opts else ("SOLVER.MAX_ITER", steps)  # 24 images in batches of 4
    config.write_text(classification(tmp_path / "out", *opts, *longer).dump())
    script = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_resume_exact; test_resume_exact.tool"
    argv = ["--config-file", str(config), "DATALOADER.NUM_WORKERS", "2"]
    child = subprocess.Popen(
        [sys.executable, "-c", f"{script}({argv!r}, 0.01)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    when = random.SystemRandom().randrange(4, steps - 4)
    for line in child.stdout:
        if line.startswith("step ") and int(line.split()[1]) >= when:
            break
    time.sleep(random.SystemRandom().random() * 0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    tool(["--config-file", str(config), "--resume"])
    starts = re.findall("Starting training from iteration (.*)", (tmp_path / "out" / "log.txt").read_text())
    assert starts[0] == "0" and 3 <= int(starts[1]) <= when + 4 and int(starts[1]) % 3 == 0 and len(starts) == 2
    tool(["--config-file", str(config), "OUTPUT_DIR", str(tmp_path / "whole")])
    ends = [read_checkpoint(str(tmp_path / folder / "model_final.pth")) for folder in ("out", "whole")]
    assert ends[0]["iteration"] == steps - 1 and same(*ends) and ("model_ema" in ends[0]) == bool(opts)
