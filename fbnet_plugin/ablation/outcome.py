"""What the folder of a training says: done, failed or neither, its figures, and how they came about."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional

from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.engine.results import TRAINED

from .errors import AblationError

FAILURE_FILE, OUTPUT_FILE, METRICS_FILE = "failure.json", "output.txt", "metrics.json"
DONE, FAILED, BEGUN, WAITING = "done", "failed", "begun", "waiting"
_LAST_LINES = 6


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        state: DONE, FAILED, BEGUN (it runs, or goes on when the ablation does) or WAITING.
        figures: "group/name" to value, of the end of the training.
        curve: iterations done -> such figures, of all evaluations so far.
        iterations: of the whole training, 0 while that is not known.
        reason: of the failure.
    """

    state: str
    figures: Mapping[str, float]
    curve: Mapping[int, Mapping[str, float]]
    iterations: int = 0
    reason: str = ""


def read_outcome(folder: str) -> Outcome:
    """The state of a training.

    Args:
        folder: its OUTPUT_DIR, which need not be there.

    Raises:
        AblationError: a file of the folder has been damaged.
    """
    results = _read(os.path.join(folder, TRAINED))
    iterations = int(results.get("iterations") or 0) if results else 0
    curve = _curve(folder, iterations)
    if results is not None:
        flat = {f"{group}/{name}": value for group, its in results["results"].items() for name, value in its.items()}
        figures = {key: value for key, value in flat.items() if value is not None}
        return Outcome(DONE, figures, curve, iterations)
    failure = _read(os.path.join(folder, FAILURE_FILE))
    if failure is not None:
        return Outcome(FAILED, {}, curve, reason=str(failure.get("reason", "")))
    begun = os.path.exists(os.path.join(folder, OUTPUT_FILE))
    return Outcome(BEGUN if begun else WAITING, {}, curve)


def _read(path: str) -> Optional[Dict[str, Any]]:
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise AblationError(f"{path}: cannot be read ({error}); without this folder its training begins anew") from None


def _curve(folder: str, iterations: int) -> Dict[int, Dict[str, float]]:
    """Of iterations that were done twice, as the training was interrupted, the later figures.

    Detectron2 counts iterations from 0, and writes the figures of the end under the number that no iteration has.
    """
    curve: Dict[int, Dict[str, float]] = {}
    for line in metrics(folder):
        figures = {key: float(value) for key, value in line.items() if "/" in key and _is_number(value)}
        if figures:
            done = int(line["iteration"]) + 1
            curve.setdefault(min(done, iterations or done), {}).update(figures)
    return dict(sorted(curve.items()))


def metrics(folder: str) -> Iterator[Dict[str, Any]]:
    """The lines that the training has written; one that it was writing when it was killed is left out."""
    path = os.path.join(folder, METRICS_FILE)
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and "iteration" in line:
                yield line


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0


def write_failure(folder: str, reason: str) -> None:
    """Says in the folder why its training failed."""
    os.makedirs(folder, exist_ok=True)
    with atomic_write(os.path.join(folder, FAILURE_FILE)) as file:
        file.write((json.dumps({"reason": reason}, indent=1) + "\n").encode())


def forget_failure(folder: str) -> None:
    """Before another attempt."""
    path = os.path.join(folder, FAILURE_FILE)
    if os.path.exists(path):
        os.remove(path)


def why(folder: str, code: int) -> str:
    """How a training ended that has no results, and the last lines that it wrote.

    Args:
        code: of the process; negative for a signal, as subprocess has it.
    """
    lines: List[str] = []
    path = os.path.join(folder, OUTPUT_FILE)
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in file if line.strip()][-_LAST_LINES:]
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return "\n".join([ended if code else "ended without results", *lines])
