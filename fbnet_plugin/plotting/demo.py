"""A model's predictions drawn on images or on a video."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from tqdm import tqdm

from ..data import DatasetError
from .demo_drawing import class_lines, class_name, draw_predictions, require_drawable
from .demo_files import Picture, read_rgb, write_rgb
from .demo_predictor import Predictor, class_names
from .demo_results import Results
from .video import VideoReader, VideoWriter, video_artist

# Takes what is said of one image, or of what went wrong.
Say = Callable[[str], None]


def draw_images(
    predictor: Predictor,
    pictures: Sequence[Picture],
    metadata: Any,
    *,
    scale: float = 1.0,
    results: Optional[Results] = None,
    say: Say = tqdm.write,
) -> List[str]:
    """Reads images, draws what the model says of them, and writes them.

    Args:
        predictor: the model.
        pictures: what to read and to write.
        metadata: for names and colours of classes.
        scale: factor on the size of the pictures.
        results: gets all predictions.
        say: gets a line per image: how many detections, the time of the model and its preparation, the file.

    Returns:
        a message for each image that could not be read; the others are drawn all the same.

    Raises:
        DatasetError: the only image cannot be read.
        ConfigError: see ``draw_predictions`` and ``write_rgb``.
    """
    failures = []
    for source, target in tqdm(pictures, unit="image", disable=None, leave=False):
        try:
            image = read_rgb(source)
        except DatasetError as error:
            if len(pictures) == 1:
                raise
            failures.append(str(error))
            continue
        begin = time.perf_counter()
        predictions = predictor(image)
        milliseconds = 1e3 * (time.perf_counter() - begin)
        write_rgb(draw_predictions(image, predictions, metadata, scale), target)
        if results is not None:
            results.add(predictions, *image.shape[:2], file_name=source)
        say(f"{source}: {summary(predictions, metadata)}, {milliseconds:.0f} ms -> {target}")
    return failures


def draw_video(
    predictor: Predictor,
    picture: Picture,
    metadata: Any,
    *,
    codec: str = "mp4v",
    results: Optional[Results] = None,
    say: Say = tqdm.write,
) -> bool:
    """Draws what the model says of each frame of a video; an instance keeps its colour from frame to frame.

    Size and frames per second stay what they are. Ctrl-C ends the video with the frame that is being drawn.

    Args:
        predictor, metadata, results, say: see ``draw_images``; a frame's number from 0 stands beside its
            ``file_name`` as ``frame``.
        picture: the video to read, and the one to write.
        codec: of the written one, four letters.

    Returns:
        whether it was drawn to its end.

    Raises:
        DatasetError: the video cannot be read.
        ConfigError: OpenCV is not installed or has no such codec, or nothing can be drawn.
    """
    reader, artist = VideoReader(picture.source), video_artist(metadata)
    frames, begin, complete = 0, time.perf_counter(), True
    with reader, VideoWriter(picture.target, reader.fps, reader.size, codec) as writer:
        try:
            for frame in tqdm(reader, total=reader.frames, unit="frame", disable=None, leave=False):
                predictions = predictor(frame)
                writer.write(_drawn_frame(artist, frame, predictions, metadata))
                if results is not None:
                    results.add(predictions, *frame.shape[:2], file_name=picture.source, frame=frames)
                frames += 1
        except KeyboardInterrupt:
            complete = False
            if not frames:
                raise
    seconds = time.perf_counter() - begin
    rate = f"{frames} frames, {frames / seconds:.1f} frames/s"
    stopped = "" if complete else " (stopped; the video ends there)"
    say(f"{picture.source}: {rate} -> {picture.target}{stopped}")
    return complete


def _drawn_frame(artist: Any, frame: np.ndarray, predictions: Dict[str, Any], metadata: Any) -> np.ndarray:
    if "scores" in predictions:
        return draw_predictions(frame, predictions, metadata)
    if "panoptic_seg" in predictions:
        return artist.draw_panoptic_seg_predictions(frame, *predictions["panoptic_seg"]).get_image()
    require_drawable(predictions)
    if "sem_seg" in predictions:
        frame = artist.draw_sem_seg(frame, predictions["sem_seg"].argmax(dim=0)).get_image()
    if "instances" in predictions:
        frame = artist.draw_instance_predictions(frame, predictions["instances"]).get_image()
    return frame


def summary(predictions: Dict[str, Any], metadata: Any) -> str:
    """What a model says of an image in a few words: "3 detections (2 person, 1 dog)", or a classifier's best class."""
    if "scores" in predictions:
        return class_lines(predictions["scores"], metadata)[0]
    if "instances" not in predictions:
        return "segmented"
    names = class_names(metadata)
    counts: Dict[str, int] = {}
    for number in predictions["instances"].pred_classes.tolist():
        counts[class_name(number, names)] = counts.get(class_name(number, names), 0) + 1
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    number = sum(counts.values())
    return f"{number} detection{'' if number == 1 else 's'}" + (f" ({parts})" if parts else "")
