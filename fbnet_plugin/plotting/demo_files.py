"""Which files a demo reads, and where it writes what it has drawn on them."""

from __future__ import annotations

import glob
import os
from typing import Dict, Iterator, List, NamedTuple, Sequence

import numpy as np
from PIL import Image

from ..atomic_file import atomic_write
from ..data import DatasetError
from ..data.image_folder import IMAGE_SUFFIXES, images_below
from ..data.mapper import read_image
from ..engine import ConfigError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
VIDEO_OUTPUT = ".mp4"
_JPEG_QUALITY = 95


class Picture(NamedTuple):
    """A file to read and the file to write.

    Attributes:
        source: path of the image or video.
        target: path of the drawn one.
    """

    source: str
    target: str


class _Found(NamedTuple):
    path: str
    name: str  # below the folder that is written to
    alone: bool  # whether it was named itself


def suffix_of(path: str) -> str:
    """The ending of a file's name in small letters, such as ".jpg"."""
    return os.path.splitext(path)[1].lower()


def is_video(path: str) -> bool:
    """Whether a file's name ends as a video's does."""
    return suffix_of(path) in VIDEO_SUFFIXES


def plan_pictures(inputs: Sequence[str], output: str) -> List[Picture]:
    """What is read and what is written.

    Args:
        inputs: image files, folders (the images in them and below, sorted by path), patterns (``**`` for folders at any
            depth), or one video file.
        output: a file for a single image or video that is named by itself, if its ending is one of an image or of
            a video; otherwise a folder, in which files lie as they lie below the folders of ``inputs``.

    Raises:
        ConfigError: nothing is found, a target is no file of the right kind, two have the same target, or a target is
            one of the inputs.
    """
    found = _without_repetitions(one for item in inputs for one in _find(item, output))
    videos = [one.path for one in found if is_video(one.path)]
    if videos and len(found) > 1:
        raise ConfigError(f"--input: {videos[0]} is a video, expected it alone, or images alone")
    alone = len(found) == 1 and found[0].alone
    endings = (VIDEO_OUTPUT,) if videos else IMAGE_SUFFIXES
    if suffix_of(output) in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and not os.path.isdir(output):
        if not alone:
            raise ConfigError(f"--output {output}: expected a folder, as there are several images or a folder of them")
        if suffix_of(output) not in endings:
            raise ConfigError(f"--output {output}: expected a folder, or a name that ends in {', '.join(endings)}")
        pictures = [Picture(found[0].path, output)]
    else:
        if os.path.exists(output) and not os.path.isdir(output):
            raise ConfigError(f"--output {output}: is a file whose name is no image's, expected a folder")
        pictures = [Picture(one.path, os.path.join(output, _target_name(one.name, endings))) for one in found]
    _check_targets(pictures)
    return pictures


def _target_name(name: str, endings: Sequence[str]) -> str:
    if suffix_of(name) in endings:
        return name
    return os.path.splitext(name)[0] + (VIDEO_OUTPUT if endings == (VIDEO_OUTPUT,) else ".png")


def _find(item: str, output: str) -> Iterator[_Found]:
    """The files of one input."""
    if os.path.isfile(item):
        yield _Found(item, os.path.basename(item), True)
        return
    if os.path.isdir(item):
        root, paths, kind = item, images_below(item), "images in this folder or below it"
    elif glob.has_magic(item):
        root = item[: min(item.find(sign) for sign in "*?[" if sign in item)].rpartition(os.sep)[0]
        paths = sorted(path for path in glob.glob(item, recursive=True) if os.path.isfile(path))
        kind = "file has such a name"
    else:
        raise ConfigError(f"--input {item}: no such file or folder")
    root = root or os.curdir
    if os.path.isdir(output) and not os.path.samefile(root, output):
        paths = _outside(paths, output)
    if not paths:
        raise ConfigError(f"--input {item}: no {kind}")
    for path in paths:
        yield _Found(path, os.path.relpath(path, root), False)


def _outside(paths: Sequence[str], output: str) -> List[str]:
    """Without what an earlier run has written to the folder ``output``."""
    folder = os.path.join(os.path.realpath(output), "")
    return [path for path in paths if not os.path.realpath(path).startswith(folder)]


def _without_repetitions(found: Iterator[_Found]) -> List[_Found]:
    first: Dict[str, _Found] = {}
    for one in found:
        first.setdefault(os.path.realpath(one.path), one)
    return list(first.values())


def _check_targets(pictures: Sequence[Picture]) -> None:
    sources = {os.path.realpath(picture.source) for picture in pictures}
    taken: Dict[str, str] = {}
    for source, target in pictures:
        place = os.path.realpath(target)
        if place in sources:
            raise ConfigError(f"--output: {target} would overwrite an input; choose another place")
        if place in taken:
            raise ConfigError(f"{taken[place]} and {source} would both be written to {target}; draw them separately")
        taken[place] = source


def read_rgb(path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file, upright as its EXIF data says.

    Raises:
        DatasetError: the file cannot be read, or is no image.
    """
    try:
        return np.asarray(read_image(path, "RGB"))
    except Exception as error:  # a broken file makes decoders raise almost anything
        raise DatasetError(f"cannot read the image {path}: {error}") from None


def write_rgb(pixels: np.ndarray, path: str) -> None:
    """Writes (H, W, 3) uint8 RGB in the format that the file's name says; the file appears complete or not at all.

    Raises:
        ConfigError: the folder cannot be made, or the file not be written.
    """
    kind = Image.registered_extensions()[suffix_of(path)]
    more = {"quality": _JPEG_QUALITY} if kind in ("JPEG", "WEBP") else {}
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with atomic_write(path) as file:
            Image.fromarray(pixels).save(file, format=kind, **more)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from None
