"""The FBNet family's blocks as modules, each the twin of a spec in ``fbnet_plugin.arch.blocks``."""

from .blocks import FusedBlock, InvertedResidual, PoolBlock, Skip, SqueezeExcite
from .build import BLOCK_MODULES, build_block, build_blocks
from .conv import ConvNormAct, Norm
from .mixed import Gate, MixedBlock

__all__ = [
    "BLOCK_MODULES", "ConvNormAct", "FusedBlock", "Gate", "InvertedResidual", "MixedBlock", "Norm", "PoolBlock", "Skip",
    "SqueezeExcite", "build_block", "build_blocks",
]  # fmt: skip
