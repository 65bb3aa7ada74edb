"""A loop whose time passes only while nobody has anything to do, and a server with limits that keeps its own books."""

from __future__ import annotations

import asyncio
import hashlib
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, TypeVar

from solon.calls import Call, Reply, Usage
from solon.errors import Passing
from solon.models.pace import Pace

T = TypeVar("T")

EPOCH = 1_800_000_000.0  # what the server's wall clock says when the loop's time is 0


class Selector(selectors.SelectSelector):
    """Waits for nothing: what the loop would sleep is added to its time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everybody waits for ever")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Return what `main` comes to, in a time of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def dice(*name: object) -> float:
    """Return a number in [0, 1) that hangs on the name alone."""
    return int.from_bytes(hashlib.blake2b(repr(name).encode(), digest_size=6).digest()) / 2**48


@dataclass
class Limit:
    """So much a minute, counted as real servers count."""

    a_minute: float
    kind: Literal["bucket", "window"] = "bucket"
    capacity: float | None = None  # of a bucket; a minute's worth, unless said otherwise
    phase: float = 0.0  # seconds of a window that are over when the loop's time is 0
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.most = self.a_minute if self.capacity is None else self.capacity
        self.level = self.most

    def refresh(self, time: float) -> None:
        if self.kind == "bucket":
            self.level = min(self.most, self.level + (time - self.at) * self.a_minute / 60)
        elif (time + self.phase) // 60 != (self.at + self.phase) // 60:
            self.level = self.most
        self.at = time

    def reset(self, time: float) -> float:
        if self.kind == "window":
            return 60 - (time + self.phase) % 60
        return (self.most - self.level) / (self.a_minute / 60)


@dataclass
class LimitedServer:
    """Refuses what is beyond its limits, and tells of them as it is asked to.

    requests, tokens: its limits
    headers:  "openai", "anthropic" or "" for none
    patient:  its refusals say how long to wait
    latency:  seconds an answer takes, give or take half of it
    way:      seconds to the server; a refusal takes twice that
    slots:    most calls at once; one more is refused
    stray:    share of calls that are refused whatever the limits, as by one bad replica behind a balancer
    workers:  calls it works on at once; one more waits
    """

    requests: Limit | None = None
    tokens: Limit | None = None
    headers: Literal["openai", "anthropic", ""] = ""
    patient: bool = False
    latency: float = 1.0
    way: float = 0.05
    slots: int | None = None
    stray: float = 0.0
    workers: int | None = None
    pace: Pace | None = None
    arrivals: list[tuple[float, bool, float]] = field(default_factory=list)
    asked: int = 0
    inside: int = 0
    most_inside: int = 0

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.workers) if self.workers else None

    async def __call__(self, call: Call) -> Reply:
        number = self.asked = self.asked + 1
        await asyncio.sleep(self.way * (0.7 + 0.6 * dice("way", number)))
        time = now()
        output = int(20 + 180 * dice("tokens", number))
        usage = Usage(sum(len(message.content) for message in call.messages) // 3, output)
        takes = [(self.requests, 1.0), (self.tokens, float(usage.input + usage.output))]
        limits = [(limit, amount) for limit, amount in takes if limit]
        for limit, _ in limits:
            limit.refresh(time)
        full = self.slots is not None and self.inside >= self.slots
        astray = dice("stray", number) < self.stray
        good = not full and not astray and all(limit.level >= amount for limit, amount in limits)
        self.arrivals.append((time, good, usage.input + usage.output))
        if good:
            for limit, amount in limits:
                limit.level -= amount
        told = self.tell(time)
        if not good:
            await asyncio.sleep(self.way)
            self._heed(told)
            short = [limit.reset(time) if limit.kind == "window" else 60 / limit.a_minute for limit, _ in limits]
            raise Passing(
                "no_answer", "status 429", retry_after=max(short, default=1.0) if self.patient else None, throttled=True
            )
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            if self._turns:
                async with self._turns:
                    await asyncio.sleep(self.latency * (0.5 + dice("latency", number)))
            else:
                await asyncio.sleep(self.latency * (0.5 + dice("latency", number)))
        finally:
            self.inside -= 1
        self._heed(told)
        return Reply("yes", usage=usage)

    def tell(self, time: float) -> dict[str, str]:
        """Return the headers of an answer."""
        headers = {"Content-Type": "application/json", "Date": http_date(time)}
        for what, limit in (("requests", self.requests), ("tokens", self.tokens)):
            if limit is None:
                continue
            limit_text, left = f"{limit.a_minute:.0f}", f"{int(limit.level)}"
            if self.headers == "openai":
                headers[f"X-RateLimit-Limit-{what}"] = limit_text
                headers[f"X-RateLimit-Remaining-{what}"] = left
                headers[f"X-RateLimit-Reset-{what}"] = duration(limit.reset(time))
            elif self.headers == "anthropic":
                headers[f"anthropic-ratelimit-{what}-limit"] = limit_text
                headers[f"anthropic-ratelimit-{what}-remaining"] = left
                moment = datetime.fromtimestamp(round(EPOCH + time + limit.reset(time)), UTC)
                headers[f"anthropic-ratelimit-{what}-reset"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers

    def _heed(self, told: dict[str, str]) -> None:
        if self.pace:
            self.pace.heed(told)

    def used(self, begin: float, end: float, *, tokens: bool = False) -> float:
        """Return the share of its limit that was used in that time."""
        took = sum(size if tokens else 1 for time, good, size in self.arrivals if good and begin <= time < end)
        limit = self.tokens if tokens else self.requests
        assert limit
        return took / (limit.a_minute * (end - begin) / 60)

    def refused(self, begin: float, end: float) -> float:
        """Return the share of calls in that time that were refused."""
        calls = [good for time, good, _ in self.arrivals if begin <= time < end]
        return calls.count(False) / len(calls)


def duration(seconds: float) -> str:
    """Return seconds as OpenAI writes them."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


def http_date(time: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(EPOCH + time), UTC), usegmt=True)


async def drive(server: LimitedServer, pace: Pace, *, seconds: float, workers: int, call: Call) -> None:
    """Ask as much as the pace allows for so long."""
    server.pace = pace

    async def ask_on() -> None:
        while True:
            await pace(call)

    tasks = [asyncio.create_task(ask_on()) for _ in range(workers)]
    done, _ = await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
