"""Ledgers of version 1: read, and made ledgers of this version where they lie.

There a row was (key, model, asked_at, seconds, call, reply), call and reply the zlib of their JSON, the key a text.
Nothing paid for is lost: an entry that cannot be read stays one that cannot be read, and `verify` tells of it.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from solon.calls import Call, Reply, key_of
from solon.errors import StorageError
from solon.ledger.file import Entry, create
from solon.ledger.owners import host
from solon.ledger.pen import Pen, Stored, raw_key

__all__ = ["ROWS", "old_entry", "upgrade"]

ROWS = "SELECT key, asked_at, seconds, call, reply, model FROM"
UNREADABLE = (zlib.error, ValueError, LookupError, TypeError)


def old_entry(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row. Raises ValueError, LookupError, TypeError or zlib.error where it is damaged."""
    key, asked_at, seconds, call, reply = row[:5]
    text = _text(call)
    if key_of(json.loads(text)) != key:
        raise ValueError(f"entry {key} does not bear the key of its call")
    return Entry(key, Call.from_json(text), Reply.from_json(_text(reply)), asked_at, seconds)


def _text(blob: bytes) -> str:
    return zlib.decompress(blob).decode("utf-8", "surrogatepass")


def upgrade(db: sqlite3.Connection, path: Path) -> None:
    """Make a ledger of version 1 one of this version, inside a transaction."""
    # such an owner has no clock but the time of day; one on this host that beat lately is taken to live
    living = db.execute("SELECT pid FROM owners WHERE until > ? AND host = ?", (time.time(), host())).fetchall()
    if any(Path(f"/proc/{pid}").exists() for (pid,) in living):
        raise StorageError(f"{path}: an older Solon is asking through this ledger; wait for its end, then start again")
    for statement in (
        "ALTER TABLE calls RENAME TO calls_of_version_1", "DROP INDEX calls_by_model", "DROP TABLE owners",
        "DROP TABLE leases",
    ):  # fmt: skip
        db.execute(statement)
    create(db)
    pen = Pen(db, "")
    for row in _rows(db):
        try:
            entry = old_entry(row)
        except UNREADABLE:
            _keep_damaged(pen, row)
        else:
            pen.add(Stored(entry.key, entry.call, entry.reply, entry.asked_at, entry.seconds))
            pen.write()
    db.execute("DROP TABLE calls_of_version_1")


def _rows(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    # by number, not by one long reading: rows are written in between
    numbers = array("q", (row[0] for row in db.execute("SELECT id FROM calls_of_version_1 ORDER BY id")))
    for number in numbers:
        yield db.execute(f"{ROWS} calls_of_version_1 WHERE id = ?", (number,)).fetchone()


def _keep_damaged(pen: Pen, row: tuple[Any, ...]) -> None:
    """Keep what cannot be read as it is: its key stays known, and whoever reads it is told."""
    key, asked_at, seconds, call, reply, model = row
    pen.db.execute(
        "INSERT INTO calls (key, frame, run, asked_at, seconds, input, output, thinking, cached, server, reply, "
        "messages) VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, ?, ?, ?)",
        (raw_key(key), pen.frame(model, b""), pen.name(""), asked_at, seconds, pen.name(""), reply, call),
    )
