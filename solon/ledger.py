"""The ledger: every question once. One SQLite file remembers each Reply by its Call's key.

    ledger = Ledger.open(path)
    ask = ledger.door(model)          # Call -> Reply, through memory
    reply = await ask(call)           # reply.known tells where it came from

What it promises:

* *Finished* means committed: a reply is handed on only after its commit, so no finished call is paid for twice.
* Single flight: fifty askers of one question cause one request. Within a process they share a task; between
  processes the asker holds a lease in the same file, which ends with its process.
* Failures are never remembered, and reach every asker of that flight.
* Refusals, empty and truncated answers are replies, remembered as what they are.

`ledger_file` knows the file, `ledger_writer` is the one thread that writes it.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from solon.calls import Call, Model, Reply, Usage
from solon.errors import Aside, Halt, StorageError
from solon.ledger_file import (
    ROWS_AT_ONCE,
    Entry,
    Stored,
    connect,
    delete_rows,
    entry_of,
    merge_rows,
    other_probes,
    other_rows,
    prepare,
    reply_of,
    rewrite,
    storage,
)
from solon.ledger_writer import Writer

__all__ = ["Door", "Entry", "Ledger", "Merged", "Tally"]

LEASE_PAUSES = (0.05, 1.0)
"""Seconds between two looks at a key that another process is asking: the first, and the longest."""


@dataclass
class Tally:
    """What went through one door: calls by where their reply came from, and the tokens of each kind.

    known:   answered from the file, also where another process has just written it there
    asked:   answered by the model: paid for
    shared:  answered by another asker's flight in this process
    failed:  flights that ended without a reply
    """

    known: int = 0
    asked: int = 0
    shared: int = 0
    failed: int = 0
    known_usage: Usage = Usage()
    asked_usage: Usage = Usage()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.known + other.known,
            self.asked + other.asked,
            self.shared + other.shared,
            self.failed + other.failed,
            self.known_usage + other.known_usage,
            self.asked_usage + other.asked_usage,
        )


@dataclass(frozen=True)
class Merged:
    """What a merge did: replies taken over, equal ones, and keys where two replies differed (the earlier stays)."""

    added: int
    same: int
    differed: int


class Ledger:
    """Every Call ever answered, by key. Open it with `Ledger.open`, use it from one event loop, `await close()`.

    Every method raises StorageError, one line, where the file cannot be read or written, and after `close`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._flights: dict[str, asyncio.Task[Reply]] = {}
        self._refreshed: set[str] = set()
        self._closing = False
        self._closed = False
        self._reader = connect(path, patience=30.0)
        self._reader.execute("PRAGMA query_only = ON")
        self._writer = Writer(path)

    @classmethod
    def open(cls, path: str | Path) -> Ledger:
        """Open or create the ledger at `path`. Raises StorageError: unwritable, not a ledger, or a newer one."""
        path = Path(path)
        with storage(path):
            prepare(path)
            return cls(path)

    def door(self, model: Model | None, *, refresh: bool = False, missed: Callable[[Call], None] | None = None) -> Door:
        """Return the way to ask `model` through memory.

        With None nothing stands behind the ledger: an unknown call is told to `missed` and sets its row aside as
        "not_known" (the dry run). With `refresh` each key is asked anew once, and the new reply takes its place.
        """
        return Door(self, model, refresh, missed)

    def get(self, key: str) -> Reply | None:
        """Return the remembered reply of `key`, or None."""
        row = self._one("SELECT reply FROM calls WHERE key = ?", key)
        return None if row is None else reply_of(self.path, row[0])

    def entry(self, key: str) -> Entry | None:
        """Return all that is remembered of `key`, or None."""
        row = self._one("SELECT key, call, reply, asked_at, seconds FROM calls WHERE key = ?", key)
        return None if row is None else entry_of(self.path, row)

    def entries(self) -> Iterator[Entry]:
        """Yield the calls remembered when it begins, oldest first; one that is forgotten on the way is left out.

        It holds no read transaction: that would keep the journal growing, and this ledger from seeing new replies.
        """
        for number in self._numbers("1 = 1 ORDER BY asked_at, id"):
            row = self._one("SELECT key, call, reply, asked_at, seconds FROM calls WHERE id = ?", number)
            if row is not None:
                yield entry_of(self.path, row)

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM calls")[0])

    def probe(self, model: str) -> dict[str, Any] | None:
        """Return what an earlier probe found `model` able to do, or None."""
        row = self._one("SELECT can FROM probes WHERE model = ?", model)
        return None if row is None else dict(json.loads(row[0]))

    def record_probe(self, model: str, can: dict[str, Any]) -> None:
        """Remember what a probe found."""
        probe = (model, json.dumps(can), time.time())
        self._writer.do(lambda db: db.execute("INSERT OR REPLACE INTO probes VALUES (?, ?, ?)", probe)).wait()

    def merge(self, other: str | Path) -> Merged:
        """Take over what another ledger knows. Where both know a key, the earlier reply stays, and it is counted.

        A few hundred rows a transaction, so that others write in between; broken off, it can be done again.
        Raises StorageError: no such file, not a ledger, a newer or a damaged one.
        """
        total = (0, 0, 0)
        for rows in other_rows(Path(other)):
            done = self._writer.do(partial(merge_rows, rows=rows)).wait()
            total = (total[0] + done[0], total[1] + done[1], total[2] + done[2])
        probes = other_probes(Path(other))
        self._writer.do(lambda db: db.executemany("INSERT OR IGNORE INTO probes VALUES (?, ?, ?)", probes)).wait()
        return Merged(*total)

    def forget(self, *, model: str | None = None, before: float | None = None, text: str | None = None) -> int:
        """Remove what matches every given condition: the model's identity, asked before a time, holding a text.

        `text` is looked for in questions and answers as people read them. The file is then written anew, so that no
        removed byte stays in it (it needs room for a second copy meanwhile). Returns how many calls were removed.
        At least one condition must be given (ValueError).
        """
        if model is None and before is None and text is None:
            raise ValueError("forget needs a model, a time or a text")
        where = "(? IS NULL OR model = ?) AND (? IS NULL OR asked_at < ?)"
        given = (model, model, before, before)
        numbers = array("q", (n for n in self._numbers(where, *given) if text is None or self._holds(n, text)))
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            self._writer.do(partial(delete_rows, numbers=numbers[start : start + ROWS_AT_ONCE])).wait()
        if text is None:
            # a probe with provider options is recorded as "identity#..."
            probes = (
                "(? IS NULL OR model = ? OR substr(model, 1, length(?) + 1) = ? || '#') AND (? IS NULL OR asked_at < ?)"
            )
            self._writer.do(
                lambda db: db.execute(f"DELETE FROM probes WHERE {probes}", (*[model] * 4, *given[2:]))
            ).wait()
        rewrite(self.path)
        return len(numbers)

    async def close(self, *, grace: float = 0.0) -> None:
        """Wait up to `grace` seconds for calls in flight (they are paid for), write everything down, close the file.

        Nothing new is asked meanwhile. Raises StorageError, with everything closed, where replies could not be
        written down: how many, and why.
        """
        self._closing = True
        flights = list(self._flights.values())
        if flights and grace > 0:
            await asyncio.wait(flights, timeout=grace)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        lost = await asyncio.to_thread(self._writer.stop)
        self._closed = True
        self._reader.close()
        if lost:
            raise StorageError(
                f"{self._writer.problem} ({lost} answered calls could not be written down, and will be asked again)"
            )

    @property
    def in_flight(self) -> int:
        """How many questions are being asked right now, or wait for another process to ask them."""
        return len(self._flights)

    def _usable(self) -> None:
        if self._closed:
            raise StorageError(f"{self.path}: this ledger is closed; open it again")

    def _one(self, query: str, *given: Any) -> Any:
        self._usable()
        with storage(self.path):
            return self._reader.execute(query, given).fetchone()

    def _numbers(self, where: str, *given: Any) -> array[int]:
        """Return the row numbers of matching calls: 8 bytes a call, while texts are read one at a time."""
        self._usable()
        with storage(self.path):
            return array("q", (row[0] for row in self._reader.execute(f"SELECT id FROM calls WHERE {where}", given)))

    def _holds(self, number: int, text: str) -> bool:
        row = self._one("SELECT key, call, reply, asked_at, seconds FROM calls WHERE id = ?", number)
        if row is None:
            return False
        entry = entry_of(self.path, row)
        words = [message.content for message in entry.call.messages] + [entry.reply.text, entry.reply.thinking]
        return any(text in each for each in words)


class Door:
    """`await door(call)`: memory first, then one flight to the model. Keeps a Tally of what went through."""

    def __init__(
        self, ledger: Ledger, model: Model | None, refresh: bool, missed: Callable[[Call], None] | None
    ) -> None:
        self._ledger = ledger
        self._model = model
        self._refresh = refresh
        self._missed = missed
        self.tally = Tally()

    async def __call__(self, call: Call) -> Reply:
        ledger, key = self._ledger, call.key
        flight = ledger._flights.get(key)
        if flight is not None:
            shared = await self._landed(flight)
            self.tally.shared += 1
            return shared.from_memory()
        fresh = self._refresh and self._model is not None and key not in ledger._refreshed
        reply = None if fresh else ledger.get(key)
        if reply is not None:
            return self._remembered(reply)
        if self._model is None:
            if self._missed:
                self._missed(call)
            raise Aside("not_known", key)
        if ledger._closing:
            raise self._shut()
        # the flight is a task of its own: an asker that is cancelled must not take a paid reply with it
        flight = asyncio.create_task(self._fly(self._model, call, fresh))
        ledger._flights[key] = flight
        flight.add_done_callback(lambda done: (ledger._flights.pop(key, None), done.cancelled() or done.exception()))
        return await self._landed(flight)

    async def _landed(self, flight: asyncio.Task[Reply]) -> Reply:
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if flight.cancelled() and asker is not None and not asker.cancelling():
                raise self._shut() from None  # the flight was cancelled, not the asker
            raise

    def _shut(self) -> StorageError:
        return StorageError(f"{self._ledger.path}: this ledger was closed before the call was answered; open it again")

    def _remembered(self, reply: Reply) -> Reply:
        self.tally.known += 1
        self.tally.known_usage += reply.usage
        return reply

    async def _fly(self, model: Model, call: Call, fresh: bool) -> Reply:
        """Hold the lease, ask, write down. Raises what the model raises; StorageError if it cannot be kept."""
        ledger, writer, key = self._ledger, self._ledger._writer, call.key
        pause, longest = LEASE_PAUSES
        while (claim := await writer.claim(key, fresh=fresh)) is False:
            await asyncio.sleep(pause)  # another process is asking this very question
            pause = min(pause * 1.5, longest)
        if isinstance(claim, bytes):
            return self._remembered(reply_of(ledger.path, claim))
        asked_at, started = time.time(), time.monotonic()
        try:
            reply = await model(call)
            said = _written(model, reply)
        except BaseException as problem:
            if not isinstance(problem, asyncio.CancelledError):
                self.tally.failed += 1
            writer.release(key)  # not awaited: a cancelled flight must still give its lease back
            raise
        seconds = time.monotonic() - started
        stored = Stored(key, call.model, asked_at, seconds, call.to_json(), said, fresh)
        self.tally.asked += 1
        self.tally.asked_usage += reply.usage
        earlier = await writer.record(stored)
        if fresh:
            ledger._refreshed.add(key)
        # another process may have taken the lease of one that slept: what is handed on is what is remembered
        return reply if earlier is None else reply_of(ledger.path, earlier)


def _written(model: Model, reply: Reply) -> str:
    """Return the reply's JSON. Raises Halt where there is none: every later answer would be lost as well."""
    try:
        return reply.to_json()
    except (AttributeError, TypeError, ValueError) as problem:
        raise Halt(
            f"{model.name}: its answer cannot be kept ({problem}); a model returns a Reply of plain values"
        ) from problem
