"""The last figures of a run as a file, so that programs and later evaluations can compare them."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Mapping

from detectron2.engine import HookBase
from detectron2.utils import comm

from fbnet_plugin.atomic_file import atomic_write

# What a completed training leaves in OUTPUT_DIR, and what an evaluation-only run does; both have "results".
TRAINED, EVALUATED = "results.json", "evaluation.json"


def write_results(path: str, results: Any, run: Mapping[str, Any]) -> None:
    """Writes ``{"results": {group: {figure: value}}, **run}``.

    Args:
        path: of the file, which appears whole or not at all.
        results: of ``trainer.test``; figures that JSON has no number for, such as NaN, become null.
        run: what else is to be said.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    content = {"results": _plain(results or {}), **_plain(run)}
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if number - number == 0 else None


class ResultsHook(HookBase):
    """Writes ``results.json`` when a run is complete; it stands behind the hook that evaluates.

    An earlier file goes away when training begins, so that there is one exactly where the run in the folder is done.
    """

    def __init__(self, folder: str):
        self._path, self._began = os.path.join(folder, TRAINED), 0.0

    def before_train(self) -> None:
        self._began = time.perf_counter()
        if comm.is_main_process() and os.path.exists(self._path):
            os.remove(self._path)

    def after_train(self) -> None:
        if comm.is_main_process() and self.trainer.iter + 1 >= self.trainer.max_iter:
            write_results(self._path, self.trainer.results, self._run(self.trainer.max_iter))

    def _run(self, done: int) -> Dict[str, Any]:
        """Besides the results: what was done, and how fast since the run was begun or resumed."""
        first, cfg = self.trainer.start_iter, self.trainer.cfg
        seconds = time.perf_counter() - self._began
        return {
            "iterations": done,
            "images": done * cfg.SOLVER.IMS_PER_BATCH,
            "seed": self.trainer.seed,
            "processes": comm.get_world_size(),
            "since_iteration": first,
            "seconds": seconds,
            "images_per_s": (done - first) * cfg.SOLVER.IMS_PER_BATCH / seconds if seconds else None,
        }
