"""Which config key to change when a checkpoint's tensor has another shape than the model's."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Tuple

Shape = Tuple[int, ...]
# (name, shape in the file, shape in the model), as fvcore's ``incorrect_shapes``
Mismatch = Tuple[str, Shape, Shape]


class Sized(NamedTuple):
    """Tensors whose first dimension follows from a config key.

    Attributes:
        prefix: of the tensors' names.
        key: of the config.
        value: the key's value from the first dimension, or None where more than one key decides.
    """

    prefix: str
    key: str
    value: Optional[Callable[[int], int]]


SIZED = (
    Sized("head.fc.", "MODEL.CLASSIFIER.NUM_CLASSES", lambda rows: rows),
    Sized("roi_heads.box_predictor.cls_score.", "MODEL.ROI_HEADS.NUM_CLASSES", lambda rows: rows - 1),
    Sized("roi_heads.box_predictor.bbox_pred.", "MODEL.ROI_HEADS.NUM_CLASSES", lambda rows: rows // 4),
    Sized("roi_heads.mask_head.predictor.", "MODEL.ROI_HEADS.NUM_CLASSES", lambda rows: rows),
    Sized("head.cls_score.", "MODEL.RETINANET.NUM_CLASSES or MODEL.ANCHOR_GENERATOR", None),
    Sized("head.bbox_pred.", "MODEL.ANCHOR_GENERATOR", None),
    Sized("proposal_generator.rpn_head.", "MODEL.ANCHOR_GENERATOR or MODEL.FBNET.ARCH", None),
)
_OTHERWISE = "MODEL.FBNET.ARCH or MODEL.FBNET.WIDTH_MULT"


def advice(mismatch: Mismatch) -> str:
    """The config key, with the value that fits the file where that is certain."""
    name, in_file, in_model = mismatch
    for sized in SIZED:
        if name.startswith(sized.prefix) and in_file[1:] == in_model[1:]:
            if sized.value is None:
                return sized.key
            return f"{sized.key} {sized.value(in_file[0])}"
    return _OTHERWISE


def describe(mismatches: List[Mismatch], most: int = 4) -> str:
    """One line per tensor: its name, both shapes and the key; the first ``most`` of them."""
    lines = [
        f"  {name}: {tuple(in_file)} in the file, {tuple(in_model)} in the model; "
        f"the file would fit with {advice((name, tuple(in_file), tuple(in_model)))}"
        for name, in_file, in_model in mismatches[:most]
    ]
    if len(mismatches) > most:
        lines.append(f"  and {len(mismatches) - most} more")
    return "\n".join(lines)
