"""Servers that are away, calls that fail by themselves, and what may be turned while calls wait."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from pace_kit import now, simulate
from wire import asking

from solon.calls import Call, Reply, Usage
from solon.errors import CallFailed, OverBudget, Passing
from solon.models.pace import Pace, PaceEvent, Paces
from solon.models.server import Server
from solon.models.spec import ModelSpec
from solon.spend import ATTEMPT_LOST


class Patient:
    """A server that is away while `away(time)` says so, and chokes on calls that ask for "poison"."""

    def __init__(self, away: Callable[[float], bool] = lambda time: False, *, takes: float = 1.0) -> None:
        self.away, self.takes = away, takes
        self.asked: list[tuple[float, str]] = []
        self.inside = self.most = 0

    async def __call__(self, call: Call) -> Reply:
        words = call.messages[0].content
        self.asked.append((now(), words))
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if self.away(now()):
                await asyncio.sleep(0.01)
                raise Passing("no_answer", "tiny: status 503: out for lunch")
            await asyncio.sleep(self.takes)
            if words == "poison":
                raise Passing("no_answer", "tiny: status 500: choked")
            return Reply("yes", usage=Usage(10, 5))
        finally:
            self.inside -= 1

    def times(self, begin: float, end: float) -> list[float]:
        return [time for time, _ in self.asked if begin <= time < end]


def paced(ask: Any, **given: Any) -> Pace:
    return Pace(ask, sleep=asyncio.sleep, clock=asyncio.get_running_loop().time, **given)


def test_an_outage_is_told_probed_for_and_waited_out_at_nobodys_expense() -> None:
    events: list[tuple[float, PaceEvent]] = []
    server = Patient(lambda time: 30 <= time < 1800)

    async def main() -> tuple[list[Reply], Pace]:
        pace = paced(
            server, concurrency=20, patience=120, server="tiny", listener=lambda event: events.append((now(), event))
        )

        async def row() -> Reply:
            for _ in range(40):
                reply = await pace(asking())
            return reply

        return await asyncio.gather(*(row() for _ in range(60))), pace

    replies, pace = simulate(main())
    assert len(replies) == 60, "patience is two minutes, and the outage took half an hour"
    (opened, outage), (closed, resumed) = events
    assert (outage.kind, outage.server, outage.words) == ("outage", "tiny", "tiny: status 503: out for lunch")
    assert 40 <= opened < 60
    assert resumed.kind == "resumed"
    assert 1800 <= closed < 1865, "a probe a minute"
    assert resumed.seconds == pytest.approx(closed - 30, abs=2)
    probes = server.times(opened + 0.1, 1800)
    assert 25 <= len(probes) <= 40
    gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
    assert gaps[:4] == pytest.approx([4, 8, 16, 32], abs=0.2)
    assert max(gaps) <= 61
    assert pace.facts().state == "open"


def test_after_an_outage_calls_come_back_by_and_by() -> None:
    server = Patient(lambda time: 30 <= time < 300)

    async def main() -> None:
        pace = paced(server, concurrency=200)
        await asyncio.gather(*(pace(asking()) for _ in range(15_000)))

    simulate(main())
    back = min(server.times(300, 1e9))
    assert len(server.times(back + 0.5, back + 1.5)) <= 16
    assert len(server.times(back + 10, back + 11)) >= 150


def test_beyond_its_patience_an_outage_fails_the_calls_that_wait_and_those_that_come() -> None:
    server = Patient(lambda time: time >= 10)
    failed: list[tuple[float, CallFailed]] = []

    async def main() -> Pace:
        pace = paced(server, concurrency=8, patience=60, outage_patience=600)

        async def row() -> None:
            try:
                for _ in range(100):
                    await pace(asking())
            except CallFailed as problem:
                failed.append((now(), problem))

        await asyncio.gather(*(row() for _ in range(30)))
        assert pace.facts().state == "outage"
        begun = now()
        with pytest.raises(CallFailed, match="outage_patience"):
            await pace(asking())
        assert now() == begun
        return pace

    simulate(main())
    assert len(failed) == 30
    assert {problem.reason for _, problem in failed} == {"no_answer"}
    waited = [(time, problem) for time, problem in failed if "outage_patience (600 s)" in problem.detail]
    assert len(waited) >= 29, "all but one that was just asked as a probe"
    assert all(620 < time < 660 and "out for lunch" in problem.detail for time, problem in waited)


def test_a_call_that_fails_alone_holds_nobody_up_and_opens_no_circuit() -> None:
    events: list[PaceEvent] = []
    server = Patient()

    async def main() -> list[Reply | BaseException]:
        pace = paced(server, concurrency=4, patience=100, listener=events.append)
        poisoned = [pace(asking("poison")) for _ in range(6)]
        good = [pace(asking()) for _ in range(800)]
        return await asyncio.gather(*poisoned, *good, return_exceptions=True)

    outcomes = simulate(main())
    assert [type(outcome) for outcome in outcomes[:6]] == [CallFailed] * 6
    assert {outcome.text for outcome in outcomes[6:] if isinstance(outcome, Reply)} == {"yes"}
    assert events == []
    last = max(time for time, words in server.asked if words != "poison")
    attempts = sum(words == "poison" and time <= last for time, words in server.asked)
    assert last <= (800 + attempts) / 4 + 2, "no turn was left unused"


def test_failures_that_come_sooner_than_answers_are_no_outage() -> None:
    events: list[PaceEvent] = []

    async def main() -> Pace:
        number = 0

        async def ask(call: Call) -> Reply:
            nonlocal number
            number += 1
            if number % 5 < 2:
                raise Passing("no_answer", "status 500")
            await asyncio.sleep(30)
            return Reply("yes")

        pace = paced(ask, concurrency=100, listener=events.append)
        await asyncio.gather(*(pace(asking()) for _ in range(1000)))
        return pace

    simulate(main())
    assert events == []


def test_poisoned_calls_that_are_left_alone_at_the_end_are_given_up_like_any() -> None:
    events: list[PaceEvent] = []

    async def main() -> float:
        pace = paced(Patient(), concurrency=8, patience=100, listener=events.append)
        rows = [pace(asking("poison")) for _ in range(6)] + [pace(asking()) for _ in range(20)]
        outcomes = await asyncio.gather(*rows, return_exceptions=True)
        assert sum(isinstance(outcome, CallFailed) for outcome in outcomes) == 6
        return now()

    assert simulate(main()) < 140
    assert events == []


def test_a_single_call_that_fails_is_no_outage() -> None:
    events: list[PaceEvent] = []

    async def main() -> float:
        pace = paced(Patient(lambda time: True), patience=100, listener=events.append)
        with pytest.raises(CallFailed, match="out for lunch"):
            await pace(asking())
        return now()

    assert simulate(main()) <= 101
    assert events == []


def test_a_slow_call_holds_nobody_up() -> None:
    async def main() -> float:
        async def ask(call: Call) -> Reply:
            await asyncio.sleep(1000 if call.messages[0].content == "slow" else 1)
            return Reply("yes")

        pace = paced(ask, concurrency=4)
        slow = asyncio.create_task(pace(asking("slow")))
        await asyncio.gather(*(pace(asking()) for _ in range(300)))
        done = now()
        slow.cancel()
        return done

    assert simulate(main()) == pytest.approx(100, abs=2)


def test_server_errors_lower_no_limit() -> None:
    async def main() -> Pace:
        server = Patient(lambda time: int(time * 10) % 3 == 0)
        pace = paced(server, concurrency=16)
        await asyncio.gather(*(pace(asking()) for _ in range(400)))
        return pace

    pace = simulate(main())
    assert (pace.limit, pace.throttled) == (16, 0)


def test_who_waits_longest_goes_next_and_a_call_that_was_asked_before_goes_first() -> None:
    order: list[str] = []

    async def main() -> None:
        failing = True

        async def ask(call: Call) -> Reply:
            nonlocal failing
            words = call.messages[0].content
            order.append(words)
            await asyncio.sleep(1)
            if words == "0" and failing:
                failing = False
                raise Passing("no_answer", "once", retry_after=2.5)
            return Reply("yes")

        pace = paced(ask, concurrency=1)
        await asyncio.gather(*(pace(asking(str(number))) for number in range(7)))

    simulate(main())
    assert order == ["0", "1", "2", "3", "0", "4", "5", "6"]


def test_paused_nothing_new_is_asked_and_resumed_all_goes_on() -> None:
    server = Patient(takes=10)

    async def main() -> list[Any]:
        pace = paced(server, concurrency=5)
        calls = asyncio.gather(*(pace(asking()) for _ in range(20)))
        await asyncio.sleep(1)
        pace.pause()
        await asyncio.sleep(99)
        facts = [pace.facts()]
        pace.resume()
        await calls
        return [*facts, pace.facts()]

    paused, done = simulate(main())
    assert (paused.state, paused.in_flight, paused.waiting) == ("paused", 0, 15)
    assert [len(server.times(0, 1)), len(server.times(1, 100)), len(server.times(100, 200))] == [5, 0, 15]
    assert (done.state, done.in_flight, done.waiting) == ("open", 0, 0)


def test_a_pause_costs_no_patience() -> None:
    async def main() -> str:
        pace = paced(Patient(lambda time: time < 1), patience=20)
        call = asyncio.create_task(pace(asking()))
        await asyncio.sleep(0.1)
        pace.pause()
        await asyncio.sleep(1000)
        pace.resume()
        return (await call).text

    assert simulate(main()) == "yes"


def test_facts_tell_where_a_server_stands() -> None:
    async def main() -> tuple[Any, Any]:
        refuse = False

        async def ask(call: Call) -> Reply:
            await asyncio.sleep(2)
            if refuse:
                raise Passing("no_answer", "status 429", retry_after=50, throttled=True)
            return Reply("yes", usage=Usage(70, 30))

        pace = paced(ask, name="openai:tiny", server="openai:tiny at here", concurrency=6, requests_per_minute=60)
        calls = asyncio.gather(*(pace(asking()) for _ in range(100)))
        await asyncio.sleep(60)
        facts = pace.facts()
        refuse = True
        await asyncio.sleep(10)
        told = pace.facts()
        calls.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls
        return facts, told

    facts, told = simulate(main())
    assert (facts.name, facts.server) == ("openai:tiny", "openai:tiny at here")
    assert (facts.limit, facts.ceiling, facts.throttled, facts.state) == (6, 6, 0, "open")
    assert facts.in_flight + facts.waiting == pytest.approx(100 - 57, abs=2)
    assert facts.requests_per_minute == pytest.approx(59, abs=2)
    assert facts.tokens_per_minute == pytest.approx(100 * 57, abs=300)
    assert (facts.requests_limit, facts.tokens_limit) == (60, None)
    assert facts.used_share == pytest.approx(0.985, abs=0.04)
    assert told.state == "told to wait"
    assert told.throttled >= 1
    assert told.since < 10


@pytest.mark.parametrize("wrong", [{"ceiling": 0}, {"rate": 0}, {"rate": -1}])
def test_a_pace_of_nothing_is_no_pace(wrong: dict[str, float]) -> None:
    pace = Pace(Patient())
    with pytest.raises(ValueError, match="lets nobody in"):
        setattr(pace, *next(iter(wrong.items())))


def test_tune_turns_what_is_given_and_leaves_the_rest() -> None:
    pace = Pace(Patient(), concurrency=8)
    pace.tune(rpm=100)
    assert (pace.ceiling, pace.rate) == (8, 100)
    pace.tune(concurrency=4)
    assert (pace.ceiling, pace.limit, pace.rate) == (4, 4, 100)
    pace.tune(rpm=0, concurrency=16)
    assert (pace.ceiling, pace.rate) == (16, None)


SERVER = Server("openai", "tiny", "http://here/v1", False, "KEY", "one")


def spec(**given: Any) -> ModelSpec:
    return ModelSpec(use="openai:tiny", **given)


def test_one_server_asked_with_one_key_has_one_pace_whatever_else_the_roles_say_of_it() -> None:
    paces = Paces()
    one = paces.of(SERVER, spec(options={"seed": 1}, timeout=5))
    assert paces.of(SERVER, spec(identity="other", patience=3)) is one
    others = [
        Server("openai", "tiny", "http://here/v1", False, "KEY", "two"),
        Server("openai", "tiny", "http://there/v1", False, "KEY", "one"),
        Server("openai", "small", "http://here/v1", False, "KEY", "one"),
        Server("anthropic", "tiny", "http://here/v1", False, "KEY", "one"),
    ]
    assert len({id(paces.of(other, spec())) for other in others} | {id(one)}) == 5
    assert paces.all()[0] is one
    assert [pace.name for pace in paces.all()][-1] == "anthropic:tiny"
    assert len(paces.all()) == 5


def test_of_different_limits_for_one_server_the_strictest_counts() -> None:
    paces = Paces()
    pace = paces.of(SERVER, spec(concurrency=20, requests_per_minute=100))
    paces.of(SERVER, spec(concurrency=5, tokens_per_minute=9000, outage_patience=60))
    paces.of(SERVER, spec(concurrency=30, requests_per_minute=300, tokens_per_minute=20_000))
    facts = pace.facts()
    assert (facts.ceiling, facts.requests_limit, facts.tokens_limit) == (5, 100, 9000)
    assert pace.outage_patience == 60
    unstated = Paces()
    assert unstated.of(SERVER, spec()).limit == 8
    assert unstated.of(SERVER, spec(concurrency=3)).limit == 3


def test_two_models_of_one_server_share_its_limit_each_with_its_own_patience() -> None:
    server = Patient(takes=1)

    async def main() -> None:
        pace = paced(None, concurrency=3)
        one, other = pace.through(server, patience=100), pace.through(server, patience=0)
        await asyncio.gather(*(ask(asking()) for ask in (one, other) for _ in range(10)))
        server.away = lambda time: True
        with pytest.raises(CallFailed, match="1 attempt in"):
            await other(asking())
        server.away = lambda time: time < 15
        assert (await one(asking())).text == "yes"

    simulate(main())
    assert server.most == 3


async def test_before_it_asks_again_whoever_counts_money_hears_of_an_attempt_that_may_have_been_billed() -> None:
    heard: list[str] = []
    outcomes: list[Passing | None] = [
        Passing("no_answer", "nobody there"),
        Passing("no_answer", "timed out", billed=True),
        Passing("no_answer", "status 500"),
        None,
    ]

    async def ask(call: Call) -> Reply:
        heard.append("asked")
        if problem := outcomes.pop(0):
            raise problem
        return Reply("yes")

    async def lost() -> None:
        heard.append("lost")

    async def sleep(seconds: float) -> None:
        heard.append("slept")

    ATTEMPT_LOST.set(lost)
    await Pace(ask, sleep=sleep)(asking())
    assert heard == ["asked", "slept", "asked", "lost", "slept", "asked", "slept", "asked"]


async def test_a_budget_that_has_no_room_for_another_attempt_ends_the_call() -> None:
    asked = 0

    async def ask(call: Call) -> Reply:
        nonlocal asked
        asked += 1
        raise Passing("no_answer", "timed out", billed=True)

    async def lost() -> None:
        raise OverBudget("nothing left")

    ATTEMPT_LOST.set(lost)
    pace = Pace(ask)
    with pytest.raises(OverBudget, match="nothing left"):
        await pace(asking())
    assert asked == 1
    assert pace.facts().in_flight == 0


@pytest.mark.parametrize("billed", [True, False])
async def test_a_call_that_is_given_up_says_whether_its_last_attempt_may_have_been_billed(billed: bool) -> None:
    async def ask(call: Call) -> Reply:
        raise Passing("no_answer", "timed out", billed=billed)

    with pytest.raises(CallFailed) as caught:
        await Pace(ask, patience=0)(asking())
    assert caught.value.billed is billed
