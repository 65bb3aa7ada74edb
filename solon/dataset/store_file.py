"""The file under the row store: its tables, how it is opened, and what SQLite says, in plain words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from solon.errors import StorageError

__all__ = ["APPLICATION", "BUSY_SECONDS", "FORMAT", "TABLES", "connect", "storage"]

APPLICATION = 0x501_0502  # tells our file from any other SQLite file
FORMAT = 1
BUSY_SECONDS = 10.0


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """Return the connection to an existing store; one that is only read may lie in a folder that cannot be written."""

    def opened(query: str) -> sqlite3.Connection:
        address = f"{path.resolve().as_uri()}?{query}"
        return sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_SECONDS)

    if not read_only:
        return opened("mode=rw")
    connection = opened("mode=ro")
    try:
        connection.execute("SELECT count(*) FROM meta")
    except sqlite3.OperationalError:
        # a write-ahead file cannot be made here; where none is left over, the file alone is the truth
        connection.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        connection = opened("mode=ro&immutable=1")
    return connection


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what SQLite and a damaged record say into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        for beginning, what in _TROUBLES:
            if name.startswith(beginning):
                raise StorageError(f"{path}: {what} ({error})") from error
        raise StorageError(f"{path}: cannot be read or written ({error}); check the disk") from error
    except (KeyError, TypeError, ValueError) as error:  # a record that is no record of ours
        raise StorageError(f"{path}: {_DAMAGED} ({error!r})") from error


_DAMAGED = "damaged; delete this file and run again: what was answered is in the ledger"
_TROUBLES = (
    ("SQLITE_FULL", "the disk is full; make room and run again: what is finished is kept"),
    ("SQLITE_READONLY", "cannot be written; check the rights of the file and its folder"),
    ("SQLITE_CANTOPEN", "cannot be opened; check the rights of the file and its folder"),
    ("SQLITE_BUSY", "another process writes it; wait for its end"),
    ("SQLITE_IOERR", "cannot be written; is the disk full, or gone? What is finished is kept"),
    ("SQLITE_CORRUPT", _DAMAGED),
    ("SQLITE_NOTADB", _DAMAGED),
    ("SQLITE_ERROR", _DAMAGED),
)

TABLES = f"""
PRAGMA application_id={APPLICATION};
PRAGMA user_version={FORMAT};
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE rows (idx INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content BLOB NOT NULL);
CREATE TABLE walks (idx INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE finished (
    idx INTEGER PRIMARY KEY, reason TEXT NOT NULL, p_chosen REAL, chosen_draft TEXT,
    chosen_chars INTEGER, rejected_chars INTEGER, drafts INTEGER, trimmed INTEGER, revisions INTEGER,
    stripped INTEGER, votes INTEGER, silent INTEGER, judged INTEGER, same_slot INTEGER
);
CREATE INDEX finished_by_reason ON finished (reason);
"""
