from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from fbnet_plugin.engine import ConfigError, FBNetTrainer, load_config
from fbnet_plugin.modeling.mixup import Mixup

SIZE, CLASSES = 6, 5


def config(*opts):
    keys = {
        "META_ARCHITECTURE": "ImageClassifier",
        "DEVICE": "cpu",
        "BACKBONE.NAME": "build_fbnet_backbone",
        "FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        "FBNET.WIDTH_MULT": 0.25,
        "CLASSIFIER.NUM_CLASSES": CLASSES,
    }
    cfg = load_config(opts=[*(part for key, value in keys.items() for part in (f"MODEL.{key}", value)), *opts])
    cfg.freeze()
    return cfg


def classifier(*opts):
    torch.manual_seed(0)
    return build_model(config(*opts)).train()


def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (SIZE, 3, 32, 32), generator=generator).to(torch.uint8)
    return [{"image": image, "label": number % CLASSES} for number, image in enumerate(images)]


def test_the_loss_is_the_convex_combination_of_both_labels_cross_entropies():
    model = classifier("MODEL.CLASSIFIER.MIXUP", 0.4, "MODEL.CLASSIFIER.LABEL_SMOOTHING", 0.1)
    torch.manual_seed(7)
    loss = model(batch())["loss_cls"]
    torch.manual_seed(7)
    mixup = Mixup.draw(0.4, SIZE)
    assert 0 < mixup.share < 1 and sorted(mixup.partners.tolist()) == list(range(SIZE))
    images = model.preprocess_image(batch()).tensor
    mixed = torch.stack(
        [mixup.share * image + (1 - mixup.share) * images[other] for image, other in zip(images, mixup.partners)]
    )
    logits = model.head(model.backbone(mixed)[model.feature])
    labels = torch.tensor([one["label"] for one in batch()])
    own, other = (F.cross_entropy(logits, of, label_smoothing=0.1) for of in (labels, labels[mixup.partners]))
    assert (own - other).abs() > 1e-3
    torch.testing.assert_close(loss, mixup.share * own + (1 - mixup.share) * other, rtol=0, atol=1e-6)
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_mixtures_equal_torchvisions():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    images, labels = torch.rand(SIZE, 3, 4, 4), torch.arange(SIZE) % CLASSES
    torch.manual_seed(2)
    theirs = v2.MixUp(alpha=0.3, num_classes=CLASSES)(images, labels)
    torch.manual_seed(2)
    share = torch.distributions.Beta(0.3, 0.3).sample().item()
    ours = Mixup(share, torch.arange(SIZE).roll(1))  # torchvision pairs neighbours
    torch.testing.assert_close(ours.images(images), theirs[0])
    torch.testing.assert_close(ours.targets(labels, CLASSES), theirs[1])


def test_without_it_nothing_is_drawn_and_the_loss_is_that_of_the_labels():
    model = classifier("MODEL.CLASSIFIER.LABEL_SMOOTHING", 0.1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    loss = model(batch())["loss_cls"]
    assert torch.equal(torch.get_rng_state(), before)
    labels = torch.tensor([one["label"] for one in batch()])
    assert torch.equal(loss, F.cross_entropy(model.logits(batch()), labels, label_smoothing=0.1))


def test_evaluation_is_that_of_the_images():
    mixed, plain = classifier("MODEL.CLASSIFIER.MIXUP", 0.4).eval(), classifier().eval()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for one, other in zip(mixed(batch()), plain(batch())):
        assert torch.equal(one["scores"], other["scores"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_mixture_follows_the_global_seed_and_its_share_the_beta_distribution():
    def draw(seed):
        torch.manual_seed(seed)
        return Mixup.draw(0.2, 64)

    first, again, other = draw(1), draw(1), draw(2)
    assert first.share == again.share != other.share
    assert torch.equal(first.partners, again.partners) and not torch.equal(first.partners, other.partners)
    shares = torch.tensor([Mixup.draw(2.0, 1).share for _ in range(2000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / 20, abs=0.005)  # of Beta(2, 2)


def test_mixed_precision():
    model = classifier("MODEL.CLASSIFIER.MIXUP", 0.4)
    torch.manual_seed(7)
    full = model(batch())["loss_cls"]
    torch.manual_seed(7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch())["loss_cls"]
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


def test_labels_out_of_range_and_a_negative_alpha_are_refused():
    model = classifier("MODEL.CLASSIFIER.MIXUP", 0.4)
    with pytest.raises(ValueError, match="labels from 0 to 5 do not fit"):
        model([{**one, "label": number} for number, one in enumerate(batch())])
    with pytest.raises(ValueError, match="MODEL.CLASSIFIER.MIXUP is -0.1"):
        classifier("MODEL.CLASSIFIER.MIXUP", -0.1)
    with pytest.raises(ConfigError, match="MODEL.CLASSIFIER.MIXUP is -0.1"):
        FBNetTrainer.check(config("MODEL.CLASSIFIER.MIXUP", -0.1))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mixture_of_logits_has_the_mixture_of_the_probabilities(share):
    logits = 200 * torch.randn(SIZE, CLASSES)  # so far apart that most probabilities vanish
    mixup = Mixup(share, torch.randperm(SIZE))
    expected = share * logits.softmax(1) + (1 - share) * logits[mixup.partners].softmax(1)
    mixed = mixup.logits(logits)
    assert mixed.isfinite().all()
    torch.testing.assert_close(mixed.softmax(1), expected)
