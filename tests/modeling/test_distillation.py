"""The loss by formulas, and that a teacher is no part of its student."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from test_classifier import CLASSIFIER, batch

from fbnet_plugin.modeling.distillation import Distillation, divergence
from fbnet_plugin.modeling.mixup import Mixup

DISTILLED = [*CLASSIFIER, "MODEL.DISTILLATION.ENABLED", True]


class Linear:
    """A teacher whose logits are a linear function of the images' mean, and which keeps what it was given."""

    def __init__(self):
        self.weight = torch.randn(3, 4, requires_grad=True)

    def __call__(self, images, inputs, mixup):
        self.images, self.inputs, self.mixup = images, inputs, mixup
        return images.mean((2, 3)) @ self.weight / 100


def student(make_cfg, *opts):
    torch.manual_seed(0)
    model = build_model(make_cfg(*DISTILLED, *opts))
    model.distillation.teacher = Linear()
    return model


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_by_hand(temperature):
    student, teacher = torch.randn(5, 7).tolist(), torch.randn(5, 7).tolist()

    def softmax(row):
        powers = [math.exp(value / temperature) for value in row]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for ours, theirs in zip(map(softmax, student), map(softmax, teacher)):
        total += sum(p * math.log(p / q) for q, p in zip(ours, theirs))
    loss = divergence(torch.tensor(student), torch.tensor(teacher), temperature)
    assert loss.item() == pytest.approx(temperature**2 * total / 5, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_is_the_difference_of_the_probabilities(temperature):
    student, teacher = (torch.randn(5, 7, dtype=torch.float32) for _ in range(2))
    student.requires_grad_()
    divergence(student, teacher, temperature).backward()
    expected = ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) * temperature / 5
    torch.testing.assert_close(student.grad, expected.detach())


def test_the_divergence_is_cross_entropy_with_the_teachers_probabilities_less_their_entropy():
    student, teacher = torch.randn(6, 9), torch.randn(6, 9)
    p = teacher.softmax(1)
    entropy = torch.distributions.Categorical(p).entropy().mean()
    torch.testing.assert_close(divergence(student, teacher), F.cross_entropy(student, p) - entropy)
    assert divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_the_divergence_is_in_float32_and_finite_for_confident_teachers():
    student, teacher = torch.randn(4, 3).bfloat16(), torch.tensor([[500.0, 0.0, -500.0]] * 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = divergence(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(student.float(), torch.zeros(4, dtype=torch.long)))


def test_losses_are_weighted_and_smoothing_is_of_the_labels_alone(make_cfg):
    smoothed = ("MODEL.CLASSIFIER.LABEL_SMOOTHING", 0.1, "MODEL.DISTILLATION.TEMPERATURE", 2.0)
    images = batch([0, 1, 2, 3], 32)
    model = student(make_cfg, *smoothed)
    logits = copy.deepcopy(model).logits(images)
    losses = model(images)
    raw = torch.stack([one["image"] for one in images]).float()
    hard = F.cross_entropy(logits, torch.arange(4), label_smoothing=0.1)
    soft = divergence(logits, model.distillation.teacher(raw, images, None), 2.0)
    assert list(losses) == ["loss_cls", "loss_distill"]
    torch.testing.assert_close(losses["loss_cls"], 0.2 * hard)
    torch.testing.assert_close(losses["loss_distill"], 0.8 * soft)
    sum(losses.values()).backward()
    assert model.distillation.teacher.weight.grad is None
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_teacher_sees_the_raw_images_that_the_student_sees_mixed(make_cfg):
    model = student(make_cfg, "MODEL.CLASSIFIER.MIXUP", 0.5)
    images, seen = batch([0, 1, 2, 3], 32), []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(3)
    model(images)
    torch.manual_seed(3)
    mixup = Mixup.draw(0.5, 4)
    mixed = mixup.images(torch.stack([one["image"] for one in images]).float())
    teacher = model.distillation.teacher
    torch.testing.assert_close(teacher.images, mixed)
    torch.testing.assert_close(seen[0], (mixed - model.pixel_mean) / model.pixel_std)
    assert teacher.inputs is images and torch.equal(teacher.mixup.partners, mixup.partners)
    assert teacher.mixup.share == mixup.share


def test_a_teacher_with_a_size_of_its_own_gets_images_of_it(make_cfg):
    model = student(make_cfg, "MODEL.DISTILLATION.TEACHER_SIZE", 48)
    images = batch([0, 1], 32)
    model(images)
    vision = pytest.importorskip("torchvision.transforms.functional")
    expected = vision.resize(torch.stack([one["image"] for one in images]).float(), [48, 48], antialias=True)
    torch.testing.assert_close(model.distillation.teacher.images, expected)


def test_a_teacher_is_no_part_of_its_student(make_cfg):
    torch.manual_seed(0)
    plain = build_model(make_cfg(*CLASSIFIER))
    model = student(make_cfg)
    model.distillation.teacher = plain  # a module, which as an attribute of a module would be its child
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert copy.deepcopy(model).distillation is model.distillation
    model.eval()
    assert plain.training


def test_evaluation_needs_no_teacher_and_training_does(make_cfg):
    model, images = build_model(make_cfg(*DISTILLED)), batch([0, 1], 32)
    assert len(model.eval()(images)) == 2
    with pytest.raises(RuntimeError, match="MODEL.DISTILLATION.ENABLED.*no teacher"):
        model.train()(images)


def test_without_distillation_there_is_none(make_cfg):
    model = build_model(make_cfg(*CLASSIFIER))
    assert model.distillation is None and list(model(batch([0, 1], 32))) == ["loss_cls"]


def test_a_teacher_at_fault_is_known_until_somebody_asks():
    distillation = Distillation()
    assert distillation.watched() == {}
    for logits in ([0.0, math.inf], [1.0, 2.0]):
        distillation.teacher = lambda *_, logits=logits: torch.tensor([logits])
        distillation.teach(torch.zeros(1, 3, 2, 2), [{}], None)
    assert math.isnan(distillation.watched()["the teacher's logits"])
    distillation.teach(torch.zeros(1, 3, 2, 2), [{}], None)
    assert distillation.watched()["the teacher's logits"].item() == 0


def test_a_teacher_of_other_classes_is_refused(make_cfg):
    model = student(make_cfg)
    model.distillation.teacher = lambda images, inputs, mixup: torch.zeros(2, 5)
    with pytest.raises(ValueError, match=r"teacher gives logits of shape \(2, 5\), the student of shape \(2, 4\)"):
        model(batch([0, 1], 32))


@pytest.mark.parametrize(
    "values, named",
    [
        ({"temperature": 0.0}, "TEMPERATURE is 0.0, expected above 0"),
        ({"temperature": math.nan}, "TEMPERATURE is nan"),
        ({"soft_weight": -0.1}, "SOFT_WEIGHT is -0.1, expected 0 or more"),
        ({"hard_weight": math.inf}, "HARD_WEIGHT is inf"),
        ({"soft_weight": 0.0, "hard_weight": 0.0}, "SOFT_WEIGHT and HARD_WEIGHT are 0"),
        ({"teacher_size": -1}, "TEACHER_SIZE is -1"),
    ],
)
def test_values_that_cannot_be_used(values, named):
    with pytest.raises(ValueError, match=named):
        Distillation(**values)
