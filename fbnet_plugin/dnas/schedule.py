"""What each iteration of a search does, as plain arithmetic (FBNet appendix A)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .errors import SearchError

WEIGHTS, THETA = "weights", "theta"
PHASES = (WEIGHTS, THETA)


class Place(NamedTuple):
    """Where an iteration lies.

    Attributes:
        epoch: from 0.
        phase: "weights" or "theta".
        step: number of this phase's steps before it, over all epochs.
        last_of_epoch: whether the epoch ends with it.
    """

    epoch: int
    phase: str
    step: int
    last_of_epoch: bool


@dataclass(frozen=True)
class SearchSchedule:
    """Each epoch trains the weights, then theta; in the first epochs the weights alone.

    Attributes:
        epochs: of the search (90).
        weight_steps: iterations of weight training per epoch.
        theta_steps: iterations of theta training per epoch.
        theta_start: epochs before theta is trained (10).
        temperature: tau in the first epoch (5.0).
        decay: tau is multiplied by ``exp(-decay)`` each epoch (0.045).
        temperature_min: tau is never below.

    Raises:
        SearchError: a value that makes no schedule.
    """

    epochs: int
    weight_steps: int
    theta_steps: int
    theta_start: int = 10
    temperature: float = 5.0
    decay: float = 0.045
    temperature_min: float = 1e-3

    def __post_init__(self) -> None:
        def require(good: bool, key: str, value: object, accepted: str) -> None:
            if not good:
                raise SearchError(f"DNAS.{key} is {value}, expected {accepted}")

        require(self.epochs >= 1, "EPOCHS", self.epochs, "at least 1")
        most = f"0 to {self.epochs - 1}, below DNAS.EPOCHS"
        require(0 <= self.theta_start < self.epochs, "THETA_START", self.theta_start, most)
        require(self.temperature > 0, "TEMPERATURE", self.temperature, "a number above 0")
        require(self.decay >= 0, "TEMPERATURE_DECAY", self.decay, "0 or more")
        require(self.temperature_min > 0, "TEMPERATURE_MIN", self.temperature_min, "a number above 0")

    @property
    def iterations(self) -> int:
        """Of the whole search."""
        return self.start_of(self.epochs)

    @property
    def total_weight_steps(self) -> int:
        """Iterations that train the weights, which is what their learning rate's schedule runs over."""
        return self.epochs * self.weight_steps

    def start_of(self, epoch: int) -> int:
        """First iteration of an epoch."""
        return epoch * self.weight_steps + max(epoch - self.theta_start, 0) * self.theta_steps

    def at(self, iteration: int) -> Place:
        """What an iteration does; iterations are counted from 0.

        Raises:
            ValueError: a negative iteration.
        """
        if iteration < 0:
            raise ValueError(f"iteration {iteration}: expected 0 or more")
        first_with_theta = self.start_of(self.theta_start)
        if iteration < first_with_theta:
            epoch, inside = divmod(iteration, self.weight_steps)
        else:
            epoch, inside = divmod(iteration - first_with_theta, self.weight_steps + self.theta_steps)
            epoch += self.theta_start
        last = inside == self.start_of(epoch + 1) - self.start_of(epoch) - 1
        if inside < self.weight_steps:
            return Place(epoch, WEIGHTS, epoch * self.weight_steps + inside, last)
        step = (epoch - self.theta_start) * self.theta_steps + inside - self.weight_steps
        return Place(epoch, THETA, step, last)

    def steps_before(self, iteration: int) -> "dict[str, int]":
        """Steps of each phase before an iteration: how many batches each phase's data has given."""
        if iteration == 0:
            return {WEIGHTS: 0, THETA: 0}
        place = self.at(iteration - 1)
        epoch = place.epoch
        if place.phase == WEIGHTS:
            return {WEIGHTS: place.step + 1, THETA: max(epoch - self.theta_start, 0) * self.theta_steps}
        return {WEIGHTS: (epoch + 1) * self.weight_steps, THETA: place.step + 1}

    def temperature_at(self, epoch: int) -> float:
        """tau in an epoch: ``temperature * exp(-decay * epoch)``."""
        return max(self.temperature * math.exp(-self.decay * epoch), self.temperature_min)

    def theta_progress(self, epoch: int) -> float:
        """Share of the epochs with theta training that are over at the end of ``epoch``."""
        return min(max((epoch + 1 - self.theta_start) / (self.epochs - self.theta_start), 0.0), 1.0)
