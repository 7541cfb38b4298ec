"""Small stand-ins for what a reader of the documentation has: images, latency tables, times of networks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List

import numpy as np
from PIL import Image

from fbnet_plugin.arch import SearchSpace
from fbnet_plugin.latency import Entry, LatencyTable, Setting, save_table

HEIGHT, WIDTH = 64, 96


def noise(path: Path, seed: int) -> None:
    """An image of nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def coco_dataset(annotations: Path, images: Path, classes: int) -> None:
    """Four images with two boxes and masks each, and their annotations in COCO's format."""
    objects: List[Dict[str, Any]] = []
    for number in range(8):
        x, y = 4.0 * number, 2.0 * number
        corners = [x, y, x + 24, y, x + 24, y + 24, x, y + 24]
        objects.append({"id": number + 1, "image_id": number // 2, "category_id": number % classes + 1, "area": 576,
                        "bbox": [x, y, 24, 24], "iscrowd": 0, "segmentation": [corners]})  # fmt: skip
    for number in range(4):
        noise(images / f"{number}.jpg", number)
    found = [{"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH} for number in range(4)]
    names = [{"id": number + 1, "name": f"class{number}"} for number in range(classes)]
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps({"images": found, "categories": names, "annotations": objects}))


def image_folder(folder: Path, classes: int) -> None:
    """Three images in a folder per class."""
    for number in range(3 * classes):
        noise(folder / f"class{number % classes:02d}" / f"{number}.jpg", number)


def latency_table(path: Path, operators: Iterable[Any], setting: Setting) -> None:
    """A table with all operators, each a little slower than the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_table(
        LatencyTable(setting, {operator: Entry(10.0 + number) for number, operator in enumerate(operators)}), str(path)
    )


def network_times(path: Path, space: SearchSpace, column: str) -> None:
    """A CSV file of 150 random networks of a space, with a time that is a sum over their choices."""
    rng = np.random.default_rng(0)
    names = [variable.name for variable in space.variables]
    sizes = [len(variable.choices) for variable in space.variables]
    cost = [rng.uniform(0.1, 1.0, size) for size in sizes]
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow([*names, column])
        for _ in range(150):
            point = [int(rng.integers(size)) for size in sizes]
            time = 5 + sum(float(one[choice]) for one, choice in zip(cost, point))
            out.writerow([*point, round(time, 4)])
