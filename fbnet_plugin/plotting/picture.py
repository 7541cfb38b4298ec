"""Figures as files."""

from __future__ import annotations

import os

from matplotlib.figure import Figure

from ..atomic_file import atomic_write

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 150


def picture_format(path: str | os.PathLike[str]) -> str:
    """Format of a picture by its name's ending: "png", "pdf" or "svg". Raises ValueError: another ending."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{os.fspath(path)}: expected a file name that ends in {', '.join(SUFFIXES)}")
    return suffix[1:]


def save_picture(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure, cut to what is drawn; the file appears complete or not at all."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        figure.savefig(
            file, format=picture_format(path), dpi=DPI, bbox_inches="tight", pad_inches=0.08, facecolor="white"
        )
