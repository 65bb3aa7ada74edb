"""The walk: every row of a plan through its story, some at once, each finished one handed to the dataset.

No stage waits for its slowest row. Rows are begun while there is room: as many at once as the recipe's `window` says,
or, where it says nothing, a few more than the models have an appetite for, so that an answer that is being written
down leaves no place empty at the endpoint. A row whose call waits for a batch job ends for now, and leaves no trace
in memory: it is walked again when the job has come back.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from solon.calls import Call, Reply, Usage
from solon.cast import Cast, Listener, kind_of
from solon.dataset import RowStore
from solon.errors import OverBudget
from solon.markup import own_turn
from solon.pipelines.plan import Plan
from solon.rows import Asked, Pair, Row, SetAside

__all__ = ["FAILED", "UNWALKED", "Progress", "Spans", "walk"]

FAILED = ("no_answer", "unreadable_answer", "rejected_call", "too_long")
"""Reasons that were failures, not answers: such a row is walked again when its run is started again."""

UNWALKED = ("not_known", "parked")
"""Reasons that say that a row was not walked to its end yet: nothing has become of it."""

FLUSH_SECONDS = 0.5
ROWS_UNDER_WAY = 64


@dataclass
class Progress:
    """Where a walk stands.

    total, done:  rows of the walk, and those among them that are finished, by this walk (`begun_with` not) or before
    pairs, aside: what this walk made of rows
    under_way:    rows that were begun and have not ended
    known, asked: calls of this walk; `usage` counts the tokens of the asked ones, `answers` what kind they were of
    over_budget:  the line that says so, where the budget ended the walk
    """

    total: int = 0
    done: int = 0
    begun_with: int = 0
    pairs: int = 0
    aside: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    known: int = 0
    asked: int = 0
    failed: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    usage: Usage = Usage()
    started: float = field(default_factory=time.monotonic)
    interrupted: bool = False
    over_budget: str = ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest will take at the pace so far, or None before a row is done."""
        walked = self.done - self.begun_with
        return self.seconds / walked * (self.total - self.done) if walked else None


class Spans(Protocol):
    """Who is told of every row and of each of its calls, where somebody traces the walk."""

    def heard(self, row: Row, listen: Listener) -> Listener: ...

    def ended(self, row: Row, outcome: Pair | SetAside) -> None: ...


async def walk(
    plan: Plan,
    store: RowStore,
    cast: Cast,
    *,
    progress: Progress | None = None,
    limit: int | None = None,
    part: tuple[int, int] = (0, 1),
    again: tuple[str, ...] = FAILED,
    stop: asyncio.Event | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
    appetite: Callable[[], int] = lambda: ROWS_UNDER_WAY,
    spans: Spans | None = None,
) -> Progress:
    """Walk the unfinished rows among the plan's first `limit`, some at once, and return where it ended.

    progress: written to while it goes on, and there when it fails
    part:     (number, of): only this share of the rows, where several processes walk one plan
    again:    rows that were set aside for one of these reasons count as unfinished
    stop:     ends it early: no further row is begun, rows under way are dropped (their finished calls are in the
              ledger)
    appetite: how many rows at once keep the models busy just now; not asked where the recipe says `window`
    spans:    told of every row and its calls (`solon.telemetry`)

    Raises Halt and StorageError as soon as one row does; what is finished is kept. A budget that is used up ends the
    walk as `stop` does, and is told in `progress.over_budget`.
    """
    progress = progress or Progress()
    stop = stop or asyncio.Event()
    again_and_again = bool(progress.total)  # rows that were parked are walked once more
    for reason in UNWALKED:
        progress.aside.pop(reason, None)
    if again:
        store.reopen(again, limit=limit, part=part)
    progress.total, left = store.count(limit, part=part)
    progress.done = progress.total - left
    if not again_and_again:
        progress.begun_with = progress.done
    tell(progress)
    walking = _Walk(plan, store, cast, progress, tell, spans)
    window = plan.recipe.window
    room = appetite if window is None else lambda: window
    try:
        await walking.through(store.rows(limit, part=part), room, stop)
        progress.interrupted = progress.done < progress.total and (stop.is_set() or bool(progress.over_budget))
    finally:
        await walking.end()
        store.flush()
    return progress


class _Walk:
    """The rows that are under way, each a task of its own."""

    def __init__(
        self, plan: Plan, store: RowStore, cast: Cast, progress: Progress, tell: Callable[[Progress], None],
        spans: Spans | None,
    ) -> None:  # fmt: skip
        self.plan, self.store, self.cast = plan, store, cast
        self.progress, self.tell, self.spans = progress, tell, spans
        self.order = {step: place for place, (step, _) in enumerate(plan.story.steps(cast))}
        self._rows: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._problem: BaseException | None = None

    async def through(self, rows: Iterator[Row], room: Callable[[], int], stop: asyncio.Event) -> None:
        """Begin every row as soon as there is room for it, and wait for the last."""
        watching = [asyncio.create_task(self._watch(stop)), asyncio.create_task(self._write())]
        try:
            while not stop.is_set():
                for row in rows if len(self._rows) < max(1, room()) else ():
                    task = asyncio.create_task(self._row(row))
                    self._rows.add(task)
                    task.add_done_callback(self._ended)
                    if len(self._rows) >= room():
                        break
                self.progress.under_way = len(self._rows)
                if not self._rows:
                    return
                self._moved.clear()
                await self._moved.wait()
                if self._problem is not None:
                    raise self._problem
                if self.progress.over_budget:
                    return
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def end(self) -> None:
        """Drop the rows that are still under way."""
        rows = list(self._rows)
        for task in rows:
            task.cancel()
        await asyncio.gather(*rows, return_exceptions=True)
        self.progress.under_way = 0

    async def _watch(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._moved.set()

    async def _write(self) -> None:
        """Let no finished row wait on disk for the next one to finish, and look now and then whether there is room."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                self.store.flush()
                self._moved.set()
        except Exception as problem:  # noqa: BLE001 - whatever it is, it ends the walk: nothing can be kept any more
            self._failed(problem)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._rows.discard(task)
        self._moved.set()
        problem = None if task.cancelled() else task.exception()
        if isinstance(problem, OverBudget):
            self.progress.over_budget = self.progress.over_budget or str(problem)
        elif problem is not None:
            self._failed(problem)

    def _failed(self, problem: BaseException) -> None:
        self._problem = self._problem or problem
        self._moved.set()

    async def _row(self, row: Row) -> None:
        """Walk one row with a cast that listens, and write down what became of it."""
        progress, asked = self.progress, list[Asked]()

        def listen(question: Asked, call: Call, reply: Reply | None) -> None:
            if reply is None:
                asked.append(question)
                return
            if reply.known:
                progress.known += 1
            else:
                progress.asked += 1
                if not call.labels:
                    # a base model that ran on into another turn has finished its own
                    base = call.messages[0].role == "text"
                    progress.answers[kind_of(reply, own_turn(reply.text) if base else None)] += 1
                progress.usage += reply.usage
            self.tell(progress)

        hear = listen if self.spans is None else self.spans.heard(row, listen)
        outcome = await self.plan.story(row, self.cast.listening(hear))
        if self.spans is not None:
            self.spans.ended(row, outcome)
        if isinstance(outcome, SetAside) and outcome.reason in UNWALKED:
            progress.aside[outcome.reason] += 1
            return
        # by the story's order, not by whose answer came first: the same row is the same bytes
        asked.sort(key=lambda question: self.order[question.step])
        outcome = self.store.finish(replace(outcome, asked=tuple(asked)))
        progress.done += 1
        if isinstance(outcome, Pair):
            progress.pairs += 1
        else:
            progress.aside[outcome.reason] += 1
        self.tell(progress)
