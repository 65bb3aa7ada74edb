"""Look after a run while it walks, and look at one from outside: where it stands, how it ended, what steers it.

    async with Desk(folder, shop, store, progress, ...) as desk:      # around the walk, in its own process
        await walk(plan, store, desk.gated(cast), spans=desk.telemetry, ...)

    status_of(Path("runs/latest")).standing                           # from any shell
    await steer_run(Path("runs/latest"), paused=True)

The two sides meet in the run folder: `status.json` says where the run stands, `control.json` how it should go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from solon.cast import Cast
from solon.complaints import one_of
from solon.dataset import RowStore
from solon.errors import BadInput, Halt, NotInstalled, OverBudget, StorageError
from solon.pipelines.control import Control, steer
from solon.pipelines.recipe import read_recipe
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
    read_standing,
    write_standing,
)
from solon.pipelines.walk import FAILED, UNWALKED, Progress
from solon.telemetry import Telemetry, open_telemetry
from solon.workshop import Workshop

if TYPE_CHECKING:
    from solon.models.pace import PaceFacts

__all__ = ["Desk", "Status", "Watch", "find_run", "status_of", "steer_run"]

TICK_SECONDS = 0.25
"""How often whoever watches is told."""
WRITE_SECONDS = 1.0
"""How often `status.json` is written, and `control.json` looked at."""
NOTE_SECONDS = 5.0
"""How often a run writes down what it asked and spent."""
EVENTS_KEPT = 20
SILENT_SECONDS = 15.0
"""A process that wrote nothing for so long hangs, sleeps, or is another one by the same number."""
HEARD_SECONDS = 5.0

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
        self._started, self._stop, self._watch = started, stop, watch
        self._paces = tuple(shop.paces())
        self._control = Control(folder.path, self._paces)
        self._pulse = Pulse()
        self._events: list[Event] = []
        self._pairs, self._aside = store.pairs, store.tally()  # of earlier walks
        self._purse = Money()
        self._states: dict[int, str] = {}
        self._unwritable: set[str] = set()
        self._written = self._noted = float("-inf")
        self._exporting = False
        try:
            self.telemetry = open_telemetry(os.environ, texts=texts)
        except NotInstalled as missing:
            self.say(f"{missing}; the run goes on without")

    async def __aenter__(self) -> Desk:
        if self.telemetry:
            names = {role: one["name"] for role, one in self.folder.facts["cast"].items()}
            self.telemetry.begin(self.folder.path.name, names)
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
        return self._control.paused and not any(server.in_flight for server in self._servers())

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
            spent = self.shop.spent()
            self._kept("note", lambda: self.folder.note(self.progress, started=self._started, spent=spent))
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
            started=round(self._started, 3),
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
            batches=None,
            eta=left if state == "walking" else None,
            events=tuple(self._events),
        )

    def _state(self) -> State:
        if self._exporting:
            return "exporting"
        if self._stop.is_set():
            return "stopping"
        return "paused" if self._control.paused else "walking"

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
        servers = tuple(_server(pace.facts()) for pace in self._paces)
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
            return replace(self._purse, spent=self.shop.spent(), reserved=0.0, projected=None)
        self._purse = Money(
            facts.spent, facts.saved, facts.lost, facts.reserved, facts.budget, facts.left, facts.projection
        )
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


def _server(facts: PaceFacts) -> Server:
    share = facts.used_share
    if share is None and facts.limit:
        share = facts.in_flight / facts.limit
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


# -- from outside ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """A run as it is seen from outside.

    standing: what its process wrote last; rows of one that is over are read from its rows; None where an older Solon
              walked it
    rows:     the whole run's rows, from `rows.db`
    alive:    whether its process lives; None where it runs on another machine, so that nobody here can tell
    silent:   seconds since its process last wrote, where that is too long
    failed:   rows that were set aside because a call failed
    go_on:    the command that goes on with it, "" where nothing is left to do or its process goes on itself
    """

    folder: RunFolder
    standing: Standing | None
    rows: Rows
    alive: bool | None
    silent: float | None
    failed: int
    go_on: str

    def to_json(self) -> str:
        """Return the standing's own names, and those of this object, in one JSON object on one line."""
        known = {"alive": self.alive, "silent": self.silent, "failed": self.failed, "go_on": self.go_on}
        told = self.standing.to_dict() if self.standing else {"run": self.folder.path.name, "rows": asdict(self.rows)}
        return json.dumps({**told, "folder": str(self.folder.path), **known}, ensure_ascii=False)


def find_run(path: Path) -> RunFolder:
    """Return the run at `path`: a run folder, or a recipe, whose last run is meant.

    Raises StorageError where there is none, BadInput where the recipe cannot be read.
    """
    if not path.is_file():
        folder = RunFolder.open(path)
        return RunFolder(folder.path.resolve(), folder.facts)
    recipe = read_recipe(path)
    runs = recipe.runs_folder(path.parent)
    found = []
    for facts in sorted(runs.glob("*/run.json")):
        with suppress(StorageError):  # one folder that cannot be read is not the end of the others
            folder = RunFolder.open(facts.parent.resolve())
            if folder.facts["recipe"] == recipe.name:
                found.append(folder)
    if not found:
        raise StorageError(f"{path}: no run of it in {runs} yet; start one with  solon run {shlex.quote(str(path))}")
    return max(found, key=_last_heard)


def _last_heard(folder: RunFolder) -> float:
    with suppress(StorageError):
        if standing := read_standing(folder.path):
            return standing.started
    return folder.walked


def status_of(path: Path) -> Status:
    """Return where the run at `path` stands, whether its process walks, ended, or was killed."""
    folder = find_run(path)
    standing = read_standing(folder.path)
    alive, silent = (False, None) if standing is None or standing.ended else _lives(standing)
    with folder.store(read_only=True) as store:
        rows = Rows(store.planned, store.planned, store.finished, 0, store.pairs, store.tally())
    if standing is not None and alive is False:
        state = standing.state if standing.ended else "killed"
        total = standing.rows.total or rows.planned
        done = rows.done if total >= rows.planned else min(total, max(standing.rows.done, 0))
        now = replace(rows, total=total, done=done, begun_with=standing.rows.begun_with)
        standing = replace(standing, state=state, rows=replace(now, not_known=standing.rows.not_known), eta=None)
    failed = sum(count for reason, count in rows.aside.items() if reason in FAILED)
    go_on = "" if alive is not False or not (rows.left or failed) else _go_on(folder, standing)
    return Status(folder, standing, rows, alive, silent, failed, go_on)


def _lives(standing: Standing) -> tuple[bool | None, float | None]:
    """Return whether the process of a standing lives, and for how long it has been silent, where that is long."""
    ago = max(0.0, time.time() - standing.updated)
    silent = ago if ago > SILENT_SECONDS else None
    if standing.host != socket.gethostname():
        return None, silent
    try:
        os.kill(standing.pid, 0)
    except ProcessLookupError:
        return False, None
    except PermissionError:  # it is there, and somebody else's
        return True, silent
    return True, silent


def _go_on(folder: RunFolder, standing: Standing | None) -> str:
    recipe = (folder.path / folder.facts.get("file", "recipe.yaml")).resolve()
    with suppress(ValueError):
        recipe = recipe.relative_to(Path.cwd())
    limited = standing is not None and 0 < standing.rows.total < standing.rows.planned and standing.rows.left
    return f"solon run {shlex.quote(str(recipe))}" + (f" --limit {standing.rows.total}" if standing and limited else "")


async def steer_run(
    path: Path,
    *,
    paused: bool | None = None,
    concurrency: int | None = None,
    rpm: int | None = None,
    model: str | None = None,
) -> tuple[str, ...]:
    """Tell a run that walks how it should go, and return what it said about it: () where it did not answer in time.

    Raises BadInput where no process walks it, or it asks no such model, or no server at all.
    """
    status = status_of(path)
    standing = status.standing
    if standing is None or status.alive is False:
        how = standing.state if standing else "over"
        raise BadInput(
            f"{status.folder.path}: nobody walks this run ({how}); start it with  {_go_on(status.folder, standing)}"
        )
    names = sorted({server.model for server in standing.servers})
    if paused is None and not names:
        raise BadInput(f"{status.folder.path}: this run asks no server, so there is no pace to change")
    if model is not None and model not in names:
        raise BadInput(f"--model {model}: this run asks no such model; {one_of(model, names)}")
    heard = standing.events[-1].number if standing.events else 0
    if paused is not None and paused == (standing.state == "paused"):
        return ("paused already" if paused else "not paused",)
    steer(status.folder.path, paused=paused, concurrency=concurrency, rpm=rpm, model=model)
    until = time.monotonic() + HEARD_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(0.1)
        now = read_standing(status.folder.path)
        if now and now.events and now.events[-1].number > heard:
            return tuple(event.line for event in now.events if event.number > heard)
    return ()
