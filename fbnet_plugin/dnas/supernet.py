"""The stochastic supernet as a Detectron2 meta-architecture around another one (FBNet section 3.3)."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

from fbnet_plugin.arch import SearchSpace
from fbnet_plugin.latency.table import LatencyMatrix
from fbnet_plugin.layers import MixedBlock
from fbnet_plugin.modeling.arch import space_from_config

from .errors import SearchError
from .gumbel import gumbel_choice, gumbel_noise, gumbel_softmax, probabilities
from .loss import TaskLoss
from .schedule import THETA, WEIGHTS
from .settings import latency_loss_from_config, latency_matrix_from_config
from .target import expected_latency_us

NOISES = ("step", "image")


@META_ARCH_REGISTRY.register()
class Supernet(nn.Module):
    """All architectures of a space at once, and the distribution P_theta over them.

    In training each call draws ``m = GumbelSoftmax(theta, tau)`` (eq. 8), lets every layer give
    ``sum of m_i * b_i(x)`` (eq. 5), and makes of the inner model's losses and the latency of the same m (eq. 9) the
    loss (eq. 2). In evaluation it is the most probable architecture with the weights that it has here.

    Args:
        inner: a meta-architecture whose backbone (and head) was built from ``space``.
        space: layer-wise.
        latency: µs per layer and candidate; None: the loss is the task's alone.
        loss: from the task's loss and the latency to the loss; see ``loss.py``.
        noise: "step": one draw of Gumbel noise per step, shared by all images and all processes; "image": one per
            image (the latency is then the mean over the images).
        checkpoint: compute the candidates' activations again in the backward pass instead of keeping them.
        channels_last: memory format of the convolutions; only speed depends on it.
        seed: of the noise, until ``seed_noise`` is called.

    Attributes:
        theta: (layers, most candidates); of no effect beyond a layer's candidates, and zero there.
        temperature: tau.
        single_path: train weights on one sampled architecture (exact draws of eq. 4) instead of the mixture.

    Raises:
        SearchError: the inner model lacks some of the space's layers.
    """

    @configurable
    def __init__(
        self,
        *,
        inner: nn.Module,
        space: SearchSpace,
        latency: Optional[LatencyMatrix] = None,
        loss: Optional[nn.Module] = None,
        noise: str = "step",
        checkpoint: bool = False,
        channels_last: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        if noise not in NOISES:
            raise SearchError(f"MODEL.SUPERNET.NOISE is {noise!r}, expected one of {', '.join(NOISES)}")
        sizes = [len(variable.choices) for variable in space.variables]
        self.inner = inner.to(memory_format=torch.channels_last) if channels_last else inner
        self.space, self.noise = space, noise
        self.loss = loss if loss is not None else TaskLoss()
        self.temperature, self.single_path = 5.0, False
        self.theta = nn.Parameter(torch.zeros(len(sizes), max(sizes)))
        valid = torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(1)
        self.register_buffer("valid", valid, persistent=False)
        us = np.zeros(valid.shape) if latency is None else np.nan_to_num(latency.us)
        self.latency = latency
        self.register_buffer("latency_us", torch.tensor(us, dtype=torch.float32), persistent=False)
        self.fixed_us = 0.0 if latency is None else latency.fixed_us
        self._layers = _layers_of(inner, space)
        self._blocks = [module for module in inner.modules() if isinstance(module, MixedBlock)]
        for block in self._blocks:
            block.checkpoint = checkpoint
        self._trainable = [parameter for parameter in inner.parameters() if parameter.requires_grad]
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        keys, space = cfg.MODEL.SUPERNET, space_from_config(cfg)
        return {
            "inner": META_ARCH_REGISTRY.get(keys.INNER)(cfg),
            "space": space,
            "latency": latency_matrix_from_config(cfg, space),
            "loss": latency_loss_from_config(cfg),
            "noise": keys.NOISE,
            "checkpoint": keys.CHECKPOINT,
            "channels_last": keys.CHANNELS_LAST,
            "seed": max(cfg.SEED, 0),
        }

    @property
    def device(self) -> torch.device:
        return self.theta.device

    def mixed_blocks(self) -> List[MixedBlock]:
        """The places with candidates, in the order of the inner model's modules."""
        return list(self._blocks)

    def seed_noise(self, seed: int) -> None:
        """Makes the noise of the following calls a function of ``seed``; it must be equal in all processes."""
        self._generator.manual_seed(seed)

    def train_only(self, phase: str) -> None:
        """Gradients for the weights or for theta alone; the other group costs no backward pass and cannot move."""
        for parameter in self._trainable:
            parameter.requires_grad_(phase == WEIGHTS)
        self.theta.requires_grad_(phase == THETA)

    def probabilities(self) -> torch.Tensor:
        """(L, C): eq. 4; zero beyond a layer's candidates."""
        return probabilities(self.theta, self.valid)

    def expected_latency_us(self) -> torch.Tensor:
        """Scalar: expected latency of an architecture drawn from P_theta, differentiable in theta."""
        return expected_latency_us(self.theta, self.latency_us, self.fixed_us, self.valid)

    def argmax(self) -> List[int]:
        """The most probable architecture, as a point of the space."""
        return self.probabilities().argmax(1).tolist()

    def latency_of(self, m: torch.Tensor) -> torch.Tensor:
        """Scalar µs of masks (eq. 9): fixed + sum over l, i of m[l, i] * LAT(b[l, i]); their mean if there are several.

        Args:
            m: (L, C) or (N, L, C).
        """
        return (m * self.latency_us).sum((-2, -1)).mean() + self.fixed_us

    def forward(self, batched_inputs: List[Dict[str, Any]]) -> Any:
        """
        Args:
            batched_inputs: the inner model's.

        Returns:
            In training the inner model's losses, and "loss_latency": what the loss (eq. 2) is more, or less, than
            their sum. Else the inner model's output for the most probable architecture.

        Raises:
            FloatingPointError: theta or the sample is not finite.
        """
        if not self.training:
            with self.running(self.argmax()):
                return self.inner(batched_inputs)
        m, gates = self._sample(len(batched_inputs))
        with self._gated(gates):
            losses = self.inner(batched_inputs)
        task = torch.stack([loss.float().sum() for loss in losses.values()]).sum()
        return {**losses, "loss_latency": self.loss(task, self.latency_of(m)) - task}

    def _sample(self, images: int) -> "tuple[torch.Tensor, Sequence[Any]]":
        """(masks, gate per layer) of one call."""
        per_image = self.noise == "image" and not self._runs_one_path()
        if per_image:  # of the whole batch, of which this process has every world_size-th image
            noise = gumbel_noise((images * comm.get_world_size(), *self.theta.shape), self._generator)
            noise = noise[comm.get_rank() :: comm.get_world_size()]
        else:
            noise = gumbel_noise(tuple(self.theta.shape), self._generator)
        with torch.autocast(self.theta.device.type, enabled=False):
            if self._runs_one_path():
                choice = gumbel_choice(self.theta.detach(), noise, self.valid)
                m = nn.functional.one_hot(choice, self.theta.shape[1]).float()
                return m, choice.tolist()
            m = gumbel_softmax(self.theta, noise, self.temperature, self.valid)
        if not torch.isfinite(m).all():
            bad = (~torch.isfinite(m)).nonzero()[0].tolist()[-2]
            raise FloatingPointError(
                f"the Gumbel-softmax sample of {self.space.variables[bad].name} is not finite "
                f"(temperature {self.temperature}, theta {self.theta[bad].tolist()}); no step was taken"
            )
        sizes = [len(variable.choices) for variable in self.space.variables]
        return m, [gate[..., :size] for gate, size in zip(m.unbind(-2), sizes)]

    def _runs_one_path(self) -> bool:
        return self.single_path and not self.theta.requires_grad

    @contextlib.contextmanager
    def _gated(self, gates: Sequence[Any]) -> Iterator[None]:
        """Sets each layer's gate while the inner model runs."""
        try:
            for block in self._blocks:
                block.gate = gates[self._layers[block.variable]]
            yield
        finally:
            for block in self._blocks:
                block.gate = None

    @contextlib.contextmanager
    def running(self, point: Sequence[int]) -> Iterator[None]:
        """Lets the inner model be one architecture.

        Args:
            point: choice index per layer.
        """
        with self._gated([int(choice) for choice in point]):
            yield

    def derived_state_dict(self, point: Sequence[int]) -> Dict[str, torch.Tensor]:
        """The inner model's weights for one architecture, under the names of the model built from its file.

        Args:
            point: choice index per layer.
        """
        kept = {}
        for name, module in self.inner.named_modules():
            if isinstance(module, MixedBlock):
                kept[name] = int(point[self._layers[module.variable]])
        state = {}
        for key, value in self.inner.state_dict().items():
            place = next((name for name in kept if key.startswith(f"{name}.candidates.")), None)
            if place is not None:
                number, rest = key[len(place) + len(".candidates.") :].split(".", 1)
                if int(number) != kept[place]:
                    continue
                key = f"{place}.{rest}"
            state[key] = value
        return state


def _layers_of(inner: nn.Module, space: SearchSpace) -> Dict[str, int]:
    """Row of theta of each variable.

    Raises:
        SearchError: a layer with a choice is nowhere in the model, so that nothing but its latency would choose it.
    """
    layers = {variable.name: number for number, variable in enumerate(space.variables)}
    built = {module.variable for module in inner.modules() if isinstance(module, MixedBlock)}
    lacking = [one.name for one in space.variables if len(one.choices) > 1 and one.name not in built]
    if lacking:
        raise SearchError(
            f"the model has no place for {', '.join(lacking)} of space {space.name}: its last feature "
            "(MODEL.FBNET.OUT_FEATURES, MODEL.FPN.IN_FEATURES) or its box head ends before; build those stages, or "
            "take a space without them"
        )
    return layers
