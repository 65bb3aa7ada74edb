"""The door of a ledger: memory first, then one flight to the model, within a budget where there is one.

A flight claims its key (a lease, and the most that the call can cost put by for its run), asks, and writes the reply
down before anybody gets it. It is a task of its own: an asker that is cancelled takes no paid reply with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon.calls import Call, Model, Reply, Usage
from solon.errors import Aside, Halt, OverBudget, Parked, SolonError, StorageError
from solon.ledger_packing import unkeepable
from solon.ledger_pen import Stored
from solon.ledger_purse import NOTHING, Account, over
from solon.ledger_writer import Writer
from solon.spend import ATTEMPT_LOST, Limit, Meter, Spend

__all__ = ["Door", "Flights", "Tally"]

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


class Flight:
    """One question under way, and all who wait for its answer."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.task: asyncio.Task[Reply]
        self.waiting: list[asyncio.Future[Reply]] = []

    def landing(self) -> asyncio.Future[Reply]:
        """Return what an asker awaits; each has one of its own, so that it may be cancelled alone."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    def landed(self, task: asyncio.Task[Reply], shut: Callable[[], StorageError]) -> None:
        problem = shut() if task.cancelled() else task.exception()
        for future in self.waiting:
            if future.done():
                continue
            if problem is None:
                future.set_result(task.result())
            else:
                future.set_exception(problem)


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

    def begin(self, key: str, flight: Flight, work: Any) -> None:
        flight.task = asyncio.get_running_loop().create_task(work)
        self.flying[key] = flight

        def landed(task: asyncio.Task[Reply]) -> None:
            self.flying.pop(key, None)
            flight.landed(task, self.shut)

        flight.task.add_done_callback(landed)

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
        tasks = [flight.task for flight in self.flying.values()]
        if tasks and grace > 0:
            await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Door:
    """`await door(call)`: memory first, then one flight to the model. Keeps a Tally of what went through."""

    def __init__(
        self,
        flights: Flights,
        model: Model | None,
        *,
        refresh: bool,
        missed: Callable[[Call], None] | None,
        run: str,
        limit: Limit | None,
        meter: Meter | None,
    ) -> None:
        if limit is not None and meter is None:
            raise ValueError("a limit needs a meter")
        self._flights = flights
        self._model = model
        self._refresh = refresh
        self._missed = missed
        self._run = run
        self._limit = limit
        self._meter = meter
        self.tally = Tally()

    async def __call__(self, call: Call) -> Reply:
        flights, key = self._flights, call.key
        flight = flights.flying.get(key)
        if flight is not None:
            shared = await flight.landing()
            self.tally.shared += 1
            return shared.from_memory()
        fresh = self._refresh and self._model is not None and key not in flights.refreshed
        reply = None if fresh else flights.known(key)
        if reply is not None:
            return self._remembered(reply)
        if self._model is None:
            if self._missed:
                self._missed(call)
            raise Aside("not_known", key)
        if flights.closing:
            raise flights.shut()
        flight = Flight()
        landing = flight.landing()
        flights.begin(key, flight, self._fly(self._model, call, fresh))
        return await landing

    def _remembered(self, reply: Reply) -> Reply:
        self.tally.known += 1
        self.tally.known_usage += reply.usage
        return reply

    async def _fly(self, model: Model, call: Call, fresh: bool) -> Reply:
        """Hold the lease, ask, write down. Raises what the model raises; StorageError if it cannot be kept."""
        flights, key, run, meter = self._flights, call.key, self._run, self._meter
        writer = flights.pen()
        worst = None if meter is None else meter.worst(call)
        try:
            claim = await self._claimed(writer, key, fresh, worst)
        except asyncio.CancelledError:
            writer.do(lambda db: writer.pen.free(key))  # the claim may be granted all the same
            raise
        if claim is not True:
            return self._remembered(flights.reply(claim))
        if worst is not None:
            ATTEMPT_LOST.set(lambda: self._again(writer, key, worst))
        asked_at, started = time.time(), time.monotonic()
        answered = False
        try:
            reply = await model(call)
            answered = True
            if why := unkeepable(reply):
                # every later answer would be lost as well
                raise Halt(f"{model.name}: its answer cannot be kept ({why}); a model returns a Reply of plain values")
        except BaseException as problem:
            if not isinstance(problem, asyncio.CancelledError | Parked):
                self.tally.failed += 1
            # what we do not know of may have been billed: a request that was cancelled, a mistake in a provider
            lost = answered or not isinstance(problem, SolonError) or getattr(problem, "billed", False)
            # not awaited: a cancelled flight must still give its lease back
            job = writer.do(lambda db: writer.pen.free(key, lost=lost))
            if job.future is not None and run in flights.gates:
                job.future.add_done_callback(lambda _: flights.settled(run))
            raise
        paid = None if meter is None else meter.paid(reply.usage)
        stored = Stored(
            key, call, reply, asked_at, time.monotonic() - started, run=run, fresh=fresh, reserve=worst, paid=paid
        )
        tally = self.tally
        tally.asked += 1
        tally.asked_usage += reply.usage
        if paid is not None:
            tally.spent += paid
        earlier = await writer.record(stored)
        flights.settled(run)
        if fresh:
            flights.refreshed.add(key)
        # another process may have taken the lease of one that slept: what is handed on is what is remembered
        return reply if earlier is None else flights.reply(earlier)

    async def _claimed(self, writer: Writer, key: str, fresh: bool, worst: Spend | None) -> Any:
        """Return the columns of a reply that is known by now, or True with the lease. Raises OverBudget."""
        run, limit = self._run, self._limit

        def claim(db: sqlite3.Connection) -> Any:
            return writer.pen.claim(key, fresh=fresh, run=run, worst=worst, limit=limit)

        pause, longest = LEASE_PAUSES
        while True:
            gate = self._flights.gates.get(run) if limit else None
            if gate is not None and gate.turn.locked():
                claimed = await self._room(writer, claim, worst)  # others wait for room: behind them
            else:
                claimed = await writer.do(claim)
                if isinstance(claimed, Account):
                    claimed = await self._room(writer, claim, worst)
            if claimed is not False:
                return claimed
            await asyncio.sleep(pause)  # another process is asking this very question
            pause = min(pause * 1.5, longest)

    async def _again(self, writer: Writer, key: str, worst: Spend) -> None:
        """Count an attempt that nobody heard of as lost, and put by for the next. Raises OverBudget."""
        run, limit = self._run, self._limit

        def again(db: sqlite3.Connection) -> Any:
            return writer.pen.again(key, run, worst, limit)

        if isinstance(await writer.do(again), Account):
            await self._room(writer, again, worst)

    async def _room(self, writer: Writer, claim: Callable[[sqlite3.Connection], Any], worst: Spend | None) -> Any:
        """Claim as soon as the budget has room: calls that settle, here or elsewhere, may cost less than the worst.

        Raises OverBudget where nothing is in flight any more, and there is no room all the same.
        """
        gate = self._flights.gates.setdefault(self._run, Gate())
        pause, longest = LEASE_PAUSES
        async with gate.turn:
            while True:
                gate.settled.clear()
                claimed = await writer.do(claim)
                if not isinstance(claimed, Account):
                    return claimed
                assert self._limit is not None
                assert worst is not None
                if claimed.reserved == NOTHING:
                    raise OverBudget(over(self._limit, claimed, worst))
                try:
                    async with asyncio.timeout(pause):  # another process may settle: that is only seen by looking
                        await gate.settled.wait()
                except TimeoutError:
                    pause = min(pause * 1.5, longest)
