"""What "too many requests" alone tells: how long the door stays shut, and which rate the server seems to allow.

    refusals.refused(now, ...)      the first refusal of a burst: everybody waits
    refusals.shut_until             nobody goes before
    refusals.sent(now)              one goes
    refusals.rate(now)              so many may go a second

A refusal says that the limit is used up. From the moment when calls are let in again to the next such moment, the
server has let in as much as its limit gives; calls let in divided by seconds is the rate. Two things are added. What
was let in before the first refusal says little, since a bucket may have been full then, and is forgotten as soon as
something better is known. And where a server counts by minutes, what was left over in earlier ones is lost: what it has
let in within the last minute is a rate that it allows, too.

From then on calls go a little slower than that, for two thirds of the time that the estimate spans; then slowly faster,
until the next refusal makes it better. The estimate spans two and a half minutes at most, so a limit that has changed
is learned anew; one that has changed by much, at once.

A server may also refuse because too many calls are in flight; halving these is then all there is to do. That it is
about a rate shows when it refuses again with clearly fewer in flight.

Not every refusal speaks of a limit: one bad replica behind a balancer refuses now and then, whoever asks. Slowing down
for those would never end, since what was let in between two of them is no rate of the server's. They show by coming
seldom, while no more is asked than what the last ones taught, and by the calls sent right behind them, which are let
in. Such strays concern the call that they hit alone, as long as they stay seldom.

Where the server said how long to wait, that is obeyed; where not, the door stays shut for half a second, and while
refusals go on for a fifth of the time since they began. Then it opens by a crack: one call goes, and the others follow
when it was not refused.
"""

from __future__ import annotations

from collections import deque
from math import inf

from solon.models.pace.rates import LastMinute

__all__ = ["Refusals"]

MARGIN = 0.985
"""Share of the learned rate that is asked for at first."""

SPAN = 150.0
"""Seconds that an estimate looks back."""

HOLD = (0.5, 100.0)
"""Fewest and most seconds for which a fresh estimate is kept to before more is tried."""

STEP = 0.03
"""How far beyond the estimate is gone in the time after that, then doubled; more where few calls were counted."""

ENOUGH, OTHER = 10, 0.25
"""So many calls that show a rate which differs by so much from what was known: the limit has changed."""

SHUT = (0.5, 15.0)
"""Fewest and most seconds that the door is shut where the server does not say for how long."""

FEW, LESS, HALF = 2, 0.8, 0.5
"""A refusal with so few calls in flight, or with so much less than at an earlier one, is about a rate. The first one
may have come with twice as many in flight as there is room for, since the limit had been doubled."""

LONG = 1.0
"""... and so is one that says to wait for longer than so many seconds."""

SELDOM, OFTEN = 0.08, 0.15
"""Refusals may be strays where no larger share of the latest answers is refused, and are none any more at the other."""

MEMORY = 64.0
"""Answers that such a share looks back on, about."""

BEHIND, BARRED, FADES = 2.0, 0.25, 0.9
"""... and where of the calls sent right behind refused ones so many were let in, and a smaller share than that was not;
the last number is what an earlier burst counts beside the one after it."""

DENIED = 600.0
"""Seconds for which they are not, after that was found to be wrong."""

FORGOTTEN = 8.0
"""A rate that has grown so many times beyond its estimate without a refusal is no limit any more."""


class Refusals:
    """The door that a refusal shuts, and the rate that refusals teach; everything a second.

    count, bursts: refusals, and bursts of them: those to calls that were on their way together are one
    learning: False where the server tells its limits: then only the door is kept
    stray:    True where refusals say nothing of a limit: whoever is hit waits alone
    """

    def __init__(self) -> None:
        self.count = self.bursts = 0
        self.shut_until = -inf
        self.learning = True
        self.stray = False
        self._share, self._denied_until = 0.0, -inf
        self._behind = (0, 0)  # calls sent right behind the first refused one of a burst: numbers from, to
        self._passed = self._barred = 0.0
        self._refused_since: float | None = None  # refusals go on, and nothing has been let in
        self._ajar = False  # the next call is the first one after the door was shut
        self._crack = False  # ... and goes alone
        self._took = 0.1  # seconds that refusals take to be heard
        self._sent = 0
        self._minute = LastMinute()
        self._started: float | None = None
        self._begun = (0.0, 0)  # when calls were last let in again, and how many had been before
        self._candidate: tuple[float, int] | None = None
        self._last_refused, self._let_in = -inf, 0.0  # and how much was let in within the minute before
        self._first_opened = inf
        self._spans: deque[tuple[float, int]] = deque()
        self._crowd = self._crowds = 0  # calls in flight at a first refusal, and how many of these there were
        self._by_rate = False
        self._rate = inf
        self._known_at, self._hold, self._step = -inf, HOLD[0], STEP

    @property
    def estimate(self) -> float | None:
        """Return the learned rate, a second, or None before the first refusal."""
        return None if self._rate == inf else self._rate

    def strays(self, now: float) -> bool:
        """Return whether a refusal that comes now is to be taken for a stray, and forget what strays have taught."""
        if self.stray:
            self.stray = self._share < OFTEN
            self._denied_until = self._denied_until if self.stray else now + DENIED
        elif self._refused_since is None and self._rate < inf and self.learning:
            doubtful = now - self._known_at <= self._hold and now > self._denied_until
            let_in = self._passed >= BEHIND and self._barred < BARRED * self._passed
            self.stray = doubtful and let_in and self._share < SELDOM
            if self.stray:
                self._forget()
        return self.stray

    def _forget(self) -> None:
        self._rate, self._by_rate, self._crowd, self._crowds = inf, False, 0, 0
        self._spans.clear()
        self._candidate, self._ajar, self._crack = None, False, False

    def refused(
        self, now: float, *, took: float, told: float | None, in_flight: int, number: int = 0, sent: int = 0
    ) -> bool:
        """Shut the door for the first refusal of a burst; True where calls have been let in since the one before.

        took: seconds from question to refusal
        told: seconds that the server asked to wait
        in_flight: calls that were on their way
        number, sent: the place of the refused call among all that were sent, and how many have been
        """
        self.bursts += 1
        self._behind = (number, sent)
        self._passed, self._barred = self._passed * FADES, self._barred * FADES
        fresh = self._refused_since is None
        # refused with few in flight where many were let in before: not the many are too many
        fewer = in_flight <= FEW or in_flight < (LESS if self._crowds > 1 else HALF) * self._crowd
        self._by_rate = self._by_rate or fewer or (told or 0.0) > LONG
        if fresh:
            self._crowds += 1
            self._crowd = in_flight if self._crowds <= 2 else self._crowd
        self._took += 0.3 * (min(took, 2.0) - self._took)
        if self._refused_since is None:
            self._refused_since = now
        low, high = max(SHUT[0], min(2.0, 2 / self._rate)), SHUT[1]
        wait = min(high, max(low, 0.2 * (now - self._refused_since))) if told is None else told
        self._last_refused, self._let_in = now - took, self._minute.total(now)
        self._crack, self._ajar, self._candidate = told is None, True, None
        self.shut_until = max(self.shut_until, now + wait)
        return fresh

    def one_more(self, now: float, number: int = 0) -> None:
        """Count a refusal, of any burst, of the call of this number."""
        self._barred += self._behind[0] < number <= self._behind[1]
        self.count += 1
        self._minute.add(-1.0, now)
        self._share += (1.0 - self._share) / MEMORY

    def answered(self, bursts: int, number: int = 0) -> None:
        """Take notice of an answer to a call, the `number`-th that was sent, after so many bursts."""
        self._passed += self._behind[0] < number <= self._behind[1]
        self._share -= self._share / MEMORY
        if bursts == self.bursts:
            self._refused_since = None

    def sent(self, now: float) -> None:
        """Count a call that goes."""
        if self._started is None:
            self._started = now
            self._begun = (now, 0)
        if self._ajar:
            self._ajar = False
            self._candidate = (now, self._sent - self.count)
            if self._crack:
                self.shut_until = now + min(1.0, max(0.05, 3 * self._took))
            else:
                self._settle(now)
        elif self._candidate is not None:
            self._settle(now)
        self._sent += 1
        self._minute.add(1.0, now)

    def rate(self, now: float) -> float:
        """Return how many calls may go a second, or infinity."""
        if self._rate == inf or not self.learning:
            self._rate = inf
            return inf
        rounds = (now - self._known_at) / self._hold - 1
        if rounds <= 0:
            return self._rate * MARGIN
        if rounds <= 1:
            return self._rate * (MARGIN + rounds * (1 + self._step - MARGIN))
        grown = (1 + self._step) ** (2.0 ** min(rounds - 1, 20.0))
        if grown > FORGOTTEN:
            self._forget()
            return inf
        return self._rate * grown

    def _settle(self, now: float) -> None:
        """The door has held: what was let in since it was last opened is one span of the estimate."""
        assert self._candidate is not None and self._started is not None
        opened, let_in = self._candidate
        (begun, before), self._candidate = self._begun, None
        self._begun = (opened, let_in)
        self._refused_since = None
        if not (self.learning and self._by_rate) or opened <= begun:
            return
        # where the server did not say, the limit came back at some time between the last refusal and now
        late = (opened - self._last_refused) / 2 if self._crack else 0.0
        minute = self._let_in
        if self._first_opened == inf:
            self._first_opened = opened
            seconds = min(60.0, opened - self._started - late)
            self._know(now, max(1.0, minute), seconds, sure=late / seconds)
            self._hold = min(self._hold, 20.0)
            return
        seconds, total = self._sums()
        self._spans.append((opened - begun, max(1, let_in - before)))
        if seconds and (recent := self._changed(total / seconds)):
            self._spans = deque(list(self._spans)[-recent:])
            self._first_opened = opened
        while len(self._spans) > 1 and self._sums()[0] - self._spans[0][0] >= SPAN:
            self._spans.popleft()
        seconds, total = self._sums()
        if opened - 60 >= self._first_opened and minute / 60 > total / seconds:
            seconds, total = 60.0, minute
        self._know(now, total, seconds, sure=late / seconds)

    def _changed(self, rate: float) -> int:
        """Return how many of the latest spans together say that it is quite another rate now; 0 where they do not."""
        seconds = calls = 0.0
        for recent, (span, let_in) in enumerate(reversed(self._spans), start=1):
            seconds, calls = seconds + span, calls + let_in
            if calls >= ENOUGH:
                return recent if abs(calls / seconds / rate - 1) > OTHER else 0
        return 0

    def _know(self, now: float, calls: float, seconds: float, *, sure: float) -> None:
        self._rate = calls / seconds
        self._hold = min(HOLD[1], max(HOLD[0], seconds * 2 / 3))
        self._step = max(STEP, 2 / calls, sure)
        self._known_at = now

    def _sums(self) -> tuple[float, float]:
        return sum(each for each, _ in self._spans), sum(each for _, each in self._spans)
