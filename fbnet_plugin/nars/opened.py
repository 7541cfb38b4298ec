"""A run that is there already, opened by its folder: for status, report, further evolutions and ablations."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator, Tuple

from detectron2.config import CfgNode

from .candidate import config_from_text
from .errors import NARSError
from .predictor import Predictor
from .predictor_file import load_predictor
from .run import STORE_FILE, SearchRun
from .searcher import FITTED
from .store import Store


def find_store(path: str) -> str:
    """The store's file: ``path`` itself, or the one in the folder ``path``.

    Raises:
        NARSError: there is none.
    """
    file = os.path.join(path, STORE_FILE) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise NARSError(f"{path}: expected the OUTPUT_DIR of a NARS search, which holds {STORE_FILE}")
    return file


def config_of(store: Store) -> CfgNode:
    """The config of a run, whose OUTPUT_DIR is where the store lies now.

    Raises:
        NARSError: the search has written nothing yet.
    """
    text = store.get("config")
    if text is None:
        raise NARSError(f"{store.path}: the search has written nothing yet")
    cfg = config_from_text(text)
    cfg.OUTPUT_DIR = os.path.dirname(os.path.abspath(store.path))
    cfg.freeze()
    return cfg


@contextlib.contextmanager
def open_run(path: str, *, read_only: bool) -> Iterator[Tuple[SearchRun, Store]]:
    """A run by its folder or store.

    Args:
        read_only: whether to leave it as it is; another process may then be searching.

    Raises:
        NARSError: there is no run, or it is being written.
    """
    with Store(find_store(path), read_only=read_only) as store:
        if not read_only:
            store.recover()
        cfg = config_of(store)
        with SearchRun(cfg, store, int(store.get("seed"))) as run:
            yield run, store


def trained_predictor(run: SearchRun) -> Predictor:
    """The predictor of a run whose iterative optimization is complete.

    Raises:
        NARSError: it is not, or the file cannot be used.
    """
    file = os.path.join(run.cfg.OUTPUT_DIR, "predictor", FITTED)
    if not os.path.exists(file):
        raise NARSError(
            f"{file} is not there yet; it is written after the last round, continue the search with --resume"
        )
    return load_predictor(file)
