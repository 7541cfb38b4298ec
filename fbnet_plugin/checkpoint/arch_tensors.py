"""The tensors of an architecture: names and shapes as its modules have them, without building those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Tuple

from ..arch import ArchSpec
from ..arch.blocks import BlockSpec, ConvSpec, FusedSpec, InvertedResidualSpec, PoolSpec, SkipSpec

Shapes = Dict[str, Tuple[int, ...]]
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class PlacedBlock:
    """One block of a classifier that has tensors.

    Attributes:
        prefix: of its names, such as "backbone.stages.1.0.".
        spec: the block, ``repeat`` 1.
        c_in: its input channels.
        tensors: name behind the prefix -> shape.
    """

    prefix: str
    spec: BlockSpec
    c_in: int
    tensors: Shapes


def classifier_blocks(arch: ArchSpec) -> List[PlacedBlock]:
    """The blocks of stages and head in order of execution, without those that have no tensors (identities)."""
    parts = [(f"backbone.stages.{number}.", stage.blocks) for number, stage in enumerate(arch.stages)]
    if arch.head is not None:
        parts.append(("head.blocks.", arch.head.blocks))
    placed, channels = [], arch.in_channels
    for prefix, rows in parts:
        blocks = list(_placed(prefix, rows, channels))
        placed += [block for block in blocks if block.tensors]
        channels = blocks[-1].spec.out if blocks else channels
    return placed


def classifier_channels(arch: ArchSpec) -> int:
    """Input channels of the linear layer."""
    rows = arch.head.blocks if arch.head is not None else ()
    return rows[-1].out if rows else arch.stages[-1].out


def _placed(prefix: str, rows: Sequence[BlockSpec], c_in: int) -> Iterator[PlacedBlock]:
    singles = [block for row in rows for block in row.copies()]
    for index, block in enumerate(singles):
        yield PlacedBlock(f"{prefix}{index}.", block, c_in, block_tensors(block, c_in))
        c_in = block.out


def block_tensors(block: BlockSpec, c_in: int) -> Shapes:
    """Names and shapes of a block's parameters and statistics, with batch norms.

    Args:
        block: ``repeat`` 1.
        c_in: input channels.
    """
    if isinstance(block, ConvSpec):
        return _conv("", block.out, c_in, block.kernel, block.bias)
    if isinstance(block, SkipSpec):
        return {} if block.is_identity(c_in) else _conv("conv.", block.out, c_in, 1, False)
    if isinstance(block, PoolSpec):
        mid = block.expanded(c_in)
        return {
            **_conv("expand.", mid, c_in, 1, block.bias),
            **_conv("project.", block.out, mid, 1, block.bias, norm=False),
        }
    if isinstance(block, FusedSpec):
        mid = block.expanded(c_in)
        shapes = {**_conv("conv.", mid, c_in, block.kernel, block.bias), **_squeeze_excite(block, c_in)}
        return {**shapes, **_conv("project.", block.out, mid, 1, block.bias)} if block.project else shapes
    assert isinstance(block, InvertedResidualSpec), f"no names for a block of op {block.op}"
    return _inverted_residual(block, c_in)


def _inverted_residual(block: InvertedResidualSpec, c_in: int) -> Shapes:
    mid = block.expanded(c_in)
    shapes = _conv("expand.", mid, c_in // block.groups, 1, block.bias) if block.has_expand(c_in) else {}
    group = mid // block.depthwise_groups(c_in)
    for position in range(block.cascade):
        name = f"depthwise.{position}." if block.cascade > 1 else "depthwise."
        shapes.update(_conv(name, mid, group, block.kernel, block.bias, norm=block.dw_norm_act))
    shapes.update(_squeeze_excite(block, c_in))
    shapes.update(_conv("project.", block.out, mid // block.groups, 1, block.bias))
    return shapes


def _squeeze_excite(block: "InvertedResidualSpec | FusedSpec", c_in: int) -> Shapes:
    if block.se is None:
        return {}
    mid, hidden = block.expanded(c_in), block.squeezed(c_in)
    return {
        "se.reduce.conv.weight": (hidden, mid, 1, 1),
        "se.reduce.conv.bias": (hidden,),
        "se.expand.weight": (mid, hidden, 1, 1),
        "se.expand.bias": (mid,),
    }


def _conv(name: str, c_out: int, c_in: int, kernel: int, bias: bool, norm: bool = True) -> Shapes:
    """A ``ConvNormAct`` under the prefix ``name``."""
    shapes: Shapes = {f"{name}conv.weight": (c_out, c_in, kernel, kernel)}
    if bias:
        shapes[f"{name}conv.bias"] = (c_out,)
    if norm:
        shapes.update({f"{name}norm.{leaf}": (c_out,) for leaf in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}norm.{COUNTER}"] = ()
    return shapes
