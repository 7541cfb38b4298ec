"""Faster R-CNN with a feature pyramid of 128 channels on an FBNet: RPN on p2 to p6, the box head on p3 to p6."""

from detectron2.config import LazyCall as L
from detectron2.modeling import FPN, GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads

from fbnet_plugin.modeling import FBNetBackbone, FBNetRoIBoxHead, FBNetRPNHead
from fbnet_plugin.modeling.arch import box_head_rows, build_arch, norm_maker, norm_name
from fbnet_plugin.modeling.box_head import box_head_shape
from fbnet_plugin.modeling.rpn import rpn_rows

from ..data.constants import constants

model = L(GeneralizedRCNN)(
    backbone=L(FPN)(
        bottom_up=L(FBNetBackbone)(
            arch=L(build_arch)(name="fbnet_v3_a_det", width_mult=1.0, padding="same"),
            out_features="${..in_features}",
            norm=L(norm_maker)(name="SyncBN", device="${train.device}"),
            drop_path=0.0,
            freeze_at=0,
        ),
        in_features=["trunk1", "trunk2", "trunk3", "trunk4"],
        out_channels=128,
        norm=L(norm_name)(name="SyncBN", device="${train.device}"),
        top_block=L(LastLevelMaxPool)(),
        fuse_type="sum",
    ),
    proposal_generator=L(RPN)(
        in_features=["p2", "p3", "p4", "p5", "p6"],
        head=L(FBNetRPNHead)(
            rows=L(rpn_rows)(arch="${....backbone.bottom_up.arch}", feature="p2", repeat=1),
            in_channels="${...backbone.out_channels}",
            num_anchors=3,
            norm="${...backbone.bottom_up.norm}",
        ),
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[[0.5, 1.0, 2.0]],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=L(Matcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=[2000, 1000],
        post_nms_topk=[1000, 1000],
        nms_thresh=0.7,
    ),
    roi_heads=L(StandardROIHeads)(
        num_classes=80,
        batch_size_per_image=512,
        positive_fraction=0.25,
        proposal_matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
        box_in_features=["p3", "p4", "p5", "p6"],
        box_pooler=L(ROIPooler)(
            output_size=6,
            scales=[1.0 / 8, 1.0 / 16, 1.0 / 32, 1.0 / 64],
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        ),
        box_head=L(FBNetRoIBoxHead)(
            rows=L(box_head_rows)(arch="${....backbone.bottom_up.arch}", feature="p3"),
            in_channels="${...backbone.out_channels}",
            norm="${...backbone.bottom_up.norm}",
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=L(box_head_shape)(rows="${...box_head.rows}"),
            box2box_transform=L(Box2BoxTransform)(weights=[10.0, 10.0, 5.0, 5.0]),
            num_classes="${..num_classes}",
            test_score_thresh=0.05,
            test_nms_thresh=0.5,
            test_topk_per_image=100,
            loss_weight=dict(loss_box_reg=1.0),
        ),
    ),
    pixel_mean=constants.mean,
    pixel_std=constants.std,
    input_format="RGB",
)
