"""What a model says of an image, drawn on it."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..engine import ConfigError

TOP = 5  # classes of a classifier that are shown
_MARGIN = 0.3  # of a line's height, around text


def visualizer_class() -> Any:
    """Detectron2's ``Visualizer``.

    Raises:
        ConfigError: OpenCV, which it needs, is not installed.
    """
    try:
        from detectron2.utils.visualizer import Visualizer
    except ImportError as error:
        raise needs_opencv(error) from None
    return Visualizer


def needs_opencv(error: ImportError) -> ConfigError:
    """The error for a part that cannot do without OpenCV."""
    return ConfigError(f"drawing needs OpenCV ({error}): pip install 'fbnet_plugin[demo]'")


def draw_predictions(image: np.ndarray, predictions: Dict[str, Any], metadata: Any, scale: float = 1.0) -> np.ndarray:
    """A copy of an image with a model's predictions on it.

    Args:
        image: (H, W, 3) uint8 RGB.
        predictions: of the image, on the CPU, as a ``Predictor`` gives them.
        metadata: for names and colours of classes.
        scale: factor on the size of the picture.

    Returns:
        (scale * H, scale * W, 3) uint8 RGB.

    Raises:
        ConfigError: there is nothing in ``predictions`` that can be drawn, or OpenCV is not installed.
    """
    if "scores" in predictions:
        return with_lines(resized(image, scale), class_lines(predictions["scores"], metadata))
    visualizer = visualizer_class()(image, metadata, scale=scale)
    if "panoptic_seg" in predictions:
        return visualizer.draw_panoptic_seg_predictions(*predictions["panoptic_seg"]).get_image()
    require_drawable(predictions)
    if "sem_seg" in predictions:
        drawn = visualizer.draw_sem_seg(predictions["sem_seg"].argmax(dim=0))
    if "instances" in predictions:
        drawn = visualizer.draw_instance_predictions(predictions["instances"])
    return drawn.get_image()


def require_drawable(predictions: Dict[str, Any]) -> None:
    """
    Raises:
        ConfigError: there is nothing in a detector's predictions that can be drawn.
    """
    known = ("instances", "panoptic_seg", "sem_seg")
    if not any(key in predictions for key in known):
        raise ConfigError(f"the model gives {', '.join(predictions) or 'nothing'}; {', '.join(known)} can be drawn")


def best_classes(scores: torch.Tensor) -> List[Tuple[int, float]]:
    """(class, score) of the best ``TOP`` of scores (num_classes,), the best first."""
    best = scores.topk(min(TOP, len(scores)))
    return list(zip(best.indices.tolist(), best.values.tolist()))


def class_lines(scores: torch.Tensor, metadata: Any) -> List[str]:
    """Lines such as "tabby cat 87.3%", the best class first."""
    names = metadata.get("thing_classes")
    return [f"{class_name(number, names)} {100 * score:.1f}%" for number, score in best_classes(scores)]


def class_name(number: int, names: Optional[Sequence[str]]) -> str:
    """The name of a class, or "class 7" where it has none."""
    return names[number] if names and number < len(names) else f"class {number}"


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """(H, W, 3) -> (scale * H, scale * W, 3)"""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((round(width * scale), round(height * scale))))


def with_lines(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """A copy of an image (H, W, 3), uint8 RGB, with lines of text on a dark ground in its upper left corner.

    The letters are a twentieth of the short side high (10 to 40 px), smaller where the lines would not fit.
    """
    height, width = image.shape[:2]
    size = float(min(max(min(height, width) / 20, 10), 40))
    boxes = [_font(size).getbbox(line) for line in lines]
    wide = max(box[2] for box in boxes) + 2 * _MARGIN * size
    size = max(size * min(1, width / wide, height / (size * 1.3 * len(lines) + 2 * _MARGIN * size)), 5)
    font, margin, step = _font(size), _MARGIN * size, 1.3 * size
    wide = max(font.getbbox(line)[2] for line in lines) + 2 * margin
    ground = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(ground)
    draw.rectangle((0, 0, wide, step * len(lines) + margin), fill=(0, 0, 0, 160))
    for number, line in enumerate(lines):
        draw.text((margin, margin / 2 + number * step), line, fill=(255, 255, 240, 255), font=font)
    drawn = Image.alpha_composite(Image.fromarray(image).convert("RGBA"), ground)
    return np.asarray(drawn.convert("RGB"))


def _font(size: float) -> Any:
    """matplotlib's own font, which is always there and has most scripts' letters."""
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), max(round(size), 1))
