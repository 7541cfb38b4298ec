"""Mask R-CNN: fbnet_fpn.py with Detectron2's mask head of 128 channels."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead

from .fbnet_fpn import model

model.roi_heads.update(
    mask_in_features=["p3", "p4", "p5", "p6"],
    mask_pooler=L(ROIPooler)(
        output_size=14,
        scales=[1.0 / 8, 1.0 / 16, 1.0 / 32, 1.0 / 64],
        sampling_ratio=0,
        pooler_type="ROIAlignV2",
    ),
    mask_head=L(MaskRCNNConvUpsampleHead)(
        input_shape=L(ShapeSpec)(channels="${....backbone.out_channels}", height=14, width=14),
        num_classes="${..num_classes}",
        conv_dims=[128, 128, 128, 128, 128],
    ),
)
