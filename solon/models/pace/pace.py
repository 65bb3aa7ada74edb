"""How fast and how stubbornly a server is asked: one policy for all of them, the SDKs' own retries being off.

    paces = Paces(listener=...)                 one for a run
    pace = paces.of(server, spec)               one for each server, model and key, whatever roles use it
    ask = pace.through(once, patience=600)      an Ask that waits for its turn and tries again

A call waits for a turn (`gate`), is asked, and where its failure may pass (`Passing`) it is asked again: after the
time that the provider named in Retry-After, else after a wait that doubles from half a second to half a minute, half of
it by chance. `patience` is the time that one call may spend on attempts and on its own waits; queueing behind others is
not its fault and is not counted, and neither is an outage of the server, up to `outage_patience`.

Before an attempt that follows one which may have been billed although nobody heard its answer, whoever counts money is
told (`solon.spend.ATTEMPT_LOST`) and may refuse it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from math import inf

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential,
    wait_random_exponential,
)

from solon.calls import Ask, Call, Reply
from solon.errors import CallFailed, Passing
from solon.models.pace.concurrency import CEILING
from solon.models.pace.facts import Listener, PaceEvent, PaceFacts
from solon.models.pace.gate import Gate
from solon.models.server import Server
from solon.models.spec import ModelSpec
from solon.spend import ATTEMPT_LOST

__all__ = ["Listener", "Pace", "PaceEvent", "PaceFacts", "Paces"]

UNREADABLE = 4
"""Attempts at a call whose answers come unreadable: unlike silence, each of them may have been paid for."""

LEAST = 0.1
"""Seconds. A server that keeps saying "Retry-After: 0" would be asked in a busy loop."""

BACKOFF = wait_exponential(multiplier=0.25, max=15) + wait_random_exponential(multiplier=0.25, max=15)

NUMBERS = itertools.count()


class Pace(Gate):
    """One server's pace: an ask that waits for its turn and tries again, `await pace(call)`.

    Args:
        ask: asks once; raises Passing where asking again may help. Left out where models go `through` it.
        patience: seconds of attempts and own waits after which a failing call is given up.
        name, server: the model's short name, and the server in full.
        concurrency: most calls in flight at once; left out, it is found out while asking.
        requests_per_minute, tokens_per_minute: limits, where they are known beforehand.
        outage_patience: seconds that calls wait for a server that is away.
        most: calls in flight that the system allows at all.
        share: the part of what the server tells that is ours, where several processes ask with the same key.
        listener: told of outages (`PaceEvent`).
        sleep, clock: replaced in tests; the clock never jumps.

    Raises CallFailed (never Passing) with the number of attempts, and whatever else `ask` raises as it is.
    """

    def __init__(
        self,
        ask: Ask | None = None,
        *,
        patience: float = 600.0,
        name: str = "",
        server: str = "",
        concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        outage_patience: float = 3600.0,
        most: int = CEILING,
        share: float = 1.0,
        listener: Listener | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            name=name,
            server=server,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            outage_patience=outage_patience,
            most=most,
            share=share,
            listener=listener,
            sleep=sleep,
            clock=clock,
        )
        self._own = Paced(self, ask, patience) if ask else None

    async def __call__(self, call: Call) -> Reply:
        if self._own is None:
            raise TypeError("this pace has no ask of its own; models go through(ask, patience=...)")
        return await self._own(call)

    def through(self, ask: Ask, *, patience: float) -> Paced:
        """Return `ask`, paced: one model's way through this gate."""
        return Paced(self, ask, patience)


class Paced:
    """One model's calls through a Pace (`solon.calls.Ask`)."""

    def __init__(self, pace: Pace, ask: Ask, patience: float) -> None:
        self.pace = pace
        self._ask = ask
        self._patience = patience

    async def __call__(self, call: Call) -> Reply:
        pace = self.pace
        trouble = Trouble()
        pace.inside += 1
        try:
            try:
                return await self._once(call, trouble)
            except Passing as failure:
                first = failure
            return await self._again(call, first, trouble)
        finally:
            pace.inside -= 1

    async def _once(self, call: Call, trouble: Trouble) -> Reply:
        pace = self.pace
        attempt = await pace.begin(call, self._patience, urgent=trouble.number >= 0)
        try:
            reply = await self._ask(call)
        except Passing as failure:
            now = pace.clock()
            if trouble.number < 0:
                trouble.number, trouble.first = next(NUMBERS), now
            if not pace.circuit.away:
                trouble.spent += now - attempt.begun
            pace.failed(failure, attempt, call=trouble.number, first=trouble.first, asked=_told(failure))
            raise
        except CallFailed:
            pace.alive(pace.clock())
            pace.left()
            raise
        except BaseException:
            pace.left()
            raise
        pace.answered(call, reply, attempt)
        return reply

    async def _again(self, call: Call, first: Passing, trouble: Trouble) -> Reply:
        failure: Passing | None = first

        async def once() -> Reply:
            nonlocal failure
            if failure is not None:
                failed, failure = failure, None
                raise failed
            return await self._once(call, trouble)

        async def nap(seconds: float) -> None:
            if not self.pace.circuit.away:
                trouble.spent += seconds
            await self.pace.sleep(seconds)

        async def count_lost(state: RetryCallState) -> None:
            if _failure(state).billed and (lost := ATTEMPT_LOST.get()):
                await lost()

        def out_of_patience(state: RetryCallState) -> bool:
            unreadable = _failure(state).reason == "unreadable_answer" and state.attempt_number >= UNREADABLE
            if unreadable or self._patience <= 0:
                return True
            return not self.pace.circuit.away and trouble.spent + state.upcoming_sleep > self._patience

        def give_up(state: RetryCallState) -> Reply:
            failure = _failure(state)
            tries = f"{state.attempt_number} attempt{'s' if state.attempt_number > 1 else ''} in {trouble.spent:.0f} s"
            asked = failure.retry_after
            if asked and trouble.spent + asked > self._patience:
                tries += f"; told to wait {asked:.0f} s, which is beyond patience ({self._patience:.0f} s)"
            problem = CallFailed(failure.reason, f"{failure.detail} ({tries})")
            problem.billed = failure.billed
            raise problem from failure

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Passing),
            wait=self._wait,
            stop=out_of_patience,
            sleep=nap,
            before_sleep=count_lost,
            retry_error_callback=give_up,
        )
        return await retrying(once)

    def _wait(self, state: RetryCallState) -> float:
        # while the server is away the gate says when it is asked again
        return 0.0 if self.pace.circuit.away else _told(_failure(state)) or BACKOFF(state)


class Paces:
    """Every pace of a run: one for each provider, address, model and key.

    share, listener, sleep, clock: as a Pace has them, for all
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        listener: Listener | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.share, self.listener = share, listener
        self._sleep, self._clock = sleep, clock
        self._paces: dict[tuple[str, str, str, str], Pace] = {}

    def of(self, server: Server, spec: ModelSpec, *, most: int = CEILING) -> Pace:
        """Return the pace of a server; where several roles state limits for it, the strictest counts.

        most: calls in flight that the system allows
        """
        key = (server.provider, server.url, server.model, server.key)
        if key not in self._paces:
            self._paces[key] = Pace(
                name=f"{server.provider}:{server.model}",
                server=str(server),
                most=most,
                share=self.share,
                listener=self._heard,
                sleep=self._sleep,
                clock=self._clock,
                outage_patience=spec.outage_patience,
            )
        pace = self._paces[key]
        pace.tighten(
            concurrency=spec.concurrency,
            requests_per_minute=spec.requests_per_minute,
            tokens_per_minute=spec.tokens_per_minute,
            outage_patience=spec.outage_patience,
        )
        return pace

    def all(self) -> list[Pace]:
        """Return every pace, in the order of their models."""
        return list(self._paces.values())

    def _heard(self, event: PaceEvent) -> None:
        if self.listener:
            self.listener(event)


class Trouble:
    """What one call has been through: seconds spent, when it first failed, and a number for it once it has."""

    __slots__ = ("first", "number", "spent")

    def __init__(self) -> None:
        self.spent, self.first, self.number = 0.0, inf, -1


def _told(failure: Passing) -> float | None:
    asked = failure.retry_after
    return asked if asked is not None and asked >= LEAST else None


def _failure(state: RetryCallState) -> Passing:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert isinstance(failure, Passing)
    return failure
