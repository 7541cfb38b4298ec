"""One place of a supernet: all candidates side by side, weighted by a gate each (FBNet eq. 5)."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .blocks import Skip
from .conv import weigh

# Weights of the candidates, (C,) for all images alike or (N, C) for each, or the index of the only one that runs.
Gate = Union[torch.Tensor, int]


class MixedBlock(nn.Module):
    """``sum over i of m_i * b_i(x)`` (FBNet eq. 5).

    Computed as ``(sum of m_i over the blocks that add their input) * x + sum over i of m_i * (what b_i computes)``,
    with m_i in the last batch norm of its block where that is possible. With one m_i at 1 and the others at 0 this is
    b_i(x) to the last bit. A parameter or gate that needs no gradient costs nothing in the backward pass.

    Args:
        variable: name of the decision.
        candidates: blocks that take the same input and give outputs of one shape. A block may have ``weighed`` and
            ``adds_input`` (see ``InvertedResidual``); the output of any other module is multiplied.

    Attributes:
        gate: to be set before ``forward``: see ``Gate``.
        checkpoint: whether to keep no activations inside the candidates for the backward pass, but to compute them
            again. Results are the same; running statistics change once per step.
    """

    def __init__(self, variable: str, candidates: Sequence[nn.Module]):
        super().__init__()
        self.variable = variable
        self.candidates = nn.ModuleList(candidates)
        self.gate: Optional[Gate] = None
        self.checkpoint = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, c_in, H, W) -> (N, out, H / stride, W / stride)

        Raises:
            RuntimeError: the gate is not set.
            ValueError: the gate has another number of candidates.
        """
        if self.gate is None:
            raise RuntimeError(f"the gate of {self.variable} is not set; a MixedBlock runs inside a supernet")
        if isinstance(self.gate, int):
            return self.candidates[self.gate](x)
        if self.gate.shape[-1] != len(self.candidates):
            shape, count = tuple(self.gate.shape), len(self.candidates)
            raise ValueError(f"the gate of {self.variable} has the shape {shape}, and there are {count} candidates")
        again = _autocast_of(x) if self.checkpoint and torch.is_grad_enabled() else None
        total, of_input = None, []
        gates = self.gate.to(torch.promote_types(self.gate.dtype, x.dtype))  # never to less
        for candidate, gate in zip(self.candidates, gates.unbind(-1)):
            adds_input = getattr(candidate, "adds_input", False)
            if adds_input:
                of_input.append(gate)
            if again is None or (adds_input and isinstance(candidate, Skip)):
                total = _sum(total, _weighed(candidate, x, gate))
            else:
                total = _sum(total, _WeighedAgain.apply(candidate, x, gate, again, *candidate.parameters()))
        if of_input:
            total = _sum(total, weigh(x, torch.stack(of_input).sum(0)))
        assert total is not None, "a MixedBlock has candidates"
        return total


def _weighed(candidate: nn.Module, x: torch.Tensor, gate: torch.Tensor) -> Optional[torch.Tensor]:
    """``gate`` times the candidate's output, less ``gate * x`` where it adds its input; None for nothing."""
    if hasattr(candidate, "weighed"):
        return candidate.weighed(x, gate)
    return weigh(candidate(x), gate)


class _WeighedAgain(torch.autograd.Function):
    """``_weighed`` for a result, computed a second time in the backward pass instead of keeping what that needs."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        candidate: nn.Module,
        x: torch.Tensor,
        gate: torch.Tensor,
        autocast: torch.autocast,
        *parameters: nn.Parameter,
    ) -> torch.Tensor:
        """``parameters`` are the candidate's."""
        ctx.candidate, ctx.autocast, ctx.parameters = candidate, autocast, parameters
        ctx.save_for_backward(x, gate)
        ctx.random_states = torch.get_rng_state(), torch.cuda.get_rng_state(x.device) if x.is_cuda else None
        return _weighed(candidate, x, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        x, gate = (tensor.detach() for tensor in ctx.saved_tensors)
        inputs = [None, x, gate, None, *ctx.parameters]
        for tensor, needed in zip((x, gate), ctx.needs_input_grad[1:3]):
            tensor.requires_grad_(needed)
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.set_rng_state(ctx.random_states[0])
            if x.is_cuda:
                torch.cuda.set_rng_state(ctx.random_states[1], x.device)
            with torch.enable_grad(), ctx.autocast, _buffers_as_they_are(ctx.candidate):
                y = _weighed(ctx.candidate, x, gate)
        wanted = [tensor for tensor, needed in zip(inputs, ctx.needs_input_grad) if needed]
        found = iter(torch.autograd.grad(y, wanted, grad, allow_unused=True))
        return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)


def _autocast_of(x: torch.Tensor) -> torch.autocast:
    """A context that casts as the current one does; it keeps no casts of weights, for they have no gradient here."""
    one = x.new_ones(1, 1, dtype=torch.float32)
    dtype = torch.mm(one, one).dtype
    return torch.autocast(x.device.type, dtype if dtype != one.dtype else None, dtype != one.dtype, False)


@contextlib.contextmanager
def _buffers_as_they_are(module: nn.Module) -> Iterator[None]:
    """Lets what runs inside change copies of the buffers (running statistics)."""
    owners = [(one, name, buffer) for one in module.modules() for name, buffer in one._buffers.items()]
    try:
        for owner, name, buffer in owners:
            owner._buffers[name] = None if buffer is None else buffer.clone()
        yield
    finally:
        for owner, name, buffer in owners:
            owner._buffers[name] = buffer


def _sum(total: Optional[torch.Tensor], y: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    """``total + y`` in the memory of ``total``, which nobody else uses."""
    if total is None or y is None:
        return y if total is None else total
    return total + y if total.dtype != y.dtype or total.shape != y.shape else total.add_(y)
