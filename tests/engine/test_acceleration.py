"""Memory format and compilation: other speed, same function."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling import build_model

from fbnet_plugin.engine import ConfigError, FBNetTrainer, evaluate, load_config
from fbnet_plugin.engine.acceleration import accelerate, compile_backends
from fbnet_plugin.engine.validate import validate


def small_cfg(output, *opts):
    """A narrow network on the images of tiny_task at 32 px."""
    cfg = load_config(
        opts=[
            *("MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.DEVICE", "cpu", "MODEL.CLASSIFIER.NUM_CLASSES", 3),
            *("MODEL.BACKBONE.NAME", "build_fbnet_backbone", "MODEL.FBNET.ARCH", "fbnet_v3_a_dsmask_tiny_det"),
            *("MODEL.FBNET.WIDTH_MULT", 0.25, "DATASETS.TRAIN", ("tiny_train",), "DATASETS.TEST", ("tiny_test",)),
            *("INPUT.CLASSIFICATION.TRAIN_SIZE", 32, "INPUT.CLASSIFICATION.TEST_SIZE", 32, "INPUT.FORMAT", "RGB"),
            *("DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 8, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", ()),
            *("OUTPUT_DIR", str(output), "SEED", 1, *opts),
        ]
    )
    cfg.freeze()
    return cfg


def some_images(size=32):
    return [{"image": torch.randint(0, 256, (3, size, size), dtype=torch.uint8), "label": i % 3} for i in range(4)]


def scores(model, images):
    with torch.no_grad():
        return torch.stack([one["scores"] for one in model.eval()(images)])


@pytest.mark.parametrize("opts", [("MODEL.CHANNELS_LAST", True), ("MODEL.COMPILE", "eager")])
def test_same_function_and_same_names(tmp_path, opts):
    plain = build_model(small_cfg(tmp_path))
    images = some_images()
    other = accelerate(small_cfg(tmp_path, *opts), copy.deepcopy(plain))
    assert list(other.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(scores(other, images), scores(plain, images), rtol=1e-4, atol=1e-6)
    (one,), (two,) = (model.train()(images).values() for model in (copy.deepcopy(plain), other))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    two.backward()


def test_channels_last_reaches_the_last_convolution(tmp_path):
    model = FBNetTrainer.build_model(small_cfg(tmp_path, "MODEL.CHANNELS_LAST", True))
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, i, out: seen.append(out))
    scores(model, some_images(64))
    wide = [out for out in seen if min(out.shape[1:]) > 1]
    assert len(wide) > 20 and all(out.is_contiguous(memory_format=torch.channels_last) for out in wide)


def test_compiled_training_and_its_average(tmp_path):
    """An evaluation of the average alone compiles too, so that it gives the same bits."""
    opts = ("MODEL.COMPILE", "eager", "MODEL_EMA.ENABLED", True, "MODEL.CHANNELS_LAST", True)
    trainer = FBNetTrainer(small_cfg(tmp_path, *opts))
    results = trainer.train()
    for model in (trainer.model, trainer.average.module):
        assert model.backbone._compiled_call_impl is not None and model.head._compiled_call_impl is not None
    assert set(results) == {"classification", "classification_ema"}
    assert evaluate(small_cfg(tmp_path, *opts, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth"))) == results


def test_a_detector_is_compiled_and_in_channels_last_too(tmp_path):
    trunk = ["trunk3"]
    heads = ("MODEL.RPN.HEAD_NAME", "FBNetRPNHead", "MODEL.ROI_BOX_HEAD.NAME", "FBNetRoIBoxHead")
    opts = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.FBNET.OUT_FEATURES", trunk, *heads]
    opts += ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.RPN.IN_FEATURES", trunk, "MODEL.FBNET.RPN_REPEAT", 1]
    opts += ["MODEL.ROI_HEADS.IN_FEATURES", trunk, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 6]
    plain = build_model(small_cfg(tmp_path, *opts)).eval()
    faster = ("MODEL.CHANNELS_LAST", True, "MODEL.COMPILE", "eager")
    other = accelerate(small_cfg(tmp_path, *opts, *faster), copy.deepcopy(plain))
    images = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)}]
    with torch.no_grad():
        (one,), (two,) = plain(images), other(images)
    assert len(one["instances"]) == len(two["instances"])
    torch.testing.assert_close(one["instances"].scores, two["instances"].scores, rtol=1e-3, atol=1e-5)


def test_an_unknown_backend_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="MODEL.COMPILE is 'inducter'; did you mean inductor.*known: .*aot_eager"):
        validate(small_cfg(tmp_path, "MODEL.COMPILE", "inducter"))
    assert "inductor" in compile_backends()
