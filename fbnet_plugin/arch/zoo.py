"""The published architectures, one YAML file each under ``arch/zoo``, found by name."""

from __future__ import annotations

import difflib
import functools
import os
from pathlib import Path

from .errors import ArchError, value_error
from .spec import ArchSpec
from .yaml_file import load_arch

ZOO = Path(__file__).parent / "zoo"


def list_archs() -> list[str]:
    """Names of all architectures in the zoo, sorted."""
    return sorted(path.stem for path in ZOO.glob("*.yaml"))


def get_arch(name_or_path: str | os.PathLike[str]) -> ArchSpec:
    """A zoo architecture by name, or the one in a file.

    Args:
        name_or_path: a name from ``list_archs``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        ArchError: no such name (the message suggests the nearest), or an unusable file.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise value_error("architecture", name_or_path, "a name in the zoo or the path of a .yaml file")
    text = os.fspath(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return load_arch(text)
    if text in list_archs():
        return _from_zoo(text)
    near = difflib.get_close_matches(text.lower(), list_archs(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ArchError(
        f"unknown architecture {text!r}: {hint}expected the path of a .yaml file or one of {', '.join(list_archs())}"
    )


@functools.cache
def _from_zoo(name: str) -> ArchSpec:
    return load_arch(str(ZOO / f"{name}.yaml"))
