"""A detector's predictions drawn on the images of a dataset."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

from .demo_drawing import draw_predictions, visualizer_class
from .demo_files import read_rgb, write_rgb

PADDING = 4


def draw_detections(
    cfg: CfgNode,
    model: nn.Module,
    loader: Sequence[List[Dict[str, Any]]],
    path: str,
    *,
    count: int = 12,
    threshold: float = 0.5,
    scale: float = 2.0,
) -> int:
    """Writes one picture with the predictions on the first images of a test loader, side by side.

    Args:
        cfg: INPUT.FORMAT and DATASETS.TEST (for the class names) are read.
        model: a Detectron2 detector; it is put into eval mode.
        loader: gives lists of dicts with ``image`` and ``file_name``.
        path: of the image file; it appears complete or not at all.
        count: images in the picture.
        threshold: smallest score of a box that is drawn.
        scale: of the images in the picture.

    Returns:
        number of boxes drawn.

    Raises:
        ConfigError: OpenCV is not installed, or the file cannot be written.
    """
    visualizer_class()  # before anything is computed
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    tiles: List[np.ndarray] = []
    boxes = 0
    model.eval()
    for batch in loader:
        with torch.no_grad():
            outputs = model(batch)
        for entry, output in zip(batch, outputs):
            found = output["instances"].to("cpu")
            found = found[found.scores >= threshold]
            boxes += len(found)
            tiles.append(draw_predictions(read_rgb(entry["file_name"]), {"instances": found}, metadata, scale))
        if len(tiles) >= count:
            break
    write_rgb(_mosaic(tiles[:count]), path)
    return boxes


def _mosaic(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, 3) images side by side on white, in about a square of columns and rows."""
    columns = math.ceil(math.sqrt(len(tiles) * 4 / 3))
    rows = math.ceil(len(tiles) / columns)
    height, width = (max(tile.shape[axis] for tile in tiles) + PADDING for axis in (0, 1))
    picture = np.full((rows * height + PADDING, columns * width + PADDING, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (PADDING + place * side for place, side in zip(divmod(index, columns), (height, width)))
        picture[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return picture
