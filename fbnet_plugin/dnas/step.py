"""One iteration of a search: a step of the weights, or a step of theta."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, List, Mapping, Optional

import torch
import torch.distributed as dist
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

from fbnet_plugin.engine.precision import grad_scaler
from fbnet_plugin.engine.step import Guarded, accumulate

from .schedule import PHASES, THETA, WEIGHTS


class SearchStep(Guarded, SimpleTrainer):
    """Takes a batch of the phase's data and moves the phase's parameters.

    Gradients are averaged over the processes after the backward pass: of theta alone in a theta step, and in a
    single-path weight step of the weights that ran. (DistributedDataParallel would reduce all of them in every step.)

    Attributes:
        phase: "weights" or "theta"; to be set before each step.
        optimizers, loaders: by phase.
    """

    def __init__(
        self,
        model: nn.Module,
        loaders: Mapping[str, Iterable[Any]],
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        precision: Optional[torch.dtype] = None,
        parts: int = 1,
    ):
        """
        Args:
            model: the supernet.
            loaders, optimizers: by phase.
            precision: of the forward pass; None is full precision.
            parts: that each batch is cut into, see ``accumulate``; each has Gumbel noise of its own.
        """
        super().__init__(model, loaders[WEIGHTS], optimizers[WEIGHTS])
        self.loaders, self.optimizers = dict(loaders), dict(optimizers)
        self._precision, self._parts = precision, parts
        self.phase = WEIGHTS
        self._batches = {phase: iter(loader) for phase, loader in self.loaders.items()}
        device = next(model.parameters()).device.type
        self._scalers = {phase: grad_scaler(device, precision) for phase in PHASES}

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
        losses = accumulate(self.model, data, self._parts, self._precision, scaler)
        average_gradients(optimizer)
        self._write_metrics(losses, data_time)
        scaler.step(optimizer)
        scaler.update()

    def watched(self, losses: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Losses, and in a theta step theta's gradient, unless a gradient scaler looks for infinities in it."""
        watched = dict(losses)
        if self.phase == THETA and not self._scalers[THETA].is_enabled():
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
            if scaler.is_enabled() and state_dict["grad_scalers"][phase]:
                scaler.load_state_dict(state_dict["grad_scalers"][phase])


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
