"""So much a minute: when the next call may go under a limit that the user states, or that the server tells.

    rate.wait(now)            seconds until something may go
    rate.take(amount, now)    it goes
    rate.heed(told, ...)      what a server says of this limit, as of one answer

Calls are spread evenly over the minute, with a burst of half a second (the generic cell rate algorithm: one number
says when the limit is next free). Spread so, R a minute stay within R whether the server counts by a bucket that fills
steadily or by windows that begin anew every minute. What the server tells as `remaining` matters only where it is
less than that: somebody else uses the same key, the window was begun by an earlier run, or the limit is one a day.

Then it matters how the server counts. In a window, what remains must last until the reset, which stands still while
we ask. In a bucket the reset is the time until it is full, and what flows in is (limit - remaining) / reset. Two
answers some seconds apart tell the one from the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Literal

from solon.models.pace.limits import Told

__all__ = ["LastMinute", "Rate"]

MARGIN = 0.985
"""Share of a limit that is asked for: requests arrive less evenly than they are sent."""

BURST = 0.5
"""Seconds of a limit that may go at once."""

PERIODS = (10.0, 60.0, 3600.0, 86_400.0)
"""Seconds that windows are known to last."""

APART = 3.0
"""Seconds between two answers that are compared. Anthropic's resets are told in whole seconds."""

FEW = 0.05
"""Share of a limit below which what remains in a bucket sets the rate."""

LEAST = 0.05
"""Share of what flows in that is asked for even where nothing remains: the next answer may tell of more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was told, when, and until when."""

    at: float
    until: float
    told: Told


class Rate:
    """One limit on requests or tokens.

    share: the part of what the server tells that is ours, where several processes ask with the same key
    """

    def __init__(self, share: float = 1.0) -> None:
        self.stated: float | None = None  # a minute
        self.told: float | None = None  # in the server's own period, a minute unless it turns out to be another
        self.kind: Literal["window", "bucket"] | None = None
        self.rate = inf  # a second
        self._share = share
        self._period = 60.0
        self._anchor: Seen | None = None
        self._held_until = -inf  # what remains of a window sets the rate until then
        self._empty = False  # ... and nothing remains
        self._free = -inf  # when all that has gone is paid for

    @property
    def a_minute(self) -> float | None:
        """Return the limit in force for us, a minute, or None where there is none."""
        told = inf if self.told is None else self._share * self.told * 60 / self._period
        limit = min(inf if self.stated is None else self.stated, told)
        return None if limit == inf else limit

    def state(self, a_minute: float | None, now: float) -> None:
        """Take another stated limit; None takes it away."""
        self.stated = a_minute
        self._held_until, self._empty = -inf, False
        self._set(self._even(), now)

    def wait(self, now: float) -> float:
        """Return the seconds until the next call may go, 0 or less for now."""
        if self._held_until > -inf:
            if self._held_until > now:
                # what the next window lets in is more than what is left of this one
                until = self._held_until if self._empty else min(self._held_until, self._free - BURST)
                return until - now
            self._held_until, self._empty = -inf, False
            self._set(self._even(), now)
        return self._free - BURST - now if self._free > now + BURST else 0.0

    def take(self, amount: float, now: float) -> None:
        """Count what goes now; it may be more than there is room for, which the next one waits for."""
        if self.rate < inf:
            self._free = max(self._free, now) + amount / self.rate

    def settle(self, more: float) -> None:
        """Count what an answered call took beyond what was taken for it (less, where it is below 0)."""
        if self.rate < inf:
            self._free += more / self.rate

    def pace(self, rate: float, now: float) -> None:
        """Go by so much a second, wherever that comes from."""
        self._set(rate, now)

    def heed(self, told: Told, now: float, *, age: float, since: float) -> None:
        """Go by what an answer tells.

        age:   seconds since that call was sent; the server may have looked as long ago
        since: what has been sent after it, in this limit's measure
        """
        if told.limit != self.told:
            self.told, self._anchor, self.kind, self._period = told.limit, None, None, 60.0
        left = max(0.0, told.remaining - since)
        reset = max(0.0, told.reset - age)
        self._classify(Seen(now, now + reset, told))
        even = self._even()
        if self.kind == "window":
            reset = max(reset, 0.01)
            self._held_until, self._empty = now + reset, left < 1
            self._set(even if self._empty else min(even, left * self._share / reset), now)
            return
        self._held_until, self._empty = -inf, False
        fill = (told.limit - told.remaining) / told.reset if told.reset > 0 else inf
        left = told.remaining - since + (fill * age if fill < inf else 0.0)
        few = max(FEW * told.limit, 1.0)
        if left < few and fill < inf:
            # somebody else drinks from it too: as much less as it is emptier, which settles where both have enough
            self._set(min(even, MARGIN * self._share * fill * max(LEAST, left / few)), now)
        else:
            self._set(even, now)

    def _even(self) -> float:
        limit = self.a_minute
        return inf if limit is None else MARGIN * limit / 60

    def _set(self, rate: float, now: float) -> None:
        if rate != self.rate:
            if self._free > now and self.rate < inf:
                # what is owed stays the same number of calls
                self._free = now + (self._free - now) * (self.rate / rate if rate < inf else 0.0)
            self.rate = rate

    def _classify(self, seen: Seen) -> None:
        before = self._anchor
        if before is None:
            self._anchor = seen
            return
        apart = seen.at - before.at
        if apart < APART:
            return
        self._anchor = seen
        moved = abs(seen.until - before.until)
        still = moved < 0.25 * apart + 0.6
        fills = _fill(before.told), _fill(seen.told)
        steady = None not in fills and abs(fills[1] / fills[0] - 1) < 0.1  # type: ignore[operator]
        if still != steady:
            self.kind = "window" if still else "bucket"
        elif self.kind == "window" and moved > 5 and apart < 3 * APART:
            # the next window has begun
            self._period = next((period for period in PERIODS if 0.8 < moved / period < 1.25), self._period)


class LastMinute:
    """How much there was in the last sixty seconds."""

    def __init__(self) -> None:
        self._slots: deque[tuple[int, float]] = deque()
        self._second, self._now, self._sum = -1, 0.0, 0.0

    def add(self, amount: float, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._slots.append((self._second, self._now))
            self._second, self._now = second, 0.0
            self._forget(second)
        self._now += amount
        self._sum += amount

    def total(self, now: float) -> float:
        self._forget(int(now))
        return self._sum if self._second > int(now) - 60 else 0.0

    def _forget(self, second: int) -> None:
        while self._slots and self._slots[0][0] <= second - 60:
            self._sum -= self._slots.popleft()[1]


def _fill(told: Told) -> float | None:
    used = told.limit - told.remaining
    return used / told.reset if used > 0 and told.reset > 0 else None
