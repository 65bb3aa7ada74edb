"""What looks after a ledger: merging, forgetting, making it small again, checking it, counting what is in it."""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from solon.calls import Usage
from solon.errors import StorageError
from solon.ledger.file import DAMAGED, Entry, connect, opened, storage, version_of, whole
from solon.ledger.packing import messages_in, unpack_text
from solon.ledger.pen import Pen, Stored, raw_key
from solon.ledger.purse import Account, account_in
from solon.ledger.reader import ENTRY, Reader
from solon.ledger.sheet import BY_KEY, REPLY
from solon.ledger.upgrade import ROWS, old_entry

__all__ = [
    "ROWS_AT_ONCE",
    "Merged",
    "OfModel",
    "OfRun",
    "Statistics",
    "Verified",
    "compacted",
    "delete_rows",
    "merge_entries",
    "other_entries",
    "other_probes",
    "rewrite",
    "statistics",
    "verified",
]

ROWS_AT_ONCE = 500
"""Rows that a merge or a forgetting handles in one transaction: others write in between."""
REWRITE_SECONDS = 60.0
UNREADABLE = (zlib.error, ValueError, LookupError, TypeError, AttributeError, StorageError)


# -- merging, forgetting -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """What a merge did: replies taken over, equal ones, and keys where two replies differed (the earlier stays)."""

    added: int
    same: int
    differed: int


def other_entries(path: Path) -> Iterator[list[Entry]]:
    """Yield the entries of another ledger of any version, ROWS_AT_ONCE at a time, each seen to be whole and its own."""
    with opened(path) as db:
        old = version_of(db, path) == 1
        reader = Reader(path, db)

        def new_entry(row: tuple[Any, ...]) -> Entry:
            return _own(reader.entry_of(row))

        rows = db.execute(f"{ROWS} calls ORDER BY id" if old else f"SELECT {ENTRY} FROM calls ORDER BY id")
        while batch := rows.fetchmany(ROWS_AT_ONCE):
            yield [whole(path, partial(old_entry if old else new_entry, row)) for row in batch]


def _own(entry: Entry) -> Entry:
    if entry.call.key != entry.key:
        raise ValueError(f"entry {entry.key} does not bear the key of its call")
    return entry


def other_probes(path: Path) -> list[tuple[Any, ...]]:
    """Return the probes of another ledger."""
    with opened(path) as db:
        return db.execute("SELECT model, can, asked_at FROM probes").fetchall()


def merge_entries(db: sqlite3.Connection, *, pen: Pen, entries: list[Entry]) -> tuple[int, int, int]:
    """Take entries over; where both know a key the earlier stays. Returns (added, same, differed)."""
    added = same = differed = 0
    reader = Reader(Path(), db)
    for entry in entries:
        pen.write()  # what is looked at next is in the file
        key = raw_key(entry.key)
        mine = db.execute(f"SELECT asked_at, {REPLY} {BY_KEY}", (key[:8], key)).fetchone()
        if mine is None:
            added += 1
        elif reader.reply(mine[1:]) == entry.reply:
            same += 1
        else:
            differed += 1
        if mine is None or entry.asked_at < mine[0]:
            pen.sheet.drop(key)
            pen.add(Stored(entry.key, entry.call, entry.reply, entry.asked_at, entry.seconds, run=entry.run))
    return added, same, differed


def delete_rows(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    db.executemany("DELETE FROM calls WHERE id = ?", ((number,) for number in numbers))


def rewrite(path: Path) -> None:
    """Remove what no call needs any more, and write the file anew without it, so that no removed byte stays in it.

    `secure_delete` alone is not enough: pages that SQLite balances keep stale copies of rows.
    """
    with storage(path), closing(connect(path, patience=REWRITE_SECONDS)) as db:
        db.execute("BEGIN IMMEDIATE")
        _sweep(db)
        db.execute("COMMIT")
        db.execute("VACUUM")
        busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StorageError(
            f"{path}: removed, but another process reads the file, so the old bytes stay in its journal; "
            "do it again when that one has ended"
        )


def _sweep(db: sqlite3.Connection) -> None:
    """Remove texts, frames and names that nothing uses, inside a transaction that nobody writes beside."""
    used = bytearray(1 + (db.execute("SELECT max(id) FROM texts").fetchone()[0] or 0))
    for _, parts in _uses(db):
        for part in parts:
            if isinstance(part, int) and part < len(used):
                used[part] = 1
    texts = array("q", (row[0] for row in db.execute("SELECT id FROM texts")))
    for number in texts:
        if used[number] == 1:  # 2 is part of one: those are made of nothing else
            for part in _made_of(db, number):
                if part < len(used):
                    used[part] |= 2
    db.executemany("DELETE FROM texts WHERE id = ?", ((number,) for number in texts if not used[number]))
    db.execute("DELETE FROM frames WHERE id NOT IN (SELECT frame FROM calls)")
    db.execute(
        "DELETE FROM names WHERE id NOT IN (SELECT model FROM frames) AND id NOT IN (SELECT server FROM calls) AND "
        "id NOT IN (SELECT run FROM calls) AND id NOT IN (SELECT run FROM purses) AND "
        "id NOT IN (SELECT run FROM leases)"
    )
    db.execute("UPDATE facts SET value = value + 1 WHERE name = 'removals'")


def _uses(db: sqlite3.Connection) -> Iterator[tuple[int, list[Any]]]:
    """Yield (number of the call, parts of its messages) of every call that can be read."""
    for number, blob in db.execute("SELECT id, messages FROM calls"):
        try:
            said = messages_in(blob)[2:]
        except UNREADABLE:
            continue  # it names nothing that could be kept for it; `verify` tells of it
        yield number, [part for _, *parts in said for part in parts]


def _made_of(db: sqlite3.Connection, number: int) -> list[int]:
    try:
        body = unpack_text(db.execute("SELECT body FROM texts WHERE id = ?", (number,)).fetchone()[0])
    except UNREADABLE:
        return []
    return [part for part in body if isinstance(part, int)] if isinstance(body, list) else []


def compacted(path: Path) -> tuple[int, int]:
    """Write the file anew without what no call needs; return its bytes before and after."""
    before = size_of(path)
    rewrite(path)
    return before, size_of(path)


def size_of(path: Path) -> int:
    """Return the bytes of a ledger with its journal."""
    journal = path.with_name(path.name + "-wal")
    return path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)


# -- checking ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verified:
    """What a check found.

    calls, texts: how many were looked at
    damaged:  number of a call's row -> what is wrong with it
    trouble:  what is wrong with the rest of the file, a line each
    """

    calls: int
    texts: int
    damaged: dict[int, str] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.trouble


def verified(reader: Reader) -> Verified:
    """Read every entry, derive its key anew, look at every shared text, and let SQLite check its pages."""
    db, damaged = reader.db, dict[int, str]()
    calls = texts = 0
    trouble: list[str] = []
    try:
        found = [row[0] for row in db.execute("PRAGMA integrity_check(5)")]
        trouble += [f"SQLite: {line}" for said in found if said != "ok" for line in str(said).splitlines()]
        last: bytes | None = None
        for number, *row in db.execute(f"SELECT id, {ENTRY} FROM calls ORDER BY substr(key, 1, 8), key"):
            calls += 1
            try:
                _own(reader.entry_of(tuple(row)))
                if row[0] == last:
                    damaged[number] = "its key is there twice"
            except UNREADABLE as problem:
                damaged[number] = _short(problem)
            last = row[0]
        for (number,) in db.execute("SELECT id FROM texts"):
            texts += 1
            try:
                reader.texts.text([number])
            except UNREADABLE as problem:
                trouble.append(f"text {number}: {problem}")
    except sqlite3.DatabaseError as problem:
        trouble.append(f"SQLite: {problem}; what comes after it was not looked at")
    return Verified(calls, texts, damaged, tuple(trouble))


def _short(problem: BaseException) -> str:
    text = str(problem)
    return text[text.index("(") + 1 : text.rindex(f"): {DAMAGED}")] if text.endswith(f"): {DAMAGED}") else text


# -- counting ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfModel:
    """Calls to one model: how many, their tokens, and when the first and the last were asked (seconds since 1970)."""

    model: str
    calls: int
    usage: Usage
    first: float
    last: float


@dataclass(frozen=True)
class OfRun:
    """What one run paid for: calls and tokens that are remembered, and its purse."""

    run: str
    calls: int
    usage: Usage
    account: Account


@dataclass(frozen=True)
class Statistics:
    """What is in a ledger. `saved`: bytes that texts would take which are kept once, and were said more often."""

    calls: int
    bytes: int
    texts: int
    saved: int
    models: tuple[OfModel, ...]
    runs: tuple[OfRun, ...]


def statistics(reader: Reader) -> Statistics:
    """Count; reads the file once from end to end."""
    db = reader.db
    sums = "count(*), sum(input), sum(output), sum(thinking), sum(cached)"
    models: dict[str, OfModel] = {}
    rows = db.execute(f"SELECT frame, min(asked_at), max(asked_at), {sums} FROM calls GROUP BY frame").fetchall()
    for frame, first, last, calls, *tokens in rows:
        name = reader.model(frame)
        old = models.get(name, OfModel(name, 0, Usage(), first, last))
        models[name] = OfModel(
            name, old.calls + calls, old.usage + Usage(*tokens), min(old.first, first), max(old.last, last)
        )
    paid = {row[0]: row[1:] for row in db.execute(f"SELECT run, {sums} FROM calls GROUP BY run")}
    purses = {row[0] for row in db.execute("SELECT run FROM purses")}
    runs = []
    for number, name in list(reader.names()):
        if number in paid or number in purses:
            calls, *tokens = paid.get(number, (0, 0, 0, 0, 0))
            runs.append(OfRun(name, calls, Usage(*tokens), account_in(db, number)))
    count, saved = _saved(db)
    calls = db.execute("SELECT count(*) FROM calls").fetchone()[0]
    ranked = tuple(sorted(models.values(), key=lambda each: (-each.calls, each.model)))
    return Statistics(calls, size_of(reader.path), count, saved, ranked, tuple(runs))


def _saved(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many texts are shared, and how many bytes they would take more, said out each time."""
    # by number, four bytes each: there may be many millions
    sizes = array("I", bytes(4 * (1 + (db.execute("SELECT max(id) FROM texts").fetchone()[0] or 0))))
    made: set[int] = set()
    count = 0
    for number, first, size in db.execute("SELECT id, hex(substr(body, 1, 1)), length(body) FROM texts"):
        count, sizes[number] = count + 1, size
        if int(first or "0", 16) & 2:
            made.add(number)
    for number in made:
        sizes[number] = sum(sizes[part] for part in _made_of(db, number) if part < len(sizes))
    said = sum(sizes[part] for _, parts in _uses(db) for part in parts if isinstance(part, int) and part < len(sizes))
    kept = sum(size for number, size in enumerate(sizes) if number not in made)
    return count, max(0, said - kept)
