"""ImageClassifier: losses, scores, input order, and labels that do not fit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import events
from detectron2.utils.events import EventStorage
from torch import nn

from fbnet_plugin.modeling.mixup import Mixup

CLASSIFIER = ["MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.CLASSIFIER.NUM_CLASSES", 4]


def batch(labels, size=64):
    images = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in labels]
    return [{"image": image, "label": label} for image, label in zip(images, labels)]


def with_logits(model, logits):
    """The model with a head that gives these logits."""

    class Fixed(nn.Module):
        def forward(self, x):
            return torch.tensor(logits, requires_grad=True)

    model.head = Fixed()
    return model


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_by_hand(smoothing, make_cfg):
    """Cross entropy with label smoothing e: (1 - e) of the true class and e / K of each class."""
    logits = [[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 3.0, -2.0]]
    labels = [0, 1]
    expected = 0.0
    for row, label in zip(logits, labels):
        log_sum = math.log(sum(map(math.exp, row)))
        losses = [log_sum - value for value in row]
        expected += ((1 - smoothing) * losses[label] + smoothing * sum(losses) / 4) / 2
    model = build_model(make_cfg(*CLASSIFIER, "MODEL.CLASSIFIER.LABEL_SMOOTHING", smoothing))
    losses = with_logits(model, logits)(batch(labels))
    assert list(losses) == ["loss_cls"]
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-6)


def test_a_few_steps_learn_two_images(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    images = batch([1, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(12):
        loss = model(images)["loss_cls"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 < math.log(4)


def test_scores_are_probabilities_in_the_order_of_the_images(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER)).eval()
    nn.init.normal_(model.head.fc.weight)
    images = batch([0, 1, 2])
    with torch.no_grad():
        together = [one["scores"] for one in model(images)]
        alone = [model([one])[0]["scores"] for one in images]
    for scores, same in zip(together, alone):
        assert scores.shape == (4,) and scores.sum().item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(scores, same, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_normalization_is_that_of_the_config(make_cfg):
    pixels = ["MODEL.PIXEL_MEAN", [10.0, 20.0, 30.0], "MODEL.PIXEL_STD", [1.0, 2.0, 5.0]]
    model = build_model(make_cfg(*CLASSIFIER, *pixels))
    image = torch.full((3, 4, 4), 40, dtype=torch.uint8)
    tensor = model.preprocess_image([{"image": image}]).tensor
    assert tensor.shape == (1, 3, 4, 4) and tensor[0, :, 0, 0].tolist() == [30.0, 10.0, 2.0]


def test_images_of_different_sizes_are_padded(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    images = [{"image": torch.zeros(3, 40, 64)}, {"image": torch.zeros(3, 64, 48)}]
    assert model.preprocess_image(images).tensor.shape == (2, 3, 64, 64)
    assert len(model.eval()(images)) == 2


@pytest.mark.parametrize("labels, named", [([0, 4], "0 to 4"), ([-1, 2], "-1 to 2")])
def test_labels_that_do_not_fit(labels, named, make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    with pytest.raises(ValueError, match=f"labels from {named} do not fit .* 4 outputs.*MODEL.CLASSIFIER.NUM_CLASSES"):
        model(batch(labels))


def test_labels_may_be_tensors(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    assert model(batch([torch.tensor(1), 2]))["loss_cls"].isfinite()


def test_dropout_is_before_the_linear_layer_and_off_in_evaluation(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER, "MODEL.CLASSIFIER.DROPOUT", 0.5))
    head = model.head.eval()
    x = torch.rand(2, head.blocks[0].expand.conv.in_channels, 2, 2)
    assert torch.equal(head(x), head(x))
    head.dropout.train()
    assert not torch.equal(head(x), head(x))


def test_the_head_of_the_architecture_is_used(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER, "MODEL.FBNET.ARCH", "fbnet_c", width=1.0))
    assert model.head.blocks[0].conv.out_channels == 1984 and model.head.fc.in_features == 1984


def test_a_resnet_can_be_classified_with(make_cfg):
    resnet = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res5"]]
    size = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    model = build_model(make_cfg(*CLASSIFIER, *resnet, *size))
    assert model(batch([0, 1]))["loss_cls"].isfinite() and model.head.fc.in_features == 512


def test_images_of_one_size_and_of_several_are_normalized_alike(make_cfg):
    """By the formula, image by image; what is beyond an image is 0, as in Detectron2."""
    model = build_model(make_cfg(*CLASSIFIER))
    mean, std = model.pixel_mean, model.pixel_std
    for sizes in ([(32, 32)] * 3, [(32, 24), (16, 32), (8, 8)]):
        images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
        batch = model.preprocess_image([{"image": image} for image in images])
        assert batch.image_sizes == sizes and batch.tensor.shape == (3, 3, 32, 32)
        for padded, image, (height, width) in zip(batch.tensor, images, sizes):
            torch.testing.assert_close(padded[:, :height, :width], (image.float() - mean) / std)
            padded[:, :height, :width] = 0
            assert not padded.any()


def test_images_are_padded_to_what_the_backbone_divides_by(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    type(model.backbone).size_divisibility, before = property(lambda _: 32), type(model.backbone).size_divisibility
    try:
        images = [{"image": torch.zeros(3, 40, 64)}] * 2
        assert model.preprocess_image(images).tensor.shape == (2, 3, 64, 64)
    finally:
        type(model.backbone).size_divisibility = before


@pytest.mark.parametrize("mixed", [False, True])
def test_training_accuracy_is_that_of_the_batch_at_each_20th_iteration(mixed, make_cfg, monkeypatch):
    logits = [[9.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0], [9.0, 0.0, 0.0, 0.0]]
    model = with_logits(build_model(make_cfg(*CLASSIFIER, "MODEL.CLASSIFIER.MIXUP", float(mixed))), logits)
    # Mixed with more of the partner, an image counts as the partner's class: 1 of 4 is hit instead of 3.
    partners = torch.tensor([0, 2, 1, 3])
    monkeypatch.setattr(Mixup, "draw", classmethod(lambda cls, alpha, size: cls(0.4, partners)))
    images = batch([0, 1, 2, 3], 32)
    with EventStorage(17) as storage:
        for _ in range(25):
            model(images)
            storage.step()
    history = storage.history("train/top1").values()
    assert [(round(value), iteration) for value, iteration in history] == [(25 if mixed else 75, i) for i in (19, 39)]


def test_without_an_event_storage_a_classifier_can_be_trained(make_cfg, monkeypatch):
    model = build_model(make_cfg(*CLASSIFIER))
    with monkeypatch.context() as patched:
        patched.setattr(events, "_CURRENT_STORAGE_STACK", [])
        assert model(batch([0, 1], 32))["loss_cls"].isfinite()


def test_channels_last_and_bfloat16_give_the_same_loss_in_float32(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    images = batch([0, 1, 2, 3], 32)
    expected = copy.deepcopy(model)(images)["loss_cls"]
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)(images)["loss_cls"]
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(images)["loss_cls"]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.05)
    half.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_head_of_a_torchvision_network_is_its_own(make_cfg):
    opts = ["MODEL.BACKBONE.NAME", "build_torchvision_backbone", "MODEL.TORCHVISION.NAME", "mobilenet_v3_small"]
    model = build_model(make_cfg(*CLASSIFIER, *opts))
    assert model.head.fc.out_features == 4 and model.head.fc.in_features == 1024
    assert model(batch([0, 1], 32))["loss_cls"].isfinite()
