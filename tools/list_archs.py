#!/usr/bin/env python3
"""Print the architectures with their exact counts: those of the zoo, or the ones that are named.

Examples:
    python tools/list_archs.py
    python tools/list_archs.py --json fbnet_v3_a output/search/best.yaml
    python tools/list_archs.py --blocks fbnet_a
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from fbnet_plugin.arch import ArchError, get_arch, list_archs
from fbnet_plugin.arch.table import CONVENTIONS, arch_row, format_archs, format_blocks


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archs", nargs="*", metavar="ARCH", help="zoo name, or path of a .yaml file; default: all")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list of objects with exact counts")
    form.add_argument("--blocks", action="store_true", help="print the counts of every block")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        specs = [get_arch(name) for name in args.archs or list_archs()]
    except ArchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [arch_row(spec) for spec in specs]
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0
    tables = [format_blocks(spec) for spec in specs] if args.blocks else [format_archs(rows)]
    print("\n\n".join([*tables, CONVENTIONS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
