"""What a search leaves behind: its history, the distribution, and the architecture that it found."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

import torch

from fbnet_plugin.arch import SearchSpace, save_arch
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.latency import LatencyTable
from fbnet_plugin.layers import Skip

from .candidates import candidate_names
from .distribution import Distribution, Point
from .distribution_file import save_distribution
from .errors import SearchError
from .sampling import TARGET_TOLERANCE, most_probable
from .schedule import SearchSchedule
from .supernet import Supernet

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """A search at the end of an epoch.

    Attributes:
        epoch, iteration: of which it is the end.
        temperature: tau in it.
        losses: mean loss of each phase that the epoch had.
        latency_us: expected latency under P_theta; None without a table.
        argmax_latency_us: of the most probable architecture.
        argmax: that architecture, choice indices.
        probability: per layer and candidate.
        entropy: per layer, nats.
        skips: per layer the probability of "skip", None where there is none.
    """

    epoch: int
    iteration: int
    temperature: float
    losses: Dict[str, float]
    latency_us: Optional[float]
    argmax_latency_us: Optional[float]
    argmax: List[int]
    probability: List[List[float]]
    entropy: List[float]
    skips: List[Optional[float]]

    @classmethod
    def of(cls, net: Supernet, schedule: SearchSchedule, iteration: int, losses: Mapping[str, float]) -> "Summary":
        """The state of a supernet after an iteration."""
        epoch = schedule.at(iteration).epoch
        with torch.no_grad():
            p = net.probabilities().double().cpu()
            best = p.argmax(1)
            one_hot = torch.nn.functional.one_hot(best, p.shape[1])
            expected = float(net.expected_latency_us()) if net.latency else None
            fastest = float(net.latency_of(one_hot.to(net.device))) if net.latency else None
            entropy = torch.special.entr(p).sum(1).tolist()
        sizes = [len(variable.choices) for variable in net.space.variables]
        places = skip_places(net)
        skips = [float(p[i, places[i]]) if i in places else None for i in range(len(sizes))]
        probability = [row[:size] for row, size in zip(p.tolist(), sizes)]
        temperature = schedule.temperature_at(epoch)
        return cls(
            epoch, iteration, temperature, dict(losses), expected, fastest, best.tolist(), probability, entropy, skips
        )

    @property
    def skip(self) -> Optional[float]:
        """Mean probability of "skip" over the layers that have it."""
        known = [skip for skip in self.skips if skip is not None]
        return sum(known) / len(known) if known else None

    def line(self) -> Dict[str, Any]:
        """What the history keeps."""
        return {
            "epoch": self.epoch,
            "iteration": self.iteration,
            "temperature": self.temperature,
            **{f"{phase}_loss": loss for phase, loss in self.losses.items()},
            "expected_latency_us": self.latency_us,
            "argmax_latency_us": self.argmax_latency_us,
            "entropy": sum(self.entropy) / len(self.entropy),
            "skip": self.skip,
            "argmax": self.argmax,
        }

    def scalars(self, net: Supernet) -> Dict[str, float]:
        """Curves for TensorBoard and metrics.json."""
        known = {f"{phase}_loss" for phase in self.losses} | {"argmax", "iteration"}  # the run logs losses itself
        values = {f"search/{key}": value for key, value in self.line().items() if key not in known}
        for variable, names, p, entropy in zip(
            net.space.variables, candidate_names(net.space), self.probability, self.entropy
        ):
            values[f"entropy/{variable.name}"] = entropy
            values.update({f"probability/{variable.name}/{name}": one for name, one in zip(names, p)})
        return {key: float(value) for key, value in values.items() if value is not None}

    def table(self, net: Supernet) -> str:
        """The epoch for the log: one line, then one per layer."""
        head = f"Search, epoch {self.epoch}: temperature {self.temperature:.3f}"
        head += "".join(f", {phase} loss {loss:.4f}" for phase, loss in self.losses.items())
        if self.latency_us is not None and self.argmax_latency_us is not None:
            head += f", expected latency {self.latency_us / 1000:.3f} ms, argmax {self.argmax_latency_us / 1000:.3f} ms"
        lines = [head, f"{'layer':<12}{'argmax':<14}{'probability':>11}{'entropy':>9}{'skip':>7}"]
        rows = zip(net.space.variables, candidate_names(net.space), self.argmax, self.probability)
        for (variable, names, best, p), entropy, skip in zip(rows, self.entropy, self.skips):
            shown = "" if skip is None else f"{skip:.2f}"
            lines.append(f"{variable.name:<12}{names[best]:<14}{p[best]:>11.3f}{entropy:>9.3f}{shown:>7}")
        return "\n".join(lines)


def skip_places(net: Supernet) -> Dict[int, int]:
    """Layer -> index of its candidate "skip", for the layers that have one."""
    rows = {variable.name: number for number, variable in enumerate(net.space.variables)}
    places = {}
    for block in net.mixed_blocks():
        for number, candidate in enumerate(block.candidates):
            if isinstance(candidate, Skip):
                places[rows[block.variable]] = number
    return places


class SearchRecord:
    """The folder ``search`` of a run.

    ``history.jsonl`` (a line per epoch), ``distribution.json`` (P_theta, for ``tools/sample_archs.py``), its copies
    ``distribution_<epoch>.json``, and ``arch.yaml``, the architecture that the search has found so far: the most
    probable one, with a latency target the most probable one that meets it.

    Attributes:
        history: lines written so far; part of the run's checkpoints.
    """

    def __init__(
        self,
        folder: str,
        space: SearchSpace,
        table: Optional[LatencyTable],
        last_epoch: int,
        snapshot_period: int,
        target_us: float = 0.0,
    ):
        """
        Args:
            folder: the run's ``OUTPUT_DIR``.
            space: that is searched.
            table: behind the latencies.
            last_epoch: of the search.
            snapshot_period: epochs between copies of the distribution; 0 for none.
            target_us: wanted latency; 0 for none.
        """
        self.folder = os.path.join(folder, "search")
        self.history: List[Dict[str, Any]] = []
        self._space, self._table = space, table
        self._last_epoch, self._period = last_epoch, snapshot_period
        self._target_us = target_us

    def add(self, summary: Summary, net: Supernet) -> None:
        """Writes the end of an epoch."""
        os.makedirs(self.folder, exist_ok=True)
        self.history.append(summary.line())
        with atomic_write(os.path.join(self.folder, "history.jsonl")) as file:
            file.write("".join(f"{json.dumps(line)}\n" for line in self.history).encode())
        distribution = self.distribution(summary, net)
        save_distribution(distribution, os.path.join(self.folder, "distribution.json"))
        last = summary.epoch == self._last_epoch
        if self._period and ((summary.epoch + 1) % self._period == 0 or last):
            save_distribution(distribution, os.path.join(self.folder, f"distribution_{summary.epoch:04d}.json"))
        self._save_arch(distribution, last)

    def distribution(self, summary: Summary, net: Supernet) -> Distribution:
        """P_theta with what is needed to sample from it."""
        sizes = [len(variable.choices) for variable in self._space.variables]

        def rows(values: Any) -> Any:
            return tuple(tuple(row[:size]) for row, size in zip(values.tolist(), sizes))

        return Distribution(
            space=self._space,
            theta=rows(net.theta.detach().double()),
            latency_us=rows(net.latency.us) if net.latency else None,
            fixed_us=net.latency.fixed_us if net.latency else None,
            resolution=None,
            epoch=summary.epoch,
            iteration=summary.iteration,
            temperature=summary.temperature,
            latency_table={"file": self._table.file, "digest": self._table.digest()} if self._table else None,
            target_us=self._target_us or None,
        )

    def _save_arch(self, distribution: Distribution, last: bool) -> None:
        point, notes = best_point(distribution)
        if notes and last:
            _logger.warning(notes)
        arch = self._space.arch(point, f"{self._space.name}_searched")
        path = os.path.join(self.folder, "arch.yaml")
        text = f"epoch {distribution.epoch}, log-probability {distribution.log_prob(point):.2f}"
        if self._table is not None:
            text += f", {distribution.latency_us_of(point) / 1000:.3f} ms by {self._table.name}"
        save_arch(arch, path, f"The search's architecture: {text}")
        if last:
            _logger.info(f"Found {path}: {text}\nMore of P_theta: python tools/sample_archs.py {self.folder}")


def best_point(distribution: Distribution) -> "tuple[Point, str]":
    """The search's architecture, and what is to be said about it.

    The most probable one; with a target, the most probable one within ``TARGET_TOLERANCE`` of it.
    """
    target = distribution.target_us
    if target is None:
        return distribution.argmax(), ""
    try:
        return most_probable(distribution, target * (1 - TARGET_TOLERANCE), target * (1 + TARGET_TOLERANCE)), ""
    except SearchError as error:
        return distribution.argmax(), f"The search missed LATENCY.TARGET_US: {error}"
