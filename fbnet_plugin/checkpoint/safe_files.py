"""Checkpoint files of tensors and plain containers, written whole or not at all."""

from __future__ import annotations

import os
from typing import Any, Mapping

import numpy as np
import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from ..atomic_file import atomic_write, remove_leftovers
from .errors import CheckpointError

POINTER = "last_checkpoint"
_SCALARS = (str, bytes, bool, int, float, type(None))


def plain(value: Any, where: str) -> Any:
    """``value`` with NumPy's scalars and arrays replaced by Python's numbers and tensors.

    Args:
        value: what is about to be saved.
        where: its place in the checkpoint, for the error message.

    Raises:
        CheckpointError: something in it is neither a tensor nor a number, text, dict, list or tuple.
    """
    if type(value) in _SCALARS or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        if hasattr(value, "_metadata"):  # of a module; as a plain dict it would lose the versions of its modules
            for key, item in value.items():
                plain(item, f"{where}[{key!r}]")
            return value
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise CheckpointError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}; a checkpoint holds tensors, numbers, "
        "text, dicts, lists and tuples alone, so that loading it runs no code"
    )


def check_finite(model: nn.Module) -> None:
    """Refuses a diverged model.

    Raises:
        FloatingPointError: a parameter is NaN or infinite, or a buffer has a NaN; the message names it.
    """
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise FloatingPointError(f"parameter {name} is not finite; the checkpoint was not written")
    for name, value in model.named_buffers():
        if value.is_floating_point() and torch.isnan(value).any():
            raise FloatingPointError(f"buffer {name} has a NaN; the checkpoint was not written")


def write_weights(model: nn.Module, path: str) -> None:
    """Writes the weights of a model, and nothing else, to a file that ``MODEL.WEIGHTS`` can name.

    Raises:
        FloatingPointError: the model has diverged; nothing is written.
        CheckpointError: some state is not plain data; nothing is written.
    """
    check_finite(model)
    content = plain({"model": model.state_dict()}, "checkpoint")
    with atomic_write(path) as file:
        torch.save(content, file)


class SafeFiles(Checkpointer):
    """The writing of fvcore's ``Checkpointer``, made safe against crashes.

    The folder must be on a file system (not behind a URL): renaming is what makes a file appear as a whole.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes model, checkpointables and ``kwargs`` to ``<save_dir>/<name>.pth`` and points to it.

        A crash at any moment leaves the older checkpoints and a pointer to one of them.

        Raises:
            FloatingPointError: the model has diverged; nothing is written.
            CheckpointError: some state is not plain data; nothing is written.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        basename = f"{name}.pth"
        if os.path.basename(basename) != basename:
            raise ValueError(f"checkpoint name {name!r}: expected a file name without a folder")
        check_finite(self.model)
        state = {key: item.state_dict() for key, item in self.checkpointables.items()}
        content = plain({"model": self.model.state_dict(), **state, **kwargs}, "checkpoint")
        path = os.path.join(self.save_dir, basename)
        self.logger.info(f"Saving checkpoint to {path}")
        os.makedirs(self.save_dir, exist_ok=True)
        remove_leftovers(self.save_dir, ".pth")
        with atomic_write(path) as file:
            torch.save(content, file)
        self.tag_last_checkpoint(basename)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Lets ``last_checkpoint`` name the file from which ``--resume`` continues."""
        with atomic_write(os.path.join(self.save_dir, POINTER)) as file:
            file.write(last_filename_basename.encode())
