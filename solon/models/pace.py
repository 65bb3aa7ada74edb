"""How fast and how stubbornly a server is asked: one policy for all of them, the SDKs' own retries being off.

A call waits for a turn, is asked, and where its failure may pass (`Passing`) it is asked again: after the time
that the provider named in Retry-After, else after a wait that doubles from half a second to half a minute, half
of it by chance. `patience` is the time that one call may spend on attempts and on its own waits; queueing behind
others is not its fault and is not counted.

"Too many requests" concerns everybody: the door stays shut for all callers until the wait is over, and half as
many go in afterwards; each round of answers lets one more in again (additive increase, multiplicative decrease).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential,
    wait_random_exponential,
)

from solon.calls import Ask, Call, Reply
from solon.errors import CallFailed, Passing

__all__ = ["Pace"]

UNREADABLE = 4
"""Attempts at a call whose answers come unreadable: unlike silence, each of them may have been paid for."""

BACKOFF = wait_exponential(multiplier=0.25, max=15) + wait_random_exponential(multiplier=0.25, max=15)


class Pace:
    """An ask that waits for its turn and tries again: `await pace(call)`.

    Args:
        ask: asks once; raises Passing where asking again may help.
        patience: seconds of attempts and own waits after which a failing call is given up.
        concurrency: most calls in flight at once; `limit` is how many there may be just now.
        sleep, clock: replaced in tests.

    Raises CallFailed (never Passing) with the number of attempts, and whatever else `ask` raises as it is.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        patience: float,
        concurrency: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._concurrency = self.limit = concurrency
        self._turns = asyncio.Semaphore(concurrency)
        self._withdrawn = 0  # turns that the next takers must give up, because the limit fell
        self._good = 0  # answers since the limit last changed
        self._cuts = 0  # a burst of refusals to calls that were in flight together cuts the limit once
        self._shut_until = float("-inf")

    async def __call__(self, call: Call) -> Reply:
        spent = 0.0

        async def once() -> Reply:
            nonlocal spent
            await self._take_turn()
            begun, cuts = self._clock(), self._cuts
            try:
                reply = await self._ask(call)
            except Passing as failure:
                if failure.throttled and cuts == self._cuts:
                    self._slow_down()
                raise
            else:
                self._speed_up()
                return reply
            finally:
                spent += self._clock() - begun
                self._turns.release()

        async def nap(seconds: float) -> None:
            nonlocal spent
            spent += seconds
            await self._sleep(seconds)

        def out_of_patience(state: RetryCallState) -> bool:
            unreadable = _failure(state).reason == "unreadable_answer" and state.attempt_number >= UNREADABLE
            return unreadable or spent + state.upcoming_sleep > self._patience

        def give_up(state: RetryCallState) -> Reply:
            failure = _failure(state)
            tries = f"{state.attempt_number} attempt{'s' if state.attempt_number > 1 else ''} in {spent:.0f} s"
            asked = failure.retry_after
            if asked and spent + asked > self._patience:
                tries += f"; told to wait {asked:.0f} s, which is beyond patience ({self._patience:.0f} s)"
            raise CallFailed(failure.reason, f"{failure.detail} ({tries})") from failure

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Passing),
            wait=self._wait,
            stop=out_of_patience,
            sleep=nap,
            retry_error_callback=give_up,
        )
        return await retrying(once)

    async def _take_turn(self) -> None:
        await self._turns.acquire()
        while self._withdrawn:
            self._withdrawn -= 1
            await self._turns.acquire()
        try:
            while (shut := self._shut_until - self._clock()) > 0:
                if shut > self._patience:
                    raise CallFailed(
                        "no_answer",
                        f"not asked: the server told everybody to wait, for {shut:.0f} s more, which is beyond "
                        f"patience ({self._patience:.0f} s)",
                    )
                await self._sleep(shut)
        except BaseException:
            self._turns.release()
            raise

    def _wait(self, state: RetryCallState) -> float:
        failure = _failure(state)
        asked = failure.retry_after or 0.0
        # a server that keeps saying "Retry-After: 0" would be asked in a busy loop
        seconds = asked if asked >= 0.1 else BACKOFF(state)
        if failure.throttled:
            self._shut_until = max(self._shut_until, self._clock() + seconds)
        return seconds

    def _slow_down(self) -> None:
        fewer = max(1, self.limit // 2)
        self._withdrawn += self.limit - fewer
        self.limit = fewer
        self._good = 0
        self._cuts += 1

    def _speed_up(self) -> None:
        self._good += 1
        if self.limit < self._concurrency and self._good >= self.limit:
            self.limit += 1
            self._good = 0
            if self._withdrawn:
                self._withdrawn -= 1
            else:
                self._turns.release()


def _failure(state: RetryCallState) -> Passing:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert isinstance(failure, Passing)
    return failure
