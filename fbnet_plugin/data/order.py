"""The order of the training images: Detectron2's samplers as functions of a seed and a position."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List

import numpy as np
import torch
from detectron2.data import build
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler

from .errors import DatasetError

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch.utils.data import Sampler

# From a seed and a position to the dataset's indices at that position and all later ones.
Order = Callable[[int, int], Iterator[int]]
Dicts = List[Dict[str, Any]]

# Samplers that look at an entry's annotations, or at which dataset it is from.
_OF_BOXES = ("RepeatFactorTrainingSampler", "WeightedCategoryTrainingSampler")
_WEIGHTED = ("WeightedTrainingSampler", "WeightedCategoryTrainingSampler")


def order_from_config(cfg: CfgNode, dicts: Dicts) -> Order:
    """The order of the sampler that ``cfg.DATALOADER.SAMPLER_TRAIN`` names.

    Args:
        cfg: of Detectron2.
        dicts: the dataset.

    Raises:
        DatasetError: there are no images, or the weighted samplers' images are not those of ``dicts``.
        ValueError: nobody knows the sampler, or it counts boxes where there are none.
    """
    name, size = cfg.DATALOADER.SAMPLER_TRAIN, len(dicts)
    if not size:
        raise DatasetError("the training dataset has no images")
    if name in _OF_BOXES and "annotations" not in dicts[0]:
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN: got {name!r}, which counts boxes; expected "
            "TrainingSampler or RandomSubsetTrainingSampler for classification"
        )
    if name == "TrainingSampler":
        return shuffled(size)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return replayed(lambda s: RandomSubsetTrainingSampler(size, ratio, seed_shuffle=s, seed_subset=s + 1))
    if name == "RepeatFactorTrainingSampler":
        root = {"sqrt": cfg.DATALOADER.REPEAT_SQRT} if "REPEAT_SQRT" in cfg.DATALOADER else {}  # not in 0.6
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dicts, cfg.DATALOADER.REPEAT_THRESHOLD, **root
        )
        return replayed(lambda seed: RepeatFactorTrainingSampler(factors, seed=seed))
    if name in _WEIGHTED and hasattr(build, "_build_weighted_sampler"):
        factors = _weights(cfg, name, size)
        return replayed(lambda seed: RepeatFactorTrainingSampler(factors, seed=seed))
    known = ["TrainingSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler"]
    known += _WEIGHTED if hasattr(build, "_build_weighted_sampler") else ()
    raise ValueError(f"DATALOADER.SAMPLER_TRAIN: got {name!r}, expected one of {', '.join(known)}")


def _weights(cfg: CfgNode, name: str, size: int) -> torch.Tensor:
    """(size,) repeat factors of the samplers that only newer versions of Detectron2 have."""
    sampler = build._build_weighted_sampler(cfg, enable_category_balance=name == "WeightedCategoryTrainingSampler")
    factors = sampler._int_part + sampler._frac_part
    if len(factors) != size:
        raise DatasetError(
            f"DATALOADER.SAMPLER_TRAIN {name} weighs the {len(factors)} images of DATASETS.TRAIN, not another "
            f"dataset of {size}"
        )
    return factors


def shuffled(size: int) -> Order:
    """Detectron2's ``TrainingSampler``, with one seed per epoch: any position is found without those before it.

    Args:
        size: of the dataset.
    """

    def order(seed: int, start: int) -> Iterator[int]:
        first, offset = divmod(start, size)
        for epoch in itertools.count(first):
            of_epoch = np.random.SeedSequence((seed, epoch)).generate_state(1).item()
            indices = TrainingSampler(size, seed=of_epoch)._infinite_indices()
            yield from itertools.islice(indices, offset, size)
            offset = 0

    return order


def replayed(make_sampler: Callable[[int], Any]) -> Order:
    """Another of Detectron2's endless samplers; a position is found by going through those before it.

    Args:
        make_sampler: from a seed to a sampler with ``_infinite_indices``, the stream that all processes share.
    """
    return lambda seed, start: itertools.islice(make_sampler(seed)._infinite_indices(), start, None)


def shard_of(sampler: Sampler) -> Order:
    """A sampler that gives this process its own share of the indices, the same each time that it is iterated over."""
    return lambda seed, start: itertools.islice(iter(sampler), start, None)
