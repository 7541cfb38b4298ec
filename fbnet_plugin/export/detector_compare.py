"""Whether two sets of detections are the same, as far as rounding lets them be.

Rounding moves boxes and scores a little. A detection whose score is then at the threshold, or that of the last place of
a full list, may come or go; nothing else is excused. Inside a detector rounding can decide more, at each NMS: results
for an image where it does cannot be compared, see ``steady``.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Iterator, List, NamedTuple, Tuple

import torch

from .exportable import Difference, Outputs

# Gray levels. Such noise in the pixels moves results some 5 times as far as another order of summation does.
ROUNDING = 2e-4
DRAWS, TRIES = 2, 8
SLACK = 10  # of the tolerances, where the question is which boxes there are


class Found(NamedTuple):
    """Detections of an image: boxes (N, 4) XYXY px, scores (N,), classes (N,)."""

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor


@dataclasses.dataclass(frozen=True)
class DetectionRule:
    """Which detections there are, and how much of a difference is rounding.

    Args:
        score_threshold: detections have scores above it.
        count: detections of an image at most; negative for no limit.
        score_tolerance: largest difference of a score.
        box_tolerance: largest difference of a coordinate, px.
    """

    score_threshold: float
    count: int
    score_tolerance: float
    box_tolerance: float

    def compare(self, expected: Outputs, actual: Outputs) -> Difference:
        """Pairs the detections of both sides, within their class, and looks at what is left over.

        Args:
            expected, actual: boxes (N, 4), scores (N,), classes (N,).
        """
        one, other = Found(*expected), Found(*actual)
        bad = [name for name, value in zip(Found._fields, other) if not torch.isfinite(value).all()]
        if bad:
            return Difference(float("inf"), f"{' and '.join(bad)} are not finite")
        if not len(one.scores) and not len(other.scores):
            return Difference(0.0, "no detections on either side")
        pairs, distance = self._pairs(one, other)
        agreement = self._agreement(pairs, one, other)
        left = [*self._unpaired(one, other, [i for i, _ in pairs], "missing")]
        left += self._unpaired(other, one, [j for _, j in pairs], "not expected")
        if left:
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            return Difference(float("inf"), f"{left[0]}{more}; {agreement}")
        return Difference(distance, agreement)

    def _pairs(self, one: Found, other: Found) -> Tuple[List[Tuple[int, int]], float]:
        """Index pairs of detections that agree, the nearest first, and the worst of their distances (1: tolerated)."""
        boxes = (one.boxes[:, None] - other.boxes[None]).abs().amax(2) / self.box_tolerance
        scores = (one.scores[:, None] - other.scores[None]).abs() / self.score_tolerance
        same = one.classes[:, None] == other.classes[None]
        distance = torch.maximum(boxes, scores).masked_fill(~same, float("inf"))  # (N, M)
        near = (distance <= 1).nonzero()
        order = distance[near[:, 0], near[:, 1]].argsort()
        pairs = {}
        for i, j in near[order].tolist():
            if i not in pairs and j not in pairs.values():
                pairs[i] = j
        return list(pairs.items()), max((distance[i, j].item() for i, j in pairs.items()), default=0.0)

    def _agreement(self, pairs: List[Tuple[int, int]], one: Found, other: Found) -> str:
        """How many agree and how well."""
        text = f"{len(pairs)} of {len(one.scores)} detections agree"
        if not pairs:
            return text
        i, j = (list(side) for side in zip(*pairs))
        box = (one.boxes[i] - other.boxes[j]).abs().max().item()
        score = (one.scores[i] - other.scores[j]).abs().max().item()
        return (
            f"{text}, boxes within {box:.1e} px (tolerated {self.box_tolerance:.1e}), "
            f"scores within {score:.1e} (tolerated {self.score_tolerance:.0e})"
        )

    def _unpaired(self, here: Found, there: Found, paired: List[int], what: str) -> Iterator[str]:
        """A line on each detection that has no partner and needs one."""
        least = self.score_threshold + self.score_tolerance
        if len(there.scores) == self.count:
            least = max(least, there.scores.min().item() + self.score_tolerance)
        for index in sorted(set(range(len(here.scores))) - set(paired)):
            if here.scores[index] > least:
                box = ", ".join(f"{value:.1f}" for value in here.boxes[index].tolist())
                yield f"class {here.classes[index]} with score {here.scores[index]:.4f} at ({box}) is {what}"


def steady(image: torch.Tensor, detect: Callable[[torch.Tensor], Outputs], rule: DetectionRule) -> torch.Tensor:
    """An image on which no decision of a detector hangs on rounding.

    That is the image itself if the detector finds the same on it with a noise of ``ROUNDING``; else the image with a
    noise of at most half a gray level, drawn until it is so. After some draws it is given as it is.

    Args:
        image: (1, C, H, W) of 0 to 255.
        detect: gives boxes, scores and classes.
        rule: tells whether they are the same.
    """
    random = torch.Generator().manual_seed(0)
    wide = dataclasses.replace(
        rule, score_tolerance=SLACK * rule.score_tolerance, box_tolerance=SLACK * rule.box_tolerance
    )
    for level in [0.0] + [0.5] * TRIES:
        candidate = _noisy(image, level, random).clamp(0, 255)
        found = detect(candidate)
        others = (detect(_noisy(candidate, ROUNDING, random)) for _ in range(DRAWS))
        if all(wide.compare(found, other).tolerable for other in others):
            return candidate
    return image


def _noisy(image: torch.Tensor, level: float, random: torch.Generator) -> torch.Tensor:
    return image + level * (2 * torch.rand(image.shape, generator=random) - 1)
