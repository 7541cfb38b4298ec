"""Whether an exported network gives what the model gives, on real images."""

from __future__ import annotations

from typing import Callable, List, Sequence

import torch

from .errors import ExportError
from .exportable import Difference, Exportable, Feed, Outputs

Run = Callable[[Feed], Outputs]


def verify(exportable: Exportable, run: Run, images: Sequence[torch.Tensor]) -> Difference:
    """Runs the exported network and the original on all feeds of the images.

    Args:
        exportable: holds the original.
        run: the exported network in its own runtime.
        images: (C, H, W) uint8, as the test mapper gives them.

    Returns:
        the worst difference; it is tolerable.

    Raises:
        ExportError: a difference that is not, or a feed that the exported network does not take.
    """
    seen: List[Difference] = []
    for feed in exportable.feeds(images):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in feed.items())
        try:
            actual = run(feed)
        except Exception as error:  # of the runtime's own kinds
            raise ExportError(f"the exported network cannot run {shapes}: {str(error).strip()}") from error
        difference = exportable.compare(exportable.expected(feed), actual)
        if not difference.tolerable:
            raise ExportError(f"the exported network is not the model, on {shapes}: {difference.text}")
        seen.append(difference)
    return max(seen, key=lambda one: one.amount)
