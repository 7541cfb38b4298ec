"""Proposals of an RPN in operations that exporters know: no Python that depends on the data."""

from __future__ import annotations

from typing import Dict, Tuple

import torch
import torch.nn.functional as F
from detectron2.modeling.proposal_generator.rpn import RPN
from torch import nn
from torchvision.ops import nms


def top_locations(scores: torch.Tensor, count: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` highest scores, for any number of scores; where there are fewer, the rest has -inf.

    Args:
        scores: (n,), n > 0.

    Returns:
        (count,) scores, descending; (count,) their places, within 0 to n - 1.
    """
    padded = F.pad(scores, (0, count), value=-float("inf"))
    top, index = padded.topk(count)
    return top, index.clamp(max=scores.shape[0] - 1)


def anchors_at(index: torch.Tensor, width: int, cells: torch.Tensor, stride: int, offset: float) -> torch.Tensor:
    """The anchors of some places of a map, as Detectron2's ``DefaultAnchorGenerator`` lays them.

    Args:
        index: (k,) places in the order (y, x, anchor of a cell).
        width: of the map.
        cells: (A, 4) anchors around the origin, px.
        stride: of the map, px.
        offset: of the first center, in strides.

    Returns:
        (k, 4) XYXY, px.
    """
    per_cell = cells.shape[0]
    cell = torch.div(index, per_cell, rounding_mode="floor")
    y = torch.div(cell, width, rounding_mode="floor")
    center = torch.stack((cell - y * width, y), dim=1) * stride + offset * stride  # (k, 2), x and y
    return cells[index % per_cell] + torch.cat((center, center), dim=1)


def clip_boxes(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(n, 4) XYXY boxes -> the same within an image of ``height`` x ``width`` px."""
    x, y = boxes[:, 0::2].clamp(min=0, max=width), boxes[:, 1::2].clamp(min=0, max=height)
    return torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), dim=1)


class Proposals(nn.Module):
    """``RPN`` at test time, for one image.

    NMS is done per level. Detectron2 does it so for many boxes; for few, on all levels at once, shifted apart, which is
    the same up to rounding.
    """

    def __init__(self, rpn: RPN):
        super().__init__()
        generator = rpn.anchor_generator
        self.head = rpn.rpn_head
        self.in_features = list(rpn.in_features)
        self.strides = [int(stride) for stride in generator.strides]
        self.offset = float(generator.offset)
        for level, cells in enumerate(generator.cell_anchors):
            self.register_buffer(f"cells{level}", cells.detach().clone(), persistent=False)
        self.decode = rpn.box2box_transform.apply_deltas
        self.pre_nms, self.post_nms = rpn.pre_nms_topk[False], rpn.post_nms_topk[False]
        self.nms_threshold, self.min_size = rpn.nms_thresh, rpn.min_box_size

    def forward(self, features: Dict[str, torch.Tensor], height: int, width: int) -> torch.Tensor:
        """
        Args:
            features: name -> (1, C, H, W).
            height, width: of the image without its padding, px.

        Returns:
            (R, 4) boxes, XYXY px, the best first; at most ``post_nms``.
        """
        outputs = self.head([features[name] for name in self.in_features])
        found = [self._best(level, *both) for level, both in enumerate(zip(*outputs))]
        scores, deltas, anchors = (torch.cat(parts) for parts in zip(*found))
        raw = self.decode(deltas, anchors)
        boxes = clip_boxes(raw, height, width)
        sides = boxes[:, 2:] - boxes[:, :2]
        good = torch.isfinite(raw).all(1) & torch.isfinite(scores) & (sides > self.min_size).all(1)
        # Bad boxes stay for now, empty and with the lowest score: they suppress nothing and come last.
        return self._nms(torch.where(good[:, None], boxes, 0.0), torch.where(good, scores, -float("inf")))

    def _best(
        self, level: int, logits: torch.Tensor, deltas: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best places of a level: (pre_nms,) scores, (pre_nms, 4) deltas and (pre_nms, 4) anchors.

        Args:
            logits: (1, A, H, W).
            deltas: (1, A * 4, H, W).
        """
        cells = getattr(self, f"cells{level}")
        scores, index = top_locations(logits.permute(0, 2, 3, 1).reshape(-1), self.pre_nms)
        by_place = deltas.reshape(cells.shape[0], 4, -1).permute(2, 0, 1).reshape(-1, 4)  # (H * W * A, 4)
        return scores, by_place[index], anchors_at(index, logits.shape[3], cells, self.strides[level], self.offset)

    def _nms(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """What stays of (levels * pre_nms, 4) boxes with their scores, without those of score -inf."""
        levels = range(0, len(self.strides) * self.pre_nms, self.pre_nms)  # where each starts
        parts = [slice(start, start + self.pre_nms) for start in levels]
        keep = torch.cat([nms(boxes[part], scores[part], self.nms_threshold) + part.start for part in parts])
        if len(parts) > 1:
            keep = keep[scores[keep].argsort(descending=True)]
        keep = keep[: self.post_nms]
        return boxes[keep[torch.isfinite(scores[keep]).nonzero()[:, 0]]]
