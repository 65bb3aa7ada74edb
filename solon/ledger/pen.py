"""What the writer of a ledger does inside a transaction: claim, record, give back; leases, and the purses of runs.

A lease says "this process is asking this key", and holds what its run has put by for the call. It ends with its owner:
what a dead owner had put by may have been billed, so it goes from "reserved" to "lost".

All of it may be done more than once (a commit that is tried again), so it touches the file alone; what is remembered
on the way is forgotten with `forget` when a transaction was taken back.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from solon.calls import Call, Reply
from solon.ledger.owners import alive, me
from solon.ledger.packing import frame_of, pack_messages, pack_reply
from solon.ledger.purse import NOTHING, Account, Book
from solon.ledger.sheet import Sheet
from solon.ledger.texts import Texts
from solon.spend import Limit, Spend

__all__ = ["HEARTBEAT_SECONDS", "Pen", "Stored", "raw_key"]

HEARTBEAT_SECONDS = 5.0
MOST_NAMES = 10_000  # that are remembered, before they are looked up anew


@dataclass(frozen=True, slots=True)
class Stored:
    """One answered call on its way into the file.

    run:      who pays, "" where nobody is named
    fresh:    it replaces an earlier reply; else the earlier one stays
    reserve:  what was put by for its last attempt; None where no purse is kept
    paid:     what it cost; None where no purse is kept
    flight:   False for one that was asked without a lease (a batch job's)
    """

    key: str
    call: Call
    reply: Reply
    asked_at: float
    seconds: float
    run: str = ""
    fresh: bool = False
    reserve: Spend | None = None
    paid: Spend | None = None
    flight: bool = True


def raw_key(key: str) -> bytes:
    """Return the 32 bytes of a call's key; b"" for what is no key, which no call has."""
    if not key.startswith("c1:"):
        return b""
    try:
        return bytes.fromhex(key[3:])
    except ValueError:
        return b""


class Pen:
    """The writing connection with what it remembers of the file. `owner` is the name of this process's leases."""

    def __init__(self, db: sqlite3.Connection, owner: str) -> None:
        self.db = db
        self.owner = owner
        self.book = Book(db)
        self.sheet = Sheet(db)
        self.held: set[bytes] = set()
        self._texts = Texts()
        self._names: dict[str, int] = {}
        self._frames: dict[Any, int] = {}
        self._removals = -1
        self.beaten: float | None = None
        self._beating: float | None = None

    # -- around a transaction

    def begin(self, keys: list[str] | None = None) -> None:
        """Look up what is known of these keys; trust no number from before texts were removed, by whichever process."""
        removals = self.db.execute("SELECT value FROM facts WHERE name = 'removals'").fetchone()[0]
        if removals != self._removals:
            self.forget()
            self._removals = removals
        self.sheet.forget()
        if keys:
            self.sheet.look_up([raw_key(key) for key in keys])
        self._beating = None
        if self.held:
            self.beat()

    def write(self) -> None:
        """Write what has gathered in this transaction."""
        self._texts.write(self.db)
        self.sheet.write()
        self.book.write()

    def committed(self) -> None:
        # only now: a heartbeat that was rolled back was none
        self.beaten = self._beating if self._beating is not None else self.beaten

    def forget(self) -> None:
        """Remember nothing that a transaction wrote which was taken back."""
        self.book.forget()
        self.sheet.forget()
        self._texts.forget()
        self._names.clear()
        self._frames.clear()

    # -- a flight

    def claim(
        self, key: str, *, fresh: bool, run: str = "", worst: Spend | None = None, limit: Limit | None = None
    ) -> tuple[Any, ...] | Account | bool:
        """Return the REPLY columns if it is known by now (unless `fresh`), False if another process asks it,

        the run's Account where the limit has no room for `worst`, and True with the lease.
        """
        name = raw_key(key)
        if not fresh:
            row = self.sheet.reply(name)
            if row:
                return row
        if self._held_elsewhere(name):
            return False
        self.beat()  # a lease without its owner's row would be nobody's
        if worst is None:
            self.sheet.begin(name, (self.owner, 0, 0, 0, 0))
        else:
            number = self.name(run)
            if limit and not self._room(number, worst, limit):
                return self.book.of(number)
            self.book.enter(number, reserved=worst)
            self._lease(name, number, worst)
        self.held.add(name)
        return True

    def again(self, key: str, run: str, worst: Spend, limit: Limit | None) -> Account | bool:
        """Count the last attempt as lost, and put by for another; the run's Account where there is no room for it."""
        name, number = raw_key(key), self.name(run)
        reserve = self._taken(name)
        self.book.enter(number, reserved=NOTHING - reserve, lost=reserve)
        roomy = limit is None or self._room(number, worst, limit)
        if self._held_elsewhere(name):  # it slept too long: what it puts by now is given up at once
            self.book.enter(number, lost=worst if roomy else NOTHING)
        else:
            self.beat()
            self._lease(name, number, worst if roomy else NOTHING)
            self.held.add(name)
            self.book.enter(number, reserved=worst if roomy else NOTHING)
        return True if roomy else self.book.of(number)

    def free(self, key: str, *, lost: bool = False) -> None:
        """Give the lease back; `lost` where the call may have been billed all the same."""
        name = raw_key(key)
        # it may be another's by now: a process that slept too long has lost it
        row = self._mine(name)
        if row and row[1:] != (0, 0, 0):
            reserve = Spend(*row[1:])
            self.book.enter(row[0], reserved=NOTHING - reserve, lost=reserve if lost else NOTHING)
        self.held.discard(name)

    def record(self, stored: Stored) -> tuple[Any, ...] | None:
        """Write a reply down. Return None, or the REPLY columns of an earlier answer, which stays."""
        name = raw_key(stored.key)
        earlier = self.sheet.reply(name)
        written = stored.fresh or not earlier
        if written:
            if earlier:
                self.sheet.drop(name)
            self.add(stored)
        if stored.flight and stored.paid is not None and stored.reserve is not None:
            number, row = self.name(stored.run), self._mine(name)
            reserve = Spend(*row[1:]) if row else stored.reserve
            # without a lease it was counted as lost: now it is known what it cost
            taken = NOTHING - reserve
            self.book.enter(
                number, spent=stored.paid, reserved=taken if row else NOTHING, lost=NOTHING if row else taken
            )
        elif stored.flight:
            self._mine(name)
        elif stored.paid is not None and written:
            self.book.enter(self.name(stored.run), spent=stored.paid)
        self.held.discard(name)
        return None if written else earlier

    def add(self, stored: Stored) -> None:
        """Write the row of a call that has none."""
        call, reply = stored.call, stored.reply
        usage = reply.usage
        self.sheet.add(
            (
                raw_key(stored.key), self._frame(call), self.name(stored.run), stored.asked_at, stored.seconds,
                usage.input, usage.output, usage.thinking, usage.cached, self.name(reply.model), pack_reply(reply),
                pack_messages(call, lambda content: self._texts.parts(self.db, content)),
            )
        )  # fmt: skip

    # -- purses

    def reserve(self, run: str, spend: Spend, limit: Limit | None) -> bool:
        """Put by for a whole job; False where the limit has no room for it."""
        number = self.name(run)
        if limit and not self._room(number, spend, limit):
            return False
        self.book.enter(number, reserved=spend)
        return True

    def settle(self, run: str, reserved: Spend, spent: Spend, lost: Spend) -> None:
        """Take `reserved` off what a run has put by, and add what came of it."""
        self.book.enter(self.name(run), reserved=NOTHING - reserved, spent=spent, lost=lost)

    def put_right(self, run: str, jobs: Spend) -> None:
        """Let what a run has put by be its leases and `jobs`."""
        self.bury_dead()
        self.sheet.write()
        number = self.name(run)
        query = (
            "SELECT coalesce(sum(calls), 0), coalesce(sum(tokens), 0), coalesce(sum(nano), 0) FROM leases WHERE run = ?"
        )
        leases = Spend(*self.db.execute(query, (number,)).fetchone())
        self.book.enter(number, reserved=leases + jobs - self.book.of(number).reserved)

    def _room(self, run: int, worst: Spend, limit: Limit) -> bool:
        if limit.holds(self.book.of(run).total + worst):
            return True
        self.bury_dead()  # whoever waits for the calls of a dead process would wait for ever
        return limit.holds(self.book.of(run).total + worst)

    # -- leases and their owners

    def _lease(self, name: bytes, run: int, reserve: Spend) -> None:
        self.sheet.begin(name, (self.owner, run, reserve.calls, reserve.tokens, reserve.nano))

    def _mine(self, name: bytes) -> tuple[int, int, int, int] | None:
        """End this process's lease of a key; return its run and what was put by, None where it has none."""
        lease = self.sheet.lease(name)
        if lease is None or lease[0] != self.owner:
            return None
        self.sheet.end(name)
        return lease[1:]

    def _taken(self, name: bytes) -> Spend:
        row = self._mine(name)
        return Spend(*row[1:]) if row else NOTHING

    def _held_elsewhere(self, name: bytes) -> bool:
        """Return whether a living process holds the lease of a key; one of a dead one, or of nobody, is ended."""
        row = self.sheet.lease(name)
        if row is None:
            return False
        if row[0] == self.owner:
            self.free(_hex(name))
            return False
        owner = self.db.execute("SELECT host, pid, born, until, ticks FROM owners WHERE id = ?", (row[0],)).fetchone()
        if owner and alive(*owner):
            return True
        self.bury(row[0])
        return False

    def beat(self) -> None:
        """Say that this process lives, where it did not say so lately; the first time, bury those that do not."""
        now = time.monotonic()
        if self._beating is not None or (self.beaten is not None and now - self.beaten < HEARTBEAT_SECONDS):
            return
        if self.beaten is None:
            self.bury_dead()
        self._beating = now
        self.db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?, ?)", (self.owner, *me()))

    def bury_dead(self) -> None:
        rows = self.db.execute("SELECT id, host, pid, born, until, ticks FROM owners").fetchall()
        for owner, *facts in rows:
            if owner != self.owner and not alive(*facts):
                self.bury(owner)

    def bury(self, owner: str) -> None:
        """End all leases of an owner: what was put by for them may have been billed."""
        self.sheet.write()
        query = "SELECT run, sum(calls), sum(tokens), sum(nano) FROM leases WHERE owner = ? AND calls > 0 GROUP BY run"
        for run, *sums in self.db.execute(query, (owner,)).fetchall():
            reserve = Spend(*sums)
            self.book.enter(run, reserved=NOTHING - reserve, lost=reserve)
        self.sheet.bury(owner)
        self.db.execute("DELETE FROM owners WHERE id = ?", (owner,))

    # -- small numbers

    def name(self, text: str) -> int:
        """Return the number of a name, a new one for a new name."""
        number = self._names.get(text)
        if number is None:
            name = text.encode("utf-8", "surrogatepass")
            query = "INSERT INTO names (name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id"
            number = self._names[text] = self.db.execute(query, (name,)).fetchall()[0][0]
            if len(self._names) > MOST_NAMES:
                self._names = {text: number}
        return number

    def frame(self, model: str, body: bytes) -> int:
        """Return the number of a frame, a new one for a new frame."""
        query = "INSERT INTO frames (model, body) VALUES (?, ?) ON CONFLICT DO UPDATE SET body = body RETURNING id"
        return int(self.db.execute(query, (self.name(model), body)).fetchall()[0][0])

    def _frame(self, call: Call) -> int:
        kind = (call.model, call.sampling, call.labels, call.schema, call.options)
        number = self._frames.get(kind)
        if number is None:
            if len(self._frames) > MOST_NAMES:
                self._frames.clear()
            body = frame_of(call).encode("utf-8", "surrogatepass")
            number = self._frames[kind] = self.frame(call.model, body)
        return number


def _hex(name: bytes) -> str:
    return "c1:" + name.hex()
