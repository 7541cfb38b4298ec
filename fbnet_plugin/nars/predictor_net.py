"""The predictor's networks: several of one form, trained side by side as one batched matrix product per layer.

A tensor's first dimension M is the number of networks. No network sees another's samples, weights or gradients.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .predictor_settings import PredictorSettings


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, so that sums are taken in the same order on every machine; restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Dense:
    """A fully connected layer of M networks: weight (M, inputs, outputs), bias (M, 1, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator, zero: bool = False):
        bound = 0.0 if zero else (3 / max(inputs, 1)) ** 0.5  # variance 1 / inputs
        self.weight = (torch.rand(members, inputs, outputs, generator=generator) * 2 - 1) * bound
        self.bias = torch.zeros(members, 1, outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """(M, n, inputs) -> (M, n, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)

    def tensors(self) -> list[Tensor]:
        return [self.weight, self.bias]

    def repeated(self, times: int) -> Dense:
        """A copy with each network ``times`` times over."""
        copy = Dense.__new__(Dense)
        copy.weight, copy.bias = self.weight.repeat(times, 1, 1), self.bias.repeat(times, 1, 1)
        return copy


class AccuracyHead:
    """[embedding, recipe code] -> hidden layers -> accuracy; with ``settings.linear`` plus a linear map of the codes.

    Args:
        members: number of networks.
        arch_width, width: columns of the architecture and of the whole code.
    """

    def __init__(
        self, members: int, arch_width: int, width: int, settings: PredictorSettings, generator: torch.Generator
    ):
        self._arch_width = arch_width
        joint = (settings.embedding if arch_width else 0) + width - arch_width
        sizes = [joint] + [settings.hidden] * settings.layers + [1]
        self.layers = [Dense(members, low, high, generator) for low, high in zip(sizes, sizes[1:])]
        self.linear = Dense(members, width, 1, generator, zero=True) if settings.linear else None

    def __call__(self, encoder: Dense, codes: Tensor) -> Tensor:
        """Codes (M, n, width) -> (M, n), in units of the standardized target."""
        hidden = codes[..., self._arch_width :]
        if self._arch_width:
            hidden = torch.cat([encode(encoder, codes[..., : self._arch_width]), hidden], dim=2)
        for layer in self.layers[:-1]:
            hidden = F.silu(layer(hidden))
        output = self.layers[-1](hidden)
        return (output + self.linear(codes) if self.linear else output)[..., 0]

    def parts(self) -> list[Dense]:
        return self.layers + ([self.linear] if self.linear else [])


def encode(encoder: Dense, arch_codes: Tensor) -> Tensor:
    """Architecture codes (M, n, Da) -> embeddings (M, n, embedding)."""
    return F.silu(encoder(arch_codes))


@dataclass(frozen=True)
class Phase:
    """How long and how fast something is trained; the learning rate falls to 0 as half a cosine."""

    epochs: int
    lr: float
    batch_size: int
    min_steps: int
    weight_decay: float

    def steps(self, samples: int) -> int:
        per_epoch = max(round(samples / self.batch_size), 1)
        return 0 if self.epochs == 0 else max(self.epochs * per_epoch, self.min_steps)


def train(
    parts: Sequence[Dense], loss: Callable[[Tensor], Tensor], rows: Tensor, phase: Phase, generator: torch.Generator
) -> None:
    """Trains layers in place with AdamW.

    Args:
        parts: the layers to train; others that ``loss`` uses stay as they are.
        loss: sample numbers of a step, int64 (M, b), -> loss of each, (M, b).
        rows: numbers of each network's own samples, int64 (M, n); every epoch takes them in a new order.
        generator: of the orders.
    """
    samples = rows.shape[1]
    total, step = phase.steps(samples), 0
    optimizer = AdamW(parts, phase.weight_decay)
    try:
        while step < total:
            order = rows.gather(1, torch.rand(rows.shape, generator=generator).argsort(dim=1))
            for chosen in order.tensor_split(max(round(samples / phase.batch_size), 1), dim=1):
                if step == total:
                    break
                lr = phase.lr * (1 + math.cos(math.pi * step / total)) / 2
                optimizer.step(loss(chosen).mean(dim=1).sum(), lr)
                step += 1
    finally:
        optimizer.close()


class AdamW:
    """Adam with decoupled weight decay (of the matrices, not of the biases).

    The layers' tensors become views of one vector while they are trained, so that a step is a handful of operations;
    with layers this small, a call per tensor would take longer than all the arithmetic.
    """

    BETAS, EPS = (0.9, 0.999), 1e-8

    def __init__(self, parts: Sequence[Dense], weight_decay: float):
        self._parts = list(parts)
        tensors = [tensor for part in self._parts for tensor in part.tensors()]
        decays = [decay for _ in self._parts for decay in (weight_decay, 0.0)]
        self._vector = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._decay = torch.cat([torch.full((tensor.numel(),), decay) for tensor, decay in zip(tensors, decays)])
        self._mean, self._square = torch.zeros_like(self._vector), torch.zeros_like(self._vector)
        self._steps = 0
        pieces = self._vector.split([tensor.numel() for tensor in tensors])
        self._views = [piece.view(tensor.shape).detach() for piece, tensor in zip(pieces, tensors)]
        for place, part in enumerate(self._parts):
            part.weight, part.bias = (view.requires_grad_(True) for view in self._views[2 * place : 2 * place + 2])

    def step(self, loss: Tensor, lr: float) -> None:
        """One update by the gradient of a scalar."""
        gradient = torch.cat([one.reshape(-1) for one in torch.autograd.grad(loss, self._views)])
        self._steps += 1
        (first, second), corrected = self.BETAS, 1 - self.BETAS[1] ** self._steps
        with torch.no_grad():
            self._mean.lerp_(gradient, 1 - first)
            self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            size = (self._square / corrected).sqrt_().add_(self.EPS)
            self._vector.addcmul_(self._vector, self._decay, value=-lr)
            self._vector.addcdiv_(self._mean, size, value=-lr / (1 - first**self._steps))

    def close(self) -> None:
        """Ends the training: the layers' tensors are plain ones again."""
        for part in self._parts:
            part.weight, part.bias = part.weight.detach().clone(), part.bias.detach().clone()


def huber(predicted: Tensor, wanted: Tensor, delta: float) -> Tensor:
    """Section 3.3's loss, element by element: d^2 / 2 where |d| < delta, else delta (|d| - delta / 2)."""
    return F.huber_loss(predicted, wanted, reduction="none", delta=delta)
