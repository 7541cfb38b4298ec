"""``ArchSpec``: a whole network as frozen data, and everything that follows from it without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Union

from .block_base import MAX_BLOCKS, BlockSpec
from .blocks import check_blocks
from .checks import assign, check_float, check_int, check_line, check_text
from .cost import ZERO, Cost, Shape, global_pool, linear
from .errors import ArchError, value_error
from .inverted_residual import InvertedResidualSpec

MAX_RESOLUTION = 8192

# One side in px, or (height, width) in px.
Resolution = Union[int, tuple[int, int]]


@dataclass(frozen=True)
class StageSpec:
    """Blocks that make one feature map; stage i of a network gives the feature ``trunk{i}``."""

    blocks: tuple[BlockSpec, ...]

    def __post_init__(self) -> None:
        assign(self, blocks=check_blocks("blocks", self.blocks))
        if not self.blocks:
            raise ArchError("is empty, expected at least one block", "blocks")

    @property
    def stride(self) -> int:
        """Product of the blocks' strides."""
        return math.prod(block.stride for block in self.blocks)

    @property
    def out(self) -> int:
        """Output channels."""
        return self.blocks[-1].out


@dataclass(frozen=True)
class HeadSpec:
    """What a classifier adds to the stages: blocks, global average pool, linear layer.

    Attributes:
        blocks: usually one 1x1 conv (FBNet) or one pooling block (FBNetV2, FBNetV3).
        num_classes: outputs of the linear layer, which has a bias.
    """

    blocks: tuple[BlockSpec, ...] = ()
    num_classes: int = 1000

    def __post_init__(self) -> None:
        assign(
            self,
            blocks=check_blocks("blocks", self.blocks),
            num_classes=check_int("num_classes", self.num_classes, 1, 1 << 24),
        )


@dataclass(frozen=True)
class Published:
    """Figures that somebody published for this network; None where nobody did.

    Attributes:
        top1, top5: ImageNet validation accuracy in percent.
        macs_m: millions of multiply-adds as printed at the source, in the source's convention.
        params_m: millions of parameters as printed at the source, in the source's convention.
        test_resize: px of the short side before the centre crop at test time.
        weights: path of the published checkpoint below the source's download root.
    """

    top1: float | None = None
    top5: float | None = None
    macs_m: float | None = None
    params_m: float | None = None
    test_resize: int | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        for key, high in (("top1", 100.0), ("top5", 100.0), ("macs_m", 1e9), ("params_m", 1e9)):
            if getattr(self, key) is not None:
                assign(self, **{key: check_float(key, getattr(self, key), 0.0, high)})
        if self.test_resize is not None:
            assign(self, test_resize=check_int("test_resize", self.test_resize, 1, MAX_RESOLUTION))
        if self.weights is not None:
            assign(self, weights=check_line("weights", self.weights, 1000))


@dataclass(frozen=True)
class Layer:
    """One block at its place in a network.

    Attributes:
        part: "stages[i]", "head" or "box_head".
        index: position in the part, copies of a row counted one by one.
        block: the block, ``repeat`` 1.
        input, output: feature maps.
        cost: counts of this block alone.
    """

    part: str
    index: int
    block: BlockSpec
    input: Shape
    output: Shape
    cost: Cost


@dataclass(frozen=True)
class ArchSpec:
    """A network of the FBNet family.

    Attributes:
        name: lower case with underscores, as in the zoo.
        resolution: px of the square image that it was made for.
        stages: one per feature map; stage i gives the feature ``trunk{i}``.
        head: the classifier's last layers, or None for a body without them.
        box_head: blocks of the per-RoI head of a detector; empty: the last stage is that head.
        in_channels: of the image.
        source: where the table comes from.
        notes: what a user should know.
        published: figures printed by the source.
    """

    name: str
    resolution: int
    stages: tuple[StageSpec, ...]
    head: HeadSpec | None = None
    box_head: tuple[BlockSpec, ...] = ()
    in_channels: int = 3
    source: str = ""
    notes: str = ""
    published: Published = Published()

    def __post_init__(self) -> None:
        if not isinstance(self.stages, (list, tuple)) or not all(isinstance(stage, StageSpec) for stage in self.stages):
            raise value_error("stages", self.stages, "a list of StageSpec")
        if self.head is not None and not isinstance(self.head, HeadSpec):
            raise value_error("head", self.head, "null or a HeadSpec")
        if not isinstance(self.published, Published):
            raise value_error("published", self.published, "a Published")
        assign(
            self,
            name=check_line("name", self.name, 100),
            resolution=check_int("resolution", self.resolution, 1, MAX_RESOLUTION),
            stages=tuple(self.stages),
            box_head=check_blocks("box_head", self.box_head),
            in_channels=check_int("in_channels", self.in_channels, 1, 1024),
            source=check_text("source", self.source, 1000),
            notes=check_text("notes", self.notes, 4000),
        )
        if not self.stages:
            raise ArchError("is empty, expected at least one stage", "stages")
        count = sum(block.repeat for block in self.rows())
        if count > MAX_BLOCKS:
            raise ArchError(f"{count} blocks (copies counted) in all, expected at most {MAX_BLOCKS}", "stages")

    def rows(self) -> Iterator[BlockSpec]:
        """All rows as written, copies not expanded: stages, head, box head."""
        for stage in self.stages:
            yield from stage.blocks
        if self.head is not None:
            yield from self.head.blocks
        yield from self.box_head

    def layers(self, resolution: Resolution | None = None) -> Iterator[Layer]:
        """The blocks of stages and head in order of execution (not the per-RoI ``box_head``).

        Args:
            resolution: image px, one side or (height, width); default: the network's own.

        Raises:
            ArchError: a bad resolution, or a block that cannot take its input; the message names
                stage and block.
        """
        shape = Shape(self.in_channels, *image_size(self.resolution if resolution is None else resolution))
        for number, stage in enumerate(self.stages):
            for layer in walk(stage.blocks, shape, f"stages[{number}]", f"stages[{number}].blocks"):
                yield layer
                shape = layer.output
        if self.head is not None:
            yield from walk(self.head.blocks, shape, "head", "head.blocks")

    def validate(self) -> ArchSpec:
        """Checks that the blocks fit each other at the network's own resolution; returns itself.

        Raises:
            ArchError: see ``layers``.
        """
        for _ in self.layers():
            pass
        if self.box_head:
            roi = Shape(self.stages[-2 if len(self.stages) > 1 else -1].out, 64, 64)
            for _ in walk(self.box_head, roi, "box_head"):
                pass
        return self

    def features(self, resolution: Resolution | None = None) -> list[Shape]:
        """Output map of each stage, in order."""
        outputs = {layer.part: layer.output for layer in self.layers(resolution)}
        return [outputs[f"stages[{number}]"] for number in range(len(self.stages))]

    def strides(self) -> list[int]:
        """Stride of each stage's output against the image."""
        strides, total = [], 1
        for stage in self.stages:
            total *= stage.stride
            strides.append(total)
        return strides

    def head_cost(self, resolution: Resolution | None = None) -> Cost:
        """Counts of the global average pool and the linear layer; zero without a head."""
        *_, last = self.layers(resolution)
        return self._classifier_cost(last.output)

    def cost(self, resolution: Resolution | None = None) -> Cost:
        """Exact counts of stages and head for one image; conventions in ``arch/cost.py``."""
        layers = list(self.layers(resolution))
        return sum((layer.cost for layer in layers), self._classifier_cost(layers[-1].output))

    def _classifier_cost(self, shape: Shape) -> Cost:
        if self.head is None:
            return ZERO
        return linear(shape.channels, self.head.num_classes) + global_pool(shape)

    def with_padding(self, padding: str) -> ArchSpec:
        """The same network with its own ("published") or ordinary ("same", kernel // 2) padding.

        FBNetV3-A, B, C, E and F override the padding of two stride-2 depthwise convs so that maps
        shrink further; a detector wants maps that stay aligned with the strides.

        Raises:
            ArchError: any other word.
        """
        if padding == "published":
            return self
        if padding != "same":
            raise value_error("padding", padding, "published or same")
        return self.map_blocks(_ordinary_padding)

    def map_blocks(self, change: Callable[[BlockSpec], BlockSpec]) -> ArchSpec:
        """A copy with ``change(block)`` in place of every block of stages, head and box head."""

        def mapped(rows: tuple[BlockSpec, ...]) -> tuple[BlockSpec, ...]:
            return tuple(row.mapped(change) for row in rows)

        stages = tuple(StageSpec(mapped(stage.blocks)) for stage in self.stages)
        head = self.head and dataclasses.replace(self.head, blocks=mapped(self.head.blocks))
        box_head = mapped(self.box_head)
        return dataclasses.replace(self, stages=stages, head=head, box_head=box_head)

    def test_resize(self) -> int:
        """Short side in px before the centre crop at test time.

        As published, else ``ceil(resolution * 256 / 224 / 8) * 8``, the rule that the source uses.
        """
        if self.published.test_resize is not None:
            return self.published.test_resize
        return usual_test_resize(self.resolution)


def usual_test_resize(size: int) -> int:
    """px of the short side before a central crop of ``size`` px, where nothing else is published."""
    return -(-size * 256 // (224 * 8)) * 8


def image_size(resolution: Resolution) -> tuple[int, int]:
    """(height, width) in px of a resolution given as one side or as such a pair.

    Raises:
        ArchError: anything else, or a side that is not from 1 to ``MAX_RESOLUTION``.
    """
    if not isinstance(resolution, (list, tuple)):
        side = check_int("resolution", resolution, 1, MAX_RESOLUTION)
        return side, side
    if len(resolution) != 2:
        raise value_error("resolution", resolution, "one side in px, or (height, width)")
    height, width = (check_int("resolution", side, 1, MAX_RESOLUTION) for side in resolution)
    return height, width


def walk(rows: tuple[BlockSpec, ...], shape: Shape, part: str, where: str = "") -> Iterator[Layer]:
    """The single blocks of ``rows`` one after the other on an input of ``shape``.

    Args:
        rows: blocks with their repeats.
        shape: the first block's input.
        part: name that the layers carry.
        where: name of the rows in error messages, if not ``part``.

    Raises:
        ArchError: a block cannot take its input.
    """
    index = 0
    for number, row in enumerate(rows):
        for block in row.copies():
            try:
                cost, output = block.count(shape)
            except ArchError as error:
                raise error.inside(f"{where or part}[{number}]") from None
            yield Layer(part, index, block, shape, output, cost)
            shape, index = output, index + 1


def _ordinary_padding(block: BlockSpec) -> BlockSpec:
    if isinstance(block, InvertedResidualSpec) and block.pad is not None:
        return dataclasses.replace(block, pad=None)
    return block
