"""Parameters and multiply-adds of any Detectron2 model, part by part."""

from __future__ import annotations

import math
import textwrap
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import BaseKeypointRCNNHead, BaseMaskRCNNHead, Res5ROIHeads, StandardROIHeads
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..arch import ArchError, get_arch
from .arch import SUPERNET
from .classifier import ImageClassifier

CONVENTION = (
    "MACs are the multiply-adds of convolutions and linear layers for one image; norms, activations, pools, "
    "interpolation and element-wise products are not counted. (Counters that add norms and pools, as fvcore and "
    "ptflops do, print 3 to 4 % more for these backbones.) Parameters are all learnable values; weights are those of "
    "convolutions and linear layers, without biases."
)

Features = Dict[str, torch.Tensor]


class Part(NamedTuple):
    """Counts of one part of a model.

    Attributes:
        params: all learnable values, frozen or not.
        weights: those in convolutions and linear layers, without biases.
        macs: multiply-adds for one image; None where this module does not know how the part is run.
        rois: how many regions that is for; None for parts that see the whole image.
    """

    params: int
    weights: int
    macs: Optional[int]
    rois: Optional[int] = None


class Analysis(NamedTuple):
    """What ``analyze`` counted.

    Attributes:
        parts: name -> counts, in order of execution.
        image_size: (height, width) in px of the resized image, before a backbone's padding.
        proposals: regions per image; None for models without RoI heads.
    """

    parts: Dict[str, Part]
    image_size: Tuple[int, int]
    proposals: Optional[int]

    @property
    def total(self) -> Part:
        """Sums; ``macs`` is None where that of a part is."""
        parts = self.parts.values()
        macs = [part.macs for part in parts]
        known = None if None in macs else sum(count for count in macs if count is not None)
        return Part(sum(part.params for part in parts), sum(part.weights for part in parts), known)

    def to_dict(self) -> Dict[str, Any]:
        """Plain data: one key per part, total, image_size, proposals and convention."""
        data: Dict[str, Any] = {name: part._asdict() for name, part in self.parts.items()}
        total = {key: value for key, value in self.total._asdict().items() if key != "rois"}
        size = list(self.image_size)
        return {**data, "total": total, "image_size": size, "proposals": self.proposals, "convention": CONVENTION}

    def to_text(self) -> str:
        """A table, and what its columns mean."""
        rows = [("part", "parameters", "conv+fc weights", "MACs")]
        for name, part in [*self.parts.items(), ("total", self.total)]:
            label = name if part.rois is None else f"{name} ({part.rois} RoIs)"
            macs = "unknown" if part.macs is None else f"{part.macs:,}"
            rows.append((label, f"{part.params:,}", f"{part.weights:,}", macs))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [f"{row[0]:<{widths[0]}}  " + "  ".join(map(str.rjust, row[1:], widths[1:])) for row in rows]
        notes = [f"For an image of {self.image_size[0]}x{self.image_size[1]} px (height x width).", CONVENTION]
        unknown = [name for name, part in self.parts.items() if part.macs is None]
        if unknown:
            notes.append(f"MACs are unknown where it is not known here how a part is run: {', '.join(unknown)}.")
        return "\n".join([*lines, "", textwrap.fill(" ".join(notes), 100)])


class _Step(NamedTuple):
    """A part before it is counted: its module, and how to run it on the backbone's features."""

    name: str
    module: nn.Module
    run: Optional[Callable[[Features], Any]]
    rois: Optional[int] = None


def analyze(
    cfg: CfgNode, image_size: Optional[Tuple[int, int]] = None, proposals: Optional[int] = None
) -> Analysis:
    """Counts the model that a config describes, in inference, without its weights and without a device.

    Args:
        cfg: of any Detectron2 meta-architecture; ``MODEL.WEIGHTS`` and ``MODEL.DEVICE`` are not used.
        image_size: (height, width) in px; default: ``default_image_size(cfg)``.
        proposals: regions per image for the box head; default: ``MODEL.RPN.POST_NMS_TOPK_TEST``. Mask and keypoint
            heads run on ``TEST.DETECTIONS_PER_IMAGE`` regions.

    Raises:
        ArchError: the architecture cannot be built, the image is too small for it, or there are many: a supernet's.
    """
    if cfg.MODEL.META_ARCHITECTURE == SUPERNET:
        problem = "is Supernet, of which no architecture runs as a whole; count those that tools/sample_archs.py draws"
        raise ArchError(problem, "MODEL.META_ARCHITECTURE")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    size = image_size or default_image_size(cfg)
    count = cfg.MODEL.RPN.POST_NMS_TOPK_TEST if proposals is None else proposals
    model = _build(cfg).eval().to("meta")
    parts = _count_parts(model, size, count, cfg.TEST.DETECTIONS_PER_IMAGE)
    return Analysis(parts, size, count if hasattr(model, "roi_heads") else None)


def _build(cfg: CfgNode) -> nn.Module:
    try:
        return build_model(cfg)
    except KeyError as error:  # the message of a Detectron2 registry names the registry and what it was asked for
        if "registry" not in str(error):
            raise
        raise ArchError(str(error.args[0]), "config") from None


def default_image_size(cfg: CfgNode) -> Tuple[int, int]:
    """(height, width) in px: a classifier's test crop; else a photograph of 480x640 px, resized as in the test."""
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        side = cfg.INPUT.CLASSIFICATION.TEST_SIZE or get_arch(cfg.MODEL.FBNET.ARCH).resolution
        return side, side
    if not cfg.INPUT.MIN_SIZE_TEST:
        return 480, 640
    scale = min(cfg.INPUT.MIN_SIZE_TEST / 480, cfg.INPUT.MAX_SIZE_TEST / 640)
    return int(480 * scale + 0.5), int(640 * scale + 0.5)


def _count_parts(model: nn.Module, size: Tuple[int, int], proposals: int, detections: int) -> Dict[str, Part]:
    every = max(model.backbone.size_divisibility, 1)
    height, width = (math.ceil(side / every) * every for side in size)
    image = torch.empty((1, len(model.pixel_mean), height, width), device="meta")
    with torch.no_grad():
        try:
            features = model.backbone(image)
        except RuntimeError as error:
            problem = f"an image of {size[0]}x{size[1]} px cannot pass the backbone ({error})"
            raise ArchError(problem, "image_size") from None
        parts = {"backbone": Part(*_count_params(model.backbone), _count_macs(model.backbone, image))}
        for step in _steps(model, proposals, detections):
            macs = None if step.run is None else _count_macs(step.run, features)
            parts[step.name] = Part(*_count_params(step.module), macs, step.rois)
    return parts


def _count_params(module: nn.Module) -> Tuple[int, int]:
    layers = [one for one in module.modules() if isinstance(one, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    return sum(p.numel() for p in module.parameters()), sum(one.weight.numel() for one in layers)


def _count_macs(run: Callable[[Any], Any], inputs: Any) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        run(inputs)
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two


def _steps(model: nn.Module, proposals: int, detections: int) -> Iterator[_Step]:
    """The parts after the backbone. A child of another kind is one part that is not run."""
    for name, child in model.named_children():
        if name == "backbone":
            continue
        if isinstance(child, RPN):
            yield _Step("rpn_head", child.rpn_head, _on_levels(child.rpn_head, child.in_features))
        elif isinstance(child, Res5ROIHeads):
            yield from _res5_steps(child, proposals, detections)
        elif isinstance(child, StandardROIHeads):
            yield from _standard_steps(child, proposals, detections)
        elif isinstance(child, SemSegFPNHead):
            yield _Step(name, child, child.layers)
        elif isinstance(model, DenseDetector):
            yield _Step(name, child, _on_levels(child, model.head_in_features))
        elif isinstance(model, ImageClassifier):
            yield _Step(name, child, lambda features, head=child, feature=model.feature: head(features[feature]))
        elif any(True for _ in child.parameters()):
            yield _Step(name, child, None)


def _on_levels(head: nn.Module, names: List[str]) -> Callable[[Features], Any]:
    return lambda features: head([features[name] for name in names])


def _regions(features: Features, feature: str, pooler: nn.Module, count: int) -> torch.Tensor:
    """Pooled features of ``count`` regions, (count, C, P, P)."""
    return torch.empty((count, features[feature].shape[1], *pooler.output_size), device="meta")


def _predictor_step(predictor: nn.Module, rois: int) -> _Step:
    """The linear layers behind the box head, or one set of them per stage of a cascade."""
    every = list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]

    def run(_: Features) -> None:
        for one in every:
            one(torch.empty((rois, one.cls_score.in_features), device="meta"))

    return _Step("box_predictor", predictor, run, rois)


def _standard_steps(heads: StandardROIHeads, proposals: int, detections: int) -> Iterator[_Step]:
    """Box heads on the proposals, mask and keypoint heads on the detections."""
    every = list(heads.box_head) if isinstance(heads.box_head, nn.ModuleList) else [heads.box_head]

    def run_box_heads(features: Features) -> None:
        for one in every:
            one(_regions(features, heads.box_in_features[0], heads.box_pooler, proposals))

    yield _Step("box_head", heads.box_head, run_box_heads, proposals)
    yield _predictor_step(heads.box_predictor, proposals)
    for kind in ("mask", "keypoint"):
        if not getattr(heads, f"{kind}_on"):
            continue
        head, pooler = getattr(heads, f"{kind}_head"), getattr(heads, f"{kind}_pooler")
        known = isinstance(head, (BaseMaskRCNNHead, BaseKeypointRCNNHead)) and pooler is not None
        feature = (getattr(heads, f"{kind}_in_features") or [""])[0]
        run = _instance_run(head, feature, pooler, detections) if known else None
        yield _Step(f"{kind}_head", head, run, detections)


def _instance_run(head: nn.Module, feature: str, pooler: nn.Module, rois: int) -> Callable[[Features], Any]:
    return lambda features: head.layers(_regions(features, feature, pooler, rois))


def _res5_steps(heads: Res5ROIHeads, proposals: int, detections: int) -> Iterator[_Step]:
    """ResNet's last stage on the proposals; a mask head runs it again on the detections."""

    def res5(features: Features, rois: int) -> torch.Tensor:
        return heads.res5(_regions(features, heads.in_features[0], heads.pooler, rois))

    yield _Step("box_head", heads.res5, lambda features: res5(features, proposals), proposals)
    yield _predictor_step(heads.box_predictor, proposals)

    def masks(features: Features) -> torch.Tensor:
        return heads.mask_head.layers(res5(features, detections))

    if heads.mask_on:
        yield _Step("mask_head", heads.mask_head, masks, detections)
