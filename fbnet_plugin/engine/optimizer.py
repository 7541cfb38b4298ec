"""Optimizers by name: Detectron2's SGD, and RMSProp as TensorFlow has it."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from .errors import ConfigError, did_you_mean


class RMSPropTF(torch.optim.Optimizer):
    """RMSProp in TensorFlow's form, which the recipes of mobile networks are tuned for.

    With gradient g (weight decay added), weight w and learning rate lr, each step is

        v <- alpha v + (1 - alpha) g^2        (v begins with 1)
        b <- momentum b + lr g / sqrt(v + eps)
        w <- w - b

    ``torch.optim.RMSprop`` differs in three ways: v begins with 0, eps is added to the root, and lr is multiplied to b
    afterwards, so that a change of it acts on the momentum of earlier steps too.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        alpha: float = 0.9,
        eps: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        """
        Args:
            params: parameters, or groups of them with settings of their own.
            lr: learning rate, 0 or more.
            alpha: in [0, 1).
            eps: above 0.
            momentum: in [0, 1).
            weight_decay: factor of w that is added to g, 0 or more.

        Raises:
            ValueError: a value outside its range.
        """
        for name, value, good, accepted in (
            ("lr", lr, lr >= 0, "0 or more"),
            ("alpha", alpha, 0 <= alpha < 1, "at least 0 and below 1"),
            ("eps", eps, eps > 0, "more than 0"),
            ("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1"),
            ("weight_decay", weight_decay, weight_decay >= 0, "0 or more"),
        ):
            if not good:
                raise ValueError(f"{name} is {value}, expected {accepted}")
        super().__init__(params, dict(lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """One step of all parameters that have a gradient; returns what ``closure`` gives."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [param for param in group["params"] if param.grad is not None]
            if moved:
                self._move(moved, group)
        return loss

    def _move(self, weights: List[torch.Tensor], group: Dict[str, Any]) -> None:
        """The equations above for all tensors of a group at once."""
        grads = [weight.grad for weight in weights]
        if group["weight_decay"]:
            grads = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
        means = self._of_state("square_avg", weights, torch.ones_like)
        torch._foreach_mul_(means, group["alpha"])
        torch._foreach_addcmul_(means, grads, grads, value=1 - group["alpha"])
        roots = torch._foreach_add(means, group["eps"])
        torch._foreach_sqrt_(roots)
        if not group["momentum"]:
            torch._foreach_addcdiv_(weights, grads, roots, value=-group["lr"])
            return
        buffers = self._of_state("momentum_buffer", weights, torch.zeros_like)
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, grads, roots, value=group["lr"])
        torch._foreach_sub_(weights, buffers)

    def _of_state(self, name: str, weights: List[torch.Tensor], begin: Callable[..., Any]) -> List[torch.Tensor]:
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = begin(weight, memory_format=torch.preserve_format)
        return [self.state[weight][name] for weight in weights]


def _rmsprop(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    return maybe_add_gradient_clipping(cfg, RMSPropTF)(groups, **_rmsprop_settings(cfg))


def _rmsprop_settings(cfg: CfgNode) -> Dict[str, float]:
    keys = cfg.SOLVER.RMSPROP
    own = {"alpha": keys.ALPHA, "eps": keys.EPS, "momentum": keys.MOMENTUM}
    return {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY, **own}


OPTIMIZERS: Dict[str, Callable[[CfgNode, nn.Module], torch.optim.Optimizer]] = {
    "SGD": solver.build_optimizer,
    "RMSProp": _rmsprop,
}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that ``SOLVER.OPTIMIZER`` names, with parameter groups and gradient clipping as Detectron2's.

    Args:
        cfg: with ``SOLVER``; learning rate and weight decay are those of the optimizer as given.
        model: whose parameters are trained.

    Raises:
        ConfigError: see ``check_optimizer``.
    """
    check_optimizer(cfg)
    return OPTIMIZERS[cfg.SOLVER.OPTIMIZER](cfg, model)


def check_optimizer(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: nobody knows the optimizer, or it does not accept a value.
    """
    name = cfg.SOLVER.OPTIMIZER
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"SOLVER.OPTIMIZER is {name!r}{did_you_mean(name, OPTIMIZERS)} (known: {', '.join(OPTIMIZERS)})"
        )
    if name == "RMSProp":
        try:
            RMSPropTF([torch.zeros(1)], **_rmsprop_settings(cfg))
        except ValueError as error:
            raise ConfigError(f"SOLVER.OPTIMIZER RMSProp: {error}") from None
