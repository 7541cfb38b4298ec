#!/usr/bin/env python3
"""Write a search space for other image sizes and with other widths, the same choices in every layer.

    scale_space.py SPACE [--width-mult FACTOR] [--resolution PX] --output FILE.yaml

The stages' channels are multiplied and rounded (by default up, to multiples of 8, as in FBNet section 4.2), the head's
stay. The file is a space like any other: tools/benchmark_latency.py --space FILE.yaml measures its operators,
and with MODEL.SUPERNET.SPACE FILE.yaml it is searched.

Example, the space of FBNet-96-0.35-1:
    scale_space.py fbnet --width-mult 0.35 --resolution 96 --output fbnet_r96_w0.35.yaml

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from decimal import Decimal
from typing import List, Optional

from fbnet_plugin.arch import ArchError, SearchSpace, load_space, save_space, scale_space, small_map_warning
from fbnet_plugin.arch.scaling import ROUNDINGS
from fbnet_plugin.engine import exit_codes


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", metavar="SPACE", help="a space's name or .yaml file")
    parser.add_argument("--width-mult", type=float, default=1.0, metavar="FACTOR", help="of the channels; default: 1")
    parser.add_argument("--resolution", type=int, metavar="PX", help="side of the square image; default: the space's")
    parser.add_argument("--rounding", choices=ROUNDINGS, default="ceil", help="of the channels; default: %(default)s")
    parser.add_argument("--divisor", type=int, default=8, metavar="N", help="of all channels; default: %(default)s")
    parser.add_argument("--name", default="", help="of the new space; default: made of what changes")
    parser.add_argument("--output", required=True, metavar="FILE.yaml", help="the file to write")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    with exit_codes():
        space = scale_space(
            load_space(args.space),
            args.width_mult,
            args.resolution,
            name=args.name,
            rounding=args.rounding,
            divisor=args.divisor,
        )
        header = f"Made by: tools/scale_space.py {shlex.join(argv)}"
        try:
            save_space(space, args.output, header)
        except OSError as error:
            raise ArchError(f"cannot be written: {error.strerror or error}", file=args.output) from None
        print(summary(space))
        warning = small_map_warning(space)
        if warning:
            print(f"WARNING: {warning}", file=sys.stderr)
        print(f"{args.output}: written")


def summary(space: SearchSpace) -> str:
    """Name, size and channels of a space, some lines."""
    layers = sum(bool(row.variables) for row in space.rows())
    counts = sorted({len(variable.choices) for variable in space.variables}) or [1]
    each = f"{counts[0]} candidates each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} choices per variable"
    first, last = (space.arch([end % len(variable.choices) for variable in space.variables]) for end in (0, -1))
    px = str(first.resolution) if first.resolution == last.resolution else f"{first.resolution} to {last.resolution}"
    stages = []
    for one, other in zip(first.stages, last.stages):
        widths = [(a.out, b.out) for a, b in zip(one.blocks, other.blocks)]
        stages.append(" ".join(dict.fromkeys(str(a) if a == b else f"{a}-{b}" for a, b in widths)))
    lines = [
        f"{space.name}: {px} px, {layers} layers to choose, {each}, {Decimal(space.size):.1e} networks",
        f"channels per stage: {' | '.join(stages)}",
    ]
    if first.head is not None and first.head.blocks:
        lines.append(f"channels of the head (not scaled): {' '.join(str(block.out) for block in first.head.blocks)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
