"""Distillation: what a frozen teacher says of the same images, in the loss (FBNetV3 section 4.2; arXiv:1503.02531)."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode

from .mixup import Mixup

# From raw images (N, C, H, W), of values 0 to 255 in the student's channel order and mixed already where there is a
# mixture, their N dicts and the mixture, to logits (N, num_classes) without gradients.
Teacher = Callable[[torch.Tensor, List[Dict[str, Any]], Optional[Mixup]], torch.Tensor]


class Distillation:
    """The teacher of a student, and the loss that the student learns from it with.

    No module on purpose: a student that has one as an attribute has no more parameters, no other state and no more to
    send between processes than without. A deep copy of the student, such as its average, shares it.

    Attributes:
        teacher: None until somebody sets it; evaluation needs none.
    """

    def __init__(
        self, soft_weight: float = 0.8, hard_weight: float = 0.2, temperature: float = 1.0, teacher_size: int = 0
    ):
        """
        Args:
            soft_weight, hard_weight: factors on the divergence from the teacher and on the loss of the labels.
            temperature: T; both sets of logits are divided by it.
            teacher_size: px that images are resized to for the teacher; 0 leaves them as they are.

        Raises:
            ValueError: a value that cannot be used.
        """
        for key, value in (("SOFT_WEIGHT", soft_weight), ("HARD_WEIGHT", hard_weight)):
            if not 0 <= value < math.inf:
                raise ValueError(f"MODEL.DISTILLATION.{key} is {value}, expected 0 or more")
        if soft_weight == hard_weight == 0:
            raise ValueError("MODEL.DISTILLATION.SOFT_WEIGHT and HARD_WEIGHT are 0, expected one of them above 0")
        if not 0 < temperature < math.inf:
            raise ValueError(f"MODEL.DISTILLATION.TEMPERATURE is {temperature}, expected above 0")
        if teacher_size < 0:
            raise ValueError(f"MODEL.DISTILLATION.TEACHER_SIZE is {teacher_size}, expected px, or 0 for the student's")
        self.soft_weight, self.hard_weight = soft_weight, hard_weight
        self.temperature, self.teacher_size = temperature, teacher_size
        self.teacher: Optional[Teacher] = None
        self._broken: Optional[torch.Tensor] = None

    def __deepcopy__(self, memo: Dict[int, Any]) -> Distillation:
        return self

    @torch.no_grad()
    def teach(self, images: torch.Tensor, batched_inputs: List[Dict[str, Any]], mixup: Optional[Mixup]) -> torch.Tensor:
        """The teacher's logits, (N, num_classes) in float32.

        Args:
            images, batched_inputs, mixup: see ``Teacher``.

        Raises:
            RuntimeError: there is no teacher.
        """
        if self.teacher is None:
            raise RuntimeError(
                "MODEL.DISTILLATION.ENABLED, but the model that is trained has no teacher; FBNetTrainer gives it one, "
                "as does fbnet_plugin.engine.teacher.give_teacher"
            )
        if self.teacher_size and images.shape[-2:] != (self.teacher_size, self.teacher_size):
            size = (self.teacher_size, self.teacher_size)
            images = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        logits = self.teacher(images, batched_inputs, mixup).float()
        broken = (0 * logits).sum()  # 0, or NaN
        self._broken = broken if self._broken is None else self._broken + broken
        return logits

    def losses(self, logits: torch.Tensor, hard_loss: torch.Tensor, taught: torch.Tensor) -> Dict[str, torch.Tensor]:
        """Both parts of the loss, each with its weight.

        Args:
            logits: the student's, (N, num_classes).
            hard_loss: the loss of the labels.
            taught: the teacher's logits, (N, num_classes).

        Returns:
            "loss_cls" and "loss_distill", scalars.

        Raises:
            ValueError: teacher and student have different numbers of classes.
        """
        if logits.shape != taught.shape:
            raise ValueError(
                f"the teacher gives logits of shape {tuple(taught.shape)}, the student of shape {tuple(logits.shape)}; "
                "MODEL.CLASSIFIER.NUM_CLASSES of both must be equal"
            )
        soft_loss = divergence(logits, taught, self.temperature)
        return {"loss_cls": self.hard_weight * hard_loss, "loss_distill": self.soft_weight * soft_loss}

    def watched(self) -> Dict[str, torch.Tensor]:
        """A scalar that is NaN where logits of the teacher since the last call were not finite, else 0.

        It tells a teacher that is at fault from a student that is, without waiting for the device in each step.
        """
        broken, self._broken = self._broken, None
        return {} if broken is None else {"the teacher's logits": broken}


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, the mean over the batch, in float32.

    Its gradient is ``T / N * (softmax(student / T) - softmax(teacher / T))`` with respect to the student's logits; the
    factor keeps its size where T changes (arXiv:1503.02531, section 2.1).

    Args:
        student, teacher: logits (N, num_classes).
        temperature: T.
    """
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def distillation_from_config(cfg: CfgNode) -> Optional[Distillation]:
    """As ``MODEL.DISTILLATION`` says, without its teacher; None where it is not enabled.

    Raises:
        ValueError: see ``Distillation``.
    """
    keys = cfg.MODEL.DISTILLATION
    if not keys.ENABLED:
        return None
    return Distillation(keys.SOFT_WEIGHT, keys.HARD_WEIGHT, keys.TEMPERATURE, keys.TEACHER_SIZE)
