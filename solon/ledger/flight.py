"""One question under way: claimed, asked, written down, and only then handed on.

Each step begins where the writer tells that the one before it is committed, not in a task that waits for it: with
hundreds of calls in flight every turn of the event loop that is saved is a few milliseconds of each call.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon.calls import Call, Model, Reply, Usage
from solon.errors import Halt, OverBudget, Parked, SolonError, StorageError
from solon.ledger.packing import unkeepable
from solon.ledger.pen import Stored
from solon.ledger.purse import NOTHING, Account, over
from solon.ledger.writer import Job, Writer
from solon.spend import ATTEMPT_LOST, Limit, Meter, Spend

__all__ = ["Flight", "Flights", "Payer", "Tally"]

LEASE_PAUSES = (0.05, 1.0)
"""Seconds between two looks at what another process does (a key that it asks, a budget that it uses): the first, and
the longest."""


@dataclass
class Tally:
    """What went through one door: calls by where their reply came from, and the tokens of each kind.

    known:   answered from the file, also where another process has just written it there
    asked:   answered by the model: paid for
    shared:  answered by another asker's flight in this process
    failed:  flights that ended without a reply
    spent:   what the asked ones cost, where the door has a meter
    """

    known: int = 0
    asked: int = 0
    shared: int = 0
    failed: int = 0
    known_usage: Usage = Usage()
    asked_usage: Usage = Usage()
    spent: Spend = NOTHING

    def remember(self, reply: Reply) -> None:
        """Count a reply that came from memory."""
        self.known += 1
        self.known_usage += reply.usage

    def pay(self, reply: Reply, spent: Spend | None) -> None:
        """Count a reply that was asked for."""
        self.asked += 1
        self.asked_usage += reply.usage
        if spent is not None:
            self.spent += spent

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.known + other.known,
            self.asked + other.asked,
            self.shared + other.shared,
            self.failed + other.failed,
            self.known_usage + other.known_usage,
            self.asked_usage + other.asked_usage,
            self.spent + other.spent,
        )


class Gate:
    """Where the calls of a run wait for room in its budget, one after the other."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.settled = asyncio.Event()


@dataclass
class Flights:
    """All that is under way in one opened ledger, and what its doors share.

    known:  key -> the remembered reply, or None
    reply:  the columns of a reply -> the reply
    pen:    -> the writer; raises StorageError where nothing can be written
    """

    path: Path
    known: Callable[[str], Reply | None]
    reply: Callable[[tuple[Any, ...]], Reply]
    pen: Callable[[], Writer]
    flying: dict[str, Flight] = field(default_factory=dict)
    refreshed: set[str] = field(default_factory=set)
    gates: dict[str, Gate] = field(default_factory=dict)
    closing: bool = False
    landed: asyncio.Event | None = None

    def shut(self) -> StorageError:
        return StorageError(f"{self.path}: this ledger was closed before the call was answered; open it again")

    def settled(self, run: str) -> None:
        """Let the first of those who wait for room in a run's budget look again."""
        gate = self.gates.get(run)
        if gate is not None:
            gate.settled.set()

    async def end(self, grace: float) -> None:
        """Wait up to `grace` seconds for what is under way, then end it; nothing new is begun."""
        self.closing = True
        loop = asyncio.get_running_loop()
        # one of a loop that is gone never lands
        self.flying = {key: flight for key, flight in self.flying.items() if flight.loop is loop}
        if not self.flying:
            return
        self.landed = asyncio.Event()
        if grace > 0:
            await asyncio.wait([asyncio.ensure_future(self.landed.wait())], timeout=grace)
        for flight in list(self.flying.values()):
            flight.cancel()
        await self.landed.wait()  # what was answered is being written down, whatever `grace` says


@dataclass(frozen=True)
class Payer:
    """Who pays for the calls of a door: see `Ledger.door`."""

    run: str = ""
    limit: Limit | None = None
    meter: Meter | None = None


class Flight:
    """One question under way, and all who wait for its answer."""

    __slots__ = (
        "call", "cancelled", "context", "flights", "fresh", "key", "loop", "model", "payer", "tally", "task",
        "waiting", "worst", "writer",
    )  # fmt: skip

    def __init__(self, flights: Flights, model: Model, call: Call, payer: Payer, tally: Tally, *, fresh: bool) -> None:
        self.flights = flights
        self.model = model
        self.call = call
        self.key = call.key
        self.payer = payer
        self.tally = tally
        self.fresh = fresh
        self.writer = flights.pen()
        self.worst = None if payer.meter is None else payer.meter.worst(call)
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()  # the model is asked as the asker would ask it
        self.task: asyncio.Task[Reply | None] | None = None
        self.cancelled = False
        self.waiting: list[asyncio.Future[Reply]] = []

    def landing(self) -> asyncio.Future[Reply]:
        """Return what an asker awaits; each has one of its own, so that it may be cancelled alone."""
        future: asyncio.Future[Reply] = self.loop.create_future()
        self.waiting.append(future)
        return future

    def begin(self) -> None:
        self.flights.flying[self.key] = self
        if self._others_wait():
            self._start(self._wait_and_ask())
        else:
            self.writer.do(self._claim, then=self._claimed, key=self.key)

    def cancel(self) -> None:
        """End it, unless its answer is already on its way into the file."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()

    # -- claimed

    def _claim(self, db: sqlite3.Connection) -> Any:
        payer = self.payer
        return self.writer.pen.claim(self.key, fresh=self.fresh, run=payer.run, worst=self.worst, limit=payer.limit)

    def _claimed(self, job: Job) -> None:
        claimed = job.result
        if job.problem is not None:
            self._land(job.problem)
        elif self.cancelled:
            self._free(lost=False)
            self._land(self.flights.shut())
        elif claimed is True:
            self._start(self._ask())
        elif claimed is False or isinstance(claimed, Account):
            self._start(self._wait_and_ask())
        else:
            try:
                self._land(self._remembered(claimed))
            except StorageError as problem:
                self._land(problem)

    def _others_wait(self) -> bool:
        gate = self.flights.gates.get(self.payer.run) if self.payer.limit else None
        return gate is not None and gate.turn.locked()

    async def _wait_and_ask(self) -> Reply | None:
        """Wait until another process has asked this very question, or until the budget has room."""
        pause, longest = LEASE_PAUSES
        try:
            while True:
                # others wait for room: behind them
                claimed = await (self._room(self._claim) if self._others_wait() else self.writer.do(self._claim))
                if isinstance(claimed, Account):
                    claimed = await self._room(self._claim)
                if claimed is not False:
                    break
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, longest)
        except asyncio.CancelledError:
            self._free(lost=False)  # the claim may be granted all the same
            raise
        if claimed is not True:
            return self._remembered(claimed)
        await self._ask()
        return None

    def _remembered(self, row: tuple[Any, ...]) -> Reply:
        reply = self.flights.reply(row)
        self.tally.remember(reply)
        return reply

    # -- asked

    def _start(self, work: Coroutine[Any, Any, Reply | None]) -> None:
        self.task = self.loop.create_task(work, context=self.context)
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Reply | None]) -> None:
        self.task = None
        if task.cancelled():
            self._land(self.flights.shut())
        elif problem := task.exception():
            self._land(problem)
        elif reply := task.result():
            self._land(reply)
        # else it is being written down

    async def _ask(self) -> None:
        """Ask, and queue the reply to be written down. Raises what the model raises."""
        call, worst, meter = self.call, self.worst, self.payer.meter
        if worst is not None:
            ATTEMPT_LOST.set(self._again)
        asked_at, started = time.time(), time.monotonic()
        answered = False
        try:
            reply = await self.model(call)
            answered = True
            if why := unkeepable(reply):
                # every later answer would be lost as well
                raise Halt(
                    f"{self.model.name}: its answer cannot be kept ({why}); a model returns a Reply of plain values"
                )
        except BaseException as problem:
            if not isinstance(problem, asyncio.CancelledError | Parked):
                self.tally.failed += 1
            # what we do not know of may have been billed: a request that was cancelled, a mistake in a provider
            self._free(lost=answered or not isinstance(problem, SolonError) or getattr(problem, "billed", False))
            raise
        paid = None if meter is None else meter.paid(reply.usage)
        stored = Stored(
            self.key, call, reply, asked_at, time.monotonic() - started, run=self.payer.run, fresh=self.fresh,
            reserve=worst, paid=paid,
        )  # fmt: skip
        self.tally.pay(reply, paid)
        self.writer.record(stored, then=self._recorded)

    def _free(self, *, lost: bool) -> None:
        """Give the lease back; not awaited: a cancelled flight must still do it."""
        self.writer.do(
            lambda db: self.writer.pen.free(self.key, lost=lost),
            then=lambda job: self.flights.settled(self.payer.run),
        )

    # -- written down

    def _recorded(self, job: Job) -> None:
        if job.problem is not None:
            self._land(job.problem)
            return
        self.flights.settled(self.payer.run)
        if self.fresh:
            self.flights.refreshed.add(self.key)
        assert job.stored is not None
        try:
            # another process may have taken the lease of one that slept: what is handed on is what is remembered
            self._land(job.stored.reply if job.result is None else self.flights.reply(job.result))
        except StorageError as problem:
            self._land(problem)

    def _land(self, end: Reply | BaseException) -> None:
        flights = self.flights
        flights.flying.pop(self.key, None)
        for future in self.waiting:
            if future.done():
                continue
            if isinstance(end, Reply):
                future.set_result(end)
            else:
                future.set_exception(end)
        if flights.landed is not None and not flights.flying:
            flights.landed.set()

    # -- within a budget

    async def _again(self) -> None:
        """Count an attempt that nobody heard of as lost, and put by for the next. Raises OverBudget."""
        payer, worst = self.payer, self.worst
        assert worst is not None

        def again(db: sqlite3.Connection) -> Any:
            return self.writer.pen.again(self.key, payer.run, worst, payer.limit)

        if isinstance(await self.writer.do(again), Account):
            await self._room(again)

    async def _room(self, claim: Callable[[sqlite3.Connection], Any]) -> Any:
        """Claim as soon as the budget has room: calls that settle, here or elsewhere, may cost less than the worst.

        Raises OverBudget where nothing is in flight any more, and there is no room all the same.
        """
        gate = self.flights.gates.setdefault(self.payer.run, Gate())
        pause, longest = LEASE_PAUSES
        async with gate.turn:
            while True:
                gate.settled.clear()
                claimed = await self.writer.do(claim)
                if not isinstance(claimed, Account):
                    return claimed
                assert self.payer.limit is not None
                assert self.worst is not None
                if claimed.reserved == NOTHING:
                    raise OverBudget(over(self.payer.limit, claimed, self.worst))
                try:
                    async with asyncio.timeout(pause):  # another process may settle: that is only seen by looking
                        await gate.settled.wait()
                except TimeoutError:
                    pause = min(pause * 1.5, longest)
