#!/usr/bin/env python3
"""Write docs/config.md, the reference of all config keys, from the source of fbnet_plugin/config.py.

    make_config_reference.py           write the page
    make_config_reference.py --check   compare the page with the source; print what differs

Each assignment ``cfg.NODE.KEY = default`` becomes a row of a table, the comment above it its meaning. A banner (a
comment between two lines of dashes) becomes a heading, the comment of a group of keys stands above the group's table.

Exit status: 0; 1 when the page is not up to date (--check); 2 when the source cannot be read as such.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Union

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "fbnet_plugin" / "config.py"
PAGE = ROOT / "docs" / "config.md"
COMMAND = "python tools/make_config_reference.py"

INTRODUCTION = f"""\
# Configuration reference

Every key that `add_fbnet_config` adds to Detectron2's config, with its default. Detectron2's own keys keep their
meaning and are in [its documentation](https://detectron2.readthedocs.io/en/latest/modules/config.html). A key stands in
a YAML file, or behind a command as `KEY VALUE`. Unknown keys and values of a wrong type are refused, with the nearest
known key. Keys in one row share its explanation.

This page is generated from [`fbnet_plugin/config.py`](../fbnet_plugin/config.py) by `{COMMAND}`.
"""


class SourceError(Exception):
    """The source is not of the form that the page is made from."""


class Banner(NamedTuple):
    """A heading, and the text below it."""

    heading: str
    text: str


class Group(NamedTuple):
    """A node of keys, ``cfg.NODE = CN()``."""

    name: str
    comment: str


class Key(NamedTuple):
    """A key; ``comment`` may be that of the key above it, which then is about both."""

    name: str
    default: str
    comment: str


Entry = Union[Banner, Group, Key]


def comment_above(lines: List[str], number: int) -> List[str]:
    """The comment lines that end directly above a line (counted from 0), without their number signs."""
    first = number
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return [line.strip().lstrip("#").strip() for line in lines[first:number]]


def is_rule(text: str) -> bool:
    return bool(re.fullmatch(r"-{10,}", text))


def split_banner(comment: List[str]) -> "tuple[Optional[Banner], str]":
    """A banner at the head of a comment, and the rest of it as one line of text."""
    rules = [number for number, text in enumerate(comment) if is_rule(text)]
    if not rules:
        return None, " ".join(comment)
    if len(rules) != 2 or rules[0] != 0:
        raise SourceError(f"a banner has two lines of dashes around it: {' '.join(comment)[:80]}")
    text = " ".join(comment[1 : rules[1]])
    found = re.match(r"([^:.]+?)(?:: |\. |$)(.*)", text)
    heading, below = found.groups() if found else (text, "")
    return Banner(heading, below), " ".join(comment[rules[1] + 1 :])


def target_of(node: ast.stmt) -> Optional[str]:
    """``NODE.KEY`` of an assignment ``cfg.NODE.KEY = ...``, None for other statements."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return None
    text = ast.unparse(node.targets[0])
    return text[len("cfg.") :] if text.startswith("cfg.") else None


def source_of(node: ast.expr, lines: List[str]) -> str:
    """An expression as the source has it, quotes included.

    Raises:
        SourceError: it does not stand on one line.
    """
    if node.end_lineno != node.lineno:
        raise SourceError(f"line {node.lineno}: a default stands on one line")
    return lines[node.lineno - 1].encode()[node.col_offset : node.end_col_offset].decode()


def read_source(text: str) -> List[Entry]:
    """Banners, groups and keys in the order of the source.

    Raises:
        SourceError: a key has no comment above it, or a banner is not closed.
    """
    lines, found = text.splitlines(), []  # type: List[str], List[Entry]
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    for function in (one for one in functions if one.name != "add_fbnet_config"):
        above, banners = "", 0
        for node in function.body:
            name = target_of(node)
            if name is None:
                continue
            banner, comment = split_banner(comment_above(lines, node.lineno - 1))
            if banner is None and not banners:
                banner = Banner(function.name.replace("_add_", "").capitalize(), "")
            if banner:
                found.append(banner)
                banners, above = banners + 1, banner.text
            assert isinstance(node, ast.Assign)
            default = source_of(node.value, lines)
            above = comment or above
            if default == "CN()":
                found.append(Group(name, comment))
            elif above:
                found.append(Key(name, default, above))
            else:
                raise SourceError(f"{name} has no comment")
    return found


def make_page(text: str) -> str:
    """The page of a source.

    Raises:
        SourceError: see ``read_source``.
    """
    parts, rows, group = [INTRODUCTION], [], ""  # type: List[str], List[Key], str
    entries = read_source(text)
    for entry, following in zip(entries, [*entries[1:], None]):
        words: List[str] = []
        if isinstance(entry, Banner):
            group, words = "", [f"## {entry.heading}\n", *([f"{markdown(entry.text)}\n"] if entry.text else [])]
        elif isinstance(entry, Group):
            # The first key has its group's comment where it has none of its own.
            if entry.comment and not (isinstance(following, Key) and following.comment == entry.comment):
                group, words = f"{entry.name}.", [f"**`{entry.name}`**: {markdown(entry.comment)}\n"]
        elif not entry.name.startswith(group):
            parts, rows, group = parts + table(rows), [entry], ""
        else:
            rows.append(entry)
        if words:
            parts, rows = [*parts, *table(rows), *words], []
    return "\n".join(parts + table(rows))


def table(rows: List[Key]) -> List[str]:
    """Keys as a table; those with one comment share a row."""
    if not rows:
        return []
    shared: List[List[Key]] = []
    for key in rows:
        if shared and shared[-1][-1].comment == key.comment:
            shared[-1].append(key)
        else:
            shared.append([key])
    lines = ["| key | default | meaning |", "|:--|:--|:--|"]
    for keys in shared:
        names, defaults = ("<br>".join(f"`{one[field]}`" for one in keys) for field in (0, 1))
        lines.append(f"| {names} | {defaults} | {markdown(keys[0].comment)} |")
    return ["\n".join(lines) + "\n"]


def markdown(text: str) -> str:
    """A comment as Markdown: keys as code, and nothing that Markdown would take for its own."""
    text = text.replace("|", "\\|").replace("*", "\\*")
    text = re.sub(r"(?<![\w`/])((?:[A-Z][A-Z0-9_]+)(?:\.[A-Z][A-Z0-9_]+)+)", r"`\1`", text)
    return re.sub(r"(\w*)\{(\w+)\}", r"`\1{\2}`", text)


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; print what differs")
    args = parser.parse_args(argv)
    try:
        page = make_page(SOURCE.read_text(encoding="utf-8"))
    except (SourceError, SyntaxError, OSError) as error:
        print(f"error: {SOURCE}: {error}", file=sys.stderr)
        return 2
    if args.check:
        return check(page)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: written")
    return 0


def check(page: str) -> int:
    """Compares the committed page; prints the difference and the command that removes it."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if old == page:
        print(f"{PAGE.relative_to(ROOT)}: up to date")
        return 0
    names = [f"{PAGE.relative_to(ROOT)} as it is", "as fbnet_plugin/config.py says"]
    print("\n".join(difflib.unified_diff(old.splitlines(), page.splitlines(), *names, lineterm="")))
    print(f"\nThe page is not up to date. Run: {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
