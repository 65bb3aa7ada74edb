"""Look after a run while it walks: tell where it stands, write it down, and do what others say of it.

    async with Desk(folder, shop, store, progress, ...) as desk:
        await walk(plan, store, desk.gated(cast), spans=desk.telemetry, ...)

Others meet it in the run folder: `status.json` says where the run stands, `control.json` how it should go on
(`solon.commands.status`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from solon.cast import Cast
from solon.dataset import RowStore
from solon.errors import Halt, NotInstalled, OverBudget, StorageError
from solon.pipelines.control import Control
from solon.pipelines.run import RunFolder
from solon.pipelines.standing import (
    Calls,
    Event,
    Money,
    Pulse,
    Rows,
    Server,
    Standing,
    State,
    write_standing,
)
from solon.pipelines.walk import FAILED, UNWALKED, Progress
from solon.telemetry import Telemetry, open_telemetry
from solon.workshop import Workshop

if TYPE_CHECKING:
    from solon.models.pace import PaceFacts

__all__ = ["Desk", "Part", "Watch", "server_of", "traced"]

TICK_SECONDS = 0.25
"""How often whoever watches is told."""
WRITE_SECONDS = 1.0
"""How often `status.json` is written, and `control.json` looked at."""
NOTE_SECONDS = 5.0
"""How often a run writes down what it asked and spent."""
EVENTS_KEPT = 20

Watch = Callable[[Standing], None]


class Desk:
    """What looks after one walk, from before its first call until its dataset is written: it knows where the walk
    stands, tells and writes it, does what it is told, and writes down how it ended. Use it around the walk.

    stop:  what ends the walk early
    watch: told where it stands four times a second, and when it ends
    texts: questions and answers stand in the spans, where there are any
    """

    def __init__(
        self,
        folder: RunFolder,
        shop: Workshop,
        store: RowStore,
        progress: Progress,
        *,
        started: float,
        stop: asyncio.Event,
        watch: Watch | None = None,
        texts: bool = False,
    ) -> None:
        self.folder, self.shop, self.store, self.progress = folder, shop, store, progress
        self.telemetry: Telemetry | None = None
        self.started, self._stop, self._watch = started, stop, watch
        self._paces = tuple(shop.paces())
        self._control = Control(folder.path, self._paces)
        self._pulse = Pulse()
        self._events: list[Event] = []
        self._pairs, self._aside = store.pairs, store.tally()  # of earlier walks
        self._purse = Money()
        self._parts: dict[int, Part] = {}
        self._before: list[float | None] = []  # what processes paid that have ended
        self._states: dict[int, str] = {}
        self._unwritable: set[str] = set()
        self._written = self._noted = float("-inf")
        self._exporting = False
        try:
            self.telemetry = traced(folder, texts=texts)
        except NotInstalled as missing:
            self.say(f"{missing}; the run goes on without")

    async def __aenter__(self) -> Desk:
        with suppress(RuntimeError, ValueError, NotImplementedError):  # signals are heard in the main thread alone
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.toggle)
        self._ticking = asyncio.create_task(self._tick_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError, ValueError, NotImplementedError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking
        self._end(*self._how(problem))
        if self.telemetry:
            await asyncio.to_thread(self.telemetry.close)

    async def _tick_on(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(TICK_SECONDS)

    def _how(self, problem: BaseException | None) -> tuple[State, str]:
        if problem is None and self.progress.over_budget:
            return "over_budget", self.progress.over_budget
        if problem is None:
            return ("interrupted" if self.progress.interrupted else "done"), ""
        if isinstance(problem, asyncio.CancelledError | KeyboardInterrupt):
            return "interrupted", ""
        if isinstance(problem, OverBudget):
            return "over_budget", str(problem)
        return ("halted" if isinstance(problem, Halt) else "failed"), str(problem) or type(problem).__name__

    def gated(self, cast: Cast) -> Cast:
        """Return the cast, asking nobody while the run is paused."""
        return self._control.gated(cast)

    @property
    def idle(self) -> bool:
        """Return whether the run is paused and has nothing in flight: no call is worth waiting for."""
        return self._control.idle and bool(self._paces or not self.shop.ledger.in_flight)

    def parts(self) -> Callable[[int, Part], None]:
        """Return what takes note of how each of several processes stands that begin to walk this run together."""
        self._before = [*self._before, *(part.spent for part in self._parts.values())]
        self._parts = {}
        return self._parts.__setitem__

    @property
    def spent(self) -> float | None:
        """Return the dollars that this walk paid, in all its processes; None where a price is unknown."""
        spent = [self.shop.spent(), *self._before, *(part.spent for part in self._parts.values())]
        return None if None in spent else sum(one or 0.0 for one in spent)

    def exporting(self) -> None:
        """Say that the walk is over, and its dataset is being written."""
        self._exporting = True
        self.tick(at_once=True)

    def say(self, *lines: str) -> None:
        """Keep a line that whoever watches should see."""
        for line in lines:
            number = self._events[-1].number + 1 if self._events else 1
            self._events = [*self._events, Event(number, round(time.time(), 3), line)][-EVENTS_KEPT:]

    def tick(self, *, at_once: bool = False) -> None:
        """Do what is due: look for orders, write `status.json` and the note of what was spent, tell who watches."""
        now = time.monotonic()
        due = at_once or now - self._written >= WRITE_SECONDS
        if due:
            self._steer(self._control.poll)
        if not (due or self._watch):
            return
        self._pulse.beat(self.progress.asked, self.progress.done - self.progress.begun_with, self.progress.under_way)
        standing = self.standing()
        if due:
            self._written = now
            self._write(standing)
        if now - self._noted >= NOTE_SECONDS:
            self._noted = now
            self._kept("note", lambda: self.folder.note(self.progress, started=self.started, spent=self.spent))
        if self.telemetry:
            self.telemetry.observe(standing)
        if self._watch:
            self._watch(standing)

    def toggle(self) -> None:
        """Pause or resume, by a signal."""
        self._steer(self._control.toggle)
        self.tick(at_once=True)

    def _end(self, state: State, line: str) -> None:
        standing = self.standing(state, line)
        self._write(standing)
        if self.telemetry:
            self.telemetry.end(standing)
        if self._watch:
            self._watch(standing)

    def standing(self, state: State | None = None, line: str = "") -> Standing:
        """Return where the walk stands."""
        progress, tally = self.progress, self.shop.tally
        servers = self._servers()
        rows = self._rows()
        state = state or self._state()
        left = self._pulse.seconds_left(rows.left) if progress.total else None
        return Standing(
            run=self.folder.path.name,
            recipe=self.folder.facts["recipe"],
            pid=os.getpid(),
            host=socket.gethostname(),
            started=round(self.started, 3),
            updated=round(time.time(), 3),
            seconds=round(progress.seconds, 3),
            state=state,
            line=line,
            rows=rows,
            calls=Calls(
                progress.asked,
                progress.known,
                tally.failed,
                round(self._pulse.rate(), 3),
                round(progress.asked / progress.seconds, 3) if progress.seconds else 0.0,
                dict(progress.answers),
            ),
            tokens=progress.usage,
            money=self._money(rows, evident=left is not None and rows.left > 0),
            servers=servers,
            batches=self.shop.batches(progress.aside["parked"]),
            eta=left if state == "walking" else None,
            events=tuple(self._events),
        )

    def _state(self) -> State:
        if self._exporting:
            return "exporting"
        if self._stop.is_set():
            return "stopping"
        if self._control.paused:
            return "paused"
        # rows whose calls wait for batch jobs, and nothing else to walk meanwhile
        return "waiting" if self.progress.aside["parked"] and not self.progress.under_way else "walking"

    def _rows(self) -> Rows:
        progress = self.progress
        # what failed before is walked again, and counted by this walk
        aside = Counter({reason: count for reason, count in self._aside.items() if reason not in FAILED})
        aside.update({reason: count for reason, count in progress.aside.items() if reason not in UNWALKED})
        return Rows(
            planned=self.store.planned,
            total=progress.total,
            done=progress.done,
            begun_with=progress.begun_with,
            pairs=self._pairs + progress.pairs,
            aside=dict(aside),
            not_known=progress.aside["not_known"],
        )

    def _servers(self) -> tuple[Server, ...]:
        own = [server_of(pace.facts()) for pace in self._paces]
        parts = [part.servers for part in self._parts.values()]
        servers = tuple(_together(server) for server in zip(*parts, strict=False)) if parts else tuple(own)
        for place, server in enumerate(servers):
            before, self._states[place] = self._states.get(place, "open"), server.state
            if "outage" in (before, server.state) and before != server.state:
                self.say(f"{server.model}: {server.state if server.state != 'open' else 'answers again'}")
        return servers

    def _money(self, rows: Rows, *, evident: bool) -> Money:
        """Return where the money stands; what is to come is told once it is evident how fast rows end."""
        under_way = self.progress.under_way / 2
        walked = rows.done - rows.begun_with + under_way if evident else 0.0
        try:
            facts = self.shop.money(walked=walked, left=max(0.0, rows.left - under_way))
        except StorageError:  # the ledger is closed by now
            return replace(self._purse, spent=self.spent, reserved=0.0, projected=None)
        projected = facts.projection
        if self._parts and self.spent is not None and walked > 0:
            projected = self.spent / walked * (walked + max(0.0, rows.left - under_way))
        self._purse = Money(self.spent, facts.saved, facts.lost, facts.reserved, facts.budget, facts.left, projected)
        return self._purse

    def _steer(self, act: Callable[[], list[str]]) -> None:
        was = self._control.paused
        self._kept("control", lambda: self.say(*act()))
        if was and not self._control.paused:
            self._pulse.forget()

    def _write(self, standing: Standing) -> None:
        self._kept("standing", lambda: write_standing(self.folder.path, standing))

    def _kept(self, what: str, act: Callable[[], None]) -> None:
        """Do what only serves looking on; where the disk refuses, say so once: the walk itself says what it needs."""
        try:
            act()
            self._unwritable.discard(what)
        except (OSError, StorageError) as problem:
            if what not in self._unwritable:
                self._unwritable.add(what)
                self.say(f"cannot be written down just now: {problem}")


def traced(folder: RunFolder, *, texts: bool, part: bool = False) -> Telemetry | None:
    """Return what is told of a run's rows and calls, begun; None where nobody asks. Raises as `open_telemetry` does.

    part: in one of several processes; one that lacks something leaves saying so to the process that began it
    """
    try:
        telemetry = open_telemetry(os.environ, texts=texts)
    except NotInstalled:
        if part:
            return None
        raise
    if telemetry:
        names = {role: one["name"] for role, one in folder.facts["cast"].items()}
        telemetry.begin(folder.path.name, names, part=part)
    return telemetry


@dataclass(frozen=True)
class Part:
    """How one of several processes stands that walk a run together: its servers, and the dollars that it paid."""

    servers: tuple[Server, ...]
    spent: float | None


def server_of(facts: PaceFacts) -> Server:
    """Return how a pace stands, in the standing's words."""
    share = facts.used_share
    if share is None and facts.limit:
        share = facts.in_flight / facts.limit
    # before a minute is over, the minute's use is made of what there was of it
    for used, most, what in (
        (facts.requests_per_minute, facts.requests_limit, "requests a minute"),
        (facts.tokens_per_minute, facts.tokens_limit, "tokens a minute"),
    ):
        if most and facts.used_of.endswith(f" {what}") and facts.used_of.startswith(f"{most:,.0f} "):
            share = used / most
    return Server(
        model=facts.name,
        server=facts.server,
        in_flight=facts.in_flight,
        waiting=facts.waiting,
        limit=facts.limit,
        ceiling=facts.ceiling,
        requests_per_minute=round(facts.requests_per_minute, 1),
        tokens_per_minute=round(facts.tokens_per_minute, 1),
        share=None if share is None else round(share, 4),
        share_of=facts.used_of,
        throttled=facts.throttled,
        state=facts.state,
        since=round(facts.since, 3),
    )


def _together(parts: tuple[Server, ...]) -> Server:
    """Return one server as several processes ask it: each uses its part of every limit."""
    shares = [part.share for part in parts if part.share is not None]
    shut = next((part for part in parts if part.state != "open"), parts[0])
    return replace(
        shut,
        in_flight=sum(part.in_flight for part in parts),
        waiting=sum(part.waiting for part in parts),
        limit=sum(part.limit for part in parts),
        ceiling=sum(part.ceiling for part in parts),
        requests_per_minute=round(sum(part.requests_per_minute for part in parts), 1),
        tokens_per_minute=round(sum(part.tokens_per_minute for part in parts), 1),
        share=round(sum(shares) / len(shares), 4) if shares else None,
        share_of=next((part.share_of for part in parts if part.share_of), "")
        + (" in each process" if any(part.share_of for part in parts) else ""),
        throttled=sum(part.throttled for part in parts),
    )
