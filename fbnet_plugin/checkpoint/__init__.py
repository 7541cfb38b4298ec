"""Checkpoints: written whole, read safely, resumed from the last good one, mapped from task to task, and converted from
the files of other projects."""

from . import timm_url as _timm_url  # noqa: F401 - registration only
from .checkpointer import FBNetCheckpointer
from .errors import CheckpointError
from .file_formats import read_checkpoint
from .mapping import convert_state_dict

__all__ = ["CheckpointError", "FBNetCheckpointer", "convert_state_dict", "read_checkpoint"]
