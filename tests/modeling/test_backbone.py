"""Backbones from configs: features, norms, freezing, stochastic depth, padding, width."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.modeling import build_backbone
from torch import nn

from fbnet_plugin.arch import ArchError, get_arch, save_arch, scale_width
from fbnet_plugin.layers import ConvNormAct, InvertedResidual
from fbnet_plugin.modeling import FBNetBackbone
from fbnet_plugin.modeling.arch import SyncBatchNormOnCPU

ALL = [f"trunk{i}" for i in range(5)]
BODIES = {"build_fbnet_backbone": ALL, "build_fbnet_fpn_backbone": ALL[1:], "build_fbnet_retinanet_backbone": ALL[2:]}
FEATURES = {
    "build_fbnet_backbone": dict(zip(ALL, (2, 4, 8, 16, 32))),
    "build_fbnet_fpn_backbone": {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64},
    "build_fbnet_retinanet_backbone": {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128},
}


def modules_of(model: nn.Module, kind: type) -> list[nn.Module]:
    return [part for part in model.modules() if type(part) is kind]


@pytest.mark.parametrize("builder", FEATURES)
def test_features_are_what_output_shape_says(builder, make_cfg):
    body = BODIES[builder]
    opts = ["MODEL.FBNET.OUT_FEATURES", body, "MODEL.FPN.IN_FEATURES", body, "MODEL.FPN.OUT_CHANNELS", 16]
    backbone = build_backbone(make_cfg("MODEL.BACKBONE.NAME", builder, *opts))
    shapes = backbone.output_shape()
    assert {name: shape.stride for name, shape in shapes.items()} == FEATURES[builder]
    outputs = backbone(torch.randn(1, 3, 96, 128))
    assert set(outputs) == set(shapes)
    for name, shape in shapes.items():
        size = (math.ceil(96 / shape.stride), math.ceil(128 / shape.stride))
        assert tuple(outputs[name].shape) == (1, shape.channels, *size)
    assert backbone.size_divisibility == (0 if builder == "build_fbnet_backbone" else 32)


class TestNorm:
    @pytest.mark.parametrize(
        "name, kind",
        [
            ("BN", nn.BatchNorm2d),
            ("SyncBN", SyncBatchNormOnCPU),
            ("FrozenBN", FrozenBatchNorm2d),
            ("GN", nn.GroupNorm),
            ("", type(None)),
        ],
    )
    @pytest.mark.parametrize("arch", ["fbnet_v3_a", "fbnet_a", "fbnet_v3_a_det"])
    def test_trains(self, name, kind, arch, make_cfg):
        backbone = build_backbone(make_cfg("MODEL.FBNET.NORM", name, "MODEL.FBNET.ARCH", arch))
        found = {type(part.norm) for part in backbone.modules() if isinstance(part, ConvNormAct)}
        assert found - {type(None)} == {kind} - {type(None)}  # squeeze-and-excite has no norm
        output = backbone(torch.randn(2, 3, 64, 64))["trunk4"]
        output.square().mean().backward()
        assert output.isfinite().all() and output.std() > 0
        grads = [parameter.grad for parameter in backbone.parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in grads)

    def test_the_pyramid_of_a_cpu_has_a_norm_that_runs_there(self, make_cfg):
        opts = ["MODEL.BACKBONE.NAME", "build_fbnet_fpn_backbone", "MODEL.FPN.IN_FEATURES", ALL[1:]]
        backbone = build_backbone(make_cfg(*opts, "MODEL.FPN.NORM", "SyncBN"))
        assert isinstance(backbone.fpn_lateral2.norm, NaiveSyncBatchNorm)

    def test_group_norm_divides_every_width(self, make_cfg):
        backbone = build_backbone(make_cfg("MODEL.FBNET.NORM", "GN", width=1.0))
        groups = {norm.num_channels: norm.num_groups for norm in modules_of(backbone, nn.GroupNorm)}
        assert groups[16] == 16 and groups[24] == 8 and groups[72] == 8 and groups[224] == 32

    def test_unknown(self, make_cfg):
        with pytest.raises(ArchError, match="MODEL.FBNET.NORM: got 'BatchNorm', expected BN, SyncBN"):
            build_backbone(make_cfg("MODEL.FBNET.NORM", "BatchNorm"))


class TestOutFeatures:
    def test_default_is_the_last(self, make_cfg):
        assert list(build_backbone(make_cfg()).output_shape()) == ["trunk4"]

    def test_order_is_that_of_the_stages_and_later_ones_are_not_built(self, make_cfg):
        backbone = build_backbone(make_cfg("MODEL.FBNET.OUT_FEATURES", ["trunk3", "trunk1"]))
        assert list(backbone.output_shape()) == ["trunk1", "trunk3"]
        assert len(backbone.stages) == 4
        assert list(backbone(torch.randn(1, 3, 32, 32))) == ["trunk1", "trunk3"]

    @pytest.mark.parametrize("feature", ["trunk5", "res4", "p3"])
    def test_unknown(self, feature, make_cfg):
        with pytest.raises(ArchError, match=f"got '{feature}', expected some of trunk0, .*trunk4"):
            build_backbone(make_cfg("MODEL.FBNET.OUT_FEATURES", [feature]))

    @pytest.mark.parametrize("builder", ["build_fbnet_fpn_backbone", "build_fbnet_retinanet_backbone"])
    def test_a_pyramid_needs_some(self, builder, make_cfg):
        with pytest.raises(ArchError, match="MODEL.FPN.IN_FEATURES: is empty"):
            build_backbone(make_cfg("MODEL.BACKBONE.NAME", builder))


class TestFreeze:
    def test_parameters_and_statistics_of_the_first_stages_stay(self, make_cfg):
        backbone = build_backbone(make_cfg("MODEL.FBNET.FREEZE_AT", 2)).train()
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        backbone(torch.randn(2, 3, 64, 64))["trunk4"].square().sum().backward()
        torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1).step()
        changed = [name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])]
        assert {name.split(".")[1] for name in changed} == {"2", "3", "4"}
        assert not modules_of(backbone.stages[1], nn.BatchNorm2d) and modules_of(backbone.stages[2], nn.BatchNorm2d)

    def test_zero_trains_everything(self, make_cfg):
        assert all(parameter.requires_grad for parameter in build_backbone(make_cfg()).parameters())

    @pytest.mark.parametrize("freeze_at", [-1, 6])
    def test_out_of_range(self, freeze_at, make_cfg):
        with pytest.raises(ArchError, match=f"MODEL.FBNET.FREEZE_AT: got {freeze_at}, expected 0 to 5"):
            build_backbone(make_cfg("MODEL.FBNET.FREEZE_AT", freeze_at))


class TestDropPath:
    def test_grows_linearly_to_the_last_block(self):
        arch = get_arch("fbnet_v3_a")
        backbone = FBNetBackbone(arch, drop_path=0.3)
        blocks = [block for stage in backbone.stages for block in stage]
        for index, block in enumerate(blocks):
            expected = 0.3 * index / (len(blocks) - 1)
            if isinstance(block, InvertedResidual) and block.residual and index:
                assert block.drop_path.p == pytest.approx(expected)

    def test_does_not_depend_on_how_many_stages_are_built(self):
        arch = get_arch("fbnet_v3_a")
        whole = FBNetBackbone(arch, drop_path=0.3).stages[3][-1].drop_path.p
        assert FBNetBackbone(arch, drop_path=0.3, out_features=["trunk3"]).stages[3][-1].drop_path.p == whole

    def test_is_off_in_evaluation(self, make_cfg):
        backbone = build_backbone(make_cfg("MODEL.FBNET.DROP_PATH", 0.5, "MODEL.FBNET.ARCH", "fbnet_a"))
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            one, two = (backbone(x)["trunk4"] for _ in range(2))
            assert not torch.equal(one, two)
            backbone.eval()
            assert torch.equal(backbone(x)["trunk4"], backbone(x)["trunk4"])

    @pytest.mark.parametrize("probability", [-0.1, 1.0])
    def test_out_of_range(self, probability, make_cfg):
        with pytest.raises(ArchError, match="MODEL.FBNET.DROP_PATH: got"):
            build_backbone(make_cfg("MODEL.FBNET.DROP_PATH", probability))


@pytest.mark.parametrize("padding, sides", [("published", [112, 56, 28, 13, 6]), ("same", [112, 56, 28, 14, 7])])
def test_padding(padding, sides, make_cfg):
    """FBNetV3-A at 224 px: two depthwise convs with less padding make the last maps smaller than the strides say."""
    backbone = build_backbone(make_cfg("MODEL.FBNET.PADDING", padding, "MODEL.FBNET.OUT_FEATURES", ALL))
    with torch.no_grad():
        outputs = backbone.eval()(torch.zeros(1, 3, 224, 224))
    assert [outputs[name].shape[-1] for name in ALL] == sides


def test_bad_padding(make_cfg):
    with pytest.raises(ArchError, match="padding: got 'valid', expected published or same"):
        build_backbone(make_cfg("MODEL.FBNET.PADDING", "valid"))


@pytest.mark.parametrize("width", [0.5, 1.0, 1.25])
def test_width(width, make_cfg):
    backbone = build_backbone(make_cfg("MODEL.FBNET.OUT_FEATURES", ALL, width=width))
    expected = [stage.out for stage in scale_width(get_arch("fbnet_v3_a"), width).stages]
    assert [shape.channels for shape in backbone.output_shape().values()] == expected
    assert expected == {0.5: [8, 16, 24, 64, 112], 1.0: [16, 24, 40, 120, 224], 1.25: [24, 32, 48, 152, 280]}[width]


def test_an_architecture_file(make_cfg, tmp_path):
    path = str(tmp_path / "mine.yaml")
    save_arch(scale_width(get_arch("fbnet_a"), 0.5), path)
    backbone = build_backbone(make_cfg("MODEL.FBNET.ARCH", path, width=1.0))
    assert backbone(torch.zeros(1, 3, 64, 64))["trunk4"].shape == (1, 176, 2, 2)


def test_unknown_architecture(make_cfg):
    with pytest.raises(ArchError, match="unknown architecture 'fbnet_v3_z': did you mean fbnet_v3_"):
        build_backbone(make_cfg("MODEL.FBNET.ARCH", "fbnet_v3_z"))


def test_wrong_number_of_image_channels(make_cfg):
    with pytest.raises(ArchError, match="takes 3 image channels, the input has 1"):
        build_backbone(make_cfg(), ShapeSpec(channels=1))
    with pytest.raises(AssertionError, match=r"\(N, C, H, W\). Got \(3, 32, 32\)"):
        build_backbone(make_cfg())(torch.zeros(3, 32, 32))


def test_channels_last_gives_the_same(make_cfg):
    """fbnet_a has channel shuffles, fbnet_v3_a squeeze-and-excite."""
    for arch in ("fbnet_a", "fbnet_v3_a"):
        backbone = build_backbone(make_cfg("MODEL.FBNET.ARCH", arch)).eval().double()
        x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
        with torch.no_grad():
            expected = backbone(x)["trunk4"]
            actual = backbone.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))["trunk4"]
        torch.testing.assert_close(actual, expected)
