"""A MixedBlock against the sum that it stands for, written out plainly."""

from __future__ import annotations

import copy
from typing import Callable, Dict, List, Tuple

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from fbnet_plugin.arch import BlockSpec, ConvSpec, FusedSpec, InvertedResidualSpec, PoolSpec, SESpec, SkipSpec
from fbnet_plugin.layers import MixedBlock, build_block

# FBNet's kinds of candidates, and the others that have a residual.
SAME = [
    InvertedResidualSpec(8, expansion=2, expand_always=True),
    InvertedResidualSpec(8, kernel=5, groups=2, expand_always=True),
    InvertedResidualSpec(8, expansion=3, se=SESpec(), act="hswish"),
    FusedSpec(8, expansion=2),
    FusedSpec(8, project=False, se=SESpec()),
    ConvSpec(8, act="relu"),
    SkipSpec(8),
]
STRIDED = [
    InvertedResidualSpec(12, kernel=5, expansion=2, stride=2),
    FusedSpec(12, expansion=2, stride=2),
    FusedSpec(12, project=False, stride=2),
    ConvSpec(12, kernel=3, stride=2),
    SkipSpec(12, stride=2),
]
POOLS = [PoolSpec(8, expansion=2), PoolSpec(8, expansion=3)]
KINDS = {"same": SAME, "strided": STRIDED, "pools": POOLS}


def mixed(specs: List[BlockSpec], dtype: torch.dtype = torch.float64, **kwargs: object) -> MixedBlock:
    """A block whose norms are not at their trivial starting point."""
    block = MixedBlock("layer", [build_block(spec, 8, **kwargs) for spec in specs]).to(dtype)
    for one in block.modules():
        if isinstance(one, nn.BatchNorm2d) and one.affine:
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.uniform_(one.bias, -0.5, 0.5)
    return block


def image(dtype: torch.dtype = torch.float64, size: int = 9, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 8, size, size, dtype=dtype, requires_grad=True)


def gates_of(block: MixedBlock, images: int = 0) -> torch.Tensor:
    shape = (images, len(block.candidates)) if images else (len(block.candidates),)
    return torch.randn(shape).softmax(-1).requires_grad_()


def plain_sum(block: MixedBlock, x: torch.Tensor) -> torch.Tensor:
    outputs = [candidate(x) for candidate in block.candidates]
    return sum(y * gate.to(y.dtype).reshape(-1, 1, 1, 1) for y, gate in zip(outputs, block.gate.unbind(-1)))


def results(
    forward: Callable[[MixedBlock, torch.Tensor], torch.Tensor], block: MixedBlock, x: torch.Tensor, gate: torch.Tensor
) -> Tuple[torch.Tensor, Dict[str, torch.Tensor], Dict[str, torch.Tensor]]:
    """(output, gradients, buffers) of one step of a copy of the block."""
    block, x, gate = copy.deepcopy(block), x.detach().requires_grad_(), gate.detach().requires_grad_()
    block.gate = gate
    torch.manual_seed(7)
    y = forward(block, x)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    (y * weights).sum().backward()
    gradients = {"x": x.grad, "gate": gate.grad, **{name: p.grad for name, p in block.named_parameters()}}
    return y.detach(), gradients, dict(block.named_buffers())


def call(block: MixedBlock, x: torch.Tensor) -> torch.Tensor:
    return block(x)


class TestEqualsThePlainSum:
    @pytest.mark.parametrize("checkpoint", [False, True])
    @pytest.mark.parametrize("images", [0, 3], ids=["shared", "per_image"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("training", [True, False])
    def test_output_gradients_and_statistics(self, kind: str, images: int, checkpoint: bool, training: bool) -> None:
        block, x = mixed(KINDS[kind]).train(training), image()
        gate = gates_of(block, images)
        expected = results(plain_sum, block, x, gate)
        block.checkpoint = checkpoint
        y, gradients, buffers = results(call, block, x, gate)
        torch.testing.assert_close(y, expected[0])
        torch.testing.assert_close(gradients, expected[1], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(buffers, expected[2], rtol=0, atol=0)
        assert any(name.endswith("num_batches_tracked") and int(b) == training for name, b in buffers.items())

    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_drop_path(self, checkpoint: bool) -> None:
        """The same images lose the same branches, in the recomputation too."""
        block, x = mixed(SAME, drop_path=0.5), image(batch=6)
        gate = gates_of(block)
        expected = results(plain_sum, block, x, gate)
        block.checkpoint = checkpoint
        y, gradients, _ = results(call, block, x, gate)
        torch.testing.assert_close(y, expected[0])
        torch.testing.assert_close(gradients, expected[1], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(
        "norm",
        [
            FrozenBatchNorm2d,
            lambda channels: None,
            lambda channels: nn.GroupNorm(2, channels),
            lambda channels: nn.BatchNorm2d(channels, affine=False),
            lambda channels: nn.BatchNorm2d(channels, momentum=None),
            lambda channels: nn.BatchNorm2d(channels, track_running_stats=False),
        ],
        ids=["frozen", "none", "group", "not affine", "mean over all batches", "no statistics"],
    )
    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_other_norms(self, norm: object, checkpoint: bool) -> None:
        block, x = mixed(SAME, norm=norm), image()
        gate = gates_of(block)

        def twice(forward: Callable) -> Callable:
            return lambda block, x: forward(block, x) + forward(block, 2 * x)

        expected = results(twice(plain_sum), block, x, gate)
        block.checkpoint = checkpoint
        y, gradients, buffers = results(twice(call), block, x, gate)
        torch.testing.assert_close(y, expected[0])
        torch.testing.assert_close(gradients, expected[1], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(buffers, expected[2])

    def test_weights_from_outside_the_simplex(self) -> None:
        block, x = mixed(STRIDED), image()
        gate = torch.tensor([1.5, -0.5, 0.0, 2.0, -1.0])
        expected = results(plain_sum, block, x, gate)
        y, gradients, _ = results(call, block, x, gate)
        torch.testing.assert_close(y, expected[0])
        torch.testing.assert_close(gradients, expected[1], rtol=1e-6, atol=1e-6)


class TestOneCandidate:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("training", [True, False])
    def test_one_hot_is_that_candidate_to_the_last_bit(self, kind: str, training: bool) -> None:
        block, x = mixed(KINDS[kind], torch.float32).train(training), image(torch.float32)
        for index in range(len(block.candidates)):
            alone = copy.deepcopy(block.candidates[index])(x)
            for gate in (torch.eye(len(block.candidates))[index], index):
                other = copy.deepcopy(block)
                other.gate = gate
                assert torch.equal(other(x), alone)
                other.checkpoint = True
                assert torch.equal(other(x), alone)

    def test_an_index_runs_nothing_else(self) -> None:
        block = mixed(SAME)
        block.gate = 1
        block(image()).sum().backward()
        ran = {name.split(".")[1] for name, p in block.named_parameters() if p.grad is not None}
        counted = {name.split(".")[1] for name, b in block.named_buffers() if name.endswith("tracked") and int(b)}
        assert ran == counted == {"1"}


class TestGradientsThatNobodyWants:
    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_theta_step(self, checkpoint: bool) -> None:
        """Frozen weights: no weight gradients, the gate's is the same, statistics move on once."""
        block, x = mixed(SAME), image()
        gate = gates_of(block)
        expected = results(plain_sum, block, x, gate)
        block.requires_grad_(False)
        block.checkpoint = checkpoint
        y, gradients, buffers = results(call, block, x, gate)
        torch.testing.assert_close(gradients["gate"], expected[1]["gate"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradients["x"], expected[1]["x"], rtol=1e-6, atol=1e-6)
        assert all(gradients[name] is None for name, _ in block.named_parameters())
        torch.testing.assert_close(buffers, expected[2], rtol=0, atol=0)

    def test_nothing_is_kept_for_a_frozen_convolution_of_an_image(self) -> None:
        """In the first layer of a theta step only the last norms and products need anything."""
        block = mixed([InvertedResidualSpec(8, expansion=6), SkipSpec(8)])
        block.requires_grad_(False)
        block.gate = gates_of(block)
        kept: List[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            block(image().detach())
        assert max(kept) <= 3 * 8 * 9 * 9  # nothing of the 48 expanded channels

    def test_no_graph_without_anything_to_learn(self) -> None:
        block = mixed(SAME).requires_grad_(False)
        block.gate = gates_of(block).detach()
        assert not block(image().detach()).requires_grad


class TestCheckpoint:
    @staticmethod
    def kept(checkpoint: bool) -> int:
        """Elements that autograd keeps, each tensor counted once."""
        block, x = mixed(SAME[:3]), image()
        block.checkpoint, block.gate = checkpoint, gates_of(block)
        kept: Dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            block(x)
        return sum(kept.values())

    def test_keeps_less(self) -> None:
        assert self.kept(True) < 0.2 * self.kept(False)

    def test_gate_may_be_taken_away_before_the_backward_pass(self) -> None:
        block, x = mixed(SAME), image()
        block.checkpoint, block.gate = True, gates_of(block)
        y = block(x)
        block.gate = None
        y.sum().backward()
        assert x.grad is not None

    def test_buffers_stay_the_same_tensors(self) -> None:
        block, x = mixed(SAME), image()
        block.checkpoint, block.gate = True, gates_of(block)
        before = [buffer.data_ptr() for buffer in block.buffers()]
        block(x).sum().backward()
        assert [buffer.data_ptr() for buffer in block.buffers()] == before


@pytest.mark.parametrize("checkpoint", [False, True])
def test_channels_last_is_kept(checkpoint: bool) -> None:
    block = mixed(SAME, torch.float32).to(memory_format=torch.channels_last)
    x = image(torch.float32).detach().contiguous(memory_format=torch.channels_last)
    gate = gates_of(block)
    formats: List[bool] = []
    for one in block.modules():
        if isinstance(one, nn.Conv2d):
            one.register_forward_pre_hook(
                lambda module, args: formats.append(args[0].is_contiguous(memory_format=torch.channels_last))
            )
    expected = results(plain_sum, block, x.contiguous(), gate)
    formats.clear()
    block.checkpoint = checkpoint
    y, gradients, _ = results(call, block, x, gate)
    assert all(formats) and y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients, expected[1], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("images", [0, 3], ids=["shared", "per_image"])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("kind", ["same", "strided"])
def test_autocast(kind: str, checkpoint: bool, images: int) -> None:
    block, x = mixed(KINDS[kind], torch.float32), image(torch.float32)
    gate = gates_of(block, images)

    def cast(forward: Callable) -> Callable:
        def run(block: MixedBlock, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return forward(block, x)

        return run

    expected = results(cast(plain_sum), block, x, gate)
    block.checkpoint = checkpoint
    y, gradients, _ = results(cast(call), block, x, gate)
    assert y.dtype == expected[0].dtype and gradients["gate"].dtype == torch.float32
    assert all(value is None or torch.isfinite(value).all() for value in gradients.values())
    torch.testing.assert_close(y, expected[0], rtol=0.05, atol=0.05)


class TestErrors:
    def test_no_gate(self) -> None:
        with pytest.raises(RuntimeError, match="gate of layer is not set"):
            mixed(SAME)(image())

    def test_gate_of_another_space(self) -> None:
        block = mixed(SAME)
        block.gate = torch.ones(3)
        with pytest.raises(ValueError, match=r"\(3,\), and there are 7 candidates"):
            block(image())
