"""Each block against its formula, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from fbnet_plugin.arch import ConvSpec, FusedSpec, InvertedResidualSpec, PoolSpec, SESpec, SkipSpec
from fbnet_plugin.layers import ConvNormAct, FusedBlock, InvertedResidual, PoolBlock, Skip, SqueezeExcite, build_blocks
from fbnet_plugin.layers.blocks import channel_shuffle
from fbnet_plugin.layers.conv import ACTIVATIONS, GATES


def image(channels: int = 8, size: int = 6, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, size, size)


def norms_of(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def convs_of(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_channel_shuffle_is_torch_s(groups: int) -> None:
    x = image(12)
    assert torch.equal(channel_shuffle(x, groups), nn.ChannelShuffle(groups)(x))
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(channel_shuffle(last, groups), nn.ChannelShuffle(groups)(x))


@pytest.mark.parametrize(
    "table, name, formula",
    [
        (ACTIVATIONS, "relu", lambda x: max(x, 0)),
        (ACTIVATIONS, "relu6", lambda x: min(max(x, 0), 6)),
        (ACTIVATIONS, "hswish", lambda x: x * min(max(x + 3, 0), 6) / 6),
        (ACTIVATIONS, "swish", lambda x: x / (1 + math.exp(-x))),
        (GATES, "sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        (GATES, "hsigmoid", lambda x: min(max(x + 3, 0), 6) / 6),
    ],
)
def test_activations(table: dict, name: str, formula: object) -> None:
    values = [-4.0, -2.0, -0.5, 0.0, 1.0, 2.5, 7.0]
    torch.testing.assert_close(table[name]()(torch.tensor(values)), torch.tensor([float(formula(x)) for x in values]))


class TestConvNormAct:
    def test_order(self) -> None:
        block, x = ConvNormAct(8, 4, 3, act="relu"), image()
        nn.init.constant_(block.norm.bias, -0.5)
        torch.testing.assert_close(block(x), F.relu(block.norm(F.conv2d(x, block.conv.weight, padding=1))))

    @pytest.mark.parametrize("bias, norm, has", [(False, nn.BatchNorm2d, False), (True, nn.BatchNorm2d, True)])
    def test_bias_beside_a_norm_is_as_asked(self, bias: bool, norm: object, has: bool) -> None:
        assert (ConvNormAct(4, 4, bias=bias, norm=norm).conv.bias is not None) == has

    def test_bias_where_the_norm_is_switched_off(self) -> None:
        assert ConvNormAct(4, 4, norm=lambda channels: None).conv.bias is not None
        assert ConvNormAct(4, 4, norm=None).conv.bias is None  # no norm by design: the spec decides

    @pytest.mark.parametrize("groups, fan_out", [(1, 64 * 9), (64, 9)])
    def test_weights_keep_the_variance_of_one_group(self, groups: int, fan_out: int) -> None:
        weight = ConvNormAct(64, 64, 3, groups=groups).conv.weight
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.08)


class TestSqueezeExcite:
    @pytest.mark.parametrize("gate, formula", [("sigmoid", torch.sigmoid), ("hsigmoid", lambda x: F.relu6(x + 3) / 6)])
    def test_formula(self, gate: str, formula: object) -> None:
        module, x = SqueezeExcite(8, 3, "relu", gate), image(8)
        mean = x.flatten(2).mean(2)  # (N, C)
        hidden = F.relu(mean @ module.reduce.conv.weight[:, :, 0, 0].T + module.reduce.conv.bias)
        scale = formula(hidden @ module.expand.weight[:, :, 0, 0].T + module.expand.bias)
        torch.testing.assert_close(module(x), x * scale[:, :, None, None])

    @pytest.mark.parametrize("width, hidden", [("expanded", 48), ("input", 16)])
    def test_hidden_channels(self, width: str, hidden: int) -> None:
        """A quarter of the 192 expanded channels, or of the 64 input channels."""
        spec = InvertedResidualSpec(64, expansion=3, se=SESpec(width=width))
        block = InvertedResidual(spec, 64)
        assert block.se.reduce.conv.out_channels == hidden

    def test_inner_activation_is_the_block_s(self) -> None:
        block = InvertedResidual(InvertedResidualSpec(16, act="hswish", se=SESpec()), 16)
        assert isinstance(block.se.reduce.act, nn.Hardswish)


class TestInvertedResidual:
    def test_order_of_operations(self) -> None:
        spec = InvertedResidualSpec(8, kernel=5, expansion=2, groups=2, act="hswish", se=SESpec(gate="sigmoid"))
        block, x = InvertedResidual(spec, 8).eval(), image()
        y = F.hardswish(block.expand.norm(F.conv2d(x, block.expand.conv.weight, groups=2)))
        y = nn.ChannelShuffle(2)(y)
        y = F.hardswish(block.depthwise.norm(F.conv2d(y, block.depthwise.conv.weight, padding=2, groups=16)))
        y = block.se(y)
        y = block.project.norm(F.conv2d(y, block.project.conv.weight, groups=2))
        torch.testing.assert_close(block(x), x + y)

    def test_groups_of_the_convs(self) -> None:
        block = InvertedResidual(InvertedResidualSpec(16, expansion=4, groups=2), 16)
        assert [conv.groups for conv in convs_of(block)] == [2, 64, 2]
        wide = InvertedResidual(InvertedResidualSpec(16, expansion=4, dw_group_width=8), 16)
        assert [conv.groups for conv in convs_of(wide)] == [1, 8, 1]

    def test_cascade_is_one_depthwise_conv_after_another(self) -> None:
        block = InvertedResidual(InvertedResidualSpec(8, expansion=2, stride=2, cascade=2), 8).eval()
        x = block.expand(image(size=8))
        y = F.relu(block.depthwise[0].norm(F.conv2d(x, block.depthwise[0].conv.weight, stride=2, padding=1, groups=16)))
        y = F.relu(block.depthwise[1].norm(F.conv2d(y, block.depthwise[1].conv.weight, padding=1, groups=16)))
        torch.testing.assert_close(block.depthwise(x), y)
        assert y.shape[-1] == 4

    @pytest.mark.parametrize("always", [False, True])
    def test_the_expansion_conv_of_expansion_one(self, always: bool) -> None:
        block = InvertedResidual(InvertedResidualSpec(8, expansion=1, expand_always=always), 8)
        assert (block.expand is not None) == always

    def test_depthwise_without_norm_and_activation(self) -> None:
        block = InvertedResidual(InvertedResidualSpec(8, expansion=2, dw_norm_act=False), 8)
        assert block.depthwise.norm is None and block.depthwise.act is None and block.depthwise.conv.bias is None

    @pytest.mark.parametrize(
        "spec, c_in, residual",
        [
            (InvertedResidualSpec(8), 8, True),
            (InvertedResidualSpec(8, stride=2), 8, False),
            (InvertedResidualSpec(16), 8, False),
            (InvertedResidualSpec(8, kernel=5, pad=1), 8, False),
            (InvertedResidualSpec(8, kernel=5, pad=2), 8, True),
        ],
    )
    def test_residual_only_where_the_shape_stays(self, spec: InvertedResidualSpec, c_in: int, residual: bool) -> None:
        block, x = InvertedResidual(spec, c_in).eval(), image(c_in)
        torch.testing.assert_close(block(x), block.branch(x) + x if residual else block.branch(x))

    def test_zero_init_makes_the_block_an_identity(self) -> None:
        block, x = InvertedResidual(InvertedResidualSpec(8, expansion=2, zero_init=True), 8), image()
        assert torch.equal(block(x), x) and torch.equal(block.eval()(x), x)
        other = InvertedResidual(InvertedResidualSpec(16, expansion=2, zero_init=True), 8)  # no residual
        assert all(norm.weight.eq(1).all() for norm in norms_of(other))

    def test_zero_init_leaves_a_frozen_norm_alone(self) -> None:
        """Its scale is not learned, so the branch would stay off."""
        block = InvertedResidual(InvertedResidualSpec(8, zero_init=True), 8, norm=FrozenBatchNorm2d)
        assert block.project.norm.weight.eq(1).all()

    def test_without_norm(self) -> None:
        block = InvertedResidual(InvertedResidualSpec(8, zero_init=True), 8, norm=lambda channels: None)
        assert not norms_of(block) and all(conv.bias is not None for conv in convs_of(block))


class TestDropPath:
    SPEC = InvertedResidualSpec(8, expansion=2)

    def test_drops_whole_images_and_keeps_the_mean(self) -> None:
        block = InvertedResidual(self.SPEC, 8, drop_path=0.25)
        x = image(batch=1).repeat(400, 1, 1, 1)
        for norm in norms_of(block):
            norm.eval()
        with torch.no_grad():
            added = block(x) - x
            branch = block.branch(x[:1])
        dropped = added.flatten(1).abs().amax(1) == 0
        torch.testing.assert_close(added[~dropped], (branch / 0.75).expand(int((~dropped).sum()), -1, -1, -1))
        assert 0.18 < dropped.float().mean().item() < 0.32  # 400 draws: 0.25 within 3 standard deviations

    def test_nothing_is_dropped_in_evaluation(self) -> None:
        block, x = InvertedResidual(self.SPEC, 8, drop_path=0.9).eval(), image()
        torch.testing.assert_close(block(x), x + block.branch(x))

    def test_only_residual_blocks_drop(self) -> None:
        blocks = build_blocks([InvertedResidualSpec(8), InvertedResidualSpec(8, stride=2)], 8, drop_paths=[0.5, 0.5])
        assert [block.drop_path is not None for block in blocks] == [True, False]


class TestSkip:
    def test_identity(self) -> None:
        x = image()
        assert Skip(SkipSpec(8), 8)(x) is x

    @pytest.mark.parametrize("spec", [SkipSpec(8, stride=2), SkipSpec(16)])
    def test_conv_norm_relu_where_the_shape_changes(self, spec: SkipSpec) -> None:
        skip, x = Skip(spec, 8).eval(), image()
        expected = F.relu(skip.conv.norm(F.conv2d(x, skip.conv.conv.weight, stride=spec.stride)))
        torch.testing.assert_close(skip(x), expected)
        assert skip.conv.conv.bias is None


class TestFused:
    def test_with_projection(self) -> None:
        block, x = FusedBlock(FusedSpec(8, expansion=4), 8).eval(), image()
        y = F.relu(block.conv.norm(F.conv2d(x, block.conv.conv.weight, padding=1)))
        y = block.project.norm(F.conv2d(y, block.project.conv.weight))
        torch.testing.assert_close(block(x), x + y)
        assert block.conv.conv.out_channels == 32

    def test_without_projection_the_dense_conv_gives_the_output(self) -> None:
        block, x = FusedBlock(FusedSpec(16, expansion=4, project=False), 8).eval(), image()
        torch.testing.assert_close(block(x), F.relu(block.conv.norm(F.conv2d(x, block.conv.conv.weight, padding=1))))

    @pytest.mark.parametrize("project", [True, False])
    def test_zero_init(self, project: bool) -> None:
        block, x = FusedBlock(FusedSpec(8, project=project, zero_init=True), 8), image()
        assert torch.equal(block(x), x)
        assert [norm.weight.any().item() for norm in norms_of(block)] == ([True, False] if project else [False])


def test_pool_block() -> None:
    block, x = PoolBlock(PoolSpec(24, expansion=6), 8).eval(), image()
    pooled = F.hardswish(block.expand.norm(F.conv2d(x, block.expand.conv.weight)))
    expected = F.hardswish(F.conv2d(pooled.mean((2, 3), keepdim=True), block.project.conv.weight))
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (2, 24, 1, 1) and block.project.norm is None and block.project.conv.bias is None


def test_rows_are_chained_and_only_the_first_copy_has_the_stride() -> None:
    blocks = build_blocks([ConvSpec(8, stride=2), InvertedResidualSpec(16, expansion=3, stride=2, repeat=3)], 3)
    assert [conv.in_channels for block in blocks for conv in convs_of(block)[:1]] == [3, 8, 16, 16]
    assert [block.residual for block in blocks[1:]] == [False, True, True]
    assert nn.Sequential(*blocks)(image(3, size=16)).shape == (2, 16, 4, 4)
