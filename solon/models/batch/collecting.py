"""Reading a job's results into the ledger: each for the call that its custom id names, never by its place.

A result is first in the ledger and then marked in the jobs file, so that a kill between the two loses nothing: the
results are read again, and what was marked is passed over.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from solon.calls import Call, Reply
from solon.errors import CallFailed, Halt, Passing
from solon.jobs import Fate, Job, Jobs
from solon.models.batch.api import BatchAPI, Result
from solon.models.batch.results import reply_of
from solon.spend import Spend

__all__ = ["Keep", "Told", "collected"]

AT_ONCE = 256

Keep = Callable[[str, Call, Reply, float, float], Awaitable[None]]
"""Writes an answered call into the ledger, and what it cost: (run that pays, call, reply, asked_at, seconds)."""


@dataclass
class Told:
    """What a job's results said so far.

    lost:        what may have been billed for answers that cannot be read
    unknown:     results for no call of the job, or for one that had its result
    failures:    calls that failed for good, by what was said of them
    halt:        what was wrong with all of them, where a result says so
    """

    answered: int = 0
    lost: Spend = Spend()
    unknown: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    halt: Halt | None = None


async def collected(
    api: BatchAPI,
    jobs: Jobs,
    job: Job,
    told: Told,
    *,
    keep: Keep,
    worst: Callable[[Call], Spend],
) -> AsyncIterator[None]:
    """Read all results of an ended job, a few hundred at once, into the ledger, the jobs file and `told`.

    Yields after each handful. Raises Passing where the reading broke off: begin it again, with the same `told`.
    """
    told.unknown, told.lost, told.halt = 0, Spend(), None
    told.failures.clear()
    handful: list[Result] = []
    async with aclosing(api.results(job.provider or "")) as results:
        async for result in results:
            handful.append(result)
            if len(handful) >= AT_ONCE:
                await _read(api, jobs, job, told, handful, keep, worst)
                handful.clear()
                yield
    await _read(api, jobs, job, told, handful, keep, worst)
    yield


async def _read(
    api: BatchAPI,
    jobs: Jobs,
    job: Job,
    told: Told,
    handful: list[Result],
    keep: Keep,
    worst: Callable[[Call], Spend],
) -> None:
    asked_at = job.submitted_at or job.intended_at
    seconds = max(0.0, (job.ended_at or time.time()) - asked_at)
    fates: dict[int, tuple[int, int, str, str]] = {}
    kept: list[tuple[Call, Reply]] = []
    for result in handful:
        one = jobs.meant(job, result.custom_id)
        if one is None or one.id in fates:
            told.unknown += 1
            continue
        if one.fate == Fate.ANSWERED:
            continue
        meaning = reply_of(api.model, result, one.call)
        if isinstance(meaning, Reply):
            kept.append((one.call, meaning))
            fates[one.id] = (one.id, Fate.ANSWERED, "", "")
        elif isinstance(meaning, CallFailed):
            passing = isinstance(meaning, Passing)
            fates[one.id] = (one.id, Fate.AGAIN if passing else Fate.FAILED, meaning.reason, meaning.detail)
            if meaning.billed:
                told.lost += worst(one.call)
            if not passing:
                told.failures[meaning.detail] += 1
        else:
            told.halt = told.halt or (meaning if isinstance(meaning, Halt) else Halt(str(meaning)))
            fates[one.id] = (one.id, Fate.AGAIN, "", "")
    await asyncio.gather(*(keep(job.run, call, reply, asked_at, seconds) for call, reply in kept))
    await asyncio.to_thread(jobs.mark, job, fates.values())
    told.answered += len(kept)
