"""Faster R-CNN with C4 or FPN as the exporters take it.

Detectron2's own inference asks in Python how many boxes are left; exporters need the same steps as a graph. The twin
here has the trained model's modules and thresholds, and gives what ``GeneralizedRCNN.inference`` gives, without the
rescaling to the original image.
"""

from __future__ import annotations

import json
from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ROIAlign
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from torch import nn

from ..modeling.analysis import default_image_size
from .classifier import fit
from .detector_boxes import Detections
from .detector_compare import DetectionRule, steady
from .detector_proposals import Proposals
from .errors import ExportInputError
from .exportable import Exportable, Feed, Outputs
from .metadata import describe

IMAGE, HEIGHT, WIDTH = "image", "height", "width"
OUTPUTS = ("boxes", "scores", "classes")
TOLERANCE = 1e-4
SUPPORTED = "expected a Faster R-CNN: GeneralizedRCNN with an RPN, StandardROIHeads and boxes alone"


class FasterRCNN(nn.Module):
    """The graph of a detector: raw pixels in, boxes after NMS out.

    Args:
        model: what it shares its modules with; see ``check_supported``.
    """

    def __init__(self, model: GeneralizedRCNN):
        super().__init__()
        self.backbone = model.backbone
        self.proposals = Proposals(model.proposal_generator)
        self.detections = Detections(model.roi_heads)
        self.divisor = model.backbone.size_divisibility
        self.register_buffer("pixel_mean", model.pixel_mean.detach().clone())
        self.register_buffer("pixel_std", model.pixel_std.detach().clone())

    def forward(self, image: torch.Tensor) -> Outputs:
        """
        Args:
            image: (1, C, H, W) of 0 to 255.

        Returns:
            (N, 4) boxes, XYXY px of that image; (N,) scores, descending; (N,) int64 classes.
        """
        height, width = image.shape[2:]
        x = (image - self.pixel_mean) / self.pixel_std
        if self.divisor > 1:
            padded = [_next_multiple(size, self.divisor) for size in (height, width)]
            x = F.pad(x, (0, padded[1] - width, 0, padded[0] - height))
        features = self.backbone(x)
        proposals = self.proposals(features, height, width)
        return self.detections(features, proposals, height, width)


def _next_multiple(size: int, divisor: int) -> int:
    """The first multiple of ``divisor`` that is not below ``size``."""
    count = (size + divisor - 1) // divisor
    if isinstance(size, torch.SymInt):
        # A value of its own, not a formula of the size that all shapes behind it would carry along: PyTorch exports an
        # FPN in a fifth of the time.
        count = torch.scalar_tensor(count, dtype=torch.int64).item()
        torch._check(count >= 1)
    return count * divisor


def detector_exportable(
    cfg: CfgNode,
    model: nn.Module,
    image_size: Optional[Tuple[int, int]] = None,
    dynamic: bool = True,
    tolerance: float = TOLERANCE,
) -> Exportable:
    """A Faster R-CNN: "image" (1, C, H, W) -> "boxes" (N, 4), "scores" (N,), "classes" (N,).

    N is at most TEST.DETECTIONS_PER_IMAGE. The caller resizes the image, as INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST say;
    boxes are in px of the resized one. The metadata has these two as "test_sizes".

    Args:
        cfg: that the model was built from.
        model: on the CPU.
        image_size: (height, width) in px; None for a photograph as in the test.
        dynamic: images of any size; else of ``image_size``.
        tolerance: largest difference of a score; of a coordinate, as a share of the longer side of ``image_size``.

    Raises:
        ExportInputError: see ``check_supported``.
    """
    check_supported(cfg, model)
    height, width = image_size or default_image_size(cfg)
    example = torch.rand((1, len(model.pixel_mean), height, width), generator=torch.Generator().manual_seed(0)) * 255
    size = None if dynamic else (height, width)
    metadata = describe(cfg, size)
    if dynamic:
        metadata["test_sizes"] = json.dumps([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST])
    predictor = model.roi_heads.box_predictor
    rule = DetectionRule(
        score_threshold=predictor.test_score_thresh,
        count=predictor.test_topk_per_image,
        score_tolerance=tolerance,
        box_tolerance=tolerance * max(height, width),
    )

    def reference(image: torch.Tensor) -> Outputs:
        return detectron2_inference(model, image)

    def feeds(images: Sequence[torch.Tensor]) -> List[Feed]:
        return [{IMAGE: steady(image, reference, rule)} for image in check_images(images, size)]

    return Exportable(
        module=FasterRCNN(model).eval(),
        inputs={IMAGE: example},
        outputs=OUTPUTS,
        dynamic={IMAGE: {2: HEIGHT, 3: WIDTH}} if dynamic else {},
        metadata=metadata,
        feeds=feeds,
        compare=rule.compare,
        reference=reference,
    )


@torch.no_grad()
def detectron2_inference(model: GeneralizedRCNN, image: torch.Tensor) -> Outputs:
    """Boxes, scores and classes by the model's own ``inference``, from (1, C, H, W) of 0 to 255."""
    found = model.inference([{"image": image[0]}], do_postprocess=False)[0]
    return found.pred_boxes.tensor, found.scores, found.pred_classes


def check_images(images: Sequence[torch.Tensor], size: Optional[Tuple[int, int]]) -> List[torch.Tensor]:
    """Images (C, H, W) -> (1, C, H, W) float32 each.

    Args:
        size: (height, width) in px to resize to; None for their own sizes, and the first one also with its sides
            swapped, and at two thirds.
    """
    if size is not None:
        return [fit(image, size)[None] for image in images]
    pixels = [image.float() for image in images]
    if pixels:
        height, width = pixels[0].shape[1:]
        pixels += [pixels[0].transpose(1, 2).contiguous(), fit(pixels[0], (height * 2 // 3, width * 2 // 3))]
    return [image[None] for image in pixels]


def check_supported(cfg: CfgNode, model: Any) -> None:
    """
    Raises:
        ExportInputError: what is detected or how is beyond ``FasterRCNN``; names the key.
    """
    keys = cfg.MODEL
    if not isinstance(model, GeneralizedRCNN):
        raise ExportInputError(f"MODEL.META_ARCHITECTURE is {keys.META_ARCHITECTURE}; {SUPPORTED}")
    for head in ("MASK_ON", "KEYPOINT_ON"):
        if keys[head]:
            raise ExportInputError(f"MODEL.{head} is True; {SUPPORTED}. Add MODEL.{head} False to export the boxes")
    rpn, heads = model.proposal_generator, model.roi_heads
    _check_type("MODEL.PROPOSAL_GENERATOR.NAME", rpn, RPN)
    _check_type("MODEL.ANCHOR_GENERATOR.NAME", rpn.anchor_generator, DefaultAnchorGenerator)
    _check_type("MODEL.ROI_HEADS.NAME", heads, StandardROIHeads)
    _check_type("the box predictor", heads.box_predictor, FastRCNNOutputLayers)
    for part in (rpn, heads.box_predictor):
        _check_type("the box transform", part.box2box_transform, Box2BoxTransform)
    for pooler in heads.box_pooler.level_poolers:
        _check_type("MODEL.ROI_BOX_HEAD.POOLER_TYPE", pooler, ROIAlign)


def _check_type(what: str, found: Any, expected: type) -> None:
    """The very class: a subclass may compute something else."""
    if type(found) is not expected:
        raise ExportInputError(f"{what}: cannot export {type(found).__name__}, expected {expected.__name__}")
