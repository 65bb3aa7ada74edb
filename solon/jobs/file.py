"""The file under the jobs: its tables, what stands in their rows, and how it is opened and checked."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.calls import Call
from solon.errors import StorageError
from solon.spend import Spend

__all__ = [
    "COLUMNS", "DIGITS", "OPEN", "Fate", "Job", "Waiting", "bury", "custom_id", "job_of", "pack", "prepare",
    "waiting_of",
]  # fmt: skip

VERSION = 1
APPLICATION = 0x501_0502
DIGITS = 48
"""Hex digits of a call's key in a custom id: with an intent's twelve and a dash 61 characters, of 64 allowed."""

OPEN = ("intended", "submitted", "ended")
"""States of a job that is still somebody's business; the others are history: collected, refused, given up."""

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, intent TEXT NOT NULL UNIQUE, run TEXT NOT NULL, identity TEXT NOT NULL,
    name TEXT NOT NULL, state TEXT NOT NULL, provider TEXT, status TEXT NOT NULL DEFAULT '',
    words TEXT NOT NULL DEFAULT '',
    calls INTEGER NOT NULL, answered INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0, intended_at REAL NOT NULL, submitted_at REAL, ended_at REAL,
    worst_calls INTEGER NOT NULL, worst_tokens INTEGER NOT NULL, worst_nano INTEGER NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (identity, state);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, identity TEXT NOT NULL, call BLOB NOT NULL,
    job INTEGER, tries INTEGER NOT NULL DEFAULT 0, fate INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT ''
);
CREATE INDEX calls_by_job ON calls (job, id);
CREATE TABLE waits (run TEXT NOT NULL, call INTEGER NOT NULL, PRIMARY KEY (run, call)) WITHOUT ROWID;
CREATE INDEX waits_by_call ON waits (call);
CREATE TABLE failures (
    run TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID
"""


class Fate:
    """What became of a call in its job, as far as the results were read."""

    OPEN, ANSWERED, AGAIN, FAILED = range(4)


@dataclass(frozen=True)
class Job:
    """One batch job.

    intent:   32 hex digits, written down before anything is sent; a provider's batch is known by it
    run:      who pays for it
    state:    intended, submitted, ended (its results are being read), collected, refused, given up
    provider: the provider's id of it, once it is known
    status:   the provider's own word for how it stands
    worst:    the most that it can cost
    unknown:  results that were for no call of it
    """

    id: int
    intent: str
    run: str
    identity: str
    name: str
    state: str
    provider: str | None
    status: str
    words: str
    calls: int
    answered: int
    failed: int
    unknown: int
    intended_at: float
    submitted_at: float | None
    ended_at: float | None
    worst: Spend

    @property
    def mark(self) -> str:
        """Return what its custom ids begin with."""
        return self.intent[:12]

    def custom_id(self, key: str) -> str:
        """Return the id under which the provider is sent the call of this key."""
        return custom_id(self.intent, key)


@dataclass(frozen=True)
class Waiting:
    """A call that waits: `tries` jobs had it before and gave no answer."""

    id: int
    key: str
    call: Call
    tries: int
    fate: int = Fate.OPEN


def custom_id(intent: str, key: str) -> str:
    return f"{intent[:12]}-{key.partition(':')[2][:DIGITS]}"


COLUMNS = (
    "id, intent, run, identity, name, state, provider, status, words, calls, answered, failed, unknown, "
    "intended_at, submitted_at, ended_at, worst_calls, worst_tokens, worst_nano"
)


def job_of(row: tuple[Any, ...]) -> Job:
    return Job(*[*row[:16], Spend(*row[16:])])


def bury(db: sqlite3.Connection, which: str, given: int) -> None:
    """Tell whoever waits for failed calls among `which`, and forget all of `which`."""
    db.execute(
        "INSERT OR REPLACE INTO failures SELECT w.run, c.key, c.reason, c.detail FROM calls c "
        f"JOIN waits w ON w.call = c.id WHERE c.fate = {Fate.FAILED} AND c.id IN (SELECT id FROM calls WHERE {which})",
        (given,),
    )
    db.execute(f"DELETE FROM waits WHERE call IN (SELECT id FROM calls WHERE {which})", (given,))
    db.execute(f"DELETE FROM calls WHERE {which}", (given,))


def prepare(db: sqlite3.Connection, path: Path) -> None:
    with suppress(sqlite3.OperationalError):  # a file system without shared memory keeps SQLite's older journal
        db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if application == APPLICATION and version > VERSION:
        db.execute("ROLLBACK")
        raise StorageError(f"{path}: a jobs file of version {version}, written by a newer Solon; upgrade Solon")
    if application != APPLICATION:
        if application or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            db.execute("ROLLBACK")
            raise StorageError(f"{path}: an SQLite file, but no jobs file of Solon's; move it away")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def pack(call: Call) -> bytes:
    return zlib.compress(call.to_json().encode("utf-8", "surrogatepass"), 3)


def waiting_of(path: Path, row: tuple[Any, ...]) -> Waiting:
    """Return the call of a row (id, key, call, tries, fate). Raises StorageError where it cannot be read."""
    number, key, packed, tries, fate = row
    try:
        call = Call.from_json(zlib.decompress(packed).decode("utf-8", "surrogatepass"))
    except (zlib.error, ValueError, LookupError, TypeError) as problem:
        raise StorageError(f"{path}: a call in it cannot be read ({problem}); move the file away") from problem
    return Waiting(number, key, call, tries, fate)
