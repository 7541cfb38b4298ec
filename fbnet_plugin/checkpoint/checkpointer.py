"""Detectron2's checkpointer with files that survive crashes and loading that never fails silently."""

from __future__ import annotations

import logging
import os
from typing import Any, Dict, List, Optional
from urllib.parse import parse_qs

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from .envelopes import choose
from .errors import CheckpointError
from .file_formats import as_detectron2, read_checkpoint
from .mapping import convert_state_dict
from .mismatch import describe
from .resume import has_training_state, newest_readable
from .safe_files import SafeFiles
from .schemes import LICENCE, Conversion, convert_foreign
from .torchvision_names import from_torchvision, is_torchvision

_logger = logging.getLogger(__name__)


class FBNetCheckpointer(DetectionCheckpointer, SafeFiles):
    """``DetectionCheckpointer`` for every model of this project.

    Beyond what that class does: files are written whole or not at all (``SafeFiles``) and read without running code
    (``file_formats.py``); a damaged newest checkpoint or pointer leads to the previous good one (``resume.py``); files
    of timm, mobile-vision, d2go and torchvision are converted (``schemes.py``); a classifier's weights find their
    places in a detector (``mapping.py``); tensors that do not fit are an error where all have to fit.
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
        self._loading, self._must_fit, self._by_heuristics = "", False, False

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
        file, _, query = (path or "").partition("?")
        if file and "://" not in file and not os.path.isfile(file):
            raise CheckpointError(f"checkpoint {path}: no such file")
        self._loading = path
        self._must_fit = checkpointables is None if self._strict is None else self._strict
        self._by_heuristics = parse_qs(query) == {"matching_heuristics": ["True"]}
        return super().load(file if self._by_heuristics else path, checkpointables=checkpointables)

    def _load_file(self, f: str) -> Dict[str, Any]:
        """Reads a local file and converts it to our names, if it is another project's."""
        content = as_detectron2(read_checkpoint(f), f)
        if self._by_heuristics:
            content = {"model": choose(content)[1], "matching_heuristics": True}
        if content.get("matching_heuristics", False):
            return content
        try:
            found = convert_foreign(content) or self._from_torchvision(content)
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {self._loading}: {error}") from None
        if found is None:
            if isinstance(content.get(LICENCE), str):
                _logger.warning(f"{self._loading}: {content[LICENCE]}")
            return content if "model" in content else {"model": choose(content)[1]}
        _logger.info(f"{self._loading}: {found}")
        if found.licence:
            _logger.warning(f"{self._loading}: {found.licence}")
        return {"model": found.state}

    def _from_torchvision(self, content: Dict[str, Any]) -> Optional[Conversion]:
        """Weights of torchvision for a model whose backbone is a network of torchvision; else None."""
        linear = getattr(getattr(getattr(self.model, "backbone", None), "family", None), "linear", None)
        kind, state = choose(content)
        if not isinstance(linear, str) or not is_torchvision(state, self.model.state_dict()):
            return None
        return Conversion("torchvision", from_torchvision(linear, state), weights=kind)

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
