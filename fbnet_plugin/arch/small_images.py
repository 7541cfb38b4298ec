"""From a network for ImageNet to its form for small images, such as CIFAR-10's (FBNetV3 section 4.3)."""

from __future__ import annotations

import dataclasses

from .checks import check_int
from .errors import ArchError
from .spec import MAX_RESOLUTION, ArchSpec, HeadSpec, Published, StageSpec

IMAGENET_PX = 224  # the resolution of the smallest network, FBNetV3-A
CIFAR_PX = 32
EVEN = 2

_NOTES = (
    "{name} with the second stride-2 block at stride 1, {base} px per {reference} px of it ({exact:.2f} px, to the "
    "nearest even number) and ordinary padding. Its images are resized to the whole input, without a crop."
)


def small_image_form(
    spec: ArchSpec,
    num_classes: int = 10,
    base: int = CIFAR_PX,
    reference: int = IMAGENET_PX,
) -> ArchSpec:
    """The network of FBNetV3 section 4.3 for images of 32 px: a stride of 16 in place of 32, and 32 to 46 px.

    The second stride-2 block gets stride 1; the stem is the first, so that a 32 px image has maps of 16, 16, 8, 4 and
    2 px. The resolution keeps its ratio to FBNetV3-A's. The paper does not say how it is rounded: the nearest even
    number is within 3% of the ratio for A to G, and a stem of stride 2 covers it evenly. Padding is ordinary: with the
    smaller one that A, B and C were published with, their last map would be a single pixel. At test time nothing is
    cropped.

    Args:
        spec: a network for ImageNet.
        num_classes: of the new head.
        base: px that ``reference`` px become.
        reference: px of the family's smallest network.

    Returns:
        A network named such as ``fbnet_v3_a_32px``, after ``base`` and not after its own resolution.

    Raises:
        ArchError: the network has no head or fewer than two stride-2 blocks, or its maps would vanish.
    """
    check_int("base", base, 1, MAX_RESOLUTION)
    check_int("reference", reference, 1, MAX_RESOLUTION)
    if spec.head is None:
        raise ArchError("is null, expected the head of a classifier", f"{spec.name}: head")
    exact = spec.resolution * base / reference
    resolution = max(EVEN, round(exact / EVEN) * EVEN)
    small = dataclasses.replace(
        spec.with_padding("same"),
        name=f"{spec.name}_{base}px",
        resolution=resolution,
        head=HeadSpec(spec.head.blocks, num_classes),
        source=f"FBNetV3 (arXiv:2006.02049), section 4.3; {spec.source}",
        notes=_NOTES.format(name=spec.name, base=base, reference=reference, exact=exact),
        published=Published(test_resize=resolution),
    )
    return _without_second_stride(small).validate()


def _without_second_stride(spec: ArchSpec) -> ArchSpec:
    """A copy whose second stride-2 row, in order of execution, has stride 1."""
    strided = [(i, j) for i, stage in enumerate(spec.stages) for j, row in enumerate(stage.blocks) if row.stride == 2]
    if len(strided) < 2:
        raise ArchError(f"has {len(strided)} stride-2 blocks, expected two or more", f"{spec.name}: stages")
    number, index = strided[1]
    rows = list(spec.stages[number].blocks)
    rows[index] = rows[index].replaced(stride=1)
    stages = list(spec.stages)
    stages[number] = StageSpec(tuple(rows))
    return dataclasses.replace(spec, stages=tuple(stages))
