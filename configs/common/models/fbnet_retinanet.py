"""RetinaNet on an FBNet, with a pyramid and a head of 128 channels on p3 to p7."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, RetinaNet
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead

from fbnet_plugin.modeling import FBNetBackbone
from fbnet_plugin.modeling.arch import build_arch, feature_channels, norm_maker, norm_name

from ..data.constants import constants

model = L(RetinaNet)(
    backbone=L(FPN)(
        bottom_up=L(FBNetBackbone)(
            arch=L(build_arch)(name="fbnet_v3_a_det", width_mult=1.0, padding="same"),
            out_features="${..in_features}",
            norm=L(norm_maker)(name="SyncBN", device="${train.device}"),
            drop_path=0.0,
            freeze_at=0,
        ),
        in_features=["trunk2", "trunk3", "trunk4"],
        out_channels=128,
        norm=L(norm_name)(name="SyncBN", device="${train.device}"),
        top_block=L(LastLevelP6P7)(
            in_channels=L(feature_channels)(arch="${...bottom_up.arch}", feature="trunk4"),
            out_channels="${..out_channels}",
            in_feature="trunk4",
        ),
        fuse_type="sum",
    ),
    head=L(RetinaNetHead)(
        input_shape=[
            L(ShapeSpec)(channels="${....backbone.out_channels}", stride=stride) for stride in (8, 16, 32, 64, 128)
        ],
        num_classes="${..num_classes}",
        num_anchors=9,
        conv_dims=[128, 128, 128, 128],
        norm="",
        prior_prob=0.01,
    ),
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[  # x, x * 2^(1/3), x * 2^(2/3) for x = 32, 64, 128, 256, 512
            [32, 40.3175, 50.7968],
            [64, 80.6349, 101.5937],
            [128, 161.2699, 203.1873],
            [256, 322.5398, 406.3747],
            [512, 645.0796, 812.7493],
        ],
        aspect_ratios=[[0.5, 1.0, 2.0]],
        strides=[8, 16, 32, 64, 128],
        offset=0.0,
    ),
    anchor_matcher=L(Matcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
    box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
    num_classes=80,
    focal_loss_alpha=0.25,
    focal_loss_gamma=2.0,
    smooth_l1_beta=0.0,
    test_score_thresh=0.05,
    test_topk_candidates=1000,
    test_nms_thresh=0.5,
    max_detections_per_image=100,
    pixel_mean=constants.mean,
    pixel_std=constants.std,
    input_format="RGB",
)
