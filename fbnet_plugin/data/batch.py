"""A batch on its way from a worker process: its images travel as one tensor in shared memory.

A tensor that a process sends costs a file descriptor and a mapping of memory; with one per image they take longer than
small images themselves.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Union

import torch
from torch.utils import data


class PackedBatch(NamedTuple):
    """Dicts without their images, and the images; unpickled, it is the list of dicts that it was made of.

    Attributes:
        dicts: one per image.
        images: (N, C, H, W), of which each dict gets one as a view.
    """

    dicts: List[Dict[str, Any]]
    images: torch.Tensor

    def __reduce__(self) -> Any:
        return unpack, (self.dicts, self.images)


def pack(batch: List[Any]) -> Union[List[Any], PackedBatch]:
    """What a worker sends; a list as it is where its images are of several sizes, or where this is no worker."""
    if data.get_worker_info() is None or not _alike(batch):
        return batch
    images = data.default_collate([one["image"] for one in batch])  # in a worker this makes shared memory
    return PackedBatch([{key: one[key] for key in one if key != "image"} for one in batch], images)


def unpack(dicts: List[Dict[str, Any]], images: torch.Tensor) -> List[Dict[str, Any]]:
    """The same dicts, now each with its ``image``."""
    for one, image in zip(dicts, images.unbind(0)):
        one["image"] = image
    return dicts


def _alike(batch: List[Any]) -> bool:
    """Whether all are dicts with an image of the same size and type."""
    images = [one.get("image") if isinstance(one, dict) else None for one in batch]
    kinds = {(image.shape, image.dtype) if isinstance(image, torch.Tensor) else None for image in images}
    return len(kinds) == 1 and None not in kinds
