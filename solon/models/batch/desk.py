"""The desk: stands where the live model would, notes calls down, and sees their jobs through.

A job is written down before anything is sent (intended), then sent, then the provider's id is written down
(submitted), then it is looked at now and then until it has ended, then its results go into the ledger, and only then
is it closed (collected). Killed between any two of these, the next process that asks this model takes it up where it
stands; one that is only intended is looked for at the provider before it is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from solon.calls import Call, Reply, Usage
from solon.complaints import counted
from solon.errors import CallFailed, Halt, OverBudget, Parked, Passing
from solon.jobs import OPEN, Job, Jobs, Waiting
from solon.models.batch.anthropic_jobs import AnthropicJobs
from solon.models.batch.api import Batchable, BatchAPI, Look
from solon.models.batch.collecting import Keep, Told, collected
from solon.models.batch.openai_jobs import OpenAIJobs
from solon.models.batch.parcel import Parcel
from solon.models.batch.results import refusal_of
from solon.models.batch.sending import BatchFacts, Sending
from solon.models.batch.standin import Standin
from solon.spend import Meter, Spend

__all__ = ["Desk"]

logger = logging.getLogger("solon")

MOST_TRIES = 3
"""Jobs that may have a call without an answer coming of it, before it has failed."""
SAME = 8
"""So many calls failing for one reason, and none being answered, are no accident of single calls."""
PARK_AT_ONCE = 512
PAUSES = (5.0, 300.0)
"""Seconds between two looks at a job: the first, and the longest."""
LAG_SECONDS = 60.0
"""How much later than a submission its batch may show up in the provider's list."""
CROWDED = "token_limit_exceeded"
"""OpenAI's code for "too much waits already": the same job will be taken later, or a smaller one sooner."""


@dataclass
class _Case:
    """A job that this process drives: when to look again, and what its results said so far."""

    pause: float
    due: float = 0.0
    told: Told = field(default_factory=Told)


async def _always(spend: Spend) -> bool:
    return True


async def _unpaid(run: str, reserved: Spend, lost: Spend) -> None:
    return None


class Desk(Standin):
    """A model (`solon.calls.Model`) whose calls wait for batch jobs, under the names of the live one.

    Args:
        model: the live one, whose requests and readings are used; it is not asked, nor closed.
        jobs: what lies on disk. Its `run` is for whom calls wait.
        keep: writes an answered call into the ledger, and what it cost.
        known: whether the ledger knows a key by now.
        meter: what calls cost in batch jobs.
        reserve: puts by what a job of the run may cost at most, for good; False where the budget does not hold it.
        release: takes that back from a run, and counts what may have been billed in vain.
        pauses: seconds between two looks at a job, the first and the longest (default: PAUSES).
        lag: seconds (default: LAG_SECONDS) after which a batch that a provider does not list was not submitted.
    """

    def __init__(
        self,
        model: Batchable,
        jobs: Jobs,
        *,
        keep: Keep,
        known: Callable[[str], bool] = lambda key: False,
        meter: Meter | None = None,
        reserve: Callable[[Spend], Awaitable[bool]] = _always,
        release: Callable[[str, Spend, Spend], Awaitable[None]] = _unpaid,
        pauses: tuple[float, float] | None = None,
        lag: float | None = None,
    ) -> None:
        super().__init__(model)
        self.jobs = jobs
        self.answered = self.failed = 0
        self.usage, self.spent = Usage(), Spend()
        self._keep, self._known = keep, known
        self._worst = meter.worst if meter else lambda call: Spend(1)
        self._paid = meter.paid if meter else lambda usage: Spend(1)
        self._reserve, self._release = reserve, release
        self._pauses = PAUSES if pauses is None else pauses
        self._lag = LAG_SECONDS if lag is None else lag
        self._api: BatchAPI | None = None
        self._parking: list[Call] = []
        self._failures = jobs.failures
        self._cases: dict[int, _Case] = {}
        self._trouble = ""
        self._sending = Sending(model.server, 1, self._pauses)  # each wave has its own

    async def __call__(self, call: Call) -> Reply:
        """Note the call down. Raises Parked; CallFailed where it failed since the run began; Halt without a key."""
        if self.unusable:
            raise Halt(self.unusable)
        if self._failures and (failure := self.jobs.failure(call.key)):
            raise CallFailed(*failure)
        self._parking.append(call)
        if len(self._parking) >= PARK_AT_ONCE:
            await self._park()
        raise Parked(self.name)

    async def close(self) -> None:
        """Write down what waits, and leave the jobs to whoever comes next."""
        await self._park()
        self._leave()
        if self._api:
            await self._api.close()
            self._api = None

    async def settle(
        self, stop: asyncio.Event | None = None, tell: Callable[[BatchFacts], None] = lambda facts: None
    ) -> None:
        """See all that waits through: return when each call is answered or has failed, or at once on `stop`.

        Where jobs of an earlier process have ended, it returns when these are read: walk on, and settle again.
        Stopped or killed, jobs go on at the provider, and the next process to settle takes them up. Raises Halt where
        no later call can fare better, OverBudget where the budget holds not one more; what has come back is kept.
        """
        self._sending = Sending(self.model.server, self.api.most_calls, self._pauses)
        await self._until(self._work(tell), stop)

    async def finish(
        self, stop: asyncio.Event | None = None, tell: Callable[[BatchFacts], None] = lambda facts: None
    ) -> None:
        """See the jobs through that earlier processes left open, and send nothing; as `settle` otherwise."""
        await self._until(self._rest(tell), stop)

    async def _until(self, work: Coroutine[Any, Any, None], stop: asyncio.Event | None) -> None:
        working = asyncio.create_task(work)
        stopped = asyncio.create_task((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopped):
                task.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)
            self._leave()

    # -- one round after the other

    async def _work(self, tell: Callable[[BatchFacts], None]) -> None:
        await self._park()
        if await self._came_back(tell):
            return
        while True:
            self._take_up()
            await self._send()
            await self._look_after(tell)
            facts = await self._facts()
            tell(facts)
            if not facts.waiting and not facts.in_jobs:
                return
            await asyncio.sleep(facts.next_look)

    async def _rest(self, tell: Callable[[BatchFacts], None]) -> None:
        self._take_up()
        while self._cases:
            await self._look_after(tell)
            facts = await self._facts()
            tell(facts)
            if self._cases:
                await asyncio.sleep(facts.next_look)

    async def _came_back(self, tell: Callable[[BatchFacts], None]) -> bool:
        """Return whether a job of an earlier process has ended: its rows go on first, and the next job is larger."""
        self._take_up()
        before = self.answered + self.failed
        for _ in ("find it again", "read it"):
            await self._look_after(tell)
        return self.answered + self.failed > before

    async def _look_after(self, tell: Callable[[BatchFacts], None]) -> None:
        """See to each job whose time has come."""
        for job in self._driven():
            if self._cases[job.id].due <= time.monotonic():
                await self._see_to(job, self._cases[job.id], tell)
        self._failures = self.jobs.failures

    async def _park(self) -> None:
        calls, self._parking = self._parking, []
        if calls:
            await asyncio.to_thread(self.jobs.park, self.shelf, calls)

    def _take_up(self) -> None:
        """Drive the jobs of this model that nobody drives; forget those that were given up."""
        if not self.jobs.exists:
            return
        still = [job.id for job in self.jobs.jobs(self.shelf, OPEN)]
        for number in [number for number in self._cases if number not in still]:
            del self._cases[number]
            self.jobs.let_go(number)
        for number in still:
            if number not in self._cases and self.jobs.drive(number):
                self._cases[number] = _Case(self._pauses[0])

    def _leave(self) -> None:
        for number in list(self._cases):
            self.jobs.let_go(number)
        self._cases.clear()

    def _driven(self) -> list[Job]:
        return [job for job in self.jobs.jobs(self.shelf, OPEN) if job.id in self._cases] if self._cases else []

    async def _facts(self) -> BatchFacts:
        waiting, inside = await asyncio.to_thread(self.jobs.waiting, self.shelf) if self.jobs.exists else (0, 0)
        dues = [case.due for case in self._cases.values()]
        if waiting and not self._sending.short:
            dues.append(self._sending.until)
        # calls may be in jobs that another process drives: it is looked whether they have come back
        next_look = min(dues, default=time.monotonic() + self._pauses[0]) - time.monotonic()
        return BatchFacts(
            self.name, waiting, inside, self.answered, self.failed, tuple(self._driven()), max(0.0, next_look),
            self._trouble,
        )  # fmt: skip

    # -- sending

    @property
    def api(self) -> BatchAPI:
        if self._api is None:
            made = {"openai": OpenAIJobs, "anthropic": AnthropicJobs}[self.model.server.provider]
            self._api = made(self.model)
        return self._api

    async def _send(self) -> None:
        """Submit what waits, in jobs as large as they may be, unless the provider or the budget bids us wait."""
        while self._sending.allowed and self.jobs.exists:
            intent = uuid.uuid4().hex
            with Parcel(self.api, self.jobs.path.parent) as parcel:
                await self._fill(parcel, intent, self.jobs.free(self.shelf), self._sending.most)
                if await self._answered_elsewhere(parcel):
                    continue
                for call in parcel.too_large:
                    self.failed += 1
                    self.jobs.fail(call, "too_long", f"{self.model.server}: larger than a whole batch job may be")
                if not parcel.ids:
                    return
                reserved = await parcel.afford(self._reserve)
                if not parcel.ids:
                    self._sending.short = True
                    if self._cases:
                        return
                    raise OverBudget(
                        f"{self.name}: the budget holds not one more call of a batch job; raise `budget` in the recipe "
                        "and start the same command again, everything is kept"
                    )
                job = self.jobs.intend(intent, self.shelf, self.name, parcel.ids, reserved)
                if job is None:
                    await self._release(self.jobs.run, reserved, Spend())
                    continue
                self._cases[job.id] = _Case(self._pauses[0])
                parcel.seal()
                try:
                    await self._submit(job, parcel, again=False)
                except Passing as trouble:
                    self._put_off(self._cases[job.id], str(trouble))
                    self._sending.wait()

    async def _answered_elsewhere(self, parcel: Parcel) -> bool:
        """Forget those calls of a parcel that the ledger knows by now; return whether there were any."""
        known = []
        for place, (call, key) in enumerate(zip(parcel.ids, parcel.keys, strict=True)):
            if self._known(key):
                known.append(call)
            if place % PARK_AT_ONCE == 0:
                await asyncio.sleep(0)
        self.jobs.drop(known)
        return bool(known)

    async def _fill(self, parcel: Parcel, intent: str, calls: Iterable[Waiting], most: int) -> None:
        filling = asyncio.ensure_future(asyncio.to_thread(parcel.fill, intent, calls, self._worst, most))
        try:
            await asyncio.shield(filling)
        except asyncio.CancelledError:
            parcel.abandoned.set()  # the thread looks at it before each call
            await asyncio.gather(filling, return_exceptions=True)
            raise

    async def _submit(self, job: Job, parcel: Parcel, *, again: bool) -> None:
        """Send a job. Raises Passing where it is not known whether it went through: it stays intended."""
        self.jobs.note(job, submitted_at=time.time())
        try:
            provider = await self.api.submit(job, parcel.content, parcel.size, again=again)
        except Passing:
            raise
        except CallFailed as refusal:
            await self._refused(job, refusal.detail)
        except Halt as halt:
            await self._closed(job, "refused", words=str(halt))
            raise
        else:
            self.jobs.note(job, state="submitted", provider=provider)
            case = self._cases[job.id]
            case.due = time.monotonic() + case.pause

    # -- looking after

    async def _see_to(self, job: Job, case: _Case, tell: Callable[[BatchFacts], None]) -> None:
        """Do what a job's state asks for."""
        try:
            if job.state == "intended":
                await self._search(job, case)
                return
            look = await self.api.look(job.provider or "")
            job = self.jobs.note(job, status=look.status)
            if look.refused:
                await self._refused_whole(job, look)
                return
            if look.status not in ("validating", "failed"):
                self._sending.taken()
            if look.ended:
                await self._collect(job, case, tell)
            else:
                self._put_off(case)
        except Passing as trouble:
            self._put_off(case, str(trouble))

    def _put_off(self, case: _Case, trouble: str = "") -> None:
        case.due = time.monotonic() + case.pause
        case.pause = min(case.pause * 1.5, self._pauses[1])
        if trouble and trouble != self._trouble:
            logger.warning(f"batch jobs: {trouble}; it is tried again")
        self._trouble = trouble

    async def _search(self, job: Job, case: _Case) -> None:
        """Find out whether an intended job was submitted; if it was not, submit it now."""
        found = await self.api.find(job, self.jobs.providers())
        if found.provider:
            self.jobs.note(job, state="submitted", provider=found.provider, status="found again")
            case.due = 0.0
            return
        sent_at = job.submitted_at or job.intended_at
        if found.maybe or time.time() - sent_at < self._lag:
            self.jobs.note(job, status=f"looked for; it may be {found.maybe}" if found.maybe else "looked for")
            self._put_off(case)
            return
        with Parcel(self.api, self.jobs.path.parent) as parcel:
            await self._fill(parcel, job.intent, self.jobs.calls_of(job), job.calls)
            parcel.seal()
            await self._submit(job, parcel, again=True)

    async def _collect(self, job: Job, case: _Case, tell: Callable[[BatchFacts], None]) -> None:
        """Read a job's results into the ledger, and close it."""
        job = self.jobs.note(job, state="ended", ended_at=time.time())
        async for _ in collected(self.api, self.jobs, job, case.told, keep=self._count, worst=self._worst):
            tell(await self._facts())
        halt = case.told.halt or self._all_the_same(job, case.told)
        self.jobs.note(job, unknown=case.told.unknown)
        closed = await self._closed(job, "collected", tried=0 if halt else MOST_TRIES, spared=halt is not None)
        self.failed += closed.failed
        if halt:
            raise halt

    async def _count(self, run: str, call: Call, reply: Reply, asked_at: float, seconds: float) -> None:
        await self._keep(run, call, reply, asked_at, seconds)
        self.answered += 1
        self.usage += reply.usage
        self.spent += self._paid(reply.usage)

    def _all_the_same(self, job: Job, told: Told) -> Halt | None:
        """Return what to halt for where every single call failed for one reason: the next job would fare as badly."""
        if told.answered or sum(told.failures.values()) < max(SAME, job.calls) or len(told.failures) != 1:
            return None
        words = next(iter(told.failures))
        return Halt(f"{words}; so it was for all {counted(job.calls, 'call')} of a batch job: none was set aside")

    async def _refused_whole(self, job: Job, look: Look) -> None:
        words = "; ".join(filter(None, (f"{code}: {said}".strip(": ") for code, said, _ in look.refused)))
        words = self.model.server.quote(words)
        for code, said, parameter in look.refused:
            if code == CROWDED:
                await self._crowded(job, words)
                return
            meaning = refusal_of(self.model, 400, {"error": {"code": code, "message": said, "param": parameter}})
            if isinstance(meaning, Halt):
                await self._closed(job, "refused", words=words)
                raise meaning
        await self._refused(job, words)

    async def _refused(self, job: Job, words: str) -> None:
        """Let a job's calls wait again, in jobs of half its size: one bad call is found among thousands of good ones.

        Nothing of a refused job is billed.
        """
        alone = [one.id for one in self.jobs.calls_of(job)] if job.calls == 1 else []
        await self._closed(job, "refused", words=words)
        for call in alone:
            self.failed += 1
            self.jobs.fail(call, "rejected_call", f"{self.model.server}: {words}")
        self._sending.refused(job, words)

    async def _crowded(self, job: Job, words: str) -> None:
        """Send less at once, and later: too much waits at the provider."""
        await self._closed(job, "refused", words=words)
        self._trouble = words
        self._sending.wait()
        # where other jobs of ours are under way, they are what fills it
        self._sending.refused(job, words, counts=not self._cases)

    async def _closed(self, job: Job, state: str, *, words: str = "", tried: int = 0, spared: bool = False) -> Job:
        """Close a job, and give back what was put by for it."""
        closed = self.jobs.close(job, state, words=words, tried=tried, spared=spared)
        case = self._cases.pop(job.id)
        await self._release(job.run, job.worst, case.told.lost)
        self._sending.short = False
        return closed
