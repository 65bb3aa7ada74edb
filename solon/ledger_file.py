"""The file under the ledger: its tables, how it is opened and checked, and what SQLite says, in plain words.

One SQLite file in WAL mode (a file system without shared memory gets SQLite's older journal, and all still holds).
Texts lie in it as compressed JSON. It is told from any other SQLite file by its application id, and from a newer
Solon's by its version; neither is touched.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from solon.calls import Call, Reply, key_of
from solon.errors import StorageError

__all__ = [
    "Entry",
    "Stored",
    "connect",
    "delete_rows",
    "entry_of",
    "merge_rows",
    "other_probes",
    "other_rows",
    "pack",
    "prepare",
    "reply_of",
    "rewrite",
    "storage",
    "told",
    "unpack",
    "write_row",
]

T = TypeVar("T")

VERSION = 1
APPLICATION = 0x501_0501
JOURNAL = "WAL"
BUSY_SECONDS = 5.0
ROWS_AT_ONCE = 500
"""Rows that a merge or a forgetting handles in one transaction: others write in between."""

SCHEMA = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, asked_at REAL NOT NULL,
    seconds REAL NOT NULL, call BLOB NOT NULL, reply BLOB NOT NULL
);
CREATE INDEX calls_by_model ON calls (model);
CREATE TABLE owners (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, until REAL NOT NULL
);
CREATE TABLE leases (key TEXT PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE probes (model TEXT PRIMARY KEY, can TEXT NOT NULL, asked_at REAL NOT NULL)
"""


@dataclass(frozen=True)
class Entry:
    """One remembered call, as `show` and audits read it."""

    key: str
    call: Call
    reply: Reply
    asked_at: float
    seconds: float


@dataclass(frozen=True)
class Stored:
    """One answered call on its way into the file, its `call` and `reply` as JSON; a `fresh` one replaces an old one."""

    key: str
    model: str
    asked_at: float
    seconds: float
    call: str
    reply: str
    fresh: bool = False

    def row(self) -> tuple[Any, ...]:
        return (self.key, self.model, self.asked_at, self.seconds, pack(self.call), pack(self.reply))


# -- opening -------------------------------------------------------------------------------------------------


def connect(path: Path, *, patience: float = BUSY_SECONDS) -> sqlite3.Connection:
    # check_same_thread: a connection is opened by one thread and handed to the one that uses it
    db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    # FULL: a commit survives a power cut too; group commit makes it cheap
    db.execute("PRAGMA synchronous = FULL")
    # a merge lets the journal grow: it gives the room back
    db.execute("PRAGMA journal_size_limit = 16777216")
    return db


def prepare(path: Path) -> None:
    """Create the tables of a new ledger, or check an old one. A file of anybody else's is left as it is."""
    if path.is_dir():
        raise StorageError(f"{path}: a folder; name a file in it with `ledger:` in the recipe")
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path, patience=30.0)) as db:
        ready = _check(db, path)
        with suppress(sqlite3.OperationalError):  # in use in another mode, or read-only: it stays as it is
            db.execute(f"PRAGMA journal_mode = {JOURNAL}")
        if not ready:
            db.execute("BEGIN IMMEDIATE")  # two processes may open a new ledger at once
            if not _check(db, path):
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")


def _check(db: sqlite3.Connection, path: Path) -> bool:
    """Return whether this is a ledger, False where the file is empty. Raises StorageError: foreign, or newer."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION and version > VERSION:
        raise StorageError(
            f"{path}: a ledger of version {version}, written by a newer Solon (this one reads {VERSION}); "
            "upgrade Solon, or give another path with `ledger:` in the recipe"
        )
    if application != APPLICATION and (tables or application):
        raise StorageError(f"{path}: an SQLite file, but not a ledger; give another path with `ledger:` in the recipe")
    return application == APPLICATION


# -- reading -------------------------------------------------------------------------------------------------


def reply_of(path: Path, blob: bytes) -> Reply:
    """Return a reply as memory gives it. Raises StorageError where it cannot be read."""
    return _whole(path, lambda: Reply.from_json(unpack(blob)).from_memory())


def entry_of(path: Path, row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row (key, call, reply, asked_at, seconds). Raises StorageError where it cannot be read."""
    key, call, reply, asked_at, seconds = row
    return _whole(
        path, lambda: Entry(key, Call.from_json(unpack(call)), Reply.from_json(unpack(reply)), asked_at, seconds)
    )


def _whole(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (zlib.error, ValueError, LookupError, TypeError) as problem:
        raise StorageError(f"{path}: an entry cannot be read ({problem}): {DAMAGED}") from problem


def pack(text: str) -> bytes:
    # surrogatepass: half a character from a model is kept too, its reply is paid for
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 3)


def unpack(blob: bytes) -> str:
    return zlib.decompress(blob).decode("utf-8", "surrogatepass")


# -- merging, forgetting -------------------------------------------------------------------------------------


def other_rows(path: Path) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of another ledger, ROWS_AT_ONCE at a time, each seen to be whole and to bear its own key."""
    with _other(path) as db:
        rows = db.execute("SELECT key, model, asked_at, seconds, call, reply FROM calls ORDER BY id")
        while batch := rows.fetchmany(ROWS_AT_ONCE):
            for row in batch:
                _seen(path, row)
            yield batch


def _seen(path: Path, row: tuple[Any, ...]) -> None:
    """Raise StorageError unless the row can be read, and its key is its call's."""
    key, _, _, _, call, reply = row
    reply_of(path, reply)
    if _whole(path, lambda: key_of(json.loads(unpack(call)))) != key:
        raise StorageError(f"{path}: entry {key} does not bear the key of its call: {DAMAGED}")


def other_probes(path: Path) -> list[tuple[Any, ...]]:
    """Return the probes of another ledger."""
    with _other(path) as db:
        return db.execute("SELECT model, can, asked_at FROM probes").fetchall()


@contextmanager
def _other(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger that is only read; one in a read-only folder too, where SQLite cannot put its journal."""
    if not path.is_file():
        raise StorageError(f"{path}: no such ledger; give the path of a ledger.db")
    with storage(path):
        db = sqlite3.connect(path, timeout=30)
        try:
            try:
                ledger = _check(db, path)
            except sqlite3.OperationalError as problem:
                if _code(problem) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or _journal(path).exists():
                    raise
                db.close()
                db = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
                ledger = _check(db, path)
            if not ledger:
                raise StorageError(f"{path}: an empty file, not a ledger; give the path of a ledger.db")
            yield db
        finally:
            db.close()


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def merge_rows(db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> tuple[int, int, int]:
    """Take rows over; where both know a key the earlier stays. Returns (added, same, differed)."""
    added = same = differed = 0
    for row in rows:
        mine = db.execute("SELECT asked_at, reply FROM calls WHERE key = ?", (row[0],)).fetchone()
        if mine is None:
            added += 1
        elif unpack(mine[1]) == unpack(row[5]):
            same += 1
        else:
            differed += 1
        if mine is None or row[2] < mine[0]:
            write_row(db, row)
    return added, same, differed


def write_row(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    db.execute(
        "INSERT OR REPLACE INTO calls (key, model, asked_at, seconds, call, reply) VALUES (?, ?, ?, ?, ?, ?)", row
    )


def delete_rows(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    db.executemany("DELETE FROM calls WHERE id = ?", ((number,) for number in numbers))


REWRITE_SECONDS = 60.0


def rewrite(path: Path) -> None:
    """Write the file anew without what was removed from it, so that no removed byte stays in it.

    `secure_delete` alone is not enough: pages that SQLite balances keep stale copies of rows.
    """
    with storage(path), closing(connect(path, patience=REWRITE_SECONDS)) as db:
        db.execute("VACUUM")
        busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StorageError(
            f"{path}: removed, but another process reads the file, so the old bytes stay in its journal; "
            "forget again when that one has ended"
        )


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
