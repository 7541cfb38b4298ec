"""Architectures as data: read, write, count and sample them without torch or Detectron2."""

from .batch import batch_cost
from .blocks import (
    BlockSpec,
    ConvSpec,
    FusedSpec,
    InvertedResidualSpec,
    PoolSpec,
    SESpec,
    SkipSpec,
)
from .compound import Coefficients, compound_scale
from .cost import Cost, Shape
from .errors import ArchError
from .scaling import scale, scale_depth, scale_width
from .space import SearchSpace, list_spaces, load_space
from .space_cost import space_cost
from .space_file import dump_space, save_space
from .space_scaling import scale_space, small_map_warning
from .spec import ArchSpec, HeadSpec, Layer, Published, StageSpec, walk
from .yaml_file import dump_arch, load_arch, parse_arch, save_arch
from .zoo import get_arch, list_archs

__all__ = [
    "ArchError", "ArchSpec", "BlockSpec", "Coefficients", "ConvSpec", "Cost", "FusedSpec", "HeadSpec",
    "InvertedResidualSpec", "Layer", "PoolSpec", "Published", "SESpec", "SearchSpace", "Shape", "SkipSpec", "StageSpec",
    "batch_cost", "compound_scale", "dump_arch", "dump_space", "get_arch", "list_archs", "list_spaces", "load_arch",
    "load_space", "parse_arch", "save_arch", "save_space", "scale", "scale_depth", "scale_space", "scale_width",
    "small_map_warning", "space_cost", "walk",
]  # fmt: skip
