"""Detectron2's checkpointer with files that survive crashes and loading that never fails silently."""

from __future__ import annotations

import logging
import os
from typing import Any, Dict, List, Optional

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from .errors import CheckpointError
from .mapping import convert_state_dict
from .mismatch import describe
from .resume import has_training_state, newest_readable
from .safe_files import SafeFiles

_logger = logging.getLogger(__name__)


class FBNetCheckpointer(DetectionCheckpointer, SafeFiles):
    """``DetectionCheckpointer`` for every model of this project.

    Beyond what that class does: files are written whole or not at all and hold plain data alone (``SafeFiles``); a
    damaged newest checkpoint or pointer leads to the previous good one (``resume.py``); a classifier's weights find
    their places in a detector (``mapping.py``); tensors that do not fit are an error where all have to fit.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        strict: Optional[bool] = None,
        save_to_disk: Optional[bool] = None,
        **checkpointables: Any,
    ):
        """
        Args:
            model, save_dir, save_to_disk, checkpointables: see ``DetectionCheckpointer``.
            strict: whether every parameter of the model must come out of the file. None: when the checkpointables
                are loaded too, which is when a run is continued, but not when weights initialize a new one.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self._strict = strict
        self._loading, self._must_fit = "", False

    @property
    def loaded(self) -> str:
        """The path that was loaded last, "" for none."""
        return self._loading

    def has_checkpoint(self) -> bool:
        """Whether the folder holds a training state, or the pointer to one, readable or not."""
        return has_training_state(self.save_dir)

    def resume_or_load(self, path: str, *, resume: bool = True) -> Dict[str, Any]:
        """Continues from the newest readable checkpoint in the folder, or loads the weights of ``path``.

        Args:
            path: of weights; "" for none. Not used when there is a run to continue.
            resume: whether to continue.

        Raises:
            CheckpointError: there are checkpoints but none is readable, or the weights do not fit.
        """
        # The main process decides for all.
        found = comm.all_gather(self._resume_path() if resume and comm.is_main_process() else None)[0]
        if isinstance(found, CheckpointError):
            raise found
        if found is None:
            return self.load(path, checkpointables=[])
        return self.load(found)

    def _resume_path(self) -> Any:
        """Path of the checkpoint to continue from, None where there is none, or the error, for all processes."""
        if not self.has_checkpoint():
            _logger.info(f"Nothing to resume in {self.save_dir}")
            return None
        try:
            return newest_readable(self.save_dir)
        except CheckpointError as error:
            return error

    def load(self, path: str, checkpointables: Optional[List[str]] = None) -> Dict[str, Any]:
        """Loads the model, and the checkpointables that are named (None: all).

        Raises:
            CheckpointError: the file is missing or damaged, or does not fit the model.
        """
        file = (path or "").split("?")[0]
        if file and "://" not in file and not os.path.isfile(file):
            raise CheckpointError(f"checkpoint {path}: no such file")
        self._loading = path
        self._must_fit = checkpointables is None if self._strict is None else self._strict
        return super().load(path, checkpointables=checkpointables)

    def _load_model(self, checkpoint: Dict[str, Any]) -> Any:
        if not checkpoint.get("matching_heuristics", False):
            checkpoint["model"], moves = convert_state_dict(self.model, checkpoint["model"])
            _logger.info(f"{self._loading}: {moves}")
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Judges what was loaded.

        Raises:
            CheckpointError: nothing was loaded at all, or not everything that had to be.
        """
        wrong, missing = incompatible.incorrect_shapes, incompatible.missing_keys
        names = set(self.model.state_dict())
        if names and not names - set(missing) - {name for name, _, _ in wrong}:
            fits = f"\n{describe(wrong)}" if wrong else ""
            raise CheckpointError(f"checkpoint {self._loading}: none of its tensors fits the model{fits}")
        absent = [name for name in missing if not name.endswith("num_batches_tracked")]
        if self._must_fit and wrong:
            raise CheckpointError(f"checkpoint {self._loading} is of another model:\n{describe(wrong)}")
        if self._must_fit and absent:
            shown = ", ".join(absent[:4]) + (", ..." if len(absent) > 4 else "")
            raise CheckpointError(f"checkpoint {self._loading} lacks {len(absent)} tensors of the model: {shown}")
        if wrong:
            _logger.warning(f"Not loaded from {self._loading}, initialized afresh:\n{describe(wrong, len(wrong))}")
        super()._log_incompatible_keys(incompatible._replace(incorrect_shapes=[]))
