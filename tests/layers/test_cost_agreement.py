"""What a spec counts is what PyTorch counts on the module that is built from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fbnet_plugin.arch import ArchSpec, Cost, get_arch, list_archs, load_space, walk
from fbnet_plugin.arch.cost import Shape
from fbnet_plugin.layers import build_blocks

RANDOM = 200  # networks of each space


class _PoolCounter:
    """Input elements of the modules' global average pools: means over height and width of whole maps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.elements = 0
        mean = torch.Tensor.mean

        def counted(x: torch.Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
            if dim == (2, 3):
                self.elements += x.numel()
            return mean(x, dim, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, "mean", counted)


class _Network(nn.Module):
    """Stages and head of a spec, with the global average pool and linear layer of a classifier."""

    def __init__(self, spec: ArchSpec):
        super().__init__()
        rows = [block for stage in spec.stages for block in stage.blocks]
        rows += spec.head.blocks if spec.head else ()
        self.blocks = nn.Sequential(*build_blocks(rows, spec.in_channels))
        self.fc = nn.Linear(rows[-1].out, spec.head.num_classes) if spec.head else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(x)
        return x if self.fc is None else self.fc(x.mean((2, 3)))


def bare(module: nn.Module) -> nn.Module:
    """``module`` without norms and activations: they have no MACs, and cost the counter most of its time."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) or type(child).__module__ == "torch.nn.modules.activation":
                setattr(parent, name, nn.Identity())
    return module


def measure(
    module: nn.Module, shape: tuple[int, int, int], pools: _PoolCounter, strip: bool = True
) -> tuple[Cost, tuple[int, ...]]:
    """Cost and output shape of one image of ``shape`` (channels, height, width); nothing is computed."""
    weights = [part.weight.numel() for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    params = sum(parameter.numel() for parameter in module.parameters())
    pools.elements = 0
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        out = (bare(module) if strip else module).eval()(torch.empty((1, *shape), device="meta"))
    return Cost(params, sum(weights), counter.get_total_flops() // 2, pools.elements), tuple(out.shape[1:])


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> _PoolCounter:
    return _PoolCounter(monkeypatch)


@pytest.mark.parametrize("name", list_archs())
def test_zoo_counts_as_torch_does(name: str, pools: _PoolCounter) -> None:
    spec = get_arch(name)
    with torch.device("meta"):
        network = _Network(spec)
    whole = name in ("fbnet_a", "fbnet_v3_a0")  # as they are, to see that norms and activations do not count
    cost, _ = measure(network, (spec.in_channels, spec.resolution, spec.resolution), pools, strip=not whole)
    assert cost == spec.cost()


@pytest.mark.parametrize("name", list_archs())
def test_every_block_counts_as_torch_does(name: str, pools: _PoolCounter) -> None:
    """On an image that is not square, so that height and width cannot be mixed up."""
    spec = get_arch(name)
    layers = list(spec.layers((spec.resolution, spec.resolution // 2 + 32)))
    layers += walk(spec.box_head, Shape(spec.stages[-2].out, 14, 12), "box_head")
    seen = set()
    for layer in layers:
        if (layer.block, layer.input) in seen:
            continue
        seen.add((layer.block, layer.input))
        with torch.device("meta"):
            (module,) = build_blocks([layer.block], layer.input.channels)
        assert measure(module, layer.input, pools) == (layer.cost, layer.output)


@pytest.mark.parametrize("space_name", ["fbnet", "fbnet_v3"])
def test_random_networks_count_as_torch_does(space_name: str, pools: _PoolCounter) -> None:
    """Block by block, each distinct block once: a network's count is the sum over its blocks."""
    space = load_space(space_name)
    measured: dict[Any, Any] = {}
    for point in space.sample(RANDOM, np.random.default_rng(7)):
        spec = space.arch(point)
        total = spec.head_cost()
        for layer in spec.layers():
            key = (layer.block, layer.input)
            if key not in measured:
                with torch.device("meta"):
                    (module,) = build_blocks([layer.block], layer.input.channels)
                measured[key] = measure(module, layer.input, pools)
            cost, output = measured[key]
            assert output == layer.output
            total += cost
        assert total == spec.cost()
    assert len(measured) > 100
