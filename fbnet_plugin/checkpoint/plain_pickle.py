"""Pickles of NumPy arrays and plain containers, such as Detectron2's model zoo has, without any other class."""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

import numpy as np

# NumPy 2.0 calls numpy.core numpy._core; a pickle has the name of the version that wrote it.
_CORES = ("numpy.core", "numpy._core")
_HERE = _CORES[int(np.__version__.split(".")[0]) >= 2]
# What arrays and numbers of NumPy are made with, by module in the core.
_MAKERS = {"multiarray": ("_reconstruct", "scalar"), "numeric": ("_frombuffer",)}
_KNOWN = {("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict")}


class UnknownClass(Exception):
    """A pickle names a class or function that it may not; the message is that name."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        core, _, inner = module.rpartition(".")
        if core in _CORES and name in _MAKERS.get(inner, ()):
            return super().find_class(f"{_HERE}.{inner}", name)
        if (module, name) == ("_codecs", "encode"):
            return _bytes
        if (module, name) not in _KNOWN:
            raise UnknownClass(f"{module}.{name}")
        return super().find_class(module, name)


def _bytes(text: str, encoding: str) -> bytes:
    """What pickles that Python 2 can read too call to make bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def load_plain(file: BinaryIO) -> Any:
    """Reads a pickle of Python 2 or 3 that holds arrays, numbers, text, bytes, lists, tuples and dicts alone.

    Raises:
        UnknownClass: it names anything else; nothing of it was called.
        Exception: what ``pickle`` raises where a file is damaged.
    """
    return _PlainUnpickler(file, encoding="latin1").load()
