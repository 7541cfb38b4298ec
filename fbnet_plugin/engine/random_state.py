"""The random state of one iteration as a function of the run's seed, so that a resumed run draws the same numbers."""

from __future__ import annotations

import logging
import random
from typing import Any, Mapping, Tuple

import numpy as np
import torch

_logger = logging.getLogger(__name__)
_LOW_32_BITS = 0xFFFFFFFF


def mix(*numbers: int) -> int:
    """A 63-bit number that depends on all of ``numbers`` and on their order; near inputs give unrelated outputs.

    For the seeds of generators that are not the global ones: ``torch.Generator().manual_seed(mix(seed, purpose, i))``.

    Args:
        numbers: integers, of which the low 64 bits count.
    """
    return int(_sequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seeds the global generators of Python, NumPy and PyTorch (CPU, CUDA) for one iteration of one process.

    CUDA is not initialized by it; where that happens later, its generators begin with this seed.

    Args:
        seed: of the run, the same in all processes.
        iteration: from 0.
        rank: of this process.
    """
    for_python, for_numpy, low, high = _sequence((seed, iteration, rank)).generate_state(4).tolist()
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(high << 32 | low)


def resumed_seed(state: Mapping[str, Any], seed: int, configured: int) -> int:
    """The seed that a resumed run goes on with: the checkpoint's, where it has one.

    Args:
        state: of the trainer, from the checkpoint.
        seed: of the run before resuming.
        configured: the config's SEED, negative for a random one.
    """
    found = int(state.get("seed", seed))
    if configured >= 0 and found != configured:
        _logger.warning(f"SEED is {configured}, but the run that is resumed began with {found} and keeps it")
    return found


def _sequence(numbers: Tuple[int, ...]) -> np.random.SeedSequence:
    """Two words for each number and one for their count: NumPy itself takes (1,) and (1, 0) for the same."""
    words = [len(numbers)]
    for number in numbers:
        words += [number & _LOW_32_BITS, number >> 32 & _LOW_32_BITS]
    return np.random.SeedSequence(words)
