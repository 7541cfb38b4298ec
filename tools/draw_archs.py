#!/usr/bin/env python3
"""Draw architectures side by side (FBNet Figure 4), or the distribution of a search.

    draw_archs.py ARCH [ARCH ...] --output FILE [--table TABLE] [--resolution PX]
    draw_archs.py DISTRIBUTION --output FILE

Each architecture is a row with one box per block: the height is the expansion, the colour the kernel of the depthwise
convolution; stages of equal stride stand below each other. ARCH is the name of an architecture of the zoo, a .yaml
file, or SPACE:CHOICES, such as fbnet:8208872427657356177677, a point of a search space with one digit per layer.

DISTRIBUTION is the distribution.json that a search writes, and stands alone. Its picture is a heat map of the
probability of each candidate in each layer.

Examples:
    draw_archs.py fbnet_a fbnet_b fbnet_c fbnet_96_035_1 --output figure4.png
    draw_archs.py fbnet_s8 output/search/arch.yaml --table phone.json --output searched.pdf
    draw_archs.py output/search/distribution.json --output distribution.png

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any, List, Optional

from fbnet_plugin.arch import ArchError
from fbnet_plugin.arch.errors import short_repr
from fbnet_plugin.dnas.distribution_file import FORMAT
from fbnet_plugin.engine import ConfigError, exit_codes, positive
from fbnet_plugin.latency import load_table
from fbnet_plugin.latency.csv_networks import read_arch
from fbnet_plugin.plotting.architectures import arch_label, draw_architectures
from fbnet_plugin.plotting.distribution import draw_distribution
from fbnet_plugin.plotting.picture import picture_format


def picture(text: str) -> str:
    """A file name that ends like a picture's."""
    try:
        picture_format(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def read_distribution(file: str) -> Any:
    """The data of a distribution file; its layers are checked where they are drawn."""
    try:
        with open(file, encoding="utf-8") as stream:
            data = json.load(stream)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise ConfigError(f"{file}: not a JSON file ({error})") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{file}: format is {short_repr(found)}, expected {FORMAT!r}")
    return data


def draw_search(args: argparse.Namespace) -> str:
    """Draws a distribution; returns what was drawn."""
    file = next(text for text in args.archs if text.endswith(".json"))
    if len(args.archs) > 1 or args.table or args.resolution:
        raise ConfigError(f"{file}: a distribution is drawn alone, without architectures, --table and --resolution")
    data = read_distribution(file)
    title = f"epoch {data['epoch']}" if isinstance(data.get("epoch"), int) else ""
    try:
        draw_distribution(data.get("layers"), args.output, title=title)
    except ArchError as error:
        raise error.inside(file=file) from None
    return f"{len(data['layers'])} layers"


def draw_networks(args: argparse.Namespace) -> str:
    """Draws architectures; returns what was drawn."""
    archs = [read_arch(text) for text in args.archs]
    points = [text if ":" in text and not text.endswith((".yaml", ".yml")) else "" for text in args.archs]
    names = [point or arch.name for point, arch in zip(points, archs)]
    table = load_table(args.table) if args.table else None
    labels = []
    for text, own_name, arch in zip(args.archs, names, archs):
        name = own_name if names.count(own_name) == 1 else text  # the file tells networks of one name apart
        latency_us = table.latency(arch, args.resolution).total_us if table else None
        labels.append(arch_label(arch, args.resolution, name=name, latency_us=latency_us))
    draw_architectures(archs, args.output, labels=labels, resolution=args.resolution)
    return f"{len(archs)} architecture{'s' if len(archs) > 1 else ''}"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archs", nargs="+", metavar="ARCH", help="architectures, or one distribution.json")
    parser.add_argument(
        "--output", required=True, type=picture, metavar="FILE", help="the picture, a .png, .pdf or .svg file"
    )
    parser.add_argument("--table", metavar="TABLE", help="a latency table; each label then tells the latency in ms")
    parser.add_argument(
        "--resolution", type=positive, metavar="PX", help="side of the image; default: each architecture's own"
    )
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        try:
            drawn = (draw_search if any(text.endswith(".json") for text in args.archs) else draw_networks)(args)
        except OSError as error:
            file = os.fspath(error.filename2 or error.filename or args.output)
            raise ConfigError(f"{file}: {error.strerror}") from None
    print(f"{drawn} drawn: {args.output}")


if __name__ == "__main__":
    main()
