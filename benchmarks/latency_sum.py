#!/usr/bin/env python3
"""How well the sum of a table predicts whole networks on this machine, for several runtimes and ways of measuring.

    latency_sum.py [--space fbnet] [--networks 32] [--settings SETTING ...] [--output FOLDER]

A setting is RUNTIME:THREADS, with :channels_last or :isolated behind it, such as eager:2 or eager:1:isolated. For each,
a table of the space is measured and random whole networks are timed end to end; three to five minutes per setting on
two cores, some fifteen for compile. Tables and scatter plots stay in FOLDER, where a later run finds them again.
The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any, Dict, List

from tabulate import tabulate

from fbnet_plugin.arch import load_space
from fbnet_plugin.engine import exit_codes
from fbnet_plugin.latency.measure import Options, Request, Schedule, measure, open_table, validate
from fbnet_plugin.plotting.latency import plot_validation

SETTINGS = ["eager:1", "eager:2", "onnxruntime:1", "onnxruntime:2", "onnxruntime-int8:1", "eager:1:isolated"]


def options_of(setting: str) -> Options:
    """From ``eager:2:channels_last`` to options."""
    runtime, threads, *further = setting.split(":")
    return Options(
        runtime=runtime,
        threads=int(threads),
        channels_last="channels_last" in further,
        method="isolated" if "isolated" in further else "network",
    ).check()


def measure_setting(setting: str, request: Request, networks: int, folder: str) -> Dict[str, Any]:
    """Figures of one setting."""
    options = options_of(setting)
    options.prepare_process()
    base = os.path.join(folder, setting.replace(":", "_"))
    table = open_table(f"{base}.json", options)
    begin = time.monotonic()
    table, campaign = measure(request, table, options, Schedule())
    seconds = time.monotonic() - begin if campaign else None
    found = validate(table, request.random_networks(networks), options, resolution=request.resolution)
    plot_validation(found.measured_us, found.predicted_us, f"{base}.png", title=str(table.setting))
    return {"operators": len(table.entries), "seconds": seconds, **found.figures()}


def row_of(setting: str, found: Dict[str, Any]) -> List[Any]:
    """The columns of the table."""
    low, high = found["measured_us_min"] / 1e3, found["measured_us_max"] / 1e3
    seconds = "" if found["seconds"] is None else round(found["seconds"])
    before, after = 100 * found["median_error_before_constant"], 100 * found["median_error_after_constant"]
    most = 100 * found["max_error_after_constant"]
    return [setting, seconds, f"{low:.1f}-{high:.1f}", found["spearman"], before, found["constant_us"], after, most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="fbnet", help="default: %(default)s")
    parser.add_argument("--networks", type=int, default=32, help="whole networks per setting; default: %(default)s")
    parser.add_argument(
        "--settings", nargs="+", default=SETTINGS, metavar="SETTING", help=f"default: {' '.join(SETTINGS)}"
    )
    parser.add_argument("--output", default="output/latency_sum", metavar="FOLDER", help="default: %(default)s")
    args = parser.parse_args()
    rows: List[List[Any]] = []
    figures = {}
    with exit_codes():
        request = Request(spaces=[load_space(args.space)])
        for setting in args.settings:
            print(setting, flush=True)
            one = figures[setting] = measure_setting(setting, request, args.networks, args.output)
            rows.append(row_of(setting, one))
    headers = [
        "setting",
        "measured in s",
        "networks, ms",
        "Spearman",
        "median error %",
        "constant µs",
        "with it %",
        "at most %",
    ]
    print(tabulate(rows, headers, floatfmt=("", "", "", ".4f", ".1f", ".0f", ".1f", ".1f"), tablefmt="pipe"))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
