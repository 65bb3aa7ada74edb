"""How many calls may be in flight at once: found out by asking, where nobody says.

    doors = Concurrency(None, ceiling=1024)
    doors.limit              just now
    doors.answered(...)      an answer came while all of it was in use
    doors.cut()              "too many requests", once for a burst

A stated number starts at its value. Where none is stated the limit starts at eight and doubles as long as a doubled
limit brings a quarter more answers in the same time (slow start); where it does not, the server is busy and calls only
wait longer: the limit goes back to what paid, and is raised by one a round of answers from there, as long as that pays
(additive increase). A refusal halves it (multiplicative decrease); it doubles back to nine tenths of what it was, and
goes on by one a round, ever more slowly where it meets a refusal at the same place again and again.

What pays is told by tokens of answer a second, not by answers: a judge's one letter and a responder's page go through
the same door.
"""

from __future__ import annotations

__all__ = ["CEILING", "Concurrency"]

CEILING = 1024
"""Most calls in flight at once where nobody states a number."""

START = 8
UNTRIED = 32
"""Up to this many nobody looks whether more in flight pays: a few answers more or less would decide."""

KEPT = 0.9
"""Share of the old limit that is gone back to at once after a refusal."""

MOST_OF = 0.9
"""Share of the calls let in whose answers are waited for: the slowest few are not."""

MOST_ROUNDS = 32
"""Rounds between two raises where raising was in vain again and again."""

OVERHEAD = 20
"""A call takes as long as so many tokens, before its first."""


class Concurrency:
    """The limit on calls in flight, between 1 and `ceiling`.

    needed: calls in flight that a known rate comes to; on the way there slow start takes two steps at once
    """

    def __init__(self, stated: int | None, *, ceiling: int = CEILING) -> None:
        self.stated = stated is not None
        self.ceiling = ceiling if stated is None else min(stated, ceiling)
        self.limit = self.ceiling if self.stated else min(START, self.ceiling)
        self.needed = 0.0
        self._goal = self.ceiling  # doubled up to here, raised by one beyond
        self._slow_start = not self.stated
        self._cut_at = self._most_before = 0
        self._every, self._rounds = 1, 0
        self._knee: tuple[int, float] | None = None  # a limit that paid, and tokens a second at it
        self._cohort: int | None = None  # the first of the calls by which the limit is being judged
        self._answers, self._full, self._idle = 0, 0, False
        self._seconds, self._work = 0.0, 0.0

    def set_ceiling(self, ceiling: int) -> None:
        """Take another ceiling; a higher one is gone up to by doubling."""
        self._slow_start = self._slow_start or ceiling > self.ceiling
        self.ceiling = self._goal = ceiling
        self._every, self._cut_at = 1, 0
        self._set(min(self.limit, ceiling))

    def restart(self) -> None:
        """Go back to the start, and from there quickly to where we are: the server was away."""
        self._goal, self._slow_start = self.limit, True
        self._set(min(self.limit, START))

    def cut(self) -> None:
        """Halve the limit, and remember where that was."""
        old = self.limit
        self._most_before = max(self._most_before, old)
        again = self._cut_at and self._cut_at / 1.2 <= old <= self._cut_at * 1.2
        self._every = min(MOST_ROUNDS, 2 * self._every) if again else 1
        self._cut_at = old
        self._goal, self._slow_start = max(1, int(KEPT * old)), True
        self._set(max(1, old // 2))

    def uncut(self) -> None:
        """Go back to where the limit was first cut: the refusals were about something else."""
        self._goal, self._every, self._cut_at = self.ceiling, 1, 0
        self._set(max(self.limit, self._most_before or self.limit))
        self._most_before = 0

    def idle(self) -> None:
        """Take notice that something else than the limit keeps calls back: that answers come no faster says nothing."""
        self._idle = True

    def answered(self, number: int, seconds: float, tokens: int, *, sent: int, full: bool) -> None:
        """Count an answer.

        number:  the place of its call among all that were sent
        seconds: what it took
        tokens:  of the answer
        sent:    how many have been sent by now
        full:    the limit was in full use when it came
        """
        if self._cohort is None or sent > self._cohort + 4 * self.limit:
            self._look(sent)
            return
        # a limit is judged by as many calls as it lets in, the quick and the slow ones
        if not self._cohort <= number < self._cohort + self.limit:
            return
        self._answers += 1
        self._full += full
        self._seconds += seconds
        self._work += OVERHEAD + tokens
        if self._answers < MOST_OF * self.limit:
            return
        if 2 * self._full >= self._answers and (self.stated or self._pays()):
            self._raise()
        self._look(sent)

    def _pays(self) -> bool:
        """Return whether the limit may be raised further; where it brought nothing, it is taken back to what did."""
        speed = self.limit * self._work / max(self._seconds, 1e-9)
        if self._knee is None or self.limit <= self._knee[0]:
            self._knee = (self.limit, speed)
            return True
        grown, gained = self.limit / self._knee[0], speed / self._knee[1]
        if grown < (2 if self._slow_start else 1.5):
            return True
        if gained < 1 + (grown - 1) / 4 and self.limit > UNTRIED:
            if self._idle:
                return False
            self._slow_start = False
            self._every, self._rounds = min(MOST_ROUNDS, 2 * self._every), 0
            self.limit = self._knee[0]
            return False
        if gained > 1 + (grown - 1) * 0.7 and self.limit < self._goal:
            self._slow_start, self._every = True, 1
        self._knee = (self.limit, speed)
        return True

    def _raise(self) -> None:
        if self._slow_start and self.limit < self._goal:
            self.limit = min((4 if self.needed >= 4 * self.limit else 2) * self.limit, self._goal)
            return
        self._slow_start = False
        self._rounds += 1
        if self._rounds >= self._every:
            self._rounds = 0
            self.limit = min(self.ceiling, self.limit + max(1, self.limit // 32))

    def _look(self, sent: int) -> None:
        """Count anew, from calls that are sent from now on."""
        self._cohort, self._answers, self._full, self._idle = sent, 0, 0, False
        self._seconds, self._work = 0.0, 0.0

    def _set(self, limit: int) -> None:
        self.limit, self._cohort = limit, None
