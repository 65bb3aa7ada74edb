"""The file under the ledger: its tables, how it is opened and checked, and what SQLite says, in plain words.

One SQLite file in WAL mode (a file system without shared memory gets SQLite's older journal, and all still holds).
It is told from any other SQLite file by its application id, and from a newer Solon's by its version; neither is
touched. `packing` says what the blobs hold.

    calls      one row a call: its key, what it shares with its kind (`frames`), who paid, when, tokens, texts
    texts      what many calls say, once (`texts`)
    names      models, servers' models and runs, as small numbers
    owners     who holds leases; leases: which key is being asked, and what its run has put by for it
    purses     what each run has spent, put by and perhaps lost: calls, tokens, billionths of a dollar
    facts      how often texts were removed, so that nobody trusts a number from before
    probes     what models were found able to do
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from solon.calls import Call, Reply
from solon.errors import StorageError

__all__ = [
    "APPLICATION",
    "DAMAGED",
    "SCHEMA",
    "VERSION",
    "Entry",
    "connect",
    "opened",
    "prepare",
    "reading",
    "storage",
    "told",
    "unwritable",
    "version_of",
    "whole",
]

T = TypeVar("T")

VERSION = 2
APPLICATION = 0x501_0501
JOURNAL = "WAL"
BUSY_SECONDS = 5.0

SCHEMA = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, frame INTEGER NOT NULL, run INTEGER NOT NULL, asked_at REAL NOT NULL,
    seconds REAL NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL, thinking INTEGER NOT NULL,
    cached INTEGER NOT NULL, server INTEGER NOT NULL, reply BLOB NOT NULL, messages BLOB NOT NULL
);
CREATE INDEX calls_by_key ON calls (substr(key, 1, 8));
CREATE INDEX calls_by_run ON calls (run);
CREATE TABLE names (id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE);
CREATE TABLE frames (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (model, body)
);
CREATE TABLE texts (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX texts_by_name ON texts (name);
CREATE TABLE owners (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, until REAL NOT NULL,
    ticks REAL NOT NULL
);
CREATE TABLE leases (
    key BLOB PRIMARY KEY, owner TEXT NOT NULL, run INTEGER NOT NULL DEFAULT 0, calls INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0, nano INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE purses (
    run INTEGER PRIMARY KEY,
    spent_calls INTEGER NOT NULL, spent_tokens INTEGER NOT NULL, spent_nano INTEGER NOT NULL,
    reserved_calls INTEGER NOT NULL, reserved_tokens INTEGER NOT NULL, reserved_nano INTEGER NOT NULL,
    lost_calls INTEGER NOT NULL, lost_tokens INTEGER NOT NULL, lost_nano INTEGER NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO facts VALUES ('removals', 0);
CREATE TABLE IF NOT EXISTS probes (model TEXT PRIMARY KEY, can TEXT NOT NULL, asked_at REAL NOT NULL)
"""


@dataclass(frozen=True)
class Entry:
    """One remembered call, as `show` and audits read it. `run` is who paid for it, "" where nobody said."""

    key: str
    call: Call
    reply: Reply
    asked_at: float
    seconds: float
    run: str = ""


# -- opening -------------------------------------------------------------------------------------------------


def connect(path: Path, *, patience: float = BUSY_SECONDS) -> sqlite3.Connection:
    # check_same_thread: a connection is opened by one thread and handed to the one that uses it
    db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    # FULL: a commit survives a power cut too; group commit makes it cheap
    db.execute("PRAGMA synchronous = FULL")
    # a merge lets the journal grow: it gives the room back
    db.execute("PRAGMA journal_size_limit = 16777216")
    return db


def prepare(path: Path, upgrade: Callable[[sqlite3.Connection, Path], None]) -> None:
    """Create the tables of a new ledger, or check an old one. A file of anybody else's is left as it is.

    upgrade: makes a ledger of version 1 one of this version, inside a transaction
    """
    if path.is_dir():
        raise StorageError(f"{path}: a folder; name a file in it with `ledger:` in the recipe")
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path, patience=30.0)) as db:
        version = version_of(db, path)
        with suppress(sqlite3.OperationalError):  # in use in another mode, or read-only: it stays as it is
            db.execute(f"PRAGMA journal_mode = {JOURNAL}")
        if version < VERSION:
            db.execute("BEGIN IMMEDIATE")  # two processes may open a new ledger at once
            version = version_of(db, path)
            if version == 1:
                upgrade(db, path)
            elif version == 0:
                create(db)
            db.execute("COMMIT")


def create(db: sqlite3.Connection) -> None:
    """Make the tables, inside a transaction."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return a ledger's version, 0 where the file is empty. Raises StorageError: foreign, or newer."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if application == APPLICATION and version > VERSION:
        raise StorageError(
            f"{path}: a ledger of version {version}, written by a newer Solon (this one reads {VERSION}); "
            "upgrade Solon, or give another path with `ledger:` in the recipe"
        )
    if application != APPLICATION and (tables or application):
        raise StorageError(f"{path}: an SQLite file, but not a ledger; give another path with `ledger:` in the recipe")
    return version if application == APPLICATION else 0


def unwritable(path: Path) -> str:
    """Return why a ledger that is there can only be read, "" where it can be written or made."""
    if not path.is_file():
        return ""
    for place in (path, path.parent):
        if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            return f"{path}: {UNWRITABLE}; what it knows can be read"
    return ""


def reading(path: Path) -> sqlite3.Connection:
    """Open a ledger that is only read; one in a read-only folder too, where SQLite cannot put its journal."""
    if not path.is_file():
        raise StorageError(f"{path}: no such ledger; give the path of a ledger.db")
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        try:
            version = version_of(db, path)
        except sqlite3.OperationalError as problem:
            if _code(problem) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or _journal(path).exists():
                raise
            db.close()
            # no journal is left, so nobody writes: the file is read as it stands
            uri = f"{path.absolute().as_uri()}?immutable=1"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            version = version_of(db, path)
        if not version:
            raise StorageError(f"{path}: an empty file, not a ledger; give the path of a ledger.db")
        db.execute("PRAGMA query_only = ON")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger that is only read, for a while."""
    with storage(path), closing(reading(path)) as db:
        yield db


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


# -- what SQLite says ----------------------------------------------------------------------------------------

DAMAGED = "it is damaged, or not a ledger; move it away, or give another path with `ledger:` in the recipe"
UNWRITABLE = "it cannot be written; check the permissions, or give another path with `ledger:` in the recipe"
REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and start again, what is written stays",
    sqlite3.SQLITE_IOERR: "the disk is full, over a limit, or failing; make room or check it, and start again: what is "
    "written stays",
    sqlite3.SQLITE_READONLY: UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: UNWRITABLE,
    sqlite3.SQLITE_PERM: UNWRITABLE,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_BUSY: "another process keeps it locked; wait, or stop that one",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked; wait, or stop that one",
}


def whole(path: Path, read: Callable[[], T]) -> T:
    """Return what `read` gives. Raises StorageError where an entry is damaged."""
    try:
        return read()
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise StorageError(f"{path}: an entry cannot be read ({problem}): {DAMAGED}") from problem


def _code(problem: BaseException) -> int:
    """Return SQLite's primary error code, 0 for what is not from SQLite."""
    return int(getattr(problem, "sqlite_errorcode", 0) or 0) & 0xFF


def told(path: Path, problem: BaseException) -> BaseException:
    """Return what SQLite or the file system says as a StorageError of one line; anything else as it is."""
    if isinstance(problem, sqlite3.Error):
        remedy = REMEDIES.get(_code(problem), "give another path with `ledger:` in the recipe if it persists")
        return StorageError(f"{path}: {problem}: {remedy}")
    if isinstance(problem, OSError):
        return StorageError(f"{path}: {problem.strerror or problem}; check the path and its permissions")
    return problem


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one line with a remedy."""
    try:
        yield
    except (sqlite3.Error, OSError) as problem:
        raise told(path, problem) from problem
