"""What counts as the same detections."""

from __future__ import annotations

import math
from typing import List, Tuple

import pytest
import torch

from fbnet_plugin.export.detector_compare import ROUNDING, DetectionRule, steady

RULE = DetectionRule(score_threshold=0.05, count=4, score_tolerance=1e-3, box_tolerance=0.1)
Found = Tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Row = Tuple[float, int, float]  # score, class, left


def found(*rows: Row) -> Found:
    """Detections, all 20 px wide and high."""
    scores, classes, left = (torch.tensor(column) for column in zip(*rows))
    x = left.float()
    boxes = torch.stack((x, torch.zeros_like(x), x + 20, torch.full_like(x, 20)), 1)
    return boxes, scores.float(), classes.long()


FIRST, SECOND, THIRD = (0.9, 1, 0), (0.5, 2, 50), (0.3, 1, 100)
EXPECTED = found(FIRST, SECOND, THIRD)


def test_the_worst_difference_is_told() -> None:
    same = RULE.compare(EXPECTED, found((0.9, 1, 0.02), (0.5002, 2, 50), (0.3, 1, 100)))
    assert same.amount == pytest.approx(0.2, abs=1e-3) and same.tolerable
    assert "3 of 3" in same.text and "2.0e-02 px" in same.text and "2.0e-04" in same.text


def test_equal_scores_may_come_in_any_order() -> None:
    one, other = found((0.5, 1, 0), (0.5, 1, 60)), found((0.5, 1, 60), (0.5, 1, 0))
    assert RULE.compare(one, other).amount == 0


@pytest.mark.parametrize(
    "rows, text",
    [
        ([(0.9, 1, 0.2), SECOND, THIRD], "class 1 with score 0.9000 at (0.0, 0.0, 20.0, 20.0) is missing"),
        ([FIRST, (0.5, 3, 50), THIRD], "class 2 with score 0.5000"),
        ([FIRST, (0.502, 2, 50), THIRD], "class 2 with score 0.5000"),
        ([FIRST, SECOND], "class 1 with score 0.3000"),
        ([FIRST, SECOND, THIRD, (0.2, 1, 150)], "score 0.2000 at (150.0, 0.0, 170.0, 20.0) is not expected"),
        ([FIRST, FIRST, SECOND, THIRD], "class 1 with score 0.9000"),
        ([(0.9, 1, math.nan), SECOND, THIRD], "boxes are not finite"),
    ],
    ids=["moved", "class", "score", "less", "more", "twice", "nan"],
)
def test_what_is_refused(rows: List[Row], text: str) -> None:
    difference = RULE.compare(EXPECTED, found(*rows))
    assert not difference.tolerable and text in difference.text


def test_a_score_at_the_threshold_may_come_or_go() -> None:
    more = found(FIRST, SECOND, THIRD, (0.0505, 2, 150))
    assert RULE.compare(EXPECTED, more).tolerable and RULE.compare(more, EXPECTED).tolerable
    assert not RULE.compare(EXPECTED, found(FIRST, SECOND, THIRD, (0.0515, 2, 150))).tolerable


def test_the_last_of_a_full_list_may_be_another() -> None:
    one = found(FIRST, SECOND, THIRD, (0.2002, 2, 150))
    assert RULE.compare(one, found(FIRST, SECOND, THIRD, (0.2, 1, 300))).tolerable
    assert not RULE.compare(one, found(FIRST, SECOND, THIRD, (0.25, 1, 300))).tolerable


def test_no_detections_say_so() -> None:
    nothing = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert RULE.compare(nothing, nothing).text == "no detections on either side"
    assert not RULE.compare(EXPECTED, nothing).tolerable and not RULE.compare(nothing, EXPECTED).tolerable


def test_an_image_where_rounding_decides_is_replaced_by_one_near_it() -> None:
    image = torch.full((1, 3, 4, 4), 100.0)

    def detect(pixels: torch.Tensor) -> Found:
        """One box; its class is the number of pixels above 100, where all pixels just are."""
        return found((0.9, int((pixels > 100).sum()), 0.0))

    chosen = steady(image, detect, RULE)
    assert 0 < (chosen - image).abs().max() <= 0.5 and (chosen - 100).abs().min() > ROUNDING
    assert torch.equal(steady(image + 50, detect, RULE), image + 50)
