"""Detectron2's meta-architectures on FBNet backbones: they train and they detect, on a CPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from fake_photos import fake_photo

# Keys below MODEL.
C4 = {"FBNET.OUT_FEATURES": ["trunk3"], "RPN.IN_FEATURES": ["trunk3"], "ROI_HEADS.IN_FEATURES": ["trunk3"]}
PYRAMID = {"FPN.OUT_CHANNELS": 16, "ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]]}
FPN = {
    **PYRAMID,
    "BACKBONE.NAME": "build_fbnet_fpn_backbone",
    "FPN.IN_FEATURES": ["trunk1", "trunk2", "trunk3", "trunk4"],
    "RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "FBNET.RPN_REPEAT": 1,
}
RETINANET = {
    **PYRAMID,
    "META_ARCHITECTURE": "RetinaNet",
    "BACKBONE.NAME": "build_fbnet_retinanet_backbone",
    "FPN.IN_FEATURES": ["trunk2", "trunk3", "trunk4"],
    "RETINANET.NUM_CLASSES": 3,
    "RETINANET.SCORE_THRESH_TEST": 0.0,
}
HEADS = {"RPN.HEAD_NAME": "FBNetRPNHead", "ROI_BOX_HEAD.NAME": "FBNetRoIBoxHead"}
STANDARD = {
    "RPN.POST_NMS_TOPK_TRAIN": 50,
    "RPN.POST_NMS_TOPK_TEST": 20,
    "ROI_HEADS.NAME": "StandardROIHeads",
    "ROI_HEADS.NUM_CLASSES": 3,
    "ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "ROI_BOX_HEAD.POOLER_RESOLUTION": 6,
    "ROI_BOX_HEAD.NUM_FC": 1,
    "ROI_BOX_HEAD.FC_DIM": 32,
}
MASK = {"MASK_ON": True, "ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead", "ROI_MASK_HEAD.CONV_DIM": 16}
KEYPOINT = {"KEYPOINT_ON": True, "ROI_HEADS.NUM_CLASSES": 1, "ROI_KEYPOINT_HEAD.CONV_DIMS": [16, 16]}
CASCADE = {"ROI_HEADS.NAME": "CascadeROIHeads", "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}
SEMANTIC = {"SEM_SEG_HEAD.CONVS_DIM": 32}
MODELS = {
    "faster_rcnn_c4": {**STANDARD, **C4, **HEADS},
    "mask_rcnn_c4": {**STANDARD, **C4, **HEADS, **MASK},
    "mask_rcnn_fpn": {**STANDARD, **FPN, **HEADS, **MASK},
    "keypoint_rcnn_fpn": {**STANDARD, **FPN, **HEADS, **KEYPOINT},
    "cascade_rcnn_fpn": {**STANDARD, **FPN, **HEADS, **CASCADE},
    "panoptic_fpn": {**STANDARD, **FPN, **HEADS, **MASK, **SEMANTIC, "META_ARCHITECTURE": "PanopticFPN"},
    "retinanet": RETINANET,
    "rpn_alone": {**C4, **HEADS, "META_ARCHITECTURE": "ProposalNetwork"},
    "semantic_segmentor": {**FPN, **SEMANTIC, "META_ARCHITECTURE": "SemanticSegmentor"},
}
LOSSES = {
    "faster_rcnn_c4": {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"},
    "mask_rcnn_c4": {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"},
    "mask_rcnn_fpn": {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"},
    "keypoint_rcnn_fpn": {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_keypoint"},
    "cascade_rcnn_fpn": {"loss_rpn_cls", "loss_rpn_loc"}
    | {f"loss_{kind}_stage{stage}" for kind in ("cls", "box_reg") for stage in range(3)},
    "panoptic_fpn": {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask", "loss_sem_seg"},
    "retinanet": {"loss_cls", "loss_box_reg"},
    "rpn_alone": {"loss_rpn_cls", "loss_rpn_loc"},
    "semantic_segmentor": {"loss_sem_seg"},
}


def photos(name, count=2, **more):
    classes = 1 if "keypoint" in name else 3
    targets = {"masks": True, "keypoints": "keypoint" in name, "sem_seg": "panoptic" in name or "semantic" in name}
    return [fake_photo(classes=classes, **targets, **more) for _ in range(count)]


def build(make_cfg, keys):
    return build_model(make_cfg(*(part for key, value in keys.items() for part in (f"MODEL.{key}", value))))


def check_gradients(model, losses):
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert any(parameter.grad.any() for parameter in model.backbone.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_trains_and_predicts(name, make_cfg):
    model = build(make_cfg, MODELS[name])
    losses = model(photos(name))
    assert set(losses) == LOSSES[name]
    check_gradients(model, losses)
    with torch.no_grad():
        outputs = model.eval()(photos(name))
    assert len(outputs) == 2
    if name == "semantic_segmentor":
        assert outputs[0]["sem_seg"].shape == (54, 64, 96)
        return
    found = outputs[0]["proposals" if name == "rpn_alone" else "instances"]
    assert isinstance(found, Instances) and found.image_size == (64, 96) and len(found) > 0
    if "mask" in name or "panoptic" in name:
        assert found.pred_masks.shape == (len(found), 64, 96)
    if "panoptic" in name:
        assert outputs[0]["panoptic_seg"][0].shape == (64, 96)


RPN_HEADS, BOX_HEADS = ("FBNetRPNHead", "StandardRPNHead"), ("FBNetRoIBoxHead", "FastRCNNConvFCHead")


@pytest.mark.parametrize("features", ["C4", "FPN"])
@pytest.mark.parametrize("rpn, box", list(itertools.product(RPN_HEADS, BOX_HEADS)))
def test_our_heads_and_detectron2_s_mix(features, rpn, box, make_cfg):
    heads = {"RPN.HEAD_NAME": rpn, "ROI_BOX_HEAD.NAME": box}
    model = build(make_cfg, {**STANDARD, **(C4 if features == "C4" else FPN), **heads})
    assert type(model.proposal_generator.rpn_head).__name__ == rpn
    assert type(model.roi_heads.box_head).__name__ == box
    check_gradients(model, model(photos("")))


def test_an_image_without_objects(make_cfg):
    model = build(make_cfg, MODELS["faster_rcnn_c4"])
    losses = model([*photos("", 1, objects=0), *photos("", 1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_an_image_without_proposals_has_no_detections(make_cfg):
    """Norms in the per-RoI head see a batch of nothing."""
    model = build(make_cfg, {**MODELS["mask_rcnn_c4"], "RPN.POST_NMS_TOPK_TEST": 0}).eval()
    with torch.no_grad():
        (output,) = model(photos("", 1))
    assert len(output["instances"]) == 0 and output["instances"].pred_masks.shape[0] == 0


def test_c4_takes_images_of_any_size(make_cfg):
    model = build(make_cfg, MODELS["faster_rcnn_c4"]).eval()
    with torch.no_grad():
        outputs = model([fake_photo(size=(61, 83)), fake_photo(size=(45, 97))])
    assert [output["instances"].image_size for output in outputs] == [(61, 83), (45, 97)]
