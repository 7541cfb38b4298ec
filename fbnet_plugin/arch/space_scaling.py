"""A search space at another resolution and with other widths (FBNet section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .block_base import MAX_CHANNELS
from .blocks import PoolSpec
from .checks import check_float, check_int
from .cost import Shape
from .errors import ArchError, value_error
from .scaling import scale_channels
from .space import SearchSpace
from .spec import MAX_RESOLUTION, Resolution, image_size

CIFAR_STRIDE = 8  # of the space fbnet_cifar: image side over side of the last map
SMALLEST_MAP = 3  # px, side of the last map of FBNet-96-0.35-1, the smallest in the paper


def scale_space(
    space: SearchSpace,
    width: float = 1.0,
    resolution: int | None = None,
    *,
    name: str = "",
    rounding: str = "ceil",
    divisor: int = 8,
) -> SearchSpace:
    """The same choices for images of another size and with other widths.

    A point stands for the network that ``scale_width(..., scale_head=False)`` makes of the given space's: all blocks'
    output channels are scaled but those of the head, which stay as in the paper. Width 0.35 and 96 px make the space
    of FBNet-96-0.35-1 from FBNet's.

    Args:
        space: its widths, where they are to change, and its resolution, where that is, must be plain numbers.
        width: factor of the output channels; 1.0 leaves every width as it is, rounded or not.
        resolution: px of the square image; None keeps it.
        name: of the result; default: the space's with ``_r<resolution>`` and ``_w<width>`` for what has changed, such
            as ``fbnet_r96_w0.35``; a space in which nothing has is returned as it is.
        rounding, divisor: see ``scale_channels``; up to a multiple of 8 gives the published widths.

    Raises:
        ArchError: a bad argument; a variable chooses what is to change; or the scaled blocks do not fit each other.
    """
    width = check_float("width factor", width, 0.01, 64.0)
    template = dict(space.template)
    suffix = ""
    if resolution is not None and check_int("resolution", resolution, 1, MAX_RESOLUTION) != _resolution(space):
        template["resolution"] = int(resolution)
        suffix += f"_r{resolution}"
    if width != 1.0:
        template["stages"] = [
            [_widened(space, row, f"stages[{i}].blocks[{j}]", width, divisor, rounding) for j, row in enumerate(stage)]
            for i, stage in enumerate(template["stages"])
        ]
        if template.get("box_head"):
            template["box_head"] = _widened_box_head(space, width, divisor, rounding)
        suffix += f"_w{width:g}"
    if not suffix and name in ("", space.name):
        return space
    template.pop("published", None)  # what was measured on another network
    if "name" in template:
        template["name"] = name or space.name + suffix
    scaled = SearchSpace(name or space.name + suffix, space.variables, template).validate()
    _check_candidates(space, scaled)
    return scaled


def _resolution(space: SearchSpace) -> Any:
    resolution = space.template.get("resolution")
    if isinstance(resolution, str):
        problem = f"is chosen by {resolution}, so that no other can be given; only a plain number can be replaced"
        raise ArchError(problem, f"{space.name}: architecture.resolution")
    return resolution


def _widened_box_head(space: SearchSpace, width: float, divisor: int, rounding: str) -> list[Any]:
    rows = space.template["box_head"]
    if not isinstance(rows, list):
        raise value_error(f"{space.name}: architecture.box_head", rows, "a list of blocks, to be scaled")
    return [_widened(space, row, f"box_head[{i}]", width, divisor, rounding) for i, row in enumerate(rows)]


def _widened(space: SearchSpace, row: Any, where: str, width: float, divisor: int, rounding: str) -> dict[str, Any]:
    """A row of the template with its number of output channels scaled."""
    place = f"{space.name}: architecture.{where}"
    if not isinstance(row, Mapping):
        raise value_error(place, row, "a block in place of a variable; only an out that stands in one can be scaled")
    out, use = row.get("out"), row.get("use")
    if any(isinstance(fields, Mapping) and "out" in fields for fields in _values(space, use)):
        problem = f"the channels are chosen by use: {use}; only an out that stands in the block itself can be scaled"
        raise ArchError(problem, place)
    if isinstance(out, str):
        problem = f"the channels are chosen by {out}; only a plain number can be scaled, scale the choices in the file"
        raise ArchError(problem, f"{place}.out")
    if out is None:
        raise ArchError("is missing; only a number that stands in the block itself can be scaled", f"{place}.out")
    try:
        check_int("out", out, 1, MAX_CHANNELS)
        scaled = check_int("out", scale_channels(out, width, divisor, rounding), 1, MAX_CHANNELS)
    except ArchError as error:
        raise error.inside(place) if error.where == "out" else error from None
    return {**row, "out": scaled}


def _values(space: SearchSpace, reference: Any) -> Sequence[Any]:
    """What ``$variable`` can stand for; a plain value stands for itself."""
    if isinstance(reference, str):
        return next(variable.choices for variable in space.variables if f"${variable.name}" == reference)
    return (reference,)


def _check_candidates(space: SearchSpace, scaled: SearchSpace) -> None:
    """Each choice by itself at its place, such as grouped convolutions on widths that are no multiple of the groups.

    Raises:
        ArchError: a network with the first choices and one other fits as it was, and no longer does.
    """
    for point in _one_by_one([len(variable.choices) for variable in scaled.variables]):
        try:
            scaled.arch(point).validate()
        except ArchError as error:
            if _fits(space, point):
                raise error.inside(f"{scaled.name}: architecture") from None


def _one_by_one(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Every index of every variable, the others at zero."""
    for position, size in enumerate(sizes):
        for index in range(size):
            yield [index if place == position else 0 for place in range(len(sizes))]


def _fits(space: SearchSpace, point: list[int]) -> bool:
    try:
        return bool(space.arch(point).validate())
    except ArchError:
        return False


def small_map_warning(space: SearchSpace, resolution: Resolution | None = None) -> str:
    """What is wrong with small images: strides made for ImageNet leave a last map of a single pixel at 32 px.

    Args:
        space: looked at in its networks of all first and all last choices.
        resolution: image px, one side or (height, width); None: each network's own.

    Returns:
        one line, "" where both sides of the last map have more than 1 px. Pools on purpose do not count as maps.

    Raises:
        ArchError: a bad resolution, or a network that has no output pixel at all.
    """
    for end in (0, -1):
        arch = space.arch([end % len(variable.choices) for variable in space.variables])
        size = image_size(arch.resolution if resolution is None else resolution)
        last = _last_map(arch.layers(size))
        if last is None or min(last.height, last.width) > 1:
            continue
        stride, side = arch.strides()[-1], min(size)
        advice = f"use a resolution of {SMALLEST_MAP * stride} px or more"
        if stride > CIFAR_STRIDE and side > CIFAR_STRIDE:
            advice += ", or a space with fewer strides such as fbnet_cifar (made for 32 px, last map 4x4 px)"
        image = f"{side} px" if len(set(size)) == 1 else f"{size[0]}x{size[1]} px"
        return f"{space.name} at {image}: the last map has only {last.height}x{last.width} px; {advice}"
    return ""


def _last_map(layers: Iterator[Any]) -> Shape | None:
    """Output of the last block of the stages before a pool."""
    last = None
    for layer in layers:
        if layer.part == "head" or isinstance(layer.block, PoolSpec):
            break
        last = layer.output
    return last
