"""The ledger: every question once. One SQLite file remembers each Reply by its Call's key.

    ledger = Ledger.open(path)
    ask = ledger.door(model)          # Call -> Reply, through memory
    reply = await ask(call)           # reply.known tells where it came from

What it promises:

* *Finished* means committed: a reply is handed on only after its commit, so no finished call is paid for twice.
* Single flight: fifty askers of one question cause one request. Within a process they share a flight; between
  processes the asker holds a lease in the same file, which ends with its process.
* Failures are never remembered, and reach every asker of that flight.
* Refusals, empty and truncated answers are replies, remembered as what they are.
* A limit holds: what a run has spent, what is in flight at its worst, and what may have been billed in vain stay
  within it, across processes, starts and kills (`purse`).

`file` knows the file, `flight` what is under way, `writer` is the one thread that writes.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from solon.calls import Call, Model, Reply, Usage
from solon.errors import StorageError
from solon.ledger.door import Door
from solon.ledger.file import VERSION, Entry, connect, prepare, reading, storage, told, unwritable, version_of, whole
from solon.ledger.flight import Flights, Payer, Tally
from solon.ledger.packing import unkeepable
from solon.ledger.pen import Stored, raw_key
from solon.ledger.purse import NOTHING, Account, account_in
from solon.ledger.reader import ENTRY, Reader
from solon.ledger.sheet import BY_KEY, REPLY
from solon.ledger.upgrade import upgrade
from solon.ledger.upkeep import (
    ROWS_AT_ONCE,
    Merged,
    Statistics,
    Verified,
    compacted,
    delete_rows,
    merge_entries,
    other_entries,
    other_probes,
    rewrite,
    statistics,
    verified,
)
from solon.ledger.writer import Job, Writer
from solon.spend import Limit, Meter, Spend

__all__ = ["Account", "Door", "Entry", "Ledger", "Merged", "Statistics", "Tally", "Verified"]


class Ledger:
    """Every Call ever answered, by key. Open it with `Ledger.open`, use it from one event loop, `await close()`.

    Every method raises StorageError, one line, where the file cannot be read or written, and after `close`.
    One that can only be read (a read-only folder) answers what it knows; `unwritable` says why it writes nothing.
    """

    def __init__(self, path: Path, unwritable: str = "") -> None:
        self.path = path
        self.unwritable = unwritable
        self._closed = False
        if unwritable:
            self._db = reading(path)
        else:
            self._db = connect(path, patience=30.0)
            self._db.execute("PRAGMA query_only = ON")
        self._reader = Reader(path, self._db)
        self._writer = None if unwritable else Writer(path)
        self._flights = Flights(path, self.get, self._reader.reply, self._pen)

    @classmethod
    def open(cls, path: str | Path) -> Ledger:
        """Open or create the ledger at `path`; one of version 1 becomes one of this version.

        Raises StorageError: it can be neither written nor read, is no ledger, or a newer one.
        """
        path = Path(path)
        with storage(path):
            why = unwritable(path)
            if not why:
                prepare(path, upgrade)
            ledger = cls(path, why)
            if why and version_of(ledger._db, path) < VERSION:
                raise StorageError(f"{path}: a ledger of version 1, which is made anew when it can be written: {why}")
            return ledger

    def door(
        self,
        model: Model | None,
        *,
        refresh: bool = False,
        missed: Callable[[Call], None] | None = None,
        run: str = "",
        limit: Limit | None = None,
        meter: Meter | None = None,
    ) -> Door:
        """Return the way to ask `model` through memory.

        With None nothing stands behind the ledger: an unknown call is told to `missed` and sets its row aside as
        "not_known" (the dry run). With `refresh` each key is asked anew once, and the new reply takes its place.

        run:    who pays; what is spent is written down under this name
        meter:  what calls cost; without one no purse is kept
        limit:  what the run may spend in all, here and elsewhere, now and before. A call that may exceed it waits for
                those in flight, and raises OverBudget where there are none
        """
        return Door(self._flights, model, refresh=refresh, missed=missed, payer=Payer(run, limit, meter))

    # -- what is remembered

    def get(self, key: str) -> Reply | None:
        """Return the remembered reply of `key`, or None."""
        name = raw_key(key)
        try:
            row = self._db.execute(_GET, (name[:8], name)).fetchone()
        except sqlite3.Error as problem:
            self._usable()
            raise told(self.path, problem) from problem
        return None if row is None else self._reader.reply(row)

    def entry(self, key: str) -> Entry | None:
        """Return all that is remembered of `key`, or None."""
        name = raw_key(key)
        return self._entry(f"SELECT {ENTRY} {BY_KEY}", name[:8], name)

    def entries(self) -> Iterator[Entry]:
        """Yield the calls remembered when it begins, oldest first; one that is forgotten on the way is left out.

        It holds no read transaction: that would keep the journal growing, and this ledger from seeing new replies.
        """
        for number in self._numbers("1 = 1 ORDER BY asked_at, id"):
            entry = self._entry(f"SELECT {ENTRY} FROM calls WHERE id = ?", number)
            if entry is not None:
                yield entry

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM calls")[0])

    def probe(self, model: str) -> dict[str, Any] | None:
        """Return what an earlier probe found `model` able to do, or None."""
        row = self._one("SELECT can FROM probes WHERE model = ?", model)
        return None if row is None else dict(json.loads(row[0]))

    def record_probe(self, model: str, can: dict[str, Any]) -> None:
        """Remember what a probe found."""
        probe = (model, json.dumps(can), time.time())
        self._do(lambda db: db.execute("INSERT OR REPLACE INTO probes VALUES (?, ?, ?)", probe)).wait()

    # -- who paid

    async def record(
        self,
        call: Call,
        reply: Reply,
        *,
        seconds: float = 0.0,
        run: str = "",
        meter: Meter | None = None,
        asked_at: float | None = None,
        fresh: bool = False,
    ) -> Reply:
        """Write down a reply that was asked for without a flight (a batch job's); return the one that stands.

        An earlier reply stays, unless this one is `fresh`: then it counts as asked anew. With a meter a new one is
        added to what its run has spent, so that what is told twice is paid for once. Raises ValueError for a reply
        that cannot be kept.
        """
        if why := unkeepable(reply):
            raise ValueError(f"this reply cannot be kept: {why}")
        stored = Stored(
            call.key, call, reply, time.time() if asked_at is None else asked_at, seconds, run=run,
            fresh=fresh, paid=None if meter is None else meter.paid(reply.usage), flight=False,
        )  # fmt: skip
        earlier = await self._pen().record(stored)
        if fresh:
            self._flights.refreshed.add(call.key)
        return reply if earlier is None else self._reader.reply(earlier)

    async def reserve(self, run: str, spend: Spend, limit: Limit | None = None) -> bool:
        """Put by for a whole job of a run until it is settled; False where `limit` has no room for it."""
        pen = self._pen().pen
        return bool(await self._do(lambda db: pen.reserve(run, spend, limit)))

    async def settle(self, run: str, reserved: Spend = NOTHING, spent: Spend = NOTHING, lost: Spend = NOTHING) -> None:
        """Take `reserved` off what a run has put by, and add what was spent and what may be lost."""
        pen = self._pen().pen
        await self._do(lambda db: pen.settle(run, reserved, spent, lost))
        self._flights.settled(run)

    async def put_right(self, run: str, jobs: Spend) -> None:
        """Let what a run has put by be its calls in flight and `jobs`: a kill may have left more behind."""
        pen = self._pen().pen
        await self._do(lambda db: pen.put_right(run, jobs))

    def account(self, run: str) -> Account:
        """Return what a run has spent, put by, and perhaps lost."""
        row = self._one("SELECT id FROM names WHERE name = ?", _name(run))
        with storage(self.path):
            return Account() if row is None else account_in(self._db, row[0])

    def runs(self) -> list[str]:
        """Return the runs that paid for something, by name; "" where nobody was named."""
        self._usable()
        with storage(self.path):
            return self._reader.runs()

    def paid_by(self, run: str) -> Iterator[tuple[str, str, Usage, float]]:
        """Yield (key, model's identity, tokens, seconds) of every call that a run paid for; reads no text."""
        for number in self._numbers("run = (SELECT id FROM names WHERE name = ?)", _name(run)):
            row = self._one(
                "SELECT key, frame, input, output, thinking, cached, seconds FROM calls WHERE id = ?", number
            )
            if row is not None:
                yield "c1:" + row[0].hex(), self._reader.model(row[1]), Usage(*row[2:6]), row[6]

    def took(self, key: str) -> tuple[Usage, str] | None:
        """Return the tokens that a remembered call took and the run that paid for it, or None; reads no text."""
        name = raw_key(key)
        row = self._one(
            f"SELECT input, output, thinking, cached, (SELECT name FROM names WHERE id = run) {BY_KEY}", name[:8], name
        )
        return None if row is None else (Usage(*row[:4]), (row[4] or b"").decode("utf-8", "surrogatepass"))

    # -- upkeep

    def merge(self, other: str | Path) -> Merged:
        """Take over what another ledger knows. Where both know a key, the earlier reply stays, and it is counted.

        A few hundred entries a transaction, so that others write in between; broken off, it can be done again.
        Raises StorageError: no such file, not a ledger, a newer or a damaged one.
        """
        total = (0, 0, 0)
        pen = self._pen().pen
        for entries in other_entries(Path(other)):
            done = self._do(partial(merge_entries, pen=pen, entries=entries)).wait()
            total = (total[0] + done[0], total[1] + done[1], total[2] + done[2])
        probes = other_probes(Path(other))
        self._do(lambda db: db.executemany("INSERT OR IGNORE INTO probes VALUES (?, ?, ?)", probes)).wait()
        return Merged(*total)

    def forget(self, *, model: str | None = None, before: float | None = None, text: str | None = None) -> int:
        """Remove what matches every given condition: the model's identity, asked before a time, holding a text.

        `text` is looked for in questions and answers as people read them. Texts that no other call shares go too, and
        the file is then written anew, so that no removed byte stays in it (it needs room for a second copy meanwhile).
        What runs have spent stays in their purses. Returns how many calls were removed.
        At least one condition must be given (ValueError).
        """
        if model is None and before is None and text is None:
            raise ValueError("forget needs a model, a time or a text")
        where = f"(?1 IS NULL OR frame IN ({_FRAMES_OF})) AND (?2 IS NULL OR asked_at < ?2)"
        given = (None if model is None else _name(model), before)
        numbers = array("q", (n for n in self._numbers(where, *given) if text is None or self._holds(n, text)))
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            self._do(partial(delete_rows, numbers=numbers[start : start + ROWS_AT_ONCE])).wait()
        if text is None:
            # a probe with provider options is recorded as "identity#..."
            probes = (
                "(? IS NULL OR model = ? OR substr(model, 1, length(?) + 1) = ? || '#') AND (? IS NULL OR asked_at < ?)"
            )
            self._do(lambda db: db.execute(f"DELETE FROM probes WHERE {probes}", (*[model] * 4, before, before))).wait()
        rewrite(self.path)
        return len(numbers)

    def compact(self) -> tuple[int, int]:
        """Remove shared texts that no call needs, and write the file anew; return its bytes before and after."""
        self._pen()
        return compacted(self.path)

    def verify(self, *, drop: bool = False) -> Verified:
        """Read every entry and check it; with `drop` the damaged ones are removed, so that they are asked again."""
        self._usable()
        with storage(self.path):
            found = verified(self._reader)
        if drop and found.damaged:
            numbers = list(found.damaged)
            for start in range(0, len(numbers), ROWS_AT_ONCE):
                self._do(partial(delete_rows, numbers=numbers[start : start + ROWS_AT_ONCE])).wait()
            rewrite(self.path)
        return found

    def statistics(self) -> Statistics:
        """Return what is in it: calls, bytes, tokens by model, what sharing saves, who paid."""
        self._usable()
        with storage(self.path):
            return statistics(self._reader)

    async def close(self, *, grace: float = 0.0) -> None:
        """Wait up to `grace` seconds for calls in flight (they are paid for), write everything down, close the file.

        Nothing new is asked meanwhile. Raises StorageError, with everything closed, where replies could not be
        written down: how many, and why.
        """
        await self._flights.end(grace)
        lost = await asyncio.to_thread(self._writer.stop) if self._writer else 0
        self._closed = True
        self._db.close()
        if lost and self._writer:
            raise StorageError(
                f"{self._writer.problem} ({lost} answered calls could not be written down, and will be asked again)"
            )

    @property
    def in_flight(self) -> int:
        """How many questions are being asked right now, or wait for another process to ask them."""
        return len(self._flights.flying)

    # -- below all of it

    def _pen(self) -> Writer:
        if self._writer is None:
            raise StorageError(self.unwritable)
        return self._writer

    def _do(self, work: Callable[[sqlite3.Connection], Any]) -> Job:
        return self._pen().do(work)

    def _usable(self) -> None:
        if self._closed:
            raise StorageError(f"{self.path}: this ledger is closed; open it again")

    def _one(self, query: str, *given: Any) -> Any:
        self._usable()
        with storage(self.path):
            return self._db.execute(query, given).fetchone()

    def _entry(self, query: str, *given: Any) -> Entry | None:
        self._usable()
        with storage(self.path):
            return whole(self.path, lambda: self._reader.entry(query, *given))

    def _numbers(self, where: str, *given: Any) -> array[int]:
        """Return the row numbers of matching calls: 8 bytes a call, while texts are read one at a time."""
        self._usable()
        with storage(self.path):
            return array("q", (row[0] for row in self._db.execute(f"SELECT id FROM calls WHERE {where}", given)))

    def _holds(self, number: int, text: str) -> bool:
        entry = self._entry(f"SELECT {ENTRY} FROM calls WHERE id = ?", number)
        if entry is None:
            return False
        words = [message.content for message in entry.call.messages] + [entry.reply.text, entry.reply.thinking]
        return any(text in each for each in words)


_GET = f"SELECT {REPLY} {BY_KEY}"
_FRAMES_OF = "SELECT frames.id FROM frames JOIN names ON names.id = frames.model WHERE names.name = ?1"


def _name(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
