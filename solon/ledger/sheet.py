"""What one transaction reads and writes of calls and leases: many rows a statement, not a statement a row.

Each statement lets go of Python's lock and must win it back from the event loop, which is busy with the very calls
that wait here: that, more than the work itself, is what a commit of many jobs would take its time for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["BY_KEY", "CALL", "REPLY", "Lease", "Sheet", "in_rows"]

BY_KEY = "FROM calls WHERE substr(key, 1, 8) = ?1 AND key = ?2"
REPLY = "reply, server, input, output, thinking, cached"
"""The columns that make a Reply."""
CALL = "key, frame, run, asked_at, seconds, input, output, thinking, cached, server, reply, messages"
"""The columns of a call, as they are written."""

Lease = tuple[str, int, int, int, int]
"""Owner, run, and what was put by: calls, tokens, nano."""

SIZES = (64, 8, 1)  # rows a statement: few different ones, so that SQLite need not read them anew


class Sheet:
    """The calls and leases that one transaction deals with; `write` before anything else looks at the tables."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.forget()

    def forget(self) -> None:
        """Know nothing, and write nothing: a transaction begins, or was taken back."""
        self._replies: dict[bytes, tuple[Any, ...] | None] = {}
        self._leases: dict[bytes, Lease | None] = {}
        self._calls: list[tuple[Any, ...]] = []
        self._begun: dict[bytes, Lease] = {}
        self._ended: list[bytes] = []

    def look_up(self, names: Sequence[bytes]) -> None:
        """Read what is known of all these keys at once."""
        for start in range(0, len(names), 512):
            some = names[start : start + 512]
            room = next(size for size in (1, 8, 64, 512) if size >= len(some))
            marks, fill = ",".join("?" * room), [b""] * (room - len(some))
            self._replies |= dict.fromkeys(some)
            self._leases |= dict.fromkeys(some)
            query = f"SELECT key, {REPLY} FROM calls WHERE substr(key, 1, 8) IN ({marks})"
            for row in self._db.execute(query, [name[:8] for name in some] + fill).fetchall():
                if row[0] in self._replies:
                    self._replies[row[0]] = tuple(row[1:])
            query = f"SELECT key, owner, run, calls, tokens, nano FROM leases WHERE key IN ({marks})"
            for row in self._db.execute(query, [*some, *fill]).fetchall():
                self._leases[row[0]] = row[1:]

    def reply(self, name: bytes) -> tuple[Any, ...] | None:
        """Return the REPLY columns of a key, or None."""
        if name not in self._replies:
            self.look_up([name])
        return self._replies[name]

    def lease(self, name: bytes) -> Lease | None:
        """Return the lease of a key, or None."""
        if name not in self._leases:
            self.look_up([name])
        return self._leases[name]

    def add(self, row: tuple[Any, ...]) -> None:
        """Write a call (the CALL columns) whose key has none."""
        self._calls.append(row)
        self._replies[row[0]] = (row[10], row[9], *row[5:9])

    def drop(self, name: bytes) -> None:
        """Remove a call."""
        self.write()
        self._db.execute(f"DELETE {BY_KEY}", (name[:8], name))
        self._replies[name] = None

    def begin(self, name: bytes, lease: Lease) -> None:
        """Write a lease for a key that has none."""
        self._leases[name] = self._begun[name] = lease

    def end(self, name: bytes) -> None:
        """Remove the lease of a key."""
        self._leases[name] = None
        if self._begun.pop(name, None) is None:
            self._ended.append(name)

    def bury(self, owner: str) -> None:
        """Remove all leases of an owner."""
        self.write()
        self._db.execute("DELETE FROM leases WHERE owner = ?", (owner,))
        self._leases = {name: lease for name, lease in self._leases.items() if lease is None or lease[0] != owner}

    def write(self) -> None:
        """Write what has gathered; what comes after may look at the tables themselves."""
        for some in in_rows(self._ended):
            self._db.execute(f"DELETE FROM leases WHERE key IN ({','.join('?' * len(some))})", some)
        for rows in in_rows(list(self._begun.items())):
            marks = ",".join(["(?,?,?,?,?,?)"] * len(rows))
            values = [value for name, lease in rows for value in (name, *lease)]
            self._db.execute(f"INSERT INTO leases (key, owner, run, calls, tokens, nano) VALUES {marks}", values)
        for rows in in_rows(self._calls):
            marks = ",".join(["(?,?,?,?,?,?,?,?,?,?,?,?)"] * len(rows))
            self._db.execute(f"INSERT INTO calls ({CALL}) VALUES {marks}", [value for row in rows for value in row])
        self._ended, self._begun, self._calls = [], {}, []


def in_rows(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Yield all rows, in portions of a few sizes."""
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
