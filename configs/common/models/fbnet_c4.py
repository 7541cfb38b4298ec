"""Faster R-CNN C4 on an FBNet: RPN and pooling on trunk3, the last stages on each RoI."""

from detectron2.config import LazyCall as L
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads

from fbnet_plugin.modeling import FBNetBackbone, FBNetRoIBoxHead, FBNetRPNHead
from fbnet_plugin.modeling.arch import box_head_rows, build_arch, feature_channels, norm_maker
from fbnet_plugin.modeling.box_head import box_head_shape
from fbnet_plugin.modeling.rpn import rpn_rows

from ..data.constants import constants

model = L(GeneralizedRCNN)(
    backbone=L(FBNetBackbone)(
        arch=L(build_arch)(name="fbnet_v3_a_det", width_mult=1.0, padding="same"),
        out_features=["trunk3"],
        norm=L(norm_maker)(name="SyncBN", device="${train.device}"),
        drop_path=0.0,
        freeze_at=0,
    ),
    proposal_generator=L(RPN)(
        in_features=["trunk3"],
        head=L(FBNetRPNHead)(
            rows=L(rpn_rows)(arch="${....backbone.arch}", feature="trunk3", repeat=0),
            in_channels=L(feature_channels)(arch="${....backbone.arch}", feature="trunk3"),
            num_anchors=15,
            norm="${...backbone.norm}",
        ),
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=[[32, 64, 96, 128, 160]], aspect_ratios=[[0.5, 1.0, 2.0]], strides=[16], offset=0.0
        ),
        anchor_matcher=L(Matcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=[2000, 1000],
        post_nms_topk=[2000, 75],
        nms_thresh=0.7,
    ),
    roi_heads=L(StandardROIHeads)(
        num_classes=80,
        batch_size_per_image=512,
        positive_fraction=0.25,
        proposal_matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
        box_in_features=["trunk3"],
        box_pooler=L(ROIPooler)(output_size=6, scales=[1.0 / 16], sampling_ratio=0, pooler_type="ROIAlignV2"),
        box_head=L(FBNetRoIBoxHead)(
            rows=L(box_head_rows)(arch="${....backbone.arch}", feature="trunk3"),
            in_channels=L(feature_channels)(arch="${....backbone.arch}", feature="trunk3"),
            norm="${...backbone.norm}",
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
