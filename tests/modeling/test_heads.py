"""The RPN head and the per-RoI head."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator.rpn import build_rpn_head
from detectron2.modeling.roi_heads.box_head import build_box_head
from torch import nn

from fbnet_plugin.arch import InvertedResidualSpec, SkipSpec, StageSpec, get_arch, save_arch
from fbnet_plugin.layers import InvertedResidual

RPN = ["MODEL.RPN.HEAD_NAME", "FBNetRPNHead", "MODEL.RPN.IN_FEATURES", ["trunk3"]]
BOX = ["MODEL.ROI_BOX_HEAD.NAME", "FBNetRoIBoxHead", "MODEL.ROI_HEADS.IN_FEATURES", ["trunk3"]]


def rpn_head(cfg, channels, levels=1):
    return build_rpn_head(cfg, [ShapeSpec(channels=channels, stride=16 << level) for level in range(levels)])


class TestRPNHead:
    def test_repeats_the_last_row_of_the_stage(self, make_cfg):
        head = rpn_head(make_cfg(*RPN, "MODEL.FBNET.ARCH", "fbnet_v3_e_det", width=1.0), 128)
        assert len(head.blocks) == 7
        assert all(isinstance(block, InvertedResidual) and block.residual for block in head.blocks)

    def test_outputs(self, make_cfg):
        head = rpn_head(make_cfg(*RPN, "MODEL.FBNET.RPN_REPEAT", 2), 32)
        assert len(head.blocks) == 2
        (objectness,), (deltas,) = head([torch.randn(2, 32, 5, 7)])
        assert objectness.shape == (2, 15, 5, 7) and deltas.shape == (2, 60, 5, 7)

    def test_one_tower_for_all_levels_of_a_pyramid(self, make_cfg):
        levels = ["MODEL.RPN.IN_FEATURES", ["p3", "p4"], "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64]]]
        opts = ["MODEL.FBNET.RPN_REPEAT", 1, "MODEL.FBNET.ARCH", "fbnet_v3_g_det"]
        cfg = make_cfg(*RPN, *levels, *opts, width=1.0)
        head = rpn_head(cfg, 128, levels=2).eval()
        assert head.blocks[0].project.conv.out_channels == 160  # the last row at stride 16: k5, expansion 3, 160
        levels = [torch.randn(1, 128, 8, 8), torch.randn(1, 128, 4, 4)]
        objectness, deltas = head(levels)
        assert [tuple(x.shape[1:]) for x in objectness + deltas] == [(3, 8, 8), (3, 4, 4), (12, 8, 8), (12, 4, 4)]
        torch.testing.assert_close(objectness[1], head(levels[1:])[0][0])

    def test_levels_must_agree(self, make_cfg):
        shapes = [ShapeSpec(channels=channels, stride=16) for channels in (32, 64)]
        with pytest.raises(AssertionError, match="levels of equal channels"):
            build_rpn_head(make_cfg(*RPN), shapes)
        uneven = make_cfg(*RPN, "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64, 128]])
        with pytest.raises(AssertionError, match="equal numbers of anchors"):
            rpn_head(uneven, 32, levels=2)

    def test_looks_at_the_row_before_a_trailing_skip(self, make_cfg):
        """FBNet-96-0.35-1 ends its stride-16 stage with skips, which would make an RPN without any layer."""
        head = rpn_head(make_cfg(*RPN, "MODEL.FBNET.ARCH", "fbnet_96_035_1", width=1.0), 40)
        assert [type(block) for block in head.blocks] == [InvertedResidual]

    def test_a_stage_of_skips_alone_gives_a_skip(self, make_cfg, tmp_path):
        arch = get_arch("fbnet_a")
        stages = [*arch.stages[:3], StageSpec((SkipSpec(112, stride=2),)), *arch.stages[4:]]
        save_arch(dataclasses.replace(arch, stages=tuple(stages)), str(tmp_path / "skips.yaml"))
        head = rpn_head(make_cfg(*RPN, "MODEL.FBNET.ARCH", str(tmp_path / "skips.yaml"), width=1.0), 112)
        assert head([torch.randn(1, 112, 4, 4)])[0][0].shape == (1, 15, 4, 4)

    def test_keeps_the_map_whatever_the_padding_of_the_row(self, make_cfg, tmp_path):
        arch = get_arch("fbnet_v3_a")
        short = StageSpec((InvertedResidualSpec(120, kernel=5, expansion=3, stride=2, pad=0),))
        arch = dataclasses.replace(arch, stages=(*arch.stages[:3], short, *arch.stages[4:]))
        save_arch(arch, str(tmp_path / "pad.yaml"))
        opts = ["MODEL.FBNET.ARCH", str(tmp_path / "pad.yaml"), "MODEL.FBNET.PADDING", "published"]
        head = rpn_head(make_cfg(*RPN, *opts, width=1.0), 120)
        assert head([torch.randn(2, 120, 6, 6)])[0][0].shape[-2:] == (6, 6)


class TestBoxHead:
    @pytest.mark.parametrize(
        "arch, channels, out", [("fbnet_v3_a_det", 112, 200), ("fbnet_v3_e_det", 128, 240), ("fbnet_c", 112, 352)]
    )
    def test_is_the_last_stage_and_the_mean(self, arch, channels, out, make_cfg):
        head = build_box_head(make_cfg(*BOX, "MODEL.FBNET.ARCH", arch, width=1.0), ShapeSpec(channels=channels)).eval()
        assert head.output_shape.channels == out
        x = torch.randn(3, channels, 6, 6)
        maps = head.blocks(x)
        assert maps.shape == (3, out, 3, 3)
        torch.testing.assert_close(head(x), maps.flatten(2).mean(2))

    def test_an_architecture_s_own_head_goes_first(self, make_cfg):
        cfg = make_cfg(*BOX, "MODEL.FBNET.ARCH", "fbnet_v3_a_dsmask_det", width=1.0)
        arch = get_arch("fbnet_v3_a_dsmask_det")
        head = build_box_head(cfg, ShapeSpec(channels=arch.stages[3].out))
        assert head.output_shape.channels == arch.box_head[-1].out == 160

    def test_all_stages_behind_the_feature(self, make_cfg):
        head = build_box_head(make_cfg(*BOX[:3], ["trunk2"], width=1.0), ShapeSpec(channels=40))
        arch = get_arch("fbnet_v3_a")
        assert len(head.blocks) == sum(row.repeat for stage in arch.stages[3:] for row in stage.blocks)

    def test_on_a_pyramid_it_is_the_last_stage(self, make_cfg):
        head = build_box_head(make_cfg(*BOX[:3], ["p3", "p4"], width=1.0), ShapeSpec(channels=128))
        assert len(head.blocks) == 7 and head(torch.randn(2, 128, 6, 6)).shape == (2, 224)

    @pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN", "GN", ""])
    def test_no_regions_give_no_vectors(self, norm, make_cfg):
        cfg = make_cfg(*BOX, "MODEL.FBNET.NORM", norm)
        head = build_box_head(cfg, ShapeSpec(channels=32)).eval()
        out = head(torch.zeros(0, 32, 6, 6))
        assert out.shape == (0, head.output_shape.channels)

    def test_regions_do_not_influence_each_other_in_evaluation(self, make_cfg):
        head = build_box_head(make_cfg(*BOX), ShapeSpec(channels=32)).eval()
        for part in head.modules():  # as after training
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
        x = torch.randn(4, 32, 6, 6)
        torch.testing.assert_close(head(x)[1:2], head(x[1:2]), rtol=1e-4, atol=1e-5)
