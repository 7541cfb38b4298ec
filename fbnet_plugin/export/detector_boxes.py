"""Box head of a detector at test time in operations that exporters know."""

from __future__ import annotations

from typing import Dict, List, Tuple

import torch
import torch.nn.functional as F
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import StandardROIHeads
from torch import nn
from torchvision.ops import nms

from .detector_proposals import clip_boxes


class LevelPooler(nn.Module):
    """``ROIPooler`` for one image."""

    def __init__(self, pooler: ROIPooler):
        super().__init__()
        self.poolers = pooler.level_poolers
        self.min_level, self.max_level = pooler.min_level, pooler.max_level
        self.canonical_size, self.canonical_level = pooler.canonical_box_size, pooler.canonical_level

    def forward(self, features: List[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: per level, (1, C, H, W).
            boxes: (R, 4) XYXY, px.

        Returns:
            (R, C, P, P)
        """
        rois = F.pad(boxes, (1, 0))  # the first column is the number of the image, 0
        if len(self.poolers) == 1:
            return self.poolers[0](features[0], rois)
        levels = self._levels(boxes)
        by_level = [rois[(levels == level).nonzero()[:, 0]] for level in range(len(self.poolers))]
        pooled = torch.cat([pool(x, some) for pool, x, some in zip(self.poolers, features, by_level)])
        count = boxes.shape[0]
        keys = levels * count + torch.arange(count, device=boxes.device)  # no two are equal: sorts need not be stable
        return pooled[keys.argsort().argsort()]  # in the order of the boxes

    def _levels(self, boxes: torch.Tensor) -> torch.Tensor:
        """(R,) the level of each box, 0 for the first (FPN equation 1)."""
        sides = boxes[:, 2:] - boxes[:, :2]
        size = torch.sqrt(sides[:, 0] * sides[:, 1])
        level = torch.floor(self.canonical_level + torch.log2(size / self.canonical_size + 1e-8))
        return level.clamp(min=self.min_level, max=self.max_level) - self.min_level


class Detections(nn.Module):
    """``StandardROIHeads`` at test time, boxes only, for one image."""

    def __init__(self, heads: StandardROIHeads):
        super().__init__()
        predictor = heads.box_predictor
        self.in_features = list(heads.box_in_features)
        self.pooler = LevelPooler(heads.box_pooler)
        self.head, self.predictor = heads.box_head, predictor
        self.decode = predictor.box2box_transform.apply_deltas
        self.score_threshold, self.nms_threshold = predictor.test_score_thresh, predictor.test_nms_thresh
        self.count = predictor.test_topk_per_image

    def forward(
        self, features: Dict[str, torch.Tensor], proposals: torch.Tensor, height: int, width: int
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            features: name -> (1, C, H, W).
            proposals: (R, 4) XYXY, px.
            height, width: of the image without its padding, px.

        Returns:
            (N, 4) boxes, XYXY px; (N,) scores, descending; (N,) classes.
        """
        count = proposals.shape[0]
        if isinstance(count, torch.SymInt):
            torch._check(count > 0)  # for PyTorch's exporter alone, since norms ask; the graph takes none as well
        pooled = self.pooler([features[name] for name in self.in_features], proposals)
        logits, deltas = self.predictor(self.head(pooled))
        scores = F.softmax(logits, dim=1)  # (R, classes + 1), the background last
        raw = self.decode(deltas, proposals)  # (R, 4) or (R, classes * 4)
        good = torch.isfinite(raw).all(1) & torch.isfinite(scores).all(1)
        boxes = clip_boxes(raw.reshape(-1, 4), height, width)
        scores = torch.where(good[:, None], scores, -1.0)[:, :-1]
        return self._select(boxes, scores)

    def _select(self, boxes: torch.Tensor, scores: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Threshold and NMS per class, from (R * (1 or classes), 4) boxes and (R, classes) scores."""
        classes = scores.shape[1]
        flat = scores.reshape(-1)
        places = (flat > self.score_threshold).nonzero()[:, 0]
        row, kind = torch.div(places, classes, rounding_mode="floor"), places % classes
        per_class = self.predictor.bbox_pred.out_features > 4
        boxes, flat = boxes[places if per_class else row], flat[places]
        return best_per_class(boxes, flat, kind, self.nms_threshold, self.count)


def best_per_class(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, threshold: float, count: int
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best ``count`` detections after NMS within each class.

    Boxes of different classes are shifted apart, as torchvision's ``batched_nms`` does.

    Args:
        boxes: (n, 4), not negative.
        scores, classes: (n,).
        threshold: IoU.
        count: negative for all.
    """
    farthest = torch.cat((boxes.reshape(-1), boxes.new_zeros(1))).max()
    shifted = boxes + (classes.to(boxes.dtype) * (farthest + 1))[:, None]
    keep = nms(shifted, scores, threshold)
    if count >= 0:
        keep = keep[:count]
    return boxes[keep], scores[keep], classes[keep]
