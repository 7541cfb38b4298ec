#!/usr/bin/env python3
"""Measure the operators of search spaces and architectures on this machine, and write them to a latency table.

    benchmark_latency.py (--space SPACE | --arch ARCH ...) --output TABLE.json [--validate N] [options]

Every distinct operator (a block on an input shape; stem, head and classifier included) is timed in inference, inside
networks that contain it, in several visits; the table has its median in µs. What the table has already is not
measured again; interrupted, the same command goes on where it was. With --validate, random whole networks are timed
end to end and compared with the sums of the table.

Examples:
    benchmark_latency.py --space fbnet --output cpu.json --validate 30
    benchmark_latency.py --space fbnet --arch fbnet_c --runtime onnxruntime --threads 2 --output cpu_ort.json
    benchmark_latency.py --space fbnet_v3 --fix resolution=224 --times 1 --output v3.json

Exit status: 0; 2 when the input is at fault, with one message that says how; 130 when stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, List, Optional, Tuple

import yaml

from fbnet_plugin.arch import get_arch, load_space
from fbnet_plugin.engine import exit_codes, positive
from fbnet_plugin.latency import LatencyError
from fbnet_plugin.latency.measure import Options, Request, Schedule, measure, open_table, validate
from fbnet_plugin.latency.measure.campaign import journal_of
from fbnet_plugin.latency.measure.options import METHODS
from fbnet_plugin.latency.measure.request import TIMES
from fbnet_plugin.latency.setting import DEVICES, DTYPES, RUNTIMES
from fbnet_plugin.plotting.latency import plot_validation

SLOWEST = 5
SECONDS_PER_VISIT = {"eager": 0.4, "compile": 5.0, "onnxruntime": 0.7, "onnxruntime-int8": 3.0}  # on a fast core


def variable(text: str) -> Tuple[str, Any]:
    """NAME=VALUE or NAME=[VALUE, ...]"""
    name, equals, value = text.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        equals = ""
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, tuple(parsed) if isinstance(parsed, list) else parsed


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what")
    what.add_argument("--space", action="append", default=[], metavar="SPACE", help="a space's name or .yaml file")
    what.add_argument("--arch", nargs="+", default=[], metavar="ARCH", help="names in the zoo or .yaml files")
    what.add_argument("--resolution", nargs="+", type=positive, metavar="PX", help="one side, or H W; default: its own")
    what.add_argument(
        "--fix", nargs="+", type=variable, default=[], metavar="NAME=VALUE", help="variables of the space"
    )
    how = parser.add_argument_group("how; a table holds for one such setting")
    defaults = Options()
    how.add_argument("--device", choices=DEVICES, default=defaults.device)
    how.add_argument("--runtime", choices=RUNTIMES, default=defaults.runtime)
    how.add_argument("--threads", type=positive, default=defaults.threads, help="of one operator; default: %(default)s")
    how.add_argument("--batch-size", type=positive, default=defaults.batch_size, help="default: %(default)s")
    how.add_argument("--dtype", choices=DTYPES, default=defaults.dtype)
    how.add_argument("--channels-last", action="store_true", help="memory format of activations")
    how.add_argument("--method", choices=METHODS, default=defaults.method, help="default: %(default)s")
    often = parser.add_argument_group("how often")
    schedule = Schedule()
    often.add_argument(
        "--times", type=positive, default=TIMES, help="networks per operator of a space; default: %(default)s"
    )
    often.add_argument(
        "--rounds", type=positive, default=schedule.rounds, help="visits per network; default: %(default)s"
    )
    often.add_argument(
        "--runs", type=positive, default=schedule.runs, help="inferences per visit; default: %(default)s"
    )
    often.add_argument("--seed", type=int, default=0, help="of networks and orders; default: %(default)s")
    out = parser.add_argument_group("output")
    out.add_argument("--output", metavar="TABLE", help="the .json file to write or to extend")
    out.add_argument("--validate", type=positive, metavar="N", help="compare sums with N whole networks")
    out.add_argument("--plot", metavar="FILE", help="scatter plot of --validate; default: TABLE with .png")
    out.add_argument("--dry-run", action="store_true", help="only say what would be measured")
    args = parser.parse_args(argv)
    if not args.dry_run and not args.output:
        parser.error("--output is required")
    if args.resolution and len(args.resolution) > 2:
        parser.error("--resolution takes one side or H W")
    return args


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        try:
            run(args)
        except KeyboardInterrupt:
            print(f"\nstopped; the same command goes on from {journal_of(args.output)}", file=sys.stderr)
            raise SystemExit(130) from None


def run(args: argparse.Namespace) -> None:
    options = Options(
        args.device, args.runtime, args.threads, args.batch_size, args.dtype, args.channels_last, args.method
    ).check()
    side = tuple(args.resolution or ())
    request = Request(
        spaces=[load_space(name) for name in args.space],
        archs=[get_arch(name) for name in args.arch],
        resolution=None if not side else side[0] if len(side) == 1 else side,
        fixed=dict(args.fix),
        times=args.times,
        seed=args.seed,
    )
    if args.fix and not args.space:
        raise LatencyError("--fix is for the variables of a --space")
    schedule = Schedule(rounds=args.rounds, runs=args.runs, seed=args.seed)
    table = open_table(args.output or "", options)
    missing = table.missing(request.operators())
    archs = request.networks(missing)
    seconds = len(archs) * schedule.rounds * SECONDS_PER_VISIT[options.runtime]
    about = f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {seconds:.0f} s"
    print(f"{options.setting()}")
    print(
        f"{len(missing)} operators to measure in {len(archs)} networks, {schedule.rounds} rounds ({about})", flush=True
    )
    if args.dry_run:
        return
    options.prepare_process()
    if missing:
        begin = time.monotonic()
        table, campaign = measure(request, table, options, schedule)
        report(table, campaign, time.monotonic() - begin)
    if args.validate:
        check(args, table, request, options)


def report(table: Any, campaign: Any, seconds: float) -> None:
    """What was measured, and how far to trust it."""
    low, high = campaign.drift()
    noisy = campaign.noisy()
    print(f"{table.file}: {len(table.entries)} operators ({seconds:.0f} s)")
    print(f"the machine was {100 * (1 - low):.0f} % faster to {100 * (high - 1):.0f} % slower than usual (taken out)")
    if noisy:
        limit = 100 * campaign.schedule.max_spread
        print(f"{len(noisy)} operators still spread by more than {limit:.0f} %, such as {noisy[0]}")
    print("slowest:")
    for operator, entry in sorted(table.entries.items(), key=lambda one: -one[1].us)[:SLOWEST]:
        print(f"  {entry.us:8.1f} µs  {operator}")


def check(args: argparse.Namespace, table: Any, request: Request, options: Options) -> None:
    """The sums against whole networks: figures, also as one JSON object, and a picture."""
    base = args.output[: -len(".json")] if args.output.endswith(".json") else args.output
    plot = args.plot or f"{base}.png"
    found = validate(table, request.random_networks(args.validate), options, resolution=request.resolution)
    print(found.to_text())
    plot_validation(found.measured_us, found.predicted_us, plot, title=str(table.setting))
    print(f"  {plot}")
    print(json.dumps({"table": args.output, "digest": table.digest(), **found.figures()}))


if __name__ == "__main__":
    main()
