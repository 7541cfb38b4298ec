"""Latency tables from the files that re-implementations of FBNet have published: matrices of layers by candidates."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arch import SearchSpace, load_space
from ..arch.errors import short_repr
from ..arch.spec import Resolution
from .errors import LatencyError
from .matrix_import import US_PER, import_matrix
from .setting import Setting
from .table import LatencyTable
from .text_file import read_text


class RawMatrix(NamedTuple):
    """Numbers as they stand in a file, in the file's unit.

    Attributes:
        rows: one per layer, one number per candidate; shorter where the last candidates are absent.
        names: of the columns; empty where the file has none, the candidates then come in the order of the space.
        places: where each row stands, for messages.
    """

    rows: list[list[float]]
    names: tuple[str, ...]
    places: tuple[str, ...]


class Format(NamedTuple):
    """A layout of published tables and what is known about the files that have it.

    Attributes:
        read: text of a file -> its numbers.
        unit: of the numbers; None where files differ and the user has to say it.
        space: the search space whose layers the published file was measured on.
        origin: how that is known.
    """

    read: Callable[[str], RawMatrix]
    unit: str | None
    space: str
    origin: str


def import_published(
    path: str | os.PathLike[str],
    setting: Setting,
    *,
    format: str = "auto",
    unit: str | None = None,
    space: SearchSpace | None = None,
    resolution: Resolution | None = None,
    constant_us: float = 0.0,
    notes: str = "",
) -> LatencyTable:
    """A table from one of the layouts in ``FORMATS``.

    Values of "skip" that cannot have been measured are left out (``check_skips`` of ``import_matrix``).

    Args:
        path: of the file.
        setting: what the numbers hold for; files of this kind do not tell.
        format: a key of ``FORMATS``, or "auto".
        unit: of the numbers, "s", "ms" or "us"; default: that of the format.
        space: default: that of the format.
        resolution, constant_us, notes: as of ``import_matrix``.

    Raises:
        LatencyError: the file cannot be read so; names file, place and what is accepted.
    """
    file = os.fspath(path)
    text = read_text(file)
    name = detect_format(text) if format == "auto" else format
    if name not in FORMATS:
        raise LatencyError(f"{file}: format {name}, expected one of {', '.join(FORMATS)}")
    layout = FORMATS[name]
    unit = unit or layout.unit
    if unit not in US_PER:
        got = "no unit is given, and the file does not say it" if unit is None else f"unit {unit}"
        raise LatencyError(f"{file}: {got}; expected one of {', '.join(US_PER)}")
    space = load_space(layout.space) if space is None else space
    source = " ".join([f"From {os.path.basename(file)}.", notes]).strip()
    try:
        us = _in_order(layout.read(text), space) * US_PER[unit]
        return import_matrix(us, space, setting, resolution=resolution, constant_us=constant_us, notes=source,
                             check_skips=True)  # fmt: skip
    except LatencyError as error:
        raise LatencyError(f"{file}: {error}") from None


def detect_format(text: str) -> str:
    """Which of ``FORMATS`` a file's text has, or "csv"."""
    first = text.partition("\n")[0]
    if text.lstrip().startswith("["):
        return "json"
    if "," in first:
        return "csv"
    return "text" if _is_number(first.split()[0] if first.split() else "") else "header-text"


def is_csv(path: str | os.PathLike[str]) -> bool:
    """Whether a file is for ``import_csv``. Raises LatencyError: it cannot be read."""
    return detect_format(read_text(os.fspath(path))) == "csv"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _in_order(raw: RawMatrix, space: SearchSpace) -> np.ndarray:
    """The numbers as (layers, candidates) of the space, NaN where there is none."""
    variables = space.variables
    if len(raw.rows) != len(variables):
        raise LatencyError(f"{len(raw.rows)} layers, expected the {len(variables)} of {space.name}")
    matrix = np.full((len(variables), max(len(variable.choices) for variable in variables)), np.nan)
    for layer, (row, place, variable) in enumerate(zip(raw.rows, raw.places, variables)):
        known = [candidate_name(choice) for choice in variable.choices]
        unknown = [name for name in raw.names if name not in known]
        if unknown or len(set(raw.names)) != len(raw.names):
            problem = f"candidate {short_repr(unknown[0])}" if unknown else "a candidate that is named twice"
            raise LatencyError(f"line 1: {problem}, expected {', '.join(known)}")
        names = list(raw.names) or known[: len(row)]
        if len(row) != len(names) or not set(known) - set(names) <= {"skip"}:
            raise LatencyError(f"{place}: {len(row)} values, expected one for each of {', '.join(known)}; only skip "
                               "may be absent, and has to be the last then")  # fmt: skip
        for name, value in zip(names, row):
            matrix[layer, known.index(name)] = value
    return matrix


def candidate_name(choice: Any) -> str:
    """The short name of an FBNet candidate (Table 2): ``ir_k5_e6``, with 2 groups ``ir_k5_s2``, or ``skip``."""
    if not isinstance(choice, Mapping) or choice.get("op") != "mb":
        return str(choice["op"]) if isinstance(choice, Mapping) and "op" in choice else str(choice)
    groups = choice.get("groups", 1)
    return f"ir_k{choice.get('kernel')}_" + (f"s{groups}" if groups > 1 else f"e{choice.get('expansion')}")


def _read_lines(lines: Sequence[str], first: int, names: tuple[str, ...]) -> RawMatrix:
    rows, places = [], []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        bad = [word for word in line.split() if not _is_number(word)]
        if bad:
            raise LatencyError(f"line {number}: got {short_repr(bad[0])}, expected numbers between spaces")
        rows.append([float(word) for word in line.split()])
        places.append(f"line {number}")
    return RawMatrix(rows, names, tuple(places))


def _read_plain(text: str) -> RawMatrix:
    return _read_lines(text.splitlines(), 1, ())


def _read_header(text: str) -> RawMatrix:
    head, *lines = text.splitlines() or [""]
    return _read_lines(lines, 2, tuple(head.split()))


def _read_json(text: str) -> RawMatrix:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LatencyError(f"not JSON ({error})") from None
    if not isinstance(data, list):
        raise LatencyError(f"a {type(data).__name__}, expected a list with one entry per layer")
    kept = [(number, row) for number, row in enumerate(data) if row is not None]
    for number, row in kept:
        if not isinstance(row, list) or not all(type(value) in (int, float) for value in row):
            raise LatencyError(f"entry {number}: got {short_repr(row)}, expected null or a list of numbers")
    return RawMatrix([row for _, row in kept], (), tuple(f"entry {number}" for number, _ in kept))


FORMATS: dict[str, Format] = {
    "header-text": Format(
        _read_header, "us", "fbnet",
        "names of candidates, then a row per layer: github.com/AnnaAraslanova/FBNet, a desktop CPU; its script times "
        "FBNet's layers at 224 px, batch 1, with PyTorch modules in training mode",
    ),
    "json": Format(
        _read_json, "us", "fbnet_cifar_stride4",
        "a list with null for what is not searched: github.com/jh88/fbnet, a Raspberry Pi 4; its script times 32 px "
        "and first-layer strides 1, 2, 2, 1, 1, 1, 1, and gives skip to layers that keep their shape alone",
    ),
    "text": Format(
        _read_plain, None, "fbnet",
        "a row per layer: github.com/hpnair/18663_Project_FBNet, a Raspberry Pi 3B, in seconds; nobody recorded the "
        "shapes, and the ImageNet strides explain the numbers best (correlation with the multiply-adds 0.83, with "
        "the strides of fbnet_cifar 0.44); at which resolution they cannot tell, so 224 px is an assumption",
    ),
}  # fmt: skip
