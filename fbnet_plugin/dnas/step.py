"""One iteration of a search: a step of the weights, or a step of theta."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, List, Mapping

import torch
import torch.distributed as dist
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

from fbnet_plugin.engine.step import Guarded

from .schedule import PHASES, THETA, WEIGHTS


class SearchStep(Guarded, SimpleTrainer):
    """Takes a batch of the phase's data and moves the phase's parameters.

    Gradients are averaged over the processes after the backward pass: of theta alone in a theta step, and in a
    single-path weight step of the weights that ran. (DistributedDataParallel would reduce all of them in every step.)

    Attributes:
        phase: "weights" or "theta"; to be set before each step.
        optimizers, loaders: by phase.
        amp: whether to run the model in mixed precision.
    """

    def __init__(
        self,
        model: nn.Module,
        loaders: Mapping[str, Iterable[Any]],
        optimizers: Mapping[str, torch.optim.Optimizer],
        amp: bool = False,
    ):
        super().__init__(model, loaders[WEIGHTS], optimizers[WEIGHTS])
        self.loaders, self.optimizers, self.amp = dict(loaders), dict(optimizers), amp
        self.phase = WEIGHTS
        self._batches = {phase: iter(loader) for phase, loader in self.loaders.items()}
        self._device = next(model.parameters()).device
        self._scalers = {phase: grad_scaler(self._device.type, amp) for phase in PHASES}

    def run_step(self) -> None:
        """One step of ``phase``.

        Raises:
            FloatingPointError: a loss, or theta's gradient, is not finite; raised before the step, in all processes.
        """
        optimizer, scaler = self.optimizers[self.phase], self._scalers[self.phase]
        start = time.perf_counter()
        data = next(self._batches[self.phase])
        data_time = time.perf_counter() - start
        optimizer.zero_grad()
        with torch.autocast(self._device.type, enabled=self.amp):
            losses = self.model(data)
            total = torch.stack([loss.float().sum() for loss in losses.values()]).sum()
        scaler.scale(total).backward()
        average_gradients(optimizer)
        self._write_metrics(losses, data_time)
        scaler.step(optimizer)
        scaler.update()

    def watched(self, losses: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Losses, and in a theta step theta's gradient, unless a gradient scaler looks for infinities in it."""
        watched = dict(losses)
        if self.phase == THETA and not self.amp:
            watched["theta.grad"] = self.model.theta.grad
        return watched

    def state_dict(self) -> Dict[str, Any]:
        state = super().state_dict()
        state["theta_optimizer"] = self.optimizers[THETA].state_dict()
        state["grad_scalers"] = {phase: scaler.state_dict() for phase, scaler in self._scalers.items()}
        return state

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizers[THETA].load_state_dict(state_dict["theta_optimizer"])
        for phase, scaler in self._scalers.items():
            if self.amp and state_dict["grad_scalers"][phase]:
                scaler.load_state_dict(state_dict["grad_scalers"][phase])


def grad_scaler(device: str, enabled: bool) -> Any:
    """PyTorch's gradient scaler, under the name that it has in this version."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device, enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled and device == "cuda")


def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Replaces the gradients of an optimizer's parameters by their mean over all processes.

    The same parameters must have one in every process.
    """
    if comm.get_world_size() == 1:
        return
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    dist.all_reduce(flat)
    flat /= comm.get_world_size()
    for grad, averaged in zip(grads, flat.split([grad.numel() for grad in grads])):
        grad.copy_(averaged.view_as(grad))


def broadcast_model(model: nn.Module) -> None:
    """Gives every process the parameters and buffers of the first."""
    if comm.get_world_size() == 1:
        return
    with torch.no_grad():
        tensors: List[torch.Tensor] = [*model.parameters(), *model.buffers()]
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, 0)
            tensor.copy_(whole)
