"""Turns, retries and throttling, on a clock that only naps move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from wire import Time, asking

from solon.calls import Call, Reply
from solon.errors import CallFailed, Halt, Passing
from solon.models.pace import Pace
from solon.models.pace.pace import UNREADABLE


class Asked:
    """An ask that plays outcomes in order (an exception is raised), the last one for ever."""

    def __init__(self, *outcomes: Exception | str, before: Callable[[], None] = lambda: None) -> None:
        self.outcomes: Sequence[Exception | str] = outcomes
        self.before = before
        self.times = 0
        self.inside = 0
        self.most = 0

    async def __call__(self, call: Call) -> Reply:
        outcome = self.outcomes[min(self.times, len(self.outcomes) - 1)]
        self.times += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            self.before()
            await asyncio.sleep(0)
            if isinstance(outcome, Exception):
                raise outcome
            return Reply(outcome)
        finally:
            self.inside -= 1


def broken() -> Passing:
    return Passing("no_answer", "the connection broke")


def throttled(seconds: float | None = None) -> Passing:
    return Passing("no_answer", "status 429", retry_after=seconds, throttled=True)


def paced(ask: Asked, time: Time, *, patience: float = 60, concurrency: int = 4) -> Pace:
    return Pace(ask, patience=patience, concurrency=concurrency, **time.pacing)


async def test_a_failure_that_passes_is_asked_again_after_doubling_waits() -> None:
    ask, time = Asked(broken(), broken(), broken(), "yes"), Time()
    reply = await paced(ask, time)(asking())
    assert reply.text == "yes"
    assert ask.times == 4
    bounds = [(0.25, 0.5), (0.5, 1.0), (1.0, 2.0)]
    assert all(low <= nap <= high for nap, (low, high) in zip(time.naps, bounds, strict=True))


async def test_no_wait_is_longer_than_half_a_minute() -> None:
    ask, time = Asked(*[broken()] * 20, "yes"), Time()
    await paced(ask, time, patience=1000)(asking())
    assert max(time.naps) <= 30
    assert min(time.naps[8:]) >= 15


async def test_retry_after_is_obeyed_to_the_second() -> None:
    ask, time = Asked(Passing("no_answer", "status 503", retry_after=7.5), "yes"), Time()
    assert (await paced(ask, time)(asking())).text == "yes"
    assert time.naps == [7.5]


async def test_a_retry_after_of_nothing_makes_no_busy_loop() -> None:
    ask, time = Asked(Passing("no_answer", "status 503", retry_after=0.0), "yes"), Time()
    await paced(ask, time)(asking())
    assert time.naps[0] >= 0.25


async def test_a_call_that_keeps_failing_is_given_up_when_patience_is_spent_and_says_how_often_it_was_asked() -> None:
    ask, time = Asked(broken()), Time()
    with pytest.raises(CallFailed, match=r"the connection broke \(\d+ attempts in \d+ s\)") as caught:
        await paced(ask, time, patience=20)(asking())
    assert not isinstance(caught.value, Passing), "whoever is above must not retry again"
    assert caught.value.reason == "no_answer"
    assert sum(time.naps) <= 20
    assert f"({ask.times} attempts" in str(caught.value)


async def test_without_patience_a_call_is_asked_once() -> None:
    ask, time = Asked(broken()), Time()
    with pytest.raises(CallFailed, match="1 attempt in"):
        await paced(ask, time, patience=0)(asking())
    assert (ask.times, time.naps) == (1, [])


async def test_the_time_of_the_attempts_counts_towards_patience() -> None:
    time = Time()

    def slow() -> None:
        time.now += 15

    ask = Asked(broken(), before=slow)
    with pytest.raises(CallFailed):
        await paced(ask, time, patience=30)(asking())
    assert ask.times == 2


async def test_a_retry_after_beyond_patience_fails_at_once_and_says_so() -> None:
    ask, time = Asked(throttled(3600)), Time()
    with pytest.raises(CallFailed, match=r"told to wait 3600 s, which is beyond patience \(60 s\)"):
        await paced(ask, time)(asking())
    assert (ask.times, time.naps) == (1, [])


async def test_nobody_knocks_at_a_door_that_stays_shut_beyond_patience() -> None:
    ask, time = Asked(throttled(3600), "yes"), Time()
    pace = paced(ask, time)
    for match in ("told to wait", "not asked: the server told everybody to wait"):
        with pytest.raises(CallFailed, match=match):
            await pace(asking())
    assert ask.times == 1
    time.now += 3600
    assert (await pace(asking())).text == "yes"


async def test_those_who_wait_already_hear_at_once_that_the_wait_is_beyond_their_patience() -> None:
    ask, time = Asked(throttled(3600), "yes"), Time()
    pace = paced(ask, time, concurrency=1)
    outcomes = await asyncio.gather(*(pace(asking()) for _ in range(3)), return_exceptions=True)
    assert ["told to wait 3600 s" in str(outcome) for outcome in outcomes] == [True, False, False]
    assert ["not asked" in str(outcome) for outcome in outcomes] == [False, True, True]
    assert (ask.times, time.now, pace.facts().waiting, pace.facts().in_flight) == (1, 0, 0, 0)


async def test_unreadable_answers_are_asked_for_a_few_times_only_since_each_may_be_paid() -> None:
    ask, time = Asked(Passing("unreadable_answer", "half a JSON")), Time()
    with pytest.raises(CallFailed) as caught:
        await paced(ask, time, patience=10_000)(asking())
    assert ask.times == UNREADABLE
    assert caught.value.reason == "unreadable_answer"


@pytest.mark.parametrize("problem", [Halt("wrong key"), CallFailed("too_long"), CallFailed("rejected_call")])
async def test_what_cannot_pass_is_raised_as_it_is(problem: Exception) -> None:
    ask, time = Asked(problem), Time()
    with pytest.raises(type(problem)) as caught:
        await paced(ask, time)(asking())
    assert caught.value is problem
    assert ask.times == 1


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_calls_are_in_flight_than_concurrency_says(concurrency: int) -> None:
    ask, time = Asked("yes"), Time()
    pace = paced(ask, time, concurrency=concurrency)
    await asyncio.gather(*(pace(asking()) for _ in range(20)))
    assert (ask.times, ask.most) == (20, concurrency)


async def test_queueing_behind_others_costs_no_patience() -> None:
    time = Time()

    def slow() -> None:
        time.now += 9

    ask = Asked(*["yes"] * 8, broken(), "yes", before=slow)
    pace = paced(ask, time, patience=20, concurrency=1)
    replies = await asyncio.gather(*(pace(asking()) for _ in range(9)))
    assert [reply.text for reply in replies] == ["yes"] * 9
    assert time.now > 80


async def test_too_many_requests_makes_every_caller_wait() -> None:
    time = Time()
    begun: list[float] = []
    ask = Asked(throttled(11), "yes", before=lambda: begun.append(time.now))
    pace = paced(ask, time, concurrency=1)
    await asyncio.gather(pace(asking("one")), pace(asking("two")))
    assert begun == [0, 11, 11]


async def test_a_burst_of_refusals_halves_the_limit_once_and_answers_bring_it_back() -> None:
    ask, time = Asked(*[throttled(1)] * 8, "yes"), Time()
    pace = paced(ask, time, concurrency=8)
    seen = [8]
    ask.before = lambda: seen.append(pace.limit) if pace.limit != seen[-1] else None
    await asyncio.gather(*(pace(asking()) for _ in range(100)))
    # at once to nine tenths of what it was, then by one a round
    assert seen == [8, 4, 7, 8]
    ask.most = 0
    await asyncio.gather(*(pace(asking()) for _ in range(30)))
    assert ask.most == 8


async def test_the_lowered_limit_is_kept() -> None:
    ask, time = Asked(*[throttled(1)] * 8, "yes"), Time()
    pace = paced(ask, time, concurrency=8)
    most_after = 0

    def look() -> None:
        nonlocal most_after
        most_after = max(most_after, ask.inside) if ask.times > 8 else 0

    ask.before = look
    await asyncio.gather(*(pace(asking()) for _ in range(8)))
    assert ask.most == 8
    assert 1 < most_after <= 5


async def test_the_limit_never_falls_below_one() -> None:
    ask, time = Asked(*["yes", throttled(1)] * 6, "yes"), Time()
    pace = paced(ask, time, concurrency=2)
    limits = set()
    for _ in range(9):
        assert (await pace(asking())).text == "yes"
        limits.add(pace.limit)
    assert limits == {1, 2}


async def test_a_call_cancelled_at_the_shut_door_leaves_its_turn_to_the_next() -> None:
    asleep, open_again = asyncio.Event(), asyncio.Event()
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        asleep.set()
        await open_again.wait()
        now += seconds

    pace = Pace(Asked(throttled(10), "yes"), patience=60, concurrency=1, sleep=sleep, clock=lambda: now)
    first = asyncio.create_task(pace(asking("one")))
    await asleep.wait()
    asleep.clear()
    second = asyncio.create_task(pace(asking("two")))
    await asleep.wait()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    open_again.set()
    assert (await asyncio.wait_for(first, 5)).text == "yes"


@pytest.mark.parametrize("moment", ["asking", "napping", "queueing"])
async def test_a_cancelled_call_leaves_its_turn_to_the_next(moment: str) -> None:
    gate = asyncio.Event()
    failing = moment == "napping"

    async def ask(call: Call) -> Reply:
        if failing:
            raise broken()
        await gate.wait()
        return Reply("yes")

    async def never(seconds: float) -> None:
        await asyncio.Event().wait()

    pace = Pace(ask, patience=60, concurrency=1, sleep=never)
    first = asyncio.create_task(pace(asking("one")))
    second = asyncio.create_task(pace(asking("two")))
    for _ in range(50):
        await asyncio.sleep(0)
    cancelled, left = (second, first) if moment == "queueing" else (first, second)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    failing = False
    gate.set()
    if moment == "napping":
        left.cancel()
        left = asyncio.create_task(pace(asking("three")))
    assert (await asyncio.wait_for(left, 5)).text == "yes"
