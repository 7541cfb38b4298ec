"""The training step of Detectron2 with a look at the losses before the optimizer moves."""

from __future__ import annotations

from typing import Any, Mapping, Tuple

import torch
import torch.distributed as dist
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.utils import comm

from .stop import StopSignals


def agree(losses: Mapping[str, torch.Tensor], signum: int) -> Tuple[bool, int]:
    """Whether the losses of all processes are finite, and the signal that any of them received.

    One reduction of two numbers, and one copy from the device.

    Args:
        losses: scalars.
        signum: received by this process, 0 for none.
    """
    stacked = torch.stack([loss.detach().float().sum() for loss in losses.values()])
    bad = (~torch.isfinite(stacked)).any().float()
    flags = torch.stack([bad, torch.full_like(bad, signum)])
    if comm.get_world_size() > 1:
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    any_bad, any_signal = flags.tolist()
    return not any_bad, int(any_signal)


def non_finite(losses: Mapping[str, torch.Tensor], iteration: int) -> FloatingPointError:
    """The error that names the iteration and the losses; every process must call it."""
    values = {name: loss.detach().float().sum().item() for name, loss in losses.items()}
    bad = {name: value for name, value in values.items() if value - value != 0}  # NaN and the infinities
    parts = []
    for rank, found in enumerate(comm.all_gather(bad)):
        where = f" (process {rank})" if comm.get_world_size() > 1 else ""
        parts += [f"{name} = {value}{where}" for name, value in found.items()]
    return FloatingPointError(f"loss not finite at iteration {iteration}: {', '.join(parts)}; no step was taken")


class Guarded:
    """What both trainers share. Detectron2 calls ``_write_metrics`` after the gradients and before the step.

    Attributes:
        signals: of this process.
        asked_to_stop: the signal that any process received before this step, 0 for none.
    """

    signals: StopSignals
    asked_to_stop: int = 0

    def _write_metrics(self, loss_dict: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any) -> None:
        """
        Raises:
            FloatingPointError: a loss is not finite in any process; raised in all of them.
        """
        watched = self.watched(loss_dict)
        finite, self.asked_to_stop = agree(watched, self.signals.received)
        if not finite:
            raise non_finite(watched, self.iter)  # type: ignore[attr-defined]
        super()._write_metrics(loss_dict, *args, **kwargs)  # type: ignore[misc]

    def watched(self, losses: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """What must be finite before a step: the losses; a subclass may add to them."""
        return losses


class GuardedTrainer(Guarded, SimpleTrainer):
    """``SimpleTrainer`` that stops before the step when a loss is not finite."""


class GuardedAMPTrainer(Guarded, AMPTrainer):
    """``AMPTrainer`` that stops before the step when a loss is not finite."""
