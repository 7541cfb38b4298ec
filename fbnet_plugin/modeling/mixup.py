"""Mixup of a batch of images and their labels (arXiv:1710.09412)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Mixup:
    """How a batch is mixed: each image with one other, or itself, by the same share.

    Attributes:
        share: of an image itself in its mixture, lambda in the paper.
        partners: (N,) indices of the other images, a permutation.
    """

    share: float
    partners: torch.Tensor

    @classmethod
    def draw(cls, alpha: float, size: int) -> Mixup:
        """A random mixture, from PyTorch's global generator on the CPU whatever the device.

        Args:
            alpha: lambda is drawn from Beta(alpha, alpha), once for the whole batch.
            size: of the batch, N.
        """
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        return cls(share, torch.randperm(size))

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> share * images + (1 - share) * partners' images, of the same shape."""
        return torch.lerp(images[self.partners.to(images.device)], images, self.share)

    def targets(self, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
        """Labels (N,) -> probabilities (N, num_classes): the share of an image's class, the rest of its partner's."""
        classes = F.one_hot(labels, num_classes).to(torch.float32)
        return torch.lerp(classes[self.partners.to(labels.device)], classes, self.share)

    def logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of the images -> logits whose softmax is the mixture of both images' softmax."""
        own = F.log_softmax(logits.float(), dim=1)
        if self.share in (0, 1):
            return own if self.share else own[self.partners.to(own.device)]
        other = own[self.partners.to(own.device)]
        return torch.logaddexp(own + math.log(self.share), other + math.log1p(-self.share))
