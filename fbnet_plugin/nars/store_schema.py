"""The tables of a run's store, and how its file is opened."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Iterator

from .errors import NARSError

FORMAT = "fbnet_plugin.nars"
VERSION = 1
BUSY_S = 30.0
STATES = ("pending", "running", "done", "failed")

_TABLES = (
    "CREATE TABLE format (name TEXT NOT NULL, version INTEGER NOT NULL)",
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE arrays (key TEXT PRIMARY KEY, npz BLOB NOT NULL)",
    """CREATE TABLE candidates (
        id INTEGER PRIMARY KEY, phase TEXT NOT NULL, round INTEGER NOT NULL, name TEXT NOT NULL, origin TEXT NOT NULL,
        point TEXT, arch TEXT NOT NULL, recipe TEXT NOT NULL, costs TEXT NOT NULL,
        predicted REAL, predicted_std REAL, epochs INTEGER NOT NULL, seed INTEGER NOT NULL, extra TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending', accuracy REAL, vals TEXT NOT NULL DEFAULT '{}',
        kind TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', traceback TEXT NOT NULL DEFAULT '',
        seconds REAL, attempts INTEGER NOT NULL DEFAULT 0, UNIQUE (phase, name))""",
    """CREATE TABLE curve (
        candidate INTEGER NOT NULL REFERENCES candidates (id), epoch INTEGER NOT NULL, accuracy REAL,
        vals TEXT NOT NULL, PRIMARY KEY (candidate, epoch))""",
    """CREATE TABLE attempts (
        candidate INTEGER NOT NULL REFERENCES candidates (id), attempt INTEGER NOT NULL, worker TEXT NOT NULL,
        started REAL NOT NULL, ended REAL, outcome TEXT NOT NULL, PRIMARY KEY (candidate, attempt))""",
)


@contextlib.contextmanager
def clear_errors(path: str) -> Iterator[None]:
    """Turns what SQLite raises about the file into one sentence that names it."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise NARSError(f"{path}: refused: {error}") from error
    except sqlite3.OperationalError as error:
        raise NARSError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise NARSError(f"{path} is damaged or not the store of a search: {error}") from error


def open_for_writing(path: str) -> sqlite3.Connection:
    """The file's only writer; makes the file where there is none.

    The journal is written ahead (WAL) where the file system allows, so that readers see the last complete state
    while this process writes; elsewhere SQLite's rollback journal is kept. Either way a commit is on the disk when it
    returns.

    Raises:
        NARSError: the file is damaged, of another program, or of a newer version.
    """
    with clear_errors(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            fresh = not _table_names(connection)
            if not fresh:
                check_format(connection, path)
                _check_pages(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            if fresh:
                _make_tables(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: str) -> sqlite3.Connection:
    """A view of the file, also while another process writes to it on the same machine.

    Raises:
        NARSError: there is no such file, or it is none of a search.
    """
    if not os.path.isfile(path):
        raise NARSError(f"{path}: there is no such file, so no search has begun here")
    with clear_errors(path):
        try:
            connection = _read_only(path, "mode=ro")
        except sqlite3.OperationalError:  # WAL in a folder that cannot be written to
            if any(os.path.exists(path + ending) for ending in ("-wal", "-journal")):
                raise
            connection = _read_only(path, "mode=ro&immutable=1")
        try:
            if not _table_names(connection):
                raise NARSError(f"{path} is empty: the search has not begun")
            check_format(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def close(connection: sqlite3.Connection) -> None:
    """Closes a writer so that one plain file remains, if nobody is reading."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def check_format(connection: sqlite3.Connection, path: str) -> None:
    """
    Raises:
        NARSError: the file is another program's or of a newer version.
    """
    if "format" not in _table_names(connection):
        raise NARSError(f"{path} is not the store of a search but another SQLite file")
    name, version = connection.execute("SELECT name, version FROM format").fetchone() or ("nothing", 0)
    if name != FORMAT:
        raise NARSError(f"{path} is not the store of a search: its format is {name!r}, not {FORMAT!r}")
    if version != VERSION:
        newer = "; a newer fbnet_plugin wrote it" if version > VERSION else ""
        raise NARSError(f"{path} has version {version} of the format, this is version {VERSION}{newer}")


def _check_pages(connection: sqlite3.Connection, path: str) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise NARSError(f"{path} is damaged: {found}")


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO format VALUES (?, ?)", (FORMAT, VERSION))
    connection.execute("COMMIT")


def _table_names(connection: sqlite3.Connection) -> set:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _read_only(path: str, options: str) -> sqlite3.Connection:
    uri = f"{Path(os.path.abspath(path)).as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
