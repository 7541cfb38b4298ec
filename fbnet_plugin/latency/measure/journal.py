"""The samples of a measurement under way, on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from ...atomic_file import atomic_write
from ..errors import LatencyError
from ..setting import Setting

FORMAT, VERSION = "fbnet_plugin latency measurement", 1
EVERY_SECONDS = 5.0


@dataclass
class Journal:
    """What was planned, what is done, and what was found.

    Attributes:
        path: of the file; "" keeps nothing on disk.
        setting: under which the samples were taken.
        request: says what is measured; a journal of another request is refused.
        plan: indices of the networks to visit, one after the other.
        reference_us: of each visit, the reference network's time.
        samples: per operator (its place in the request), (visit, µs).
    """

    path: str
    setting: Setting
    request: str
    plan: List[int] = field(default_factory=list)
    reference_us: List[float] = field(default_factory=list)
    samples: Dict[int, List[Tuple[int, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._written = time.monotonic()

    @property
    def done(self) -> int:
        """Completed visits."""
        return len(self.reference_us)

    def add(self, reference_us: float, found: List[Tuple[int, float]]) -> None:
        """Records a visit: the reference's time, and (operator, µs) of what was measured."""
        for operator, us in found:
            self.samples.setdefault(operator, []).append((self.done, us))
        self.reference_us.append(reference_us)
        if time.monotonic() - self._written > EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes the file; it appears complete or not at all."""
        if not self.path:
            return
        data = {
            "format": FORMAT,
            "version": VERSION,
            "setting": self.setting.to_dict(),
            "request": self.request,
            "plan": self.plan,
            "reference_us": self.reference_us,
            "samples": {str(operator): rows for operator, rows in self.samples.items()},
        }
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with atomic_write(self.path) as file:
            file.write(json.dumps(data).encode())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Deletes the file, when the table is complete."""
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)


def open_journal(path: str, setting: Setting, request: str) -> Journal:
    """The journal at ``path`` if there is one, else a new one.

    Raises:
        LatencyError: the file is not such a journal, or of another setting or request; names both.
    """
    if not path or not os.path.exists(path):
        return Journal(path, setting, request)
    remedy = f"delete {path} to start anew"
    try:
        with open(path, encoding="utf-8") as file:
            data: Any = json.load(file)
        if data["format"] != FORMAT or data["version"] != VERSION:
            raise ValueError(f"format {data['format']!r}, version {data['version']!r}")
        there, asked = Setting.from_dict(data["setting"]), str(data["request"])
        samples = {int(key): [(int(visit), float(us)) for visit, us in rows] for key, rows in data["samples"].items()}
        plan, reference_us = [int(one) for one in data["plan"]], [float(one) for one in data["reference_us"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LatencyError(f"{path}: not the journal of a measurement ({error}); {remedy}") from None
    try:
        setting.require(there, "this run", path)
    except LatencyError as error:
        raise LatencyError(f"{error}; {remedy}") from None
    if asked != request:
        raise LatencyError(f"{path} measures {asked}, this run {request}; give the same request, or {remedy}")
    return Journal(path, setting, request, plan, reference_us, samples)
