"""The training step of Detectron2 with a look at the losses before the optimizer moves."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

from .precision import autocast, grad_scaler
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
    """What all training steps share. Detectron2 calls ``_write_metrics`` after the gradients and before the step.

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
    """``SimpleTrainer`` that stops before the step when a loss is not finite, in any precision, in parts or at once.

    Attributes:
        scaler: of the loss; it does nothing but in float16.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        *,
        precision: Optional[torch.dtype] = None,
        parts: int = 1,
    ):
        """
        Args:
            model, data_loader, optimizer: see ``SimpleTrainer``.
            precision: of the forward pass; None is full precision.
            parts: that each batch is cut into, see ``accumulate``.
        """
        super().__init__(model, data_loader, optimizer)
        self._precision, self._parts = precision, parts
        self.scaler = grad_scaler(next(model.parameters()).device.type, precision)

    def run_step(self) -> None:
        """
        Raises:
            FloatingPointError: a loss is not finite; raised before the step, in all processes.
        """
        assert self.model.training, "the model was changed to evaluation mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        losses = accumulate(self.model, data, self._parts, self._precision, self.scaler)
        self._write_metrics(losses, data_time)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def watched(self, losses: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Losses, and before them what a teacher says, so that the message tells which of the two is at fault."""
        distillation = getattr(getattr(self.model, "module", self.model), "distillation", None)
        return losses if distillation is None else {**distillation.watched(), **losses}

    def state_dict(self) -> Dict[str, Any]:
        state = super().state_dict()
        return {**state, "grad_scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else state

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.scaler.is_enabled() and state_dict.get("grad_scaler"):  # a run that began without has no scale yet
            self.scaler.load_state_dict(state_dict["grad_scaler"])


def accumulate(
    model: nn.Module, data: Sequence[Any], parts: int, precision: Optional[torch.dtype], scaler: Any
) -> Dict[str, torch.Tensor]:
    """Adds the gradients of the mean loss over ``data`` to those of the parameters, part by part.

    Args:
        model: from a batch to a dict of scalar losses, or to one loss. Wrapped for several processes, it averages the
            gradients of all of them once, after the last part.
        data: the batch, whose size is a multiple of ``parts``.
        parts: of equal size; the memory that activations take is that of one.
        precision: of the forward pass; None is full precision.
        scaler: of the loss.

    Returns:
        the losses, each the mean over the parts, without gradients where there are several.

    Raises:
        ValueError: the batch cannot be cut into so many parts.
    """
    if len(data) % parts:
        raise ValueError(f"a batch of {len(data)} cannot be cut into {parts} parts (SOLVER.ACCUMULATION_STEPS)")
    device = next(model.parameters()).device.type
    if parts == 1:
        return _backward(model, data, 1, device, precision, scaler)
    size, means = len(data) // parts, {}
    for number in range(parts):
        last = number == parts - 1
        with contextlib.nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
            losses = _backward(model, data[number * size : (number + 1) * size], parts, device, precision, scaler)
        for name, loss in losses.items():
            means[name] = means.get(name, 0) + loss.detach().float() / parts
    return means


def _backward(
    model: nn.Module, data: Sequence[Any], parts: int, device: str, precision: Optional[torch.dtype], scaler: Any
) -> Dict[str, torch.Tensor]:
    with autocast(device, precision):
        losses = model(data)
        if isinstance(losses, torch.Tensor):
            losses = {"total_loss": losses}
        total = sum(losses.values())
    scaler.scale(total / parts if parts > 1 else total).backward()
    return losses
