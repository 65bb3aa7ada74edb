"""All desks of a run: one a model whose calls wait for batch jobs, over one ledger and its jobs file.

    desks = Desks(ledger, path, limit=limit)
    await desks.begin(run)                   once, before the run's rows are walked, by the process that holds the run
    desks.desk(name, model, meter)           stands where the live model would, behind the ledger's door
    await desks.settle(stop)                 the walk has gone quiet: see to what is parked

Money: a job puts by the most that it can cost before it is sent, in the purse of the run that sends it, and gives that
back when it is closed; its answers are paid for as they are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Protocol

from solon.calls import Call, Model, Reply
from solon.errors import Halt
from solon.jobs import OPEN, Jobs
from solon.models.batch.desk import Desk
from solon.models.batch.sending import BatchFacts
from solon.models.batch.standin import shelf_of
from solon.spend import Limit, Meter, Spend

__all__ = ["Desks", "Memory"]


class Memory(Protocol):
    """What desks need of a ledger (`solon.ledger.Ledger`)."""

    def get(self, key: str) -> Reply | None: ...

    async def record(
        self,
        call: Call,
        reply: Reply,
        *,
        seconds: float = ...,
        run: str = ...,
        meter: Meter | None = ...,
        asked_at: float | None = ...,
        fresh: bool = ...,
    ) -> Reply: ...

    async def reserve(self, run: str, spend: Spend, limit: Limit | None = ...) -> bool: ...

    async def settle(self, run: str, reserved: Spend = ..., spent: Spend = ..., lost: Spend = ...) -> None: ...

    async def put_right(self, run: str, jobs: Spend) -> None: ...


class Desks:
    """The desks of one run.

    limit:   the run's budget; None where it has none
    refresh: every call is asked anew once, though the ledger knows it
    """

    def __init__(self, ledger: Memory, path: Path, *, limit: Limit | None = None, refresh: bool = False) -> None:
        self._ledger = ledger
        self._limit = limit
        self._refresh = refresh
        self.jobs = Jobs(path)
        self._desks: dict[str, Desk] = {}
        self._told: dict[str, BatchFacts] = {}

    async def begin(self, run: str, *, alone: bool = True) -> None:
        """Begin to park for `run`.

        alone: nobody else walks it just now, so what a killed process left behind is put right
        """
        self.jobs.run = run
        if alone and self.jobs.exists:
            self.jobs.begin()
            open_jobs = [job.worst for job in self.jobs.jobs(states=OPEN) if job.run == run]
            await self._ledger.put_right(run, sum(open_jobs, Spend()))

    def desk(self, name: str, model: Model, meter: Meter) -> Desk:
        """Return the desk of this model, a new one under this name for a new model."""
        # two specs may name one model: whoever asked, its jobs are one desk's
        for there in self._desks.values():
            if there.shelf == shelf_of(model):
                return there
        if name not in self._desks:

            async def keep(run: str, call: Call, reply: Reply, asked_at: float, seconds: float) -> None:
                try:
                    await self._ledger.record(
                        call, reply, seconds=seconds, run=run, meter=meter, asked_at=asked_at, fresh=self._refresh
                    )
                except ValueError as problem:
                    # every later answer would be lost as well
                    raise Halt(f"{model.name}: {problem}") from problem

            async def reserve(spend: Spend) -> bool:
                return await self._ledger.reserve(self.jobs.run, spend, self._limit)

            async def release(run: str, reserved: Spend, lost: Spend) -> None:
                await self._ledger.settle(run, reserved=reserved, lost=lost)

            self._desks[name] = Desk(
                model,  # type: ignore[arg-type]  # a server's model, as the recipe's reader saw to
                self.jobs,
                keep=keep,
                known=lambda key: not self._refresh and self._ledger.get(key) is not None,
                meter=meter,
                reserve=reserve,
                release=release,
            )
        return self._desks[name]

    async def settle(self, stop: asyncio.Event) -> None:
        """See all that waits through, at all desks at once (`Desk.settle`)."""
        await self._all(desk.settle(stop, self._teller(name)) for name, desk in self._desks.items())

    async def finish(self, stop: asyncio.Event) -> None:
        """See open jobs through, and send nothing (`Desk.finish`)."""
        await self._all(desk.finish(stop, self._teller(name)) for name, desk in self._desks.items())

    @property
    def facts(self) -> list[BatchFacts]:
        """Return where each model's jobs stand."""
        return list(self._told.values())

    def all(self) -> Iterable[tuple[str, Desk]]:
        """Return the desks with their names."""
        return self._desks.items()

    async def close(self) -> None:
        """Leave the jobs to whoever comes next. May be called twice."""
        for desk in self._desks.values():
            await desk.close()
        self.jobs.close_file()

    def _teller(self, name: str) -> Any:
        def tell(facts: BatchFacts) -> None:
            self._told[name] = facts

        return tell

    async def _all(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Do all at once; where one raises, take the others back: their jobs go on at the provider."""
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
