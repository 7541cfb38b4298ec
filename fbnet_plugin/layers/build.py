"""From specs to modules."""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence, Type

from torch import nn

from ..arch.blocks import BlockSpec, ConvSpec, FusedSpec, InvertedResidualSpec, PoolSpec, SkipSpec
from ..arch.mixed import MixedSpec
from .blocks import FusedBlock, InvertedResidual, PoolBlock, Skip
from .conv import ConvNormAct, Norm
from .mixed import MixedBlock


def _mixed(spec: MixedSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0) -> MixedBlock:
    return MixedBlock(spec.variable, [build_block(one, c_in, norm, drop_path) for one in spec.candidates])


def _conv(spec: ConvSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0) -> ConvNormAct:
    return ConvNormAct(c_in, spec.out, spec.kernel, stride=spec.stride, bias=spec.bias, norm=norm, act=spec.act)


# A new operator is one more line here; see arch/blocks.py for its spec.
BLOCK_MODULES: Dict[Type[BlockSpec], Callable[..., nn.Module]] = {
    ConvSpec: _conv,
    InvertedResidualSpec: InvertedResidual,
    SkipSpec: Skip,
    FusedSpec: FusedBlock,
    PoolSpec: PoolBlock,
    MixedSpec: _mixed,
}


def build_block(spec: BlockSpec, c_in: int, norm: Norm = nn.BatchNorm2d, drop_path: float = 0.0) -> nn.Module:
    """The module of one block.

    Args:
        spec: the block, ``repeat`` 1.
        c_in: input channels.
        norm: makes norm layers.
        drop_path: probability of dropping the residual branch in training, per image.
    """
    return BLOCK_MODULES[type(spec)](spec, c_in, norm, drop_path)


def build_blocks(
    rows: Sequence[BlockSpec], c_in: int, norm: Norm = nn.BatchNorm2d, drop_paths: Sequence[float] = ()
) -> List[nn.Module]:
    """The modules of rows one after the other, copies of a row counted one by one.

    Args:
        rows: blocks with their repeats.
        c_in: input channels of the first.
        norm: makes norm layers.
        drop_paths: one probability per module; empty for none.
    """
    singles = [block for row in rows for block in row.copies()]
    modules = []
    for index, block in enumerate(singles):
        modules.append(build_block(block, c_in, norm, drop_paths[index] if drop_paths else 0.0))
        c_in = block.out
    return modules
