"""A run under a server's limits: how much of them it uses, and how often it is refused. Minutes pass in no time."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Literal

import pytest
from pace_kit import Limit, LimitedServer, drive, now, simulate
from wire import asking

from solon.models.pace import Pace

Kind = Literal["bucket", "window"]
KINDS: tuple[Kind, ...] = ("bucket", "window")
QUESTION = asking("How do you do? " * 20)


def run(
    server: LimitedServer, *, minutes: float = 6, workers: int = 200, beside: Any = None, **given: Any
) -> tuple[LimitedServer, Pace]:
    """Ask `server` as much as a pace lets through; `beside(server)` is somebody else who does something meanwhile."""

    async def main() -> Pace:
        clock = asyncio.get_running_loop().time
        pace = Pace(server, patience=1e9, sleep=asyncio.sleep, clock=clock, **given)
        other = asyncio.create_task(beside(server)) if beside else None
        await drive(server, pace, seconds=60 * minutes, workers=workers, call=QUESTION)
        if other:
            other.cancel()
        return pace

    return server, simulate(main())


def check(server: LimitedServer, *, minutes: float = 6, used: float = 0.95, refused: float = 0.01) -> None:
    """After the first minute."""
    assert server.used(60, 60 * minutes) >= used
    assert server.refused(60, 60 * minutes) < refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("a_minute", [30, 600, 3000])
def test_a_stated_limit_is_used_and_not_exceeded(a_minute: float, kind: Kind) -> None:
    server, pace = run(LimitedServer(Limit(a_minute, kind, phase=17)), minutes=4, requests_per_minute=a_minute)
    check(server, minutes=4)
    assert server.refused(0, 240) == 0
    assert pace.facts().used_share == pytest.approx(0.985, abs=0.04)
    assert pace.facts().used_of == f"{a_minute:,} requests a minute"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", ["openai", "anthropic"])
@pytest.mark.parametrize("a_minute", [60, 600, 1800])
def test_a_limit_that_headers_tell_is_used_and_not_exceeded(
    a_minute: float, headers: Literal["openai", "anthropic"], kind: Kind
) -> None:
    server, pace = run(LimitedServer(Limit(a_minute, kind, phase=40), headers=headers))
    check(server)
    assert pace.rate == a_minute


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", ["openai", "anthropic"])
def test_that_holds_where_answers_take_a_quarter_of_a_minute(
    headers: Literal["openai", "anthropic"], kind: Kind
) -> None:
    server, _ = run(LimitedServer(Limit(600, kind, phase=37), headers=headers, latency=15), workers=500, minutes=7)
    check(server, minutes=7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", ["openai", "anthropic"])
def test_a_limit_in_tokens_is_used_and_not_exceeded(headers: Literal["openai", "anthropic"], kind: Kind) -> None:
    server, pace = run(LimitedServer(tokens=Limit(60_000, kind), headers=headers))
    assert server.used(60, 360, tokens=True) >= 0.95
    assert server.refused(60, 360) < 0.01
    assert pace.facts().used_of == "60,000 tokens a minute"


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_stated_limits_the_tighter_one_is_used(kind: Kind) -> None:
    server, _ = run(
        LimitedServer(Limit(600, kind), Limit(60_000, kind)), requests_per_minute=600, tokens_per_minute=60_000
    )
    assert server.used(60, 360, tokens=True) >= 0.95
    assert 0.3 < server.used(60, 360) < 0.6
    assert server.refused(0, 360) == 0


@pytest.mark.parametrize("patient", [False, True], ids=["silent", "retry-after"])
def test_a_bucket_is_found_out_by_refusals_alone(patient: bool) -> None:
    server, _ = run(LimitedServer(Limit(600), patient=patient))
    check(server)


@pytest.mark.parametrize("patient", [False, True], ids=["silent", "retry-after"])
@pytest.mark.parametrize("a_minute", [600, 3000])
def test_a_window_is_found_out_by_refusals_alone(a_minute: float, patient: bool) -> None:
    server, _ = run(LimitedServer(Limit(a_minute, "window", phase=11), patient=patient), minutes=8)
    check(server, minutes=8)


def test_the_fewer_calls_a_minute_the_more_of_them_it_takes_to_find_out() -> None:
    server, _ = run(LimitedServer(Limit(60, "window")), minutes=10)
    check(server, minutes=10, refused=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_falls_is_learned_anew(kind: Kind) -> None:
    async def halved(server: LimitedServer) -> None:
        await asyncio.sleep(240)
        assert server.requests
        server.requests.refresh(now())
        server.requests.a_minute = server.requests.most = 300
        server.requests.level = min(300, server.requests.level)

    server, _ = run(LimitedServer(Limit(600, kind)), minutes=10, beside=halved)
    assert server.used(360, 600) >= 0.95
    assert server.refused(360, 600) < 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", ["openai", "anthropic"])
def test_a_key_that_somebody_else_uses_as_well_is_shared_without_refusals(
    headers: Literal["openai", "anthropic"], kind: Kind
) -> None:
    async def half(server: LimitedServer) -> None:
        while True:
            await asyncio.sleep(0.2)
            assert server.requests
            server.requests.refresh(now())
            server.requests.level = max(0.0, server.requests.level - 1)

    server, _ = run(LimitedServer(Limit(600, kind), headers=headers), beside=half)
    check(server, used=0.475)


def test_a_window_that_an_earlier_run_used_up_is_waited_out() -> None:
    limit = Limit(600, "window", phase=20)
    limit.level = 60
    server, _ = run(LimitedServer(limit, headers="openai"))
    check(server)
    assert server.refused(0, 60) < 0.1


def test_a_server_that_takes_so_many_calls_at_once_is_kept_almost_that_busy() -> None:
    server, pace = run(LimitedServer(slots=16), workers=100)
    answered = sum(good for time, good, _ in server.arrivals if time >= 60)
    assert answered >= 0.9 * 300 * 16 / 1.1, "an answer takes a second, and a tenth on the way"
    assert server.refused(60, 360) < 0.01
    assert 8 <= pace.limit <= 17


@pytest.mark.parametrize("patient", [True, False], ids=["told to wait", "silent"])
@pytest.mark.parametrize(("at_once", "latency"), [(32, 0.05), (256, 0.2)])
def test_refusals_that_speak_of_no_limit_slow_nobody_down(at_once: int, latency: float, patient: bool) -> None:
    """One bad replica behind a balancer: 2 calls in 100 are refused, whoever asks and however seldom."""

    def good(stray: float) -> int:
        server = LimitedServer(latency=latency, way=0.002, stray=stray, patient=patient)
        run(server, minutes=0.5, workers=2 * at_once, concurrency=at_once)
        return sum(good for time, good, _ in server.arrivals if time >= 15)

    assert good(0.02) >= 0.95 * good(0.0)


def test_a_limit_is_kept_by_somebody_who_took_its_refusals_for_strays() -> None:
    async def limited(server: LimitedServer) -> None:
        await asyncio.sleep(60)
        server.requests = Limit(600, at=now())

    server = LimitedServer(Limit(1e9), latency=0.2, way=0.01, stray=0.02, patient=True)
    run(server, minutes=4, workers=64, concurrency=32, beside=limited)
    assert server.refused(120, 240) < 0.1
    assert server.used(120, 240) > 0.9


def test_slow_start_doubles_until_more_calls_at_once_bring_no_more_answers() -> None:
    server, pace = run(LimitedServer(workers=48), workers=1000, minutes=3)
    assert 48 <= pace.limit < 128, "beyond 48 calls wait at the server, not here"
    answered = sum(time >= 60 for time, _, _ in server.arrivals)
    assert answered >= 0.95 * 120 * 48


def test_slow_start_goes_on_to_the_ceiling_where_more_calls_at_once_bring_more_answers() -> None:
    server, pace = run(LimitedServer(), workers=2000, minutes=0.3)
    assert pace.limit == 1024
    assert server.most_inside > 900


def test_a_stated_concurrency_is_where_it_starts() -> None:
    server, pace = run(LimitedServer(latency=5), workers=500, minutes=0.05, concurrency=300)
    assert (server.most_inside, pace.limit) == (300, 300)


def test_calls_are_spread_over_the_minute() -> None:
    server, _ = run(LimitedServer(way=0.0), minutes=2, requests_per_minute=120)
    times = [time for time, _, _ in server.arrivals]
    assert all(0.4 < later - earlier < 0.65 for earlier, later in itertools.pairwise(times[1:]))


def test_another_rate_and_another_ceiling_hold_from_the_next_call_on() -> None:
    async def main() -> tuple[LimitedServer, Pace]:
        server = LimitedServer(latency=0.5)
        pace = Pace(server, concurrency=50, sleep=asyncio.sleep, clock=asyncio.get_running_loop().time)

        async def turn() -> None:
            await asyncio.sleep(60)
            pace.rate = 300
            await asyncio.sleep(60)
            pace.rate = None
            pace.ceiling = 5

        turning = asyncio.create_task(turn())
        await drive(server, pace, seconds=180, workers=100, call=QUESTION)
        await turning
        return server, pace

    server, pace = simulate(main())
    counts = [sum(begin <= time < begin + 55 for time, _, _ in server.arrivals) for begin in (2, 62, 122)]
    assert counts[0] > 4000
    assert counts[1] == pytest.approx(300 * 55 / 60 * 0.985, rel=0.03)
    assert counts[2] == pytest.approx(55 * 5 / 0.6, rel=0.1)
    assert (pace.ceiling, pace.rate) == (5, None)


def test_the_share_of_one_process_is_its_part_of_what_the_server_tells() -> None:
    server, pace = run(LimitedServer(Limit(600), headers="openai"), minutes=3, share=0.25)
    assert pace.rate == 150
    assert server.used(60, 180) == pytest.approx(0.25 * 0.985, rel=0.03)
