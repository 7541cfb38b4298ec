"""Training data as a function of (seed, number of batches consumed), so that a run resumes with the right image.

Every sample has a position in one endless stream that all processes share. An order gives the index of the image at
each position, the batches are lists of (position, index), and the random numbers of the augmentation follow from the
position. Neither the number of worker processes nor what was fetched ahead has any influence.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import logging
import random
import struct
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.utils.serialize import PicklableWrapper
from torch.utils import data

from .batch import pack
from .errors import DatasetError
from .order import Order

_logger = logging.getLogger(__name__)

# (position in the stream, index in the dataset)
Place = Tuple[int, int]

# What a position that is mixed with the seed is for.
_SAMPLE, _RETRY = range(2)
_KEY, _WORDS = struct.Struct("<QBQ"), struct.Struct("<3I")
_ALL = 0xFFFFFFFFFFFFFFFF  # 64 bits


def batches(places: Iterator[Place], size: int, bucket_of: Optional[Sequence[int]] = None) -> Iterator[List[Place]]:
    """Fills buckets and gives each when it is full, as Detectron2's ``AspectRatioGroupedDataset`` does.

    Args:
        places: of the samples, in order.
        size: of a batch.
        bucket_of: the bucket of each image of the dataset; None for a single bucket.
    """
    buckets: Dict[int, List[Place]] = collections.defaultdict(list)
    for place in places:
        bucket = buckets[0 if bucket_of is None else bucket_of[place[1]]]
        bucket.append(place)
        if len(bucket) == size:
            yield bucket[:]
            bucket.clear()


class TrainLoader:
    """The batches of one stream, from wherever it was left; iterating goes on, it does not begin again.

    All processes cut the stream into the same global batches, of which each takes every ``world_size``-th sample.
    """

    def __init__(
        self,
        dataset: Sequence[Dict[str, Any]],
        mapper: Callable[[Dict[str, Any]], Any],
        order: Order,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        bucket_of: Optional[Sequence[int]] = None,
        sharded: bool = False,
        torch_alone: bool = False,
    ):
        """
        Args:
            dataset: dataset dicts by index, each a new object every time.
            mapper: from a dataset dict to what the model takes, or to None for another image instead.
            order: of the indices.
            seed: of order and augmentation; the same in all processes.
            batch_size: of all processes together, a multiple of ``world_size``.
            rank, world_size: of this process and of all.
            num_workers: processes that map ahead; 0 maps in this one.
            bucket_of: the bucket of each image of the dataset; a batch has images of one bucket alone.
            sharded: whether ``order`` gives this process's share alone, in which case its batches are cut from that.
            torch_alone: whether ``mapper`` draws from PyTorch's generator and from no other, which are then left
                unseeded; seeding all three takes a tenth of the time of an image of 32 px.
        """
        self._dataset, self._mapper, self._order = dataset, mapper, order
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._num_workers, self._bucket_of, self._sharded = num_workers, bucket_of, sharded
        self._torch_alone = torch_alone
        self._seed, self._batches = int(seed), 0
        self._mapped: Optional[Iterator[List[Any]]] = None

    @property
    def dataset(self) -> Sequence[Dict[str, Any]]:
        """What the batches are taken from."""
        return self._dataset

    def __iter__(self) -> "TrainLoader":
        return self

    def __next__(self) -> List[Any]:
        """The next batch: a list of batch_size / world_size mapped dicts. The first call starts the workers."""
        if self._mapped is None:
            self._mapped = iter(self._start())
        batch = next(self._mapped)
        self._batches += 1
        return batch

    def _start(self) -> data.DataLoader:
        return data.DataLoader(
            SeededMap(self._dataset, self._mapper, self._seed, self._torch_alone),
            sampler=self.places(),  # one item of it is a whole batch
            batch_size=None,
            num_workers=self._num_workers,
            collate_fn=pack,
            generator=torch.Generator(),  # it would draw from the global one
        )

    def places(self) -> Iterator[List[Place]]:
        """(position, index) of this process's samples, batch after batch, from the next batch on."""
        if self._sharded:
            size, share, step, first = self._batch_size // self._world_size, slice(None), self._world_size, self._rank
        else:
            size, share, step, first = self._batch_size, slice(self._rank, None, self._world_size), 1, 0
        # Without buckets the number of batches tells the position; with them, the earlier batches are made again.
        skipped = self._batches if self._bucket_of is None else 0
        start = skipped * size
        places = zip(itertools.count(start * step + first, step), self._order(self._seed, start))
        made = itertools.islice(batches(places, size, self._bucket_of), self._batches - skipped, None)
        return (batch[share] for batch in made)  # refers to this object nowhere, or ``stop`` could not end the workers

    def stop(self) -> None:
        """Ends the workers and drops what they fetched ahead; iterating on starts new ones for the same batches."""
        self._mapped = None

    def state_dict(self) -> Dict[str, int]:
        """``seed``, and ``batches``: how many ``next`` has given, whatever the workers have fetched ahead."""
        return {"seed": self._seed, "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Makes the next batch the one that follows ``state``."""
        self.stop()
        self._seed, self._batches = int(state["seed"]), int(state["batches"])


class SeededMap(data.Dataset):
    """A dataset whose index is a batch of places; the random numbers of a sample depend on its position alone."""

    def __init__(
        self,
        dataset: Sequence[Dict[str, Any]],
        mapper: Callable[[Dict[str, Any]], Any],
        seed: int,
        torch_alone: bool = False,
    ):
        self._dataset, self._mapper, self._seed = dataset, PicklableWrapper(mapper), seed
        self._seed_generators = _seed_torch if torch_alone else _seed_all

    def __getitem__(self, batch: List[Place]) -> List[Any]:
        with _random_state_kept():
            return [self._sample(position, index) for position, index in batch]

    def _sample(self, position: int, index: int) -> Any:
        """The mapped dict, of another image where the mapper gives None for this one."""
        self._seed_generators(*_words(self._seed, _SAMPLE, position))
        mapped = self._mapper(self._dataset[index])
        return self._another(position, index) if mapped is None else mapped

    def _another(self, position: int, index: int) -> Any:
        """The mapped dict of a random image, the same for this position each time.

        Raises:
            DatasetError: the mapper gives None for every image.
        """
        size, tried = len(self._dataset), {index}
        numbers = random.Random(_words(self._seed, _RETRY, position)[0])
        while len(tried) < size:
            other = numbers.randrange(size)
            if other in tried:
                continue
            tried.add(other)
            mapped = self._mapper(self._dataset[other])
            if mapped is not None:
                return mapped
            if len(tried) % 3 == 0:
                _logger.warning(f"The mapper gave None for {len(tried)} images in a row, beginning with index {index}")
        raise DatasetError(f"the mapper gave None for every one of the {size} images")


def _words(seed: int, purpose: int, number: int) -> Tuple[int, int, int]:
    """Three numbers of 32 bits for three generators, by a hash: NumPy's ``SeedSequence`` takes four times as long."""
    digest = hashlib.blake2b(_KEY.pack(seed & _ALL, purpose, number & _ALL), digest_size=_WORDS.size).digest()
    return _WORDS.unpack(digest)


def _seed_all(for_torch: int, for_python: int, for_numpy: int) -> None:
    """Seeds what augmentations draw from."""
    _seed_torch(for_torch)
    random.seed(for_python)
    np.random.seed(for_numpy)


def _seed_torch(for_torch: int, *_: int) -> None:
    """Not CUDA's generators, which belong to the training step."""
    torch.default_generator.manual_seed(for_torch)


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leaves the global generators as they were, for the training step; a worker's own are nobody else's."""
    if data.get_worker_info() is not None:
        yield
        return
    kept = random.getstate(), np.random.get_state(legacy=False), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.default_generator.set_state(kept[2])
