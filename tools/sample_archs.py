#!/usr/bin/env python3
"""Architectures from the distribution that a search has left behind, as files that can be trained.

    sample_archs.py RUN|DISTRIBUTION.json [--num 6] [--seed 0] [--min-us US] [--max-us US] [--table TABLE.json] ...

RUN is the OUTPUT_DIR of a search; its search/distribution.json is read. The most probable architecture comes first,
then distinct ones drawn at random, all within the bounds on latency. The bounds are by default those 5% around the
search's LATENCY.TARGET_US, if it had one. In DIR, by default RUN/search/archs, there are then

    SPACE_argmax.yaml, SPACE_1.yaml, ...   one architecture each, to be named in MODEL.FBNET.ARCH
    archs.json                             all figures
    archs.png                              the architectures drawn as in FBNet Figure 4

Examples:
    sample_archs.py output/search_fbnet
    sample_archs.py output/search_fbnet --max-us 25000 --table phone.json --output output/phone_archs
    train_net.py --config-file ImageNet-Classification/fbnet_a_360e.yaml MODEL.FBNET.ARCH output/.../fbnet_argmax.yaml

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from fbnet_plugin.arch import save_arch
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.dnas.candidates import candidate_names
from fbnet_plugin.dnas.distribution import Distribution
from fbnet_plugin.dnas.distribution_file import load_distribution
from fbnet_plugin.dnas.errors import SearchError
from fbnet_plugin.dnas.sampling import TARGET_TOLERANCE, Sampled, sample_architectures
from fbnet_plugin.engine import exit_codes
from fbnet_plugin.latency import load_table


class Bounds(NamedTuple):
    """Latency bounds in µs, None for none, and where they come from."""

    low: Optional[float]
    high: Optional[float]
    origin: str


def microseconds(text: str) -> float:
    """A finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def count(text: str) -> int:
    """An integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def find_distribution(path: str) -> str:
    """The distribution's file: ``path`` itself, or the one in a run's folder or its folder ``search``."""
    if not os.path.isdir(path):
        return path
    files = [os.path.join(path, *parts, "distribution.json") for parts in (("search",), ())]
    for file in files:
        if os.path.exists(file):
            return file
    raise SearchError(f"{path}: neither search/distribution.json nor distribution.json is there; has a search run?")


def default_output(file: str) -> str:
    """``archs`` beside distribution.json, ``archs_0049`` beside distribution_0049.json."""
    stem = os.path.splitext(os.path.basename(file))[0]
    name = stem.replace("distribution", "archs", 1) if "distribution" in stem else "archs"
    return os.path.join(os.path.dirname(file), name)


def bounds_of(args: argparse.Namespace, target_us: Optional[float], with_other_table: bool) -> Bounds:
    """What the options say, else what follows from the target."""
    if args.min_us is not None or args.max_us is not None:
        return Bounds(args.min_us, args.max_us, "as asked")
    if args.any_latency or target_us is None:
        return Bounds(None, None, "none")
    if with_other_table:
        return Bounds(None, None, "none; the target was for another latency table")
    origin = f"within {TARGET_TOLERANCE:.0%} of the target of {target_us / 1000:,.3f} ms; --any-latency lifts them"
    return Bounds(target_us * (1 - TARGET_TOLERANCE), target_us * (1 + TARGET_TOLERANCE), origin)


def sample(args: argparse.Namespace, distribution: Distribution, bounds: Bounds) -> List[Sampled]:
    """The architectures, named as their files will be."""
    rng = np.random.default_rng(args.seed)
    found = sample_architectures(distribution, args.num, rng, bounds.low, bounds.high)
    space = re.sub(r"[^\w.-]+", "_", distribution.space.name).lstrip("._-")[:80] or "space"
    names = [f"{space}_{'argmax' if one.is_argmax else number}" for number, one in enumerate(found)]
    return [replace(one, arch=replace(one.arch, name=name)) for name, one in zip(names, found)]


def figures(one: Sampled) -> str:
    """One line about an architecture."""
    latency = [] if one.latency_us is None else [f"latency {one.latency_us / 1000:,.3f} ms"]
    counts = [
        f"{one.macs / 1e6:,.1f}M MACs",
        f"{one.params / 1e6:,.3f}M parameters",
        f"{one.blocks} searched blocks besides skips",
    ]
    return ", ".join([*latency, *counts, f"log-probability {one.log_prob:.3f}"])


def write(found: Sequence[Sampled], distribution: Distribution, file: str, folder: str) -> None:
    """The architectures' files and archs.json."""
    os.makedirs(folder, exist_ok=True)
    table = distribution.latency_table
    by = "no latency table" if table is None else f"latencies by {table['file']} ({table['digest'][:12]})"
    source = f"FBNet search of {distribution.space.name}, epoch {distribution.epoch}; {by}"
    labels, rows = candidate_names(distribution.space), []
    for one in found:
        kind = "Most probable architecture" if one.is_argmax else "Architecture drawn"
        arch = replace(one.arch, source=source[:1000], notes=f"{figures(one)}.")
        name = f"{arch.name}.yaml"
        header = f"{kind} from {file} by tools/sample_archs.py.\n{figures(one)}.\n{source}."
        save_arch(arch, os.path.join(folder, name), header)
        rows.append(row_of(one, name, [names[choice] for names, choice in zip(labels, one.point)]))
    with atomic_write(os.path.join(folder, "archs.json")) as stream:
        stream.write(("[\n " + ",\n ".join(map(json.dumps, rows)) + "\n]\n").encode())


def row_of(one: Sampled, name: str, candidates: List[str]) -> Dict[str, Any]:
    """An architecture in archs.json."""
    return {
        "name": one.arch.name,
        "file": name,
        "is_argmax": one.is_argmax,
        "latency_us": one.latency_us,
        "macs": one.macs,
        "params": one.params,
        "log_prob": one.log_prob,
        "blocks": one.blocks,
        "resolution": one.arch.resolution,
        "point": one.point,
        "candidates": candidates,
    }


def draw(found: Sequence[Sampled], folder: str) -> str:
    """The picture's path."""
    from fbnet_plugin.plotting.architectures import MAX_ARCHS, draw_architectures  # Matplotlib takes a while to load

    shown, labels = found[:MAX_ARCHS], []
    for one in shown:
        lines = [one.arch.name, f"{one.arch.resolution} px, {one.macs / 1e6:,.1f}M MACs"]
        labels.append("\n".join(lines + ([] if one.latency_us is None else [f"{one.latency_us / 1000:,.3f} ms"])))
    path = os.path.join(folder, "archs.png")
    draw_architectures([one.arch for one in shown], path, labels=labels)
    return path


def table_text(found: Sequence[Sampled]) -> str:
    """A line per architecture."""
    lines = [("name", "latency (ms)", "MACs (M)", "params (M)", "log-prob", "blocks")]
    for one in found:
        latency = "-" if one.latency_us is None else f"{one.latency_us / 1000:,.3f}"
        counts = (f"{one.macs / 1e6:,.1f}", f"{one.params / 1e6:,.3f}", f"{one.log_prob:.2f}", str(one.blocks))
        lines.append((one.arch.name, latency, *counts))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:]))])
        for line in lines
    )


def read(args: argparse.Namespace) -> Tuple[str, Distribution, Bounds]:
    """The distribution's file, what is in it (with the table that is asked for), and the bounds."""
    file = find_distribution(args.distribution)
    distribution = load_distribution(file)
    target_us = distribution.target_us
    if args.table:
        distribution = distribution.with_table(load_table(args.table))
    bounds = bounds_of(args, target_us, with_other_table=distribution.target_us is None)
    if distribution.latency_us is None and (bounds.low, bounds.high) != (None, None):
        raise SearchError(f"{file} has no latencies to keep the bounds with; give --table TABLE.json")
    return file, distribution, bounds


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("distribution", metavar="RUN", help="a search's OUTPUT_DIR, or a distribution's .json file")
    parser.add_argument("--num", type=count, default=6, metavar="N", help="besides the argmax; default: %(default)s")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of the draws; default: %(default)s")
    parser.add_argument("--min-us", type=microseconds, metavar="US", help="smallest latency in µs")
    parser.add_argument("--max-us", type=microseconds, metavar="US", help="largest latency in µs")
    parser.add_argument("--any-latency", action="store_true", help="no bounds, although the search had a target")
    parser.add_argument("--table", metavar="TABLE", help="of other latencies, by tools/benchmark_latency.py")
    parser.add_argument("--output", metavar="DIR", help="default: archs beside the distribution")
    parser.add_argument("--no-picture", action="store_true", help="without archs.png")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        file, distribution, bounds = read(args)
        try:
            found = sample(args, distribution, bounds)
        except SearchError as error:
            hint = "; --any-latency lifts the bounds" if args.min_us is None and args.max_us is None else ""
            raise SearchError(f"{file}: {error}{hint}") from None
        folder = args.output or default_output(file)
        try:
            write(found, distribution, file, folder)
            picture = "" if args.no_picture else draw(found, folder)
        except OSError as error:
            raise SearchError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from None
    table = distribution.latency_table
    print(f"{file}: {distribution.space.name}, epoch {distribution.epoch}")
    print(f"latencies: {'none' if table is None else table['file']}; bounds: {bounds.origin}")
    print(table_text(found))
    print(f"{folder}: {len(found)} architectures, archs.json" + (", archs.png" if picture else ""))


if __name__ == "__main__":
    main()
