"""Videos by OpenCV, frame by frame."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any, Iterator, Optional, Tuple

import numpy as np

from ..data import DatasetError
from ..engine import ConfigError
from .demo_drawing import needs_opencv

_USUAL_FPS = 30.0  # of a video that does not say


def _opencv() -> Any:
    """
    Raises:
        ConfigError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise needs_opencv(error) from None
    return cv2


def video_artist(metadata: Any) -> Any:
    """Detectron2's ``VideoVisualizer``, which follows instances from frame to frame.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    try:
        from detectron2.utils.video_visualizer import VideoVisualizer
    except ImportError as error:
        raise needs_opencv(error) from None
    return VideoVisualizer(metadata)


class VideoReader:
    """The frames of a video, (H, W, 3) uint8 RGB, once.

    Attributes:
        fps: frames per second; 30 where the file does not say.
        size: (width, height) in px.
        frames: how many there are as the file says; None where it does not.

    Raises:
        DatasetError: the file is no video, or in a format that OpenCV cannot read.
        ConfigError: OpenCV is not installed.
    """

    def __init__(self, path: str):
        cv2 = _opencv()
        self._path, self._convert = path, lambda frame: cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        self._capture = cv2.VideoCapture(path)
        readable, frame = self._capture.read() if self._capture.isOpened() else (False, None)
        if not readable:
            raise DatasetError(f"cannot read the video {path}: it holds no frame in a format that OpenCV can decode")
        self._first = self._convert(frame)
        fps, frames = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and fps > 0 else _USUAL_FPS
        self.frames: Optional[int] = int(frames) if math.isfinite(frames) and frames > 0 else None
        self.size: Tuple[int, int] = (frame.shape[1], frame.shape[0])

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = self._first
        while frame is not None:
            yield frame
            readable, frame = self._capture.read()
            frame = self._convert(frame) if readable else None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: Any) -> None:
        self._capture.release()


class VideoWriter:
    """A video file that appears, complete, when the ``with`` block ends without an exception.

    Most codecs take even sizes alone; OpenCV then cuts off the last row or column of px.

    Args:
        path: of the file; its ending chooses the container.
        fps: frames per second.
        size: (width, height) in px.
        codec: four letters, such as "mp4v" or "avc1".

    Raises:
        ConfigError: OpenCV has no such codec, or the file cannot be written.
    """

    def __init__(self, path: str, fps: float, size: Tuple[int, int], codec: str = "mp4v"):
        self._cv2 = _opencv()
        if len(codec) != 4:
            raise ConfigError(f"video codec {codec!r}: expected four letters, such as mp4v")
        folder, name = os.path.split(os.path.abspath(path))
        self._path, self._temporary = path, os.path.join(folder, f".tmp.{name}")
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error}") from None
        with _quiet(self._cv2):
            self._writer = self._cv2.VideoWriter(self._temporary, self._cv2.VideoWriter_fourcc(*codec), fps, size)
        if not self._writer.isOpened():
            self._remove()
            raise ConfigError(
                f"cannot write {path}: OpenCV {self._cv2.__version__} cannot open it with the video codec {codec!r}; "
                "mp4v in an .mp4 file is what its packages come with"
            )

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame, (H, W, 3) uint8 RGB, of the video's size."""
        self._writer.write(self._cv2.cvtColor(frame, self._cv2.COLOR_RGB2BGR))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._writer.release()
        if kind is None:
            os.replace(self._temporary, self._path)
        else:
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)


@contextlib.contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Without OpenCV's own messages about codecs."""
    level = cv2.getLogLevel() if hasattr(cv2, "getLogLevel") else None
    if level is not None:
        cv2.setLogLevel(0)
    try:
        yield
    finally:
        if level is not None:
            cv2.setLogLevel(level)
