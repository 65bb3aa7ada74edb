"""What may still be asked of one server this minute, in requests and in tokens, by every limit that is known of.

allowance.cost(call)          what a call will take
allowance.wait(now)           seconds until the next may go
allowance.take(cost, now)     it goes
allowance.settle(...)         what it took
allowance.heed(told, ...)     what the server says of its limits
"""

from __future__ import annotations

from collections.abc import Mapping

from solon.calls import Call, Usage
from solon.models.pace.guess import Cost, Guess
from solon.models.pace.limits import Told
from solon.models.pace.rates import LastMinute, Rate
from solon.models.pace.refusals import Refusals

__all__ = ["Allowance"]

MEASURES = ("requests", "tokens", "input-tokens", "output-tokens")
ONE: Cost = (1.0, 0.0, 0.0, 0.0)

AWHILE = 1.0
"""Seconds after which a learned rate is looked at again: it grows."""


class Allowance:
    """The limits of one server on requests and tokens a minute.

    refusals: where a rate is learned, as long as the server tells none
    share:    the part of what the server tells that is ours
    sent:     what has been taken so far, in each measure
    """

    def __init__(self, refusals: Refusals, *, share: float) -> None:
        self.sent: Cost = (0.0, 0.0, 0.0, 0.0)
        self._refusals = refusals
        self._share = share
        self._rates: dict[int, Rate] = {}
        self._pacing: tuple[tuple[Rate, int], ...] = ()
        self._learned = Rate()
        self._by_tokens = False
        self._guess = Guess()
        self._last = tuple(LastMinute() for _ in MEASURES)

    @property
    def known(self) -> bool:
        """Return whether any limit is stated, told or learned."""
        return bool(self._pacing) or self._refusals.estimate is not None

    def cost(self, call: Call) -> Cost:
        """Return what a call will probably take."""
        return self._guess.of(call) if self._by_tokens else ONE

    def wait(self, now: float) -> float:
        """Return the seconds until the next call may go, 0 for now."""
        wait = 0.0
        for rate, _ in self._pacing:
            wait = max(wait, rate.wait(now))
        if self._refusals.estimate is not None:
            self._learned.pace(self._refusals.rate(now), now)
            wait = max(wait, min(AWHILE, self._learned.wait(now)))
        return wait

    def take(self, cost: Cost, now: float) -> None:
        """Count a call that goes."""
        for rate, index in self._pacing:
            rate.take(cost[index], now)
        if self._refusals.estimate is not None:
            self._learned.take(1.0, now)
        sent = self.sent
        if self._by_tokens:
            self.sent = (sent[0] + 1, sent[1] + cost[1], sent[2] + cost[2], sent[3] + cost[3])
        else:
            self.sent = (sent[0] + 1, sent[1], sent[2], sent[3])
        self._last[0].add(1.0, now)

    def settle(self, call: Call, cost: Cost, usage: Usage, now: float) -> None:
        """Count what an answered call took, beyond the `cost` that was taken for it."""
        tokens = usage.input + usage.output
        if not tokens:
            return
        self._last[1].add(tokens, now)
        if self._by_tokens:
            took = self._guess.learn(call, usage)
            for rate, index in self._pacing:
                rate.settle(took[index] - cost[index])
            for index in (2, 3):
                self._last[index].add(took[index], now)

    def state(self, what: str, a_minute: float | None, now: float) -> None:
        """Take a limit that the user states; None takes it away."""
        self._rate(MEASURES.index(what)).state(a_minute, now)

    def stated(self, what: str) -> float | None:
        """Return the limit that the user states."""
        rate = self._rates.get(MEASURES.index(what))
        return rate.stated if rate else None

    def limit(self, what: str) -> float | None:
        """Return the limit in force, a minute, or None where none is known."""
        rate = self._rates.get(MEASURES.index(what))
        known = rate.a_minute if rate else None
        learned = self._refusals.estimate if what == "requests" else None
        if learned is None:
            return known
        return learned * 60 if known is None else min(known, learned * 60)

    def heed(self, told: Mapping[str, Told], now: float, *, age: float, before: Cost) -> None:
        """Go by what an answer tells.

        age:    seconds since its call was sent
        before: what had been sent when it was
        """
        self._refusals.learning = False
        for what, each in told.items():
            index = MEASURES.index(what)
            self._rate(index).heed(each, now, age=age, since=self.sent[index] - before[index])

    def last_minute(self, what: str, now: float) -> float:
        """Return how much there was in the last minute."""
        return self._last[MEASURES.index(what)].total(now)

    def used(self, now: float) -> tuple[float | None, str]:
        """Return what the last minute used of the tightest known limit, and that limit in words; (None, "") if none."""
        shares = [
            (self.last_minute(what, now) / limit, f"{limit:,.0f} {what.replace('-', ' ')} a minute")
            for what in MEASURES
            if (limit := self.limit(what))
        ]
        return max(shares, default=(None, ""))

    def _rate(self, index: int) -> Rate:
        if index not in self._rates:
            self._rates[index] = Rate(self._share)
            self._pacing = tuple((rate, index) for index, rate in self._rates.items())
            self._by_tokens = any(self._rates)
        return self._rates[index]
