"""Panoptic FPN: fbnet_mask_fpn.py with Detectron2's semantic head on p2 to p5."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import PanopticFPN
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from .fbnet_mask_fpn import model

model._target_ = PanopticFPN
model.sem_seg_head = L(SemSegFPNHead)(
    input_shape={
        name: L(ShapeSpec)(channels="${....backbone.out_channels}", stride=stride)
        for name, stride in (("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32))
    },
    num_classes=54,
    conv_dims=128,
    common_stride=4,
    loss_weight=0.5,
    norm="GN",
    ignore_value=255,
)
model.combine_overlap_thresh = 0.5
model.combine_stuff_area_thresh = 4096.0
model.combine_instances_score_thresh = 0.5
