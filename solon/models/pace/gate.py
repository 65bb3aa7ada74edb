"""The gate before one server: who may go next, as all that is known of its limits allows.

    await gate.turn(cost, ...)    wait for a turn, in the order of asking; calls that were asked before go first
    gate.answered(...)            ... and give it back, having learned from the answer
    gate.failed(...)              ... or from the failure
    gate.heed(headers)            what the server says of its limits
    gate.facts()                  where it stands, for a progress view

A turn is handed from a call that ends to the one that waits longest, so that a thousand waiting calls cost no more than
one. While nobody waits and nothing is short, a call passes by a few comparisons. One alarm at most is set, for the
time when the first in line may go.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from math import inf

from solon.calls import Call, Reply
from solon.errors import CallFailed, Passing
from solon.models.pace.allowance import Allowance
from solon.models.pace.circuit import Circuit
from solon.models.pace.concurrency import CEILING, Concurrency
from solon.models.pace.facts import Listener, PaceEvent, PaceFacts, State
from solon.models.pace.guess import Cost
from solon.models.pace.limits import read
from solon.models.pace.refusals import Refusals
from solon.models.pace.turns import ATTEMPT, Attempt, Waiter

__all__ = ["Gate"]

GLANCE = 0.25
"""Seconds between two looks at what the server tells, as long as nothing runs short."""

SHORT = 0.1
"""Share of a limit below which what remains of it runs short."""

DOUBT = 2
"""Calls in flight while nothing but failures comes back."""

NAP = 0.002
"""Shortest alarm in seconds: at a thousand calls a second, two go at a time."""


class Gate:
    """Everything that calls to one server share; see `solon.models.pace.Pace` for the arguments."""

    def __init__(
        self,
        *,
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
        self.name = name
        self.server = server or name
        self.outage_patience = outage_patience
        self.listener = listener
        self.clock, self.sleep = clock, sleep
        self.in_flight = self.inside = 0
        self.throttled = 0
        self.circuit = Circuit()
        self._refusals = Refusals()
        self._allowance = Allowance(self._refusals, share=share)
        self._concurrency = Concurrency(concurrency, ceiling=most)
        self._most = most
        self._urgent: deque[Waiter] = deque()
        self._queue: deque[Waiter] = deque()
        self._waiting = 0
        self._least_patience = inf
        self._paused = False
        self._held = False
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = inf
        self._next_glance = -inf
        self._began = self._changed = clock()
        self._state: State = "open"
        for what, stated in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if stated is not None:
                self._allowance.state(what, stated, self._began)

    # -- what can be turned while it runs

    @property
    def limit(self) -> int:
        """Return how many calls may be in flight just now."""
        return self._concurrency.limit

    @property
    def ceiling(self) -> int:
        """Return how many calls may ever be in flight."""
        return self._concurrency.ceiling

    @ceiling.setter
    def ceiling(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"a ceiling of {most} lets nobody in; pause() does that")
        self._concurrency.set_ceiling(min(most, self._most))
        self.pump()

    @property
    def rate(self) -> float | None:
        """Return the requests a minute that are known to be allowed, or None where no limit is known."""
        return self._allowance.limit("requests")

    @rate.setter
    def rate(self, a_minute: float | None) -> None:
        if a_minute is not None and not a_minute > 0:
            raise ValueError(f"{a_minute} requests a minute lets nobody in; pause() does that")
        self._allowance.state("requests", a_minute, self.clock())
        self.pump()

    def tune(self, *, concurrency: int | None = None, rpm: float | None = None) -> None:
        """Take another ceiling, or other requests a minute (0: none are stated); None leaves it as it is."""
        if concurrency is not None:
            self.ceiling = concurrency
        if rpm is not None:
            self.rate = rpm or None

    def tighten(
        self,
        *,
        concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        outage_patience: float = inf,
    ) -> None:
        """Take what another role states for the same server: the strictest counts."""
        if concurrency is not None and not self._concurrency.stated:
            self._concurrency = Concurrency(concurrency, ceiling=self._most)
        elif concurrency is not None and concurrency < self.ceiling:
            self.ceiling = concurrency
        for what, stated in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            held = self._allowance.stated(what)
            if stated is not None and (held is None or stated < held):
                self._allowance.state(what, stated, self.clock())
        self.outage_patience = min(self.outage_patience, outage_patience)

    def pause(self) -> None:
        """Begin no further attempt; those in flight go on."""
        self._paused = self._held = True

    def resume(self) -> None:
        """Begin attempts again."""
        self._paused = False
        self.pump()

    # -- turns

    async def begin(self, call: Call, patience: float, *, urgent: bool = False) -> Attempt:
        """Wait for a turn, and take it.

        Raises CallFailed where the server wants nobody for longer than `patience`, or was away for too long.
        """
        cost = self._allowance.cost(call)
        now = self.clock()
        if self._held or self._waiting or self._short(now):
            await self._turn(cost, now, patience, urgent=urgent)
            now = self.clock()
        else:
            self._go(cost, now)
        attempt = Attempt(now, self._refusals.bursts, cost, self._allowance.sent)
        ATTEMPT.set(attempt)
        return attempt

    def left(self) -> None:
        """Give a turn back."""
        self.in_flight -= 1
        if self._waiting:
            self.pump()

    def answered(self, call: Call, reply: Reply, attempt: Attempt) -> None:
        """Learn from an answer, and give the turn back."""
        now = self.clock()
        self._refusals.answered(attempt.bursts, int(attempt.sent[0]))
        self.alive(now)
        self._allowance.settle(call, attempt.cost, reply.usage, now)
        concurrency = self._concurrency
        if concurrency.limit < concurrency.ceiling:
            seconds = now - attempt.begun
            concurrency.needed = seconds * (self._allowance.limit("requests") or 0.0) / 60
            concurrency.answered(
                int(attempt.sent[0]) - 1,
                seconds,
                reply.usage.output,
                sent=int(self._allowance.sent[0]),
                full=self.in_flight >= concurrency.limit,
            )
        self.left()

    def failed(self, failure: Passing, attempt: Attempt, *, call: int, first: float, asked: float | None) -> None:
        """Learn from a failure, and give the turn back.

        call, first: as `Circuit.failed` has them
        asked: seconds that the server asked to wait
        """
        now = self.clock()
        if failure.throttled:
            self.throttled += 1
            self._refuse(attempt, now, asked)
        elif failure.reason == "no_answer":
            opened = self.circuit.failed(
                call,
                first=first,
                begun=attempt.begun,
                now=now,
                words=failure.detail,
                calls=self.inside,
                in_flight=self.in_flight - 1,
            )
            if opened:
                self._held = True
                self._tell(PaceEvent("outage", self.server, self.circuit.words))
        self.left()

    def alive(self, now: float) -> None:
        """Take notice that the server answers."""
        seconds = self.circuit.succeeded(now)
        if seconds is not None:
            self._concurrency.restart()
            self._tell(PaceEvent("resumed", self.server, seconds=seconds))
            self.pump()

    def heed(self, headers: Mapping[str, str]) -> None:
        """Go by what an answer's headers tell of limits; called for every answer, whatever its status."""
        now = self.clock()
        if now < self._next_glance:
            return
        told = read(headers)
        self._next_glance = now + GLANCE
        if not told:
            return
        if any(each.remaining < SHORT * each.limit for each in told.values()):
            self._next_glance = now + GLANCE / 5
        attempt = ATTEMPT.get()
        age = now - attempt.begun if attempt else 0.0
        self._allowance.heed(told, now, age=age, before=attempt.sent if attempt else self._allowance.sent)
        if self._waiting:
            self.pump()

    def pump(self) -> None:
        """Let everybody go who may, and set the alarm for the next."""
        now = self.clock()
        self._held = self._paused or self.circuit.away or self._refusals.shut_until > now
        while self._waiting:
            if self._expired(now) and (self.circuit.next_probe > now or self._full()):
                self._fail_all(self._given_up(now))
                return
            delay = self._delay(now)
            if delay > 0:
                if delay < inf:
                    self._wake(now, max(delay, NAP))
                return
            queue = self._urgent or self._queue
            waiter = queue.popleft()
            if waiter.future.done():  # cancelled
                continue
            self._waiting -= 1
            self._go(waiter.cost, now)
            waiter.future.set_result(None)

    def facts(self) -> PaceFacts:
        """Return where it stands."""
        now = self.clock()
        seconds = min(60.0, max(1.0, now - self._began))
        allowance = self._allowance
        share, of = allowance.used(now)
        state = self._state_now(now)
        if state != self._state:
            self._state, self._changed = state, now
        return PaceFacts(
            name=self.name,
            server=self.server,
            in_flight=self.in_flight,
            waiting=self._waiting,
            limit=self.limit,
            ceiling=self.ceiling,
            requests_per_minute=allowance.last_minute("requests", now) * 60 / seconds,
            tokens_per_minute=allowance.last_minute("tokens", now) * 60 / seconds,
            requests_limit=allowance.limit("requests"),
            tokens_limit=allowance.limit("tokens"),
            used_share=share,
            used_of=of,
            throttled=self.throttled,
            state=state,
            since=now - self._changed,
        )

    # -- inside

    def _state_now(self, now: float) -> State:
        if self._paused:
            return "paused"
        if self.circuit.away:
            return "outage"
        return "told to wait" if self._refusals.shut_until > now else "open"

    def _short(self, now: float) -> bool:
        return self._full() or self._allowance.wait(now) > 0

    def _full(self) -> bool:
        return self.in_flight >= (DOUBT if self.circuit.in_doubt else self._concurrency.limit)

    def _delay(self, now: float) -> float:
        """Return the seconds until the first in line may go; infinity where something else will say so."""
        if self._paused:
            return inf
        full = self._full()
        if self.circuit.away:
            expiry = self.circuit.since + self.outage_patience
            due = inf if full else self.circuit.next_probe
            until = due if expiry <= now else min(due, expiry)
            return max(until - now, self._refusals.shut_until - now if due <= now else 0.0)
        if full:
            return inf
        shut = self._refusals.shut_until - now
        wait = shut if shut > 0 else self._allowance.wait(now)
        if wait > 0:
            self._concurrency.idle()
        return wait

    def _go(self, cost: Cost, now: float) -> None:
        self.in_flight += 1
        self._allowance.take(cost, now)
        self._refusals.sent(now)
        if self._refusals.shut_until > now:  # the door is open by a crack
            self._held = True
        if self.circuit.away:
            self.circuit.probed(now)

    async def _turn(self, cost: Cost, now: float, patience: float, *, urgent: bool) -> None:
        shut = self._refusals.shut_until - now
        if shut > patience:
            raise _not_asked(shut, patience)
        waiter = Waiter(cost, patience)
        self._least_patience = min(self._least_patience, patience)
        # while the server is away every call is a probe in its turn: one that fails by itself must not be all of them
        (self._urgent if urgent and not self.circuit.away else self._queue).append(waiter)
        self._waiting += 1
        self.pump()
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                self._waiting -= 1
            elif waiter.future.exception() is None:
                self.left()
            raise

    def _refuse(self, attempt: Attempt, now: float, asked: float | None) -> None:
        refusals = self._refusals
        number, sent = int(attempt.sent[0]), int(self._allowance.sent[0])
        refusals.one_more(now, number)
        self._next_glance = now
        was_stray = refusals.stray
        if refusals.strays(now):
            if not was_stray:
                self._concurrency.uncut()
                self.pump()
            return
        if attempt.bursts == refusals.bursts:
            # a rate that is known explains the refusal, unless the limit in flight was in full use as well
            known = self._allowance.known
            took = now - attempt.begun
            fresh = refusals.refused(now, took=took, told=asked, in_flight=self.in_flight, number=number, sent=sent)
            if fresh and (not known or self.in_flight >= 0.9 * self.limit):
                self._concurrency.cut()
        elif asked is not None:
            refusals.shut_until = max(refusals.shut_until, now + asked)
        self._held = True
        shut = refusals.shut_until - now
        for waiter in (*self._urgent, *self._queue) if shut > self._least_patience else ():
            if waiter.patience < shut and not waiter.future.done():
                self._waiting -= 1
                waiter.future.set_exception(_not_asked(shut, waiter.patience))

    def _expired(self, now: float) -> bool:
        return self.circuit.away and now - self.circuit.since >= self.outage_patience

    def _given_up(self, now: float) -> CallFailed:
        return CallFailed(
            "no_answer",
            f"not asked: away for {now - self.circuit.since:.0f} s, which is beyond outage_patience "
            f"({self.outage_patience:.0f} s); its last words: {self.circuit.words}",
        )

    def _fail_all(self, problem: CallFailed) -> None:
        for queue in (self._urgent, self._queue):
            for waiter in queue:
                if not waiter.future.done():
                    waiter.future.set_exception(CallFailed(problem.reason, problem.detail))
            queue.clear()
        self._waiting = 0

    def _tell(self, event: PaceEvent) -> None:
        if self.listener:
            self.listener(event)

    def _wake(self, now: float, seconds: float) -> None:
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_at <= now + seconds + NAP:
                return
            self._alarm.cancel()
        self._alarm_at = now + seconds
        self._alarm = asyncio.get_running_loop().create_task(self._ring(seconds))

    async def _ring(self, seconds: float) -> None:
        await self.sleep(seconds)
        self._alarm_at = inf
        self._alarm = None
        self.pump()


def _not_asked(shut: float, patience: float) -> CallFailed:
    return CallFailed(
        "no_answer",
        f"not asked: the server told everybody to wait, for {shut:.0f} s more, which is beyond "
        f"patience ({patience:.0f} s)",
    )
