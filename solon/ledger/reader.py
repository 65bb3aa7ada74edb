"""How a ledger is read: rows become replies and entries again. Numbers are never given twice, so names are kept."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from solon.calls import Reply, Usage
from solon.errors import StorageError
from solon.ledger.file import DAMAGED, Entry
from solon.ledger.packing import call_of, unpack_reply
from solon.ledger.texts import Reading

__all__ = ["ENTRY", "Reader"]

ENTRY = "key, frame, run, asked_at, seconds, messages, reply, server, input, output, thinking, cached"
"""The columns that make an Entry; the last six make its Reply."""

MOST_NAMES = 10_000  # that are remembered, before they are looked up anew


class Reader:
    """Reads by one connection. Raises StorageError where an entry is damaged."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self.db = db
        self.texts = Reading(db)
        self._names: dict[int, str] = {}
        self._frames: dict[int, tuple[int, bytes]] = {}

    def reply(self, row: tuple[Any, ...], *, known: bool = True) -> Reply:
        """Return the reply of the columns REPLY, as memory gives it."""
        try:
            return unpack_reply(row[0], Usage(row[2], row[3], row[4], row[5]), self._name(row[1]), known=known)
        except (zlib.error, ValueError, LookupError, TypeError) as problem:
            raise StorageError(f"{self.path}: an entry cannot be read ({problem}): {DAMAGED}") from problem

    def entry(self, query: str, *given: Any) -> Entry | None:
        """Return the entry that a query for the columns ENTRY finds, or None.

        Raises ValueError, LookupError, TypeError, zlib.error or StorageError where it is damaged.
        """
        # in one view of the file: another process may remove an entry and its texts between two looks
        self.db.execute("BEGIN")
        try:
            row = self.db.execute(query, given).fetchone()
            if row is None:
                return None
            return self.entry_of(row)
        finally:
            self.db.execute("COMMIT")

    def entry_of(self, row: tuple[Any, ...]) -> Entry:
        """Return the entry of the columns ENTRY; raises as `entry` does."""
        key, frame, run, asked_at, seconds, messages = row[:6]
        call = call_of(self._frame(frame)[1], messages, self.texts.text)
        reply = self.reply(row[6:], known=False)
        return Entry("c1:" + key.hex(), call, reply, asked_at, seconds, self._name(run))

    def model(self, frame: int) -> str:
        """Return the identity of the model that calls of a frame ask."""
        return self._name(self._frame(frame)[0])

    def runs(self) -> list[str]:
        """Return the runs that paid for something, in the order of their first payment."""
        query = (
            "SELECT name FROM names WHERE id IN (SELECT run FROM purses) "
            "OR EXISTS (SELECT 1 FROM calls WHERE run = names.id) ORDER BY id"
        )
        return [_text(row[0]) for row in self.db.execute(query)]

    def names(self) -> Iterator[tuple[int, str]]:
        for number, name in self.db.execute("SELECT id, name FROM names"):
            yield number, _text(name)

    def _name(self, number: int) -> str:
        name = self._names.get(number)
        if name is None:
            row = self.db.execute("SELECT name FROM names WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise LookupError(f"name {number} is not there")
            if len(self._names) > MOST_NAMES:
                self._names.clear()
            name = self._names[number] = _text(row[0])
        return name

    def _frame(self, number: int) -> tuple[int, bytes]:
        frame = self._frames.get(number)
        if frame is None:
            row = self.db.execute("SELECT model, body FROM frames WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise LookupError(f"frame {number} is not there")
            if len(self._frames) > MOST_NAMES:
                self._frames.clear()
            frame = self._frames[number] = (row[0], row[1])
        return frame


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
