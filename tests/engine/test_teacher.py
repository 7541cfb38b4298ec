"""Teachers from any config and their weights, what they leave untouched, and the cache of their logits."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm
from tiny_task import images, tiny_cfg

from fbnet_plugin.checkpoint import CheckpointError, read_checkpoint
from fbnet_plugin.checkpoint.safe_files import write_weights
from fbnet_plugin.data import build_classification_test_loader
from fbnet_plugin.engine import ConfigError, FBNetTrainer, launch, teacher, teacher_cache
from fbnet_plugin.engine.teacher import check_distillation, give_teacher, teacher_config
from fbnet_plugin.modeling.mixup import Mixup

KEY = "MODEL.DISTILLATION"
NETWORK = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: ImageClassifier
  BACKBONE: {NAME: build_fbnet_backbone}
  FBNET: {ARCH: fbnet_v3_a_dsmask_tiny_det, WIDTH_MULT: 0.25}
  CLASSIFIER: {NUM_CLASSES: 3}
DATALOADER: {NUM_WORKERS: 0}
INPUT:
  CLASSIFICATION: {TEST_SIZE: 16, TEST_RESIZE: 20}
"""
RESNET = [
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.RESNETS.OUT_FEATURES", ["res2"], "MODEL.RESNETS.NORM", "BN"),
]
TORCHVISION = ["MODEL.BACKBONE.NAME", "build_torchvision_backbone", "MODEL.TORCHVISION.NAME", "resnet18"]


def student_cfg(folder, *opts):
    """A student that the tiny task is distilled into; its teacher is the one that ``trained`` makes in ``folder``."""
    return tiny_cfg(
        folder / "out",
        *("MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.BACKBONE.NAME", "build_fbnet_backbone"),
        *("MODEL.FBNET.ARCH", "fbnet_v3_a_dsmask_tiny_det", "MODEL.FBNET.WIDTH_MULT", 0.25, "SOLVER.MAX_ITER", 3),
        *("INPUT.CLASSIFICATION.TRAIN_SIZE", 16, f"{KEY}.ENABLED", True),
        *(f"{KEY}.TEACHER_CONFIG", str(folder / "teacher.yaml"), f"{KEY}.TEACHER_WEIGHTS", str(folder / "teacher.pth")),
        *opts,
    )


def trained(folder, *opts, seed=5):
    """The config of a student whose teacher has weights and statistics of its own."""
    (folder / "teacher.yaml").write_text(NETWORK, encoding="utf-8")
    (folder / "teacher.pth").touch()
    cfg = student_cfg(folder, *opts)
    write_weights(different(network(teacher_config(cfg)), seed), str(folder / "teacher.pth"))
    return cfg


def network(cfg):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def different(model, seed):
    """The model as if it had been trained: no tensor as it is initialised, and statistics that images do not have."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(0.9 + 0.2 * torch.rand(value.shape, generator=generator))
                value.add_(0.01 * torch.rand(value.shape, generator=generator))
    return model


def built(cfg):
    torch.manual_seed(0)
    model = FBNetTrainer.build_model(cfg)
    give_teacher(cfg, model)
    return model


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def raw():
    return 255 * torch.rand(4, 3, 16, 16)


def test_training_leaves_the_teacher_as_it_is_and_out_of_the_checkpoint(tmp_path):
    cfg = trained(tmp_path)
    trainer = FBNetTrainer(cfg)
    taught_by = trainer.model.distillation.teacher
    before, student_before = copied(taught_by.model), copied(trainer.model)
    assert same(before, read_checkpoint(str(tmp_path / "teacher.pth"))["model"])
    trainer.train()
    assert same(before, taught_by.model.state_dict()) and not taught_by.model.training
    assert all(weight.grad is None and not weight.requires_grad for weight in taught_by.model.parameters())
    assert not same(student_before, trainer.model.state_dict())
    content = read_checkpoint(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
    plain = FBNetTrainer.build_model(student_cfg(tmp_path, f"{KEY}.ENABLED", False))
    assert list(content["model"]) == list(plain.state_dict())
    optimized = sum(len(group["params"]) for group in trainer._trainer.optimizer.param_groups)
    assert optimized == len(list(plain.parameters()))
    history = trainer.storage.history("loss_distill").values()
    assert len(history) == 3 and all(value > 0 for value, _ in history)


@pytest.mark.parametrize("cached", [False, True])
def test_the_students_initialisation_and_random_numbers_are_those_of_one_without_teacher(tmp_path, cached):
    cfg = trained(tmp_path, f"{KEY}.CACHE", str(tmp_path / "cache") if cached else "")
    taught, state = built(cfg), torch.get_rng_state()
    plain = built(student_cfg(tmp_path, f"{KEY}.ENABLED", False))
    assert torch.equal(state, torch.get_rng_state())
    assert same(taught.state_dict(), plain.state_dict())
    batch = [{"image": image, "label": 0, "image_id": number} for number, image in enumerate(raw())]
    state = torch.get_rng_state()
    taught(batch)
    assert torch.equal(state, torch.get_rng_state())


def test_the_average_of_the_student_shares_the_teacher(tmp_path):
    trainer = FBNetTrainer(trained(tmp_path, "MODEL_EMA.ENABLED", True))
    assert trainer.average.module.distillation is trainer.model.distillation
    assert list(trainer.average.state_dict()) == list(trainer.model.state_dict())


@pytest.mark.parametrize("opts", [(), RESNET, TORCHVISION], ids=["fbnet", "resnet", "torchvision"])
def test_a_teacher_of_any_family_says_what_it_says_alone(tmp_path, opts):
    cfg = trained(tmp_path, f"{KEY}.TEACHER_OPTS", list(opts))
    alone = network(teacher_config(cfg)).eval()
    alone.load_state_dict(read_checkpoint(str(tmp_path / "teacher.pth"))["model"])
    pixels = raw()
    logits = built(cfg).distillation.teacher(pixels, [{}] * 4, None)
    assert logits.std(0).min() > 1e-3 and not logits.requires_grad
    with torch.no_grad():
        expected = torch.stack([one["scores"] for one in alone([{"image": image} for image in pixels])])
    torch.testing.assert_close(logits.softmax(1), expected)


def test_a_student_can_be_its_own_teacher(tmp_path):
    cfg = trained(tmp_path, f"{KEY}.TEACHER_CONFIG", "", "MODEL.CLASSIFIER.DROPOUT", 0.9)
    student = built(cfg)
    own = student.distillation.teacher.model
    assert own.distillation is None and list(own.state_dict()) == list(student.state_dict())
    assert not same(own.state_dict(), student.state_dict())
    student.load_state_dict(own.state_dict())
    pixels = raw()
    logits = student.distillation.teach(pixels, [{}] * 4, None)
    torch.testing.assert_close(logits, student.eval().predict(pixels))


def test_the_teacher_keeps_its_own_normalization_and_channel_order(tmp_path):
    own = ["MODEL.PIXEL_MEAN", [10.0, 90.0, 200.0], "MODEL.PIXEL_STD", [20.0, 50.0, 80.0]]
    pixels, answers = raw(), {}
    for order in ("BGR", "RGB"):
        cfg = trained(tmp_path, f"{KEY}.TEACHER_OPTS", ["INPUT.FORMAT", order, *own], "INPUT.FORMAT", "BGR")
        taught_by = built(cfg).distillation.teacher
        assert taught_by.model.pixel_mean.flatten().tolist() == [10.0, 90.0, 200.0]
        answers[order] = taught_by(pixels, [{}] * 4, None)
        with torch.no_grad():
            seen = pixels if order == "BGR" else pixels[:, [2, 1, 0]]
            torch.testing.assert_close(answers[order], taught_by.model.predict(seen))
    assert not torch.allclose(answers["BGR"], answers["RGB"], rtol=1e-3)


@pytest.mark.parametrize("enabled, kept", [(True, True), (True, False), (False, True)])
def test_averaged_weights_are_used_where_there_are_some_and_the_config_says_so(tmp_path, caplog, enabled, kept):
    cfg = trained(tmp_path, f"{KEY}.TEACHER_OPTS", ["MODEL_EMA.ENABLED", enabled])
    weights = str(tmp_path / "teacher.pth")
    content = read_checkpoint(weights)
    average = different(network(teacher_config(cfg)), 9).state_dict()
    torch.save({**content, **({"model_ema": average} if kept else {})}, weights)
    with caplog.at_level(logging.INFO, logger="fbnet_plugin"):
        model = built(cfg).distillation.teacher.model
    used = enabled and kept
    assert same(model.state_dict(), average if used else content["model"])
    assert f"with the {'averaged weights' if used else 'weights'} in {weights}" in caplog.text


def test_the_teacher_runs_in_mixed_precision_with_its_student(tmp_path):
    model = built(trained(tmp_path))
    batch = [{"image": image, "label": number % 3} for number, image in enumerate(raw())]
    full = model(batch)["loss_distill"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)["loss_distill"]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.05)


def test_a_teacher_that_is_not_finite_ends_the_run_before_the_step(tmp_path):
    cfg = trained(tmp_path)
    content = read_checkpoint(str(tmp_path / "teacher.pth"))
    content["model"]["head.fc.bias"][1] = float("nan")
    torch.save(content, str(tmp_path / "teacher.pth"))
    trainer = FBNetTrainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    with pytest.raises(FloatingPointError, match="iteration 0: the teacher's logits = nan, loss_distill = nan;"):
        trainer.train()
    assert same(before, dict(trainer.model.named_parameters()))


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.META_ARCHITECTURE", "TinyClassifier"], "ENABLED is for .* ImageClassifier, not TinyClassifier"),
        ([f"{KEY}.TEACHER_CONFIG", "teecher.yaml"], "DISTILLATION.TEACHER_CONFIG: config file 'teecher.yaml': no such"),
        ([f"{KEY}.TEACHER_WEIGHTS", ""], "TEACHER_WEIGHTS is empty"),
        ([f"{KEY}.TEACHER_WEIGHTS", "none.pth"], "TEACHER_WEIGHTS is 'none.pth': no such file"),
        ([f"{KEY}.TEACHER_OPTS", ["MODEL.FBNET.WIDTH"]], "TEACHER_OPTS: 'MODEL.FBNET.WIDTH' has no value"),
        ([f"{KEY}.TEACHER_OPTS", ["MODEL.FBNET.WIDTH", 1]], "TEACHER_OPTS: unknown key MODEL.FBNET.WIDTH; did you"),
        ([f"{KEY}.TEACHER_OPTS", ["MODEL.FBNET.ARCH", 1]], "TEACHER_OPTS: MODEL.FBNET.ARCH is 1, expected a val"),
        ([f"{KEY}.TEACHER_OPTS", ["MODEL.CLASSIFIER.NUM_CLASSES", 9]], "NUM_CLASSES is 9, but the student's is 3"),
        ([f"{KEY}.TEACHER_OPTS", ["MODEL.META_ARCHITECTURE", "RetinaNet"]], "META_ARCHITECTURE is RetinaNet, expected"),
        ([f"{KEY}.TEACHER_OPTS", ["MODEL.BACKBONE.NAME", "build_fbnet"]], "'build_fbnet'; did you mean build_fbnet_b"),
        ([f"{KEY}.TEACHER_OPTS", ["INPUT.FORMAT", "L"]], "INPUT.FORMAT is L, but the student's is BGR"),
        ([f"{KEY}.TEMPERATURE", 0.0], "TEMPERATURE is 0.0, expected above 0"),
        ([f"{KEY}.SOFT_WEIGHT", -1.0], "SOFT_WEIGHT is -1.0"),
        ([f"{KEY}.SOFT_WEIGHT", 0.0, f"{KEY}.HARD_WEIGHT", 0.0], "SOFT_WEIGHT and HARD_WEIGHT are 0"),
        ([f"{KEY}.CACHE", __file__], "CACHE is .*, which is not a folder"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_built(tmp_path, opts, message):
    (tmp_path / "teacher.yaml").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "teacher.pth").touch()
    assert check_distillation(student_cfg(tmp_path)) == []
    with pytest.raises(ConfigError, match=message):
        check_distillation(student_cfg(tmp_path, *opts))
    assert check_distillation(student_cfg(tmp_path, *opts, f"{KEY}.ENABLED", False)) == []


def test_a_teacher_may_have_been_distilled_itself(tmp_path):
    cfg = trained(tmp_path, f"{KEY}.TEACHER_OPTS", [f"{KEY}.ENABLED", True])
    assert check_distillation(cfg) == []
    assert built(cfg).distillation.teacher.model.distillation is None


def test_weights_of_another_network_are_refused(tmp_path):
    cfg = trained(tmp_path)
    wider = student_cfg(tmp_path, f"{KEY}.TEACHER_OPTS", ["MODEL.FBNET.WIDTH_MULT", 0.5])
    with pytest.raises(CheckpointError, match="another model"):
        built(wider)
    assert built(cfg).distillation.teacher


# --------------------------------------------------------------------------------------------------------------------
# Cache


def caching(folder, *opts):
    return f"{KEY}.CACHE", str(folder / "cache"), *opts


def test_a_cache_has_the_teachers_logits_of_the_test_view_and_is_computed_once(tmp_path, monkeypatch):
    live = built(trained(tmp_path)).distillation.teacher.model
    cfg = student_cfg(tmp_path, *caching(tmp_path))
    first = built(cfg).distillation.teacher
    loader = build_classification_test_loader(teacher_config(cfg), "tiny_train")
    monkeypatch.setattr(teacher, "build_teacher", None)  # calling it would fail
    again = built(cfg).distillation.teacher
    for batch in loader:
        assert batch[0]["image"].shape == (3, 16, 16)
        with torch.no_grad():
            expected = live.logits(batch)
        shuffled = torch.randperm(len(batch))
        for cached in (first, again):
            got = cached(raw(), [batch[i] for i in shuffled], None)
            torch.testing.assert_close(got, expected[shuffled], rtol=1e-3, atol=1e-3)
    assert np.load(tmp_path / "cache" / "logits.npy").dtype == np.float16
    trainer = FBNetTrainer(cfg)
    trainer.train()
    assert trainer.storage.history("loss_distill").latest() > 0


def test_probabilities_of_mixed_images_are_mixed_alike(tmp_path):
    cached = built(trained(tmp_path, *caching(tmp_path))).distillation.teacher
    inputs, mixup = [{"image_id": number} for number in (3, 1, 20, 7)], Mixup(0.3, torch.tensor([1, 2, 3, 0]))
    alone = cached(raw(), inputs, None).softmax(1)
    expected = 0.3 * alone + 0.7 * alone[[1, 2, 3, 0]]
    torch.testing.assert_close(cached(raw(), inputs, mixup).softmax(1), expected)


def test_a_fill_that_was_ended_goes_on_behind_the_last_whole_block(tmp_path, monkeypatch):
    cfg = trained(tmp_path, *caching(tmp_path))
    whole = tmp_path / "whole"
    built(student_cfg(tmp_path, f"{KEY}.CACHE", str(whole)))
    monkeypatch.setattr(teacher_cache, "BLOCK", 8)
    logits_of, asked, batches = teacher_cache.logits_of, [], 5

    def ended(model, dicts, *rest):
        asked.append([one["image_id"] for one in dicts])
        for number, rows in enumerate(logits_of(model, dicts, *rest)):
            if number == batches:
                raise KeyboardInterrupt
            yield rows

    monkeypatch.setattr(teacher_cache, "logits_of", ended)
    with pytest.raises(KeyboardInterrupt):
        built(cfg)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["rows"] == 16
    built(cfg)
    assert asked == [list(range(24)), list(range(16, 24))]
    assert (tmp_path / "cache" / "logits.npy").read_bytes() == (whole / "logits.npy").read_bytes()


def test_a_cache_of_another_teacher_or_of_other_images_is_refused(tmp_path):
    cfg = trained(tmp_path, *caching(tmp_path))
    built(cfg)
    built(student_cfg(tmp_path, *caching(tmp_path, "SOLVER.BASE_LR", 0.2, "MODEL.FBNET.DROP_PATH", 0.1)))
    larger = ["INPUT.CLASSIFICATION.TEST_SIZE", 18]
    with pytest.raises(ConfigError, match=r"(?s)something else.*- .*TEST_SIZE: 16\n\+ .*TEST_SIZE: 18$"):
        built(student_cfg(tmp_path, *caching(tmp_path, f"{KEY}.TEACHER_OPTS", larger)))
    DatasetCatalog.register("fewer", lambda: images()[:-1])
    MetadataCatalog.get("fewer").set(evaluator_type="image_classification")
    with pytest.raises(ConfigError, match=r"(?s)- images: 24\n\+ images: 23"):
        built(student_cfg(tmp_path, *caching(tmp_path, "DATASETS.TRAIN", ("fewer",))))
    trained(tmp_path, seed=6)
    with pytest.raises(ConfigError, match=r"(?s)- weights_sha256: .*\n\+ weights_sha256: .*"):
        built(cfg)
    (tmp_path / "cache" / "cache.json").unlink()
    assert built(cfg).distillation.teacher


def test_a_damaged_cache_is_refused(tmp_path):
    cfg = trained(tmp_path, *caching(tmp_path))
    built(cfg)
    table, record = tmp_path / "cache" / "logits.npy", tmp_path / "cache" / "cache.json"
    table.write_bytes(table.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="logits.npy .*remove cache.json"):
        built(cfg)
    record.write_text("{")
    with pytest.raises(ConfigError, match="cache.json is damaged; remove"):
        built(cfg)


def test_image_ids_that_are_not_unique_or_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"tiny\[0\] and tiny\[0\] .* same image_id 0"):
        built(trained(tmp_path, *caching(tmp_path, "DATASETS.TRAIN", ("tiny_train", "tiny_test"))))
    cached = built(student_cfg(tmp_path, *caching(tmp_path))).distillation.teacher
    with pytest.raises(ConfigError, match="CACHE has no image with the image_id 24"):
        cached(raw(), [{"image_id": 24}], None)


def test_logits_that_are_not_finite_are_not_cached(tmp_path):
    cfg = trained(tmp_path, *caching(tmp_path))
    content = read_checkpoint(str(tmp_path / "teacher.pth"))
    content["model"]["head.fc.bias"][1] = 1e5  # beyond float16
    torch.save(content, str(tmp_path / "teacher.pth"))
    with pytest.raises(FloatingPointError, match=r"teacher's logits of image 0 \(tiny\[0\]\) .*teacher.pth"):
        built(cfg)


def test_a_size_for_the_teacher_does_nothing_with_a_cache(tmp_path):
    notes = check_distillation(trained(tmp_path, *caching(tmp_path, f"{KEY}.TEACHER_SIZE", 24)))
    assert len(notes) == 1 and "TEACHER_SIZE does nothing with a CACHE" in notes[0]


def distil(cfg, folder):
    """What each of two processes does in the test below."""
    trainer = FBNetTrainer(cfg)
    trainer.train()
    model = trainer.model.module
    report = {"model": model.state_dict(), "logits": model.distillation.teacher(raw(), [{"image_id": 5}], None)}
    torch.save(report, os.path.join(folder, f"report{comm.get_rank()}.pt"))


def test_two_processes_share_a_cache_that_one_of_them_fills(tmp_path):
    cfg = trained(tmp_path, *caching(tmp_path, "SOLVER.IMS_PER_BATCH", 8, "SOLVER.MAX_ITER", 2))
    launch(distil, num_gpus=0, num_processes=2, args=(cfg, str(tmp_path)))
    one, two = (torch.load(tmp_path / f"report{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(one["logits"], two["logits"])
    assert torch.equal(one["model"]["head.fc.weight"], two["model"]["head.fc.weight"])
