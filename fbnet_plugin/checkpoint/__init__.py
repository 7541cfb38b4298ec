"""Checkpoints: written whole, read safely, resumed from the last good one, mapped from task to task."""

from .checkpointer import FBNetCheckpointer
from .errors import CheckpointError
from .mapping import convert_state_dict
from .safe_files import read_checkpoint

__all__ = ["CheckpointError", "FBNetCheckpointer", "convert_state_dict", "read_checkpoint"]
