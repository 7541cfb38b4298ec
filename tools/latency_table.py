#!/usr/bin/env python3
"""Look into latency tables, bring numbers from elsewhere into one, and compare devices.

    latency_table.py show|lookup|matrix|import|export|compare|cross|fit ... ; each with --help and an example

TABLE is a file that tools/benchmark_latency.py or one of import and fit has written. ARCH is the name of an
architecture of the zoo, a .yaml file, or SPACE:CHOICES, such as fbnet_cifar:7818488874147327324245, a point of a
search space with one digit per layer.

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Callable
from typing import Any, List, Optional

from fbnet_plugin.arch import SearchSpace, load_space
from fbnet_plugin.engine import exit_codes, positive
from fbnet_plugin.latency import LatencyError, LatencyTable, Setting, csv_table, load_table, report, save_table
from fbnet_plugin.latency.compare import compare_tables, cross_device
from fbnet_plugin.latency.csv_networks import read_arch, read_networks
from fbnet_plugin.latency.csv_table import export_csv, import_csv
from fbnet_plugin.latency.fit import fit_table
from fbnet_plugin.latency.importers import FORMATS, import_published, is_csv
from fbnet_plugin.latency.matrix_import import US_PER


def microseconds(text: str) -> float:
    """A finite number of at least 0."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def resolution_of(args: argparse.Namespace) -> Any:
    """None, one side or (height, width), in px."""
    sides = args.resolution or []
    return None if not sides else sides[0] if len(sides) == 1 else tuple(sides)


def space_of(args: argparse.Namespace) -> Optional[SearchSpace]:
    return load_space(args.space) if args.space else None


def setting_of(args: argparse.Namespace, method: str) -> Setting:
    """What the flags say about a device; where they are silent nothing is claimed."""
    return Setting(
        args.device_name, args.processor or args.device_name, args.runtime, args.threads, args.batch_size, args.dtype,
        method=method,
    )  # fmt: skip


def save(table: LatencyTable, path: str) -> None:
    save_table(table, path)
    constant = sum(entry.in_constant for entry in table.entries.values())
    print(f"{path}: {len(table.entries)} operators, {constant} of them in the constant of {table.constant_us:,.1f} µs")


def show(args: argparse.Namespace) -> None:
    print(report.table_text(load_table(args.table), args.top))


def lookup(args: argparse.Namespace) -> None:
    table, resolution = load_table(args.table), resolution_of(args)
    found = [(name, table.latency(read_arch(name), resolution)) for name in args.archs]
    if args.json:
        print(json.dumps([report.latency_data(*pair) for pair in found], indent=1))
        return
    print("\n".join(report.latency_text(*pair, layers=args.layers) for pair in found))


def matrix(args: argparse.Namespace) -> None:
    found = load_table(args.table).matrix(load_space(args.space), resolution_of(args))
    print(json.dumps(report.matrix_data(found)) if args.json else report.matrix_text(found))


def import_(args: argparse.Namespace) -> None:
    setting, space, resolution = setting_of(args, "import"), space_of(args), resolution_of(args)
    common: dict[str, Any] = {"space": space, "resolution": resolution, "notes": args.notes}
    if args.format == "csv" or (args.format == "auto" and is_csv(args.file)):
        if args.unit:
            raise LatencyError(
                f"{args.file}: --unit {args.unit} is not for CSV; its columns, such as us, tell the unit"
            )
        table = import_csv(args.file, setting, constant_us=args.constant_us, **common)
    else:
        table = import_published(
            args.file, setting, format=args.format, unit=args.unit, constant_us=args.constant_us or 0.0, **common
        )
    save(table, args.output)


def export(args: argparse.Namespace) -> None:
    export_csv(load_table(args.table), args.output)


def compare(args: argparse.Namespace) -> None:
    comparison = compare_tables([load_table(path) for path in args.tables], args.op)
    if args.plot:
        from fbnet_plugin.plotting.latency import plot_comparison  # Matplotlib takes a while to load

        plot_comparison(comparison, args.plot, top=args.top)
    print(comparison.to_text(args.top, args.markdown))


def cross(args: argparse.Namespace) -> None:
    tables, archs = [load_table(path) for path in args.tables], [read_arch(name) for name in args.arch]
    print(cross_device(tables, archs, resolution_of(args), names=args.arch).to_text(args.markdown))


def fit(args: argparse.Namespace) -> None:
    space = load_space(args.space)
    points, latencies_us = read_networks(args.file, space, args.column, args.unit)
    prior = load_table(args.prior) if args.prior else None
    resolution, setting = resolution_of(args), setting_of(args, "fit")
    found = fit_table(space, points, latencies_us, setting=setting, resolution=resolution, prior=prior)
    save(found.table, args.output)
    print(f"each network predicted from the others: {report.score_text(found.left_out)}")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    form: Any = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, example: str) -> Any:
        epilog = f"example:\n  latency_table.py {example}"
        brief = text.partition("\n")[0]
        added = commands.add_parser(name, help=brief, description=text, epilog=epilog, formatter_class=form)
        added.set_defaults(run=run)
        return added

    def add_resolution(one: Any) -> None:
        one.add_argument("--resolution", nargs="+", type=positive, metavar="PX",
                         help="side, or height and width; default: that of the architecture or space")  # fmt: skip

    def add_device(one: Any) -> None:
        one.add_argument("--output", required=True, metavar="TABLE", help="the table to write, a .json file")
        one.add_argument("--device-name", required=True, metavar="NAME", help="such as raspi4")
        one.add_argument("--processor", default="", metavar="NAME", help="default: the device's name")
        one.add_argument("--runtime", default="unknown", metavar="NAME", help="what ran the operators, such as eager")
        one.add_argument("--threads", type=positive, metavar="N")
        one.add_argument("--batch-size", type=positive, metavar="N")
        one.add_argument("--dtype", metavar="NAME", help="of weights and activations, such as float32")

    one = command("show", show, "A table's setting, size and slowest operators.", "show TABLE.json --top 20")
    one.add_argument("table", metavar="TABLE")
    one.add_argument("--top", type=positive, default=10, metavar="N", help="operators to list")

    one = command("lookup", lookup, "The latency of architectures.", "lookup TABLE.json fbnet_a fbnet_c --layers")
    one.add_argument("table", metavar="TABLE")
    one.add_argument("archs", nargs="+", metavar="ARCH")
    add_resolution(one)
    one.add_argument("--layers", action="store_true", help="with every layer")
    one.add_argument("--json", action="store_true", help="one JSON list, with every layer")

    one = command("matrix", matrix, "Latency per layer and candidate of a space.", "matrix TABLE.json --space fbnet")
    one.add_argument("table", metavar="TABLE")
    one.add_argument("--space", required=True, metavar="SPACE", help="a name, or a .yaml file")
    add_resolution(one)
    one.add_argument("--json", action="store_true")

    text = (
        "A table from numbers that somebody else measured.\n\nformats, and the space whose layers they are taken for:"
    )
    told = [f"{name}: {layout.origin}; space {layout.space}" for name, layout in FORMATS.items()]
    told.append("csv: see below")
    text += "".join("\n" + textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    ") for line in told)
    text += f"\n\n{csv_table.__doc__}"
    example = "import x86cpu_us.txt --device-name x86cpu --runtime eager --batch-size 1 --output x86cpu.json"
    one = command("import", import_, text, example)
    one.add_argument("file", metavar="FILE")
    one.add_argument("--format", choices=["auto", "csv", *FORMATS], default="auto")
    one.add_argument("--unit", choices=list(US_PER), help="of the numbers; needed by the format text")
    one.add_argument("--space", metavar="SPACE", help="default: that of the format")
    add_resolution(one)
    one.add_argument("--constant-us", type=microseconds, metavar="US", help="what a network costs besides its layers")
    one.add_argument("--notes", default="", help="where the numbers come from")
    add_device(one)

    one = command("export", export, "A table as CSV.", "export TABLE.json --output TABLE.csv")
    one.add_argument("table", metavar="TABLE")
    one.add_argument("--output", required=True, metavar="FILE")

    example = "compare S8.json IPHONE.json --op mb --plot figure5.png"
    one = command("compare", compare, "Operators on several devices (FBNet Figure 5).", example)
    one.add_argument("tables", nargs="+", metavar="TABLE")
    one.add_argument("--op", nargs="+", default=[], metavar="KIND", help="such as mb; default: all operators")
    one.add_argument("--top", type=positive, default=12, metavar="N", help="operators that differ most")
    one.add_argument("--plot", metavar="FILE", help="a .png file to draw")
    one.add_argument("--markdown", action="store_true")

    example = "cross S8.json IPHONE.json --arch fbnet_iphonex fbnet_s8"
    one = command("cross", cross, "Architectures on several devices (FBNet Table 5).", example)
    one.add_argument("tables", nargs="+", metavar="TABLE")
    one.add_argument("--arch", nargs="+", required=True, metavar="ARCH")
    add_resolution(one)
    one.add_argument("--markdown", action="store_true")

    example = (
        "fit latency_ms.csv --space fbnet_cifar --column pixel3 --unit ms --device-name pixel3 --output pixel3.json"
    )
    one = command("fit", fit, "A table from latencies of whole networks, when the device gives nothing else.", example)
    one.add_argument("file", metavar="CSV", help="a column ops, or one per variable; and a column of latencies")
    one.add_argument("--space", required=True, metavar="SPACE")
    one.add_argument("--column", required=True, metavar="NAME", help="that holds the latencies")
    one.add_argument("--unit", required=True, choices=list(US_PER), help="of the latencies")
    one.add_argument("--prior", metavar="TABLE", help="of another device, to start from")
    add_resolution(one)
    add_device(one)
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        try:
            args.run(args)
        except OSError as error:
            raise LatencyError(f"{error.filename2 or error.filename}: {error.strerror}") from None


if __name__ == "__main__":
    main()
