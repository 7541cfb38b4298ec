"""What the exporters take: a network, its inputs, and how its results are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

Feed = Dict[str, torch.Tensor]  # input name -> tensor, in the order of forward's arguments
Outputs = Tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Difference:
    """How far the results of two runs are apart.

    Attributes:
        amount: the worst difference as a multiple of what is tolerated; above 1, or not a number, is refused.
        text: what differs, where and by how much, such as "logits differ by 2.1e-06 (tolerated 1e-03)".
    """

    amount: float
    text: str

    @property
    def tolerable(self) -> bool:
        return self.amount <= 1  # False for nan


@dataclass
class Exportable:
    """A network as the exporters take it.

    Attributes:
        module: in evaluation mode on the CPU; ``forward(*inputs)`` gives a tuple of tensors, with no dicts and no
            Python that depends on the data.
        inputs: name -> example, in the order of forward's arguments. Where a batch is dynamic the example has 2 images.
        outputs: names of the results.
        dynamic: input name -> axis -> name of the size ("batch", "height", "width"); {} where all sizes are fixed.
        metadata: written into the file.
        feeds: real images, each (C, H, W) uint8 as the test mapper gives them -> the inputs of one or more runs that
            the exported network is checked on; with a dynamic axis, of more than one size.
        compare: (expected, actual) -> how far apart.
        reference: what gives the expected results for the same inputs, where that is not ``module`` itself.
        foldable: whether batch norms may be folded into the convolutions of ``module``.
    """

    module: nn.Module
    inputs: Feed
    outputs: Tuple[str, ...]
    dynamic: Dict[str, Dict[int, str]]
    metadata: Dict[str, str]
    feeds: Callable[[Sequence[torch.Tensor]], List[Feed]]
    compare: Callable[[Outputs, Outputs], Difference]
    reference: Optional[Callable[..., Outputs]] = None
    foldable: bool = True

    def expected(self, feed: Feed) -> Outputs:
        """The results of PyTorch, without anything that an export changes."""
        run = self.module if self.reference is None else self.reference
        with torch.inference_mode():
            return run(*feed.values())
