"""Parts of a training set for a search: some of its classes, and images that are withheld from training."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

from .errors import DatasetError

Dicts = List[Dict[str, Any]]


def some_classes(dicts: Dicts, count: int, seed: int, key: str) -> Tuple[List[int], Dicts]:
    """Images of ``count`` random classes, their labels renumbered from 0.

    Args:
        dicts: of a classification set.
        seed: of the choice, which depends on nothing else but the data.
        key: the config key that holds ``count``, for the message.

    Returns:
        the classes' old labels in the order of the new ones, and copies of the dicts.

    Raises:
        DatasetError: there are fewer classes.
    """
    labels = sorted({int(one["label"]) for one in dicts})
    if not 1 < count <= len(labels):
        raise DatasetError(f"{key} is {count}, expected 2 to {len(labels)} (the training set's), or 0 for all")
    chosen = np.sort(np.random.default_rng(seed).choice(labels, count, replace=False)).tolist()
    renumbered = {label: number for number, label in enumerate(chosen)}
    kept = [{**one, "label": renumbered[int(one["label"])]} for one in dicts if int(one["label"]) in renumbered]
    return chosen, kept


def split(dicts: Dicts, first: int, seed: int) -> Tuple[Dicts, Dicts]:
    """``first`` random dicts, and the others, both in the order of the set."""
    order = np.random.default_rng(seed).permutation(len(dicts))
    return [dicts[i] for i in sorted(order[:first])], [dicts[i] for i in sorted(order[first:])]
