"""Pictures of a dataset: what is annotated, and what arrives in training."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils

from ..data import DatasetError, build_test_loader, build_train_loader, is_classification, training_dicts
from ..data.catalog import spread
from ..engine import ConfigError
from ..modeling.mixup import Mixup
from .demo_drawing import class_name, resized, visualizer_class, with_lines
from .demo_files import read_rgb

TRAIN, TEST = "train", "test"
_LEGIBLE = 240  # px of the short side below which pictures are enlarged


class Shown(NamedTuple):
    """A picture of a dataset.

    Attributes:
        name: of the image, without folder and ending.
        pixels: (H, W, 3) uint8 RGB.
        says: what is on it, in a few words.
    """

    name: str
    pixels: np.ndarray
    says: str


def dataset_name(cfg: CfgNode, which: str) -> str:
    """The first dataset of ``DATASETS.TRAIN`` or ``DATASETS.TEST``.

    Args:
        which: ``TRAIN`` or ``TEST``.

    Raises:
        ConfigError: there is none, or nobody registered it.
    """
    key = f"DATASETS.{which.upper()}"
    names = cfg.DATASETS[which.upper()]
    if not names:
        raise ConfigError(f"{key} is empty, expected the name of a dataset")
    for name in names:
        if name not in DatasetCatalog:
            raise ConfigError(f"{key} names {name!r} (known: {', '.join(DatasetCatalog.list())})")
    return names[0]


def annotated(cfg: CfgNode, which: str, count: int) -> Iterator[Shown]:
    """Images as they lie in their files, with what is annotated: boxes, masks, keypoints, segments, or the class.

    Args:
        cfg: complete, its own datasets registered.
        which: ``TRAIN`` or ``TEST``.
        count: how many at most, evenly spaced over the set, for sets are often sorted by class.

    Raises:
        DatasetError: the dataset or an image cannot be read.
        ConfigError: see ``dataset_name``; OpenCV, which boxes need, is not installed.
    """
    name = dataset_name(cfg, which)
    dicts = _dicts(cfg, name, which)
    metadata = MetadataCatalog.get(name)
    for one in spread(dicts, count):
        pixels = one["image"] if "image" in one else read_rgb(one["file_name"])
        if "label" in one:
            yield _classified(one, pixels, [class_name(one["label"], metadata.get("thing_classes"))])
            continue
        visualizer = visualizer_class()(pixels, metadata, scale=_scale(pixels))
        drawn = visualizer.draw_dataset_dict(one).get_image()
        yield Shown(_name(one), drawn, _objects(len(one.get("annotations", []))))


def _dicts(cfg: CfgNode, name: str, which: str) -> List[Dict[str, Any]]:
    try:
        return training_dicts(cfg) if which == TRAIN else DatasetCatalog.get(name)
    except OSError as error:  # Detectron2's own datasets
        root = os.environ.get("DETECTRON2_DATASETS", "unset: ./datasets")
        raise DatasetError(f"dataset {name!r}: {error} (DETECTRON2_DATASETS is {root})") from None


def loaded(cfg: CfgNode, which: str, count: int) -> Iterator[Shown]:
    """Images as the model gets them: cropped, resized, flipped, augmented, mixed as ``MODEL.CLASSIFIER.MIXUP`` says.

    Args:
        cfg: complete, its own datasets registered.
        which: ``TRAIN``: batches of the training loader, in an order and with random numbers of ``SEED``; ``TEST``: the
            images of the test loader in their order, which in detection come without annotations.
        count: how many.

    Raises:
        DatasetError: a dataset or an image cannot be read.
        ConfigError: see ``annotated``.
    """
    name = dataset_name(cfg, which)
    metadata = MetadataCatalog.get(name)
    mixed = which == TRAIN and is_classification([name]) and cfg.MODEL.CLASSIFIER.MIXUP > 0
    done = 0
    for batch in _batches(cfg, name, which):
        for shown in _mixtures(cfg, batch, metadata) if mixed else (_arrived(cfg, one, metadata) for one in batch):
            yield shown
            done += 1
            if done == count:
                return


def _batches(cfg: CfgNode, name: str, which: str) -> Iterator[List[Dict[str, Any]]]:
    """Endless batches of the training loader, or once those of the test loader."""
    if which == TEST:
        _dicts(cfg, name, which)  # says what is missing
        yield from build_test_loader(cfg, name)
        return
    loader = build_train_loader(cfg, dataset=_dicts(cfg, name, which), seed=max(cfg.SEED, 0))
    try:
        yield from loader
    finally:
        loader.stop()


def _arrived(cfg: CfgNode, one: Dict[str, Any], metadata: Any) -> Shown:
    """A picture of what a mapper made."""
    pixels = _rgb(cfg, one["image"])
    if "label" in one:
        return _classified(one, pixels, [class_name(one["label"], metadata.get("thing_classes"))])
    visualizer = visualizer_class()(pixels, metadata, scale=_scale(pixels))
    if "sem_seg" in one:
        visualizer.draw_sem_seg(one["sem_seg"], area_threshold=0, alpha=0.5)
    if "instances" not in one:
        return Shown(_name(one), visualizer.get_output().get_image(), f"{pixels.shape[1]}x{pixels.shape[0]} px")
    fields = one["instances"].get_fields()
    names = metadata.get("thing_classes")
    drawn = visualizer.overlay_instances(
        labels=[class_name(number, names) for number in fields["gt_classes"].tolist()],
        boxes=fields.get("gt_boxes"),
        masks=fields.get("gt_masks"),
        keypoints=fields.get("gt_keypoints"),
    )
    return Shown(_name(one), drawn.get_image(), _objects(len(one["instances"])))


def _mixtures(cfg: CfgNode, batch: List[Dict[str, Any]], metadata: Any) -> Iterator[Shown]:
    """A batch as the model mixes it, drawn anew."""
    names = metadata.get("thing_classes")
    mixup = Mixup.draw(cfg.MODEL.CLASSIFIER.MIXUP, len(batch))
    images = mixup.images(torch.stack([one["image"] for one in batch]).float())
    for one, image, partner in zip(batch, images, mixup.partners.tolist()):
        share = 1 if batch[partner] is one else mixup.share
        lines = [f"{share:.0%} {class_name(one['label'], names)}"]
        if share < 1:
            lines.append(f"{1 - share:.0%} {class_name(batch[partner]['label'], names)}")
        yield _classified(one, _rgb(cfg, image), lines)


def _classified(one: Dict[str, Any], pixels: np.ndarray, lines: Sequence[str]) -> Shown:
    return Shown(_name(one), with_lines(resized(pixels, _scale(pixels)), lines), ", ".join(lines))


def _rgb(cfg: CfgNode, image: Any) -> np.ndarray:
    """(C, H, W) of a mapper -> (H, W, 3) uint8 RGB"""
    pixels = utils.convert_image_to_rgb(image.permute(1, 2, 0), cfg.INPUT.FORMAT)
    return np.ascontiguousarray(np.asarray(pixels).round().clip(0, 255).astype(np.uint8))


def _scale(pixels: np.ndarray) -> int:
    """A whole factor that makes small images large enough for text."""
    return max(-(-_LEGIBLE // min(pixels.shape[:2])), 1)


def _name(one: Dict[str, Any]) -> str:
    return os.path.splitext(os.path.basename(one.get("file_name") or f"image {one.get('image_id')}"))[0]


def _objects(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"
