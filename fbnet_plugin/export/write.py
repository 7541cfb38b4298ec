"""Export, check, and only then write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import torch

from ..atomic_file import atomic_write
from .errors import ExportInputError
from .exportable import Difference, Exportable
from .onnx_file import OnnxNetwork, onnx_bytes
from .torchscript_file import TorchScriptNetwork, torchscript_bytes
from .verify import verify

ONNX, TORCHSCRIPT = "onnx", "torchscript"
# Format: what makes the content of a file, and what runs it.
FORMATS: Dict[str, Tuple[Callable[[Exportable], bytes], Callable[[bytes], Any]]] = {
    ONNX: (onnx_bytes, OnnxNetwork),
    TORCHSCRIPT: (torchscript_bytes, TorchScriptNetwork),
}


class Verified(NamedTuple):
    """The content of a file that gives what the model gives, and the worst difference that was seen."""

    content: bytes
    difference: Difference


def verified(exportable: Exportable, file_format: str, images: Sequence[torch.Tensor]) -> Verified:
    """Exports a network and runs the result against the original.

    Args:
        exportable: the network.
        file_format: of ``FORMATS``.
        images: real ones, (C, H, W) uint8, as the test mapper gives them.

    Raises:
        ExportError: the network cannot be exported, or the result differs.
        ExportInputError: an unknown format, or a package is missing.
    """
    if file_format not in FORMATS:
        raise ExportInputError(f"format {file_format!r}: expected one of {', '.join(FORMATS)}")
    make, load = FORMATS[file_format]
    content = make(exportable)
    return Verified(content, verify(exportable, load(content), images))


def export(
    exportable: Exportable, file_format: str, path: "str | os.PathLike[str]", images: Sequence[torch.Tensor]
) -> Verified:
    """``verified``, and the content in a file; where that raises, an older file stays as it was.

    Raises:
        ExportInputError: also where ``path`` cannot be written.
    """
    check_path(path)
    result = verified(exportable, file_format, images)
    save(result.content, path)
    return result


def check_path(path: "str | os.PathLike[str]") -> None:
    """Before the work that ends in ``save``.

    Raises:
        ExportInputError: there is no such folder, or it cannot be written to.
    """
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise ExportInputError(f"{path} is a folder, expected the path of a file")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ExportInputError(f"{path}: the folder {folder} is missing or cannot be written to")


def save(content: bytes, path: "str | os.PathLike[str]") -> None:
    """Writes a file as a whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)
