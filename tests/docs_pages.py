"""The documentation as data: its pages, their fenced blocks, the commands in these, and the links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

ROOT = Path(__file__).resolve().parents[1]
# What a fenced block may be. "bash" is commands, "console" commands behind "$ " with what they print.
LANGUAGES = ("bash", "console", "python", "yaml", "text", "bibtex")
WILDCARD = "..."  # a line that stands for any lines of what a command prints


class Block(NamedTuple):
    """A fenced block; ``line`` is that of its first line of content."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


class Command(NamedTuple):
    """One command of a block, and the lines that the page shows below it."""

    place: str
    words: Tuple[str, ...]
    env: Dict[str, str]
    printed: Tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def pages() -> List[Path]:
    """README.md, the pages of docs, and the README.md of each example."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]


def blocks(page: Path) -> List[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a fence is not closed.
    """
    found, opened, language = [], 0, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.lstrip().startswith("```"):
            continue
        if opened:
            found.append(Block(page, opened + 1, language, "\n".join(lines[opened : number - 1])))
            opened = 0
        else:
            opened, language = number, line.strip().lstrip("`").strip()
    if opened:
        raise ValueError(f"{page}:{opened}: the block is not closed")
    return found


def commands(block: Block) -> List[Command]:
    """The commands of a "bash" or "console" block."""
    groups: List[Tuple[int, str, List[str]]] = []  # line, command, what it prints
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        if block.language == "console":
            if not line.startswith("$ "):
                groups[-1][2].append(line)
                continue
            line = line[2:]
        while line.endswith("\\"):
            line = line[:-1] + next(lines)[1]
        groups.append((number, line, []))
    place = block.place.rpartition(":")[0]
    return [
        Command(f"{place}:{number}", *split_env(words), tuple(printed))
        for number, line, printed in groups
        for words in split_and(shlex.split(line, comments=True))
    ]


def split_and(words: List[str]) -> List[List[str]]:
    """The commands between ``&&``."""
    parts: List[List[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def split_env(words: List[str]) -> Tuple[Tuple[str, ...], Dict[str, str]]:
    """A command without the ``NAME=VALUE`` in front of it, and these."""
    env: Dict[str, str] = {}
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        name, _, env[name] = words[0].partition("=")
        words = words[1:]
    return tuple(words), env


def outside_blocks(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> List[str]:
    """The targets of the links of a page."""
    return re.findall(r"\]\(([^()\s]+)\)", outside_blocks(page))


def anchors(page: Path) -> List[str]:
    """What a link to a heading of a page ends in, as GitHub makes it of the heading."""
    headings = re.findall(r"^#+ +(.*)$", outside_blocks(page), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def missing_lines(printed: Tuple[str, ...], said: str) -> List[str]:
    """The lines of ``printed`` that do not stand in ``said`` in this order; ``...`` stands for any lines."""
    real = iter(line.strip() for line in said.splitlines())
    wanted = [line.strip() for line in printed if line.strip() and line.strip() != WILDCARD]
    return [line for line in wanted if line not in real]
