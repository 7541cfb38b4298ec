#!/usr/bin/env python3
"""Images per second that arrive in the training process as batches a network can take, beside torchvision and timm.

    dataloading.py [--data FOLDER ...] [--workers 1 2] [--rounds 5] [--seconds 3] [--batch 64] [--output FILE]

Contestants, each with the same images, output size, batch size and number of worker processes, on one core each:

fbnet_plugin  build_train_loader (random numbers of each sample from its position in the stream), then the stacking and
              normalization of ImageClassifier
torchvision   its reference recipe: ImageFolder or CIFAR10; RandomResizedCrop, flip, [RandAugment], PILToTensor,
              ConvertImageDtype, Normalize; DataLoader with persistent workers
timm          create_loader with its prefetcher: RandomResizedCrop (bilinear), flip, [rand-m9-n2-p1]

What is counted ends as a contiguous float batch (N, 3, size, size), normalized, on the CPU. RandAugment is two
operations per image everywhere; timm's are operations of its own.

Each FOLDER holds one folder of images per class; without any, crops of scikit-learn's two photographs (500 x 375 px)
are taken. Images are linked so often that no epoch ends within a measurement, and 32 x 32 px cuttings of the first
folder's images make a set in CIFAR-10's format. Images whose short side is less than 224 px come out at the next lower
multiple of 32.

In each round each contestant runs for --seconds in an order that turns, after as many batches as may have been fetched
ahead are thrown away. Figures are medians over the rounds; ratios are taken within a round, to the better of the other
two. Beside the images per second stands the processor time per image, of all processes: what the cores are kept busy
with, which says the same where they are the limit, and says it also where other programs run. The last line is one JSON
object with all figures.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import multiprocessing
import os
import pickle
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torchvision import datasets, transforms

from fbnet_plugin.data import build_train_loader, register_image_folder
from fbnet_plugin.data.cifar10 import FOLDER as CIFAR_FOLDER
from fbnet_plugin.data.cifar10 import TRAIN_FILES, register_cifar10
from fbnet_plugin.data.image_folder import load_image_folder
from fbnet_plugin.engine import load_config
from fbnet_plugin.modeling.classifier import ImageClassifier

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAMES = ["fbnet_plugin", "torchvision", "timm"]
LARGEST = 224  # px that come out
CIFAR_ROWS = 4000  # of each of the five files

# An endless iterator of float batches (N, 3, size, size), and what ends its workers.
Batches = Tuple[Iterator[torch.Tensor], Callable[[], None]]


class Images(NamedTuple):
    """A set of images.

    Attributes:
        name: in the table.
        root: folder of the class folders, or of ``cifar-10-batches-py``.
        size: px that come out.
        cifar: whether it is in CIFAR-10's format.
    """

    name: str
    root: str
    size: int
    cifar: bool = False


# ---------------------------------------------------------------------------------------------
# Images
# ---------------------------------------------------------------------------------------------


def photograph_folder(root: Path) -> Path:
    """50 JPEG files of 500 x 375 px per class, cut out of the photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sample = load_sample_images()
    for name, photograph in zip(sample.filenames, sample.images):
        folder = root / Path(name).stem
        folder.mkdir(parents=True)
        for number in range(50):
            y, x = rng.integers(0, photograph.shape[0] - 374), rng.integers(0, photograph.shape[1] - 499)
            Image.fromarray(photograph[y : y + 375, x : x + 500]).save(folder / f"{number}.jpg", quality=90)
    return root


def linked(source: Path, root: Path, count: int) -> Images:
    """The images of a folder, linked until they are ``count``, and the size that suits them."""
    dicts = load_image_folder(f"images of {source}", str(source))
    for number in range(max(count, len(dicts))):
        one = Path(dicts[number % len(dicts)]["file_name"]).resolve()
        folder = root / str(dicts[number % len(dicts)]["label"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}{one.suffix}").symlink_to(one)
    sides = []
    for one in dicts[:: max(len(dicts) // 100, 1)]:
        with Image.open(one["file_name"]) as image:
            sides.append(image.size)
    width, height = (int(statistics.median(side)) for side in zip(*sides))
    size = min(LARGEST, max(min(width, height) // 32 * 32, 32))
    return Images(f"{source.parent.name}/{source.name} ({width}x{height} px)", str(root), size)


def cifar_folder(source: Images, root: Path, rows: int) -> Images:
    """Cuttings of a folder's images in CIFAR-10's files, ``rows`` in each of the five."""
    rng = np.random.default_rng(0)
    files = [one["file_name"] for one in load_image_folder(f"images of {source.root}", source.root)[:100]]
    cuttings = []
    for path in files:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((128, 128)))
        places = rng.integers(0, 97, (40, 2))
        cuttings += [pixels[y : y + 32, x : x + 32].transpose(2, 0, 1).reshape(-1) for y, x in places]
    folder = root / CIFAR_FOLDER
    folder.mkdir(parents=True)
    for file in TRAIN_FILES:
        chosen = rng.integers(0, len(cuttings), rows)
        content = {b"data": np.stack([cuttings[i] for i in chosen]), b"labels": (chosen % 10).tolist()}
        (folder / file).write_bytes(old_pickle(content))
    (folder / "batches.meta").write_bytes(old_pickle({b"label_names": [b"%d" % number for number in range(10)]}))
    return Images("CIFAR-10's format (32x32 px)", str(root), 32, cifar=True)


def old_pickle(content: Dict[bytes, Any]) -> bytes:
    """A pickle whose keys are texts of Python 2, which a reader takes for bytes or for text, as it likes."""
    items = [b"U" + bytes([len(key)]) + key + pickle.dumps(value, 3)[2:-1] + b"s" for key, value in content.items()]
    return b"\x80\x03}" + b"".join(items) + b"."


class AnyCIFAR10(datasets.CIFAR10):
    """torchvision's CIFAR10 for other images in the same files, whose checksums it would refuse."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        self.classes = [str(number) for number in range(10)]


# ---------------------------------------------------------------------------------------------
# Contestants
# ---------------------------------------------------------------------------------------------


def ours(images: Images, augment: bool, workers: int, batch: int) -> Batches:
    name = f"dataloading {images.root}"
    if images.cifar:
        register_cifar10(name, images.root, TRAIN_FILES)
    else:
        register_image_folder(name, images.root)
    channels = ("MODEL.PIXEL_MEAN", [255 * value for value in MEAN], "MODEL.PIXEL_STD", [255 * value for value in STD])
    options = {
        "MODEL.META_ARCHITECTURE": "ImageClassifier",
        "MODEL.BACKBONE.NAME": "build_fbnet_backbone",
        "MODEL.FBNET.ARCH": "fbnet_a",
        "MODEL.DEVICE": "cpu",
        "DATASETS.TRAIN": (name,),
        "DATALOADER.NUM_WORKERS": workers,
        "SOLVER.IMS_PER_BATCH": batch,
        "INPUT.FORMAT": "RGB",
        "INPUT.RANDOM_FLIP": "horizontal",
        "INPUT.CLASSIFICATION.TRAIN_SIZE": images.size,
        "INPUT.CLASSIFICATION.AUTO_AUGMENT": "randaugment" if augment else "",
    }
    cfg = load_config(opts=[*itertools.chain.from_iterable(options.items()), *channels])
    loader, model = build_train_loader(cfg, seed=0), ImageClassifier(cfg)
    return (model.preprocess_image(dicts).tensor for dicts in loader), loader.stop


def torchvisions(images: Images, augment: bool, workers: int, batch: int) -> Batches:
    bilinear = transforms.InterpolationMode.BILINEAR
    steps = [transforms.RandomResizedCrop(images.size, interpolation=bilinear), transforms.RandomHorizontalFlip()]
    if augment:
        steps.append(transforms.RandAugment(interpolation=bilinear))
    steps += [transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float), transforms.Normalize(MEAN, STD)]
    transform = transforms.Compose(steps)
    dataset = AnyCIFAR10(images.root, True, transform) if images.cifar else datasets.ImageFolder(images.root, transform)
    more = {"num_workers": workers, "drop_last": True, "persistent_workers": True}
    loader = torch.utils.data.DataLoader(dataset, batch, shuffle=True, **more)
    return endless(loader), lambda: None


def timms(images: Images, augment: bool, workers: int, batch: int) -> Batches:
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        AnyCIFAR10(images.root) if images.cifar else create_dataset("", images.root),
        input_size=(3, images.size, images.size),
        batch_size=batch,
        is_training=True,
        color_jitter=None,
        auto_augment="rand-m9-n2-p1" if augment else None,
        interpolation="bilinear",
        mean=tuple(MEAN),
        std=tuple(STD),
        num_workers=workers,
        device=torch.device("cpu"),
    )
    return endless(loader), lambda: None


def endless(loader: Any) -> Iterator[torch.Tensor]:
    while True:
        for images, _ in loader:
            yield images


CONTESTANTS = dict(zip(NAMES, (ours, torchvisions, timms)))


# ---------------------------------------------------------------------------------------------
# Measurement
# ---------------------------------------------------------------------------------------------


class Speed(NamedTuple):
    """Of one contestant in one round."""

    images_per_s: float
    cpu_us: float  # of processor time per image, of all processes


class Contestant:
    """A loader at work, and its worker processes."""

    def __init__(self, batches: Iterator[torch.Tensor], size: int, batch: int):
        """
        Raises:
            AssertionError: the first batch is not what a network takes.
        """
        others = {process.pid for process in multiprocessing.active_children()}
        self._batches = batches
        images = next(batches)  # starts the workers
        assert images.shape == (batch, 3, size, size) and images.is_contiguous(), f"a batch of {images.shape}"
        assert images.dtype == torch.float32 and images.min() < 0 < images.max() < 3, "a batch that is not normalized"
        self._workers = {process.pid for process in multiprocessing.active_children()} - others

    def run(self, ahead: int, seconds: float) -> Speed:
        """Its speed for ``seconds`` or longer, after ``ahead`` batches that are not counted."""
        for _ in range(ahead):
            next(self._batches)
        count, start, cpu = 0, time.perf_counter(), self._cpu()
        while time.perf_counter() - start < seconds:
            count += len(next(self._batches))
        return Speed(count / (time.perf_counter() - start), 1e6 * (self._cpu() - cpu) / count)

    def _cpu(self) -> float:
        """Seconds of processor time of this process and the workers; a process's clock has a number made of its id."""
        return time.process_time() + sum(time.clock_gettime((~worker << 3) | 2) for worker in self._workers)


def measured(
    images: Images, augment: bool, workers: int, args: argparse.Namespace, progress: "Progress"
) -> Dict[str, List[Speed]]:
    """The speed of each contestant in each round."""
    speeds: Dict[str, List[Speed]] = {name: [] for name in NAMES}
    with contextlib.ExitStack() as ends:
        running = {}
        for name, start in CONTESTANTS.items():
            batches, end = start(images, augment, workers, args.batch)
            ends.callback(end)
            running[name] = Contestant(batches, images.size, args.batch)
        for number in range(args.rounds):
            for name in NAMES[number % 3 :] + NAMES[: number % 3]:
                speeds[name].append(running[name].run(2 * workers + 1, args.seconds))
                progress.step(f"{images.name}, {workers} workers, {name}: {speeds[name][-1].images_per_s:.0f} images/s")
        running.clear()
        del batches, end
    gc.collect()  # the loaders of others end their workers when they go
    return speeds


class Progress:
    """Says on stderr how far the measurement is."""

    def __init__(self, steps: int):
        self._done, self._steps, self._start = 0, steps, time.perf_counter()

    def step(self, text: str) -> None:
        self._done += 1
        left = (time.perf_counter() - self._start) / self._done * (self._steps - self._done)
        print(f"{self._done} of {self._steps} (about {left:.0f} s left): {text}", file=sys.stderr, flush=True)


def figures_of(images: Images, augment: bool, workers: int, speeds: Dict[str, List[Speed]]) -> Dict[str, Any]:
    rounds = list(zip(*(speeds[name] for name in NAMES)))
    ratios = [mine.images_per_s / max(one.images_per_s for one in others) for mine, *others in rounds]
    cpu_ratios = [min(one.cpu_us for one in others) / mine.cpu_us for mine, *others in rounds]
    medians = {name: Speed(*(statistics.median(values) for values in zip(*found))) for name, found in speeds.items()}
    return {
        "images": images.name,
        "size": images.size,
        "augmentation": "randaugment" if augment else "plain",
        "workers": workers,
        "images_per_s": {name: round(speed.images_per_s, 1) for name, speed in medians.items()},
        "cpu_us_per_image": {name: round(speed.cpu_us, 1) for name, speed in medians.items()},
        "ratio": round(statistics.median(ratios), 3),
        "cpu_ratio": round(statistics.median(cpu_ratios), 3),
        "cpu_ratio_range": [round(min(cpu_ratios), 3), round(max(cpu_ratios), 3)],
    }


def print_table(cells: List[Dict[str, Any]]) -> None:
    rows = []
    for cell in cells:
        low, high = cell["cpu_ratio_range"]
        place = [cell["images"], cell["size"], cell["augmentation"], cell["workers"]]
        figures = [*cell["images_per_s"].values(), cell["ratio"], *cell["cpu_us_per_image"].values(), cell["cpu_ratio"]]
        rows.append([*place, *figures, f"{low:.2f} to {high:.2f}"])
    headers = ["images", "px out", "augmentation", "workers", "ours/s", "torchvision/s", "timm/s", "ratio"]
    headers += ["ours CPU µs", "torchvision", "timm", "CPU ratio", "rounds"]
    formats = (*[""] * 4, ".0f", ".0f", ".0f", ".2f", ".0f", ".0f", ".0f", ".2f", "")
    print(tabulate(rows, headers, floatfmt=formats, tablefmt="pipe"))


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, metavar="FOLDER", help="default: scikit-learn's photographs")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3, help="per contestant and round; default: %(default)s")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="images; default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON object goes there too")
    args = parser.parse_args(argv)
    if min(args.workers) < 1:
        parser.error(f"--workers: got {min(args.workers)}, expected 1 or more")
    return args


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="dataloading") as scratch:
        root = Path(scratch)
        folders = args.data or [photograph_folder(root / "scikit-learn" / "photographs")]
        # About 2,000 images per second and worker is more than any of them makes of files.
        count = int(2000 * max(args.workers) * args.rounds * (args.seconds + 1))
        sets = [linked(folder, root / str(number), count) for number, folder in enumerate(folders)]
        sets.append(cifar_folder(sets[0], root / "cifar", CIFAR_ROWS))
        cells = list(itertools.product(sets, (False, True), args.workers))
        progress = Progress(len(cells) * args.rounds * len(NAMES))
        results = [figures_of(*cell, measured(*cell, args, progress)) for cell in cells]
    print_table(results)
    text = json.dumps({"cores": os.cpu_count(), "batch": args.batch, "rounds": args.rounds, "cells": results})
    if args.output:
        args.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
