"""An outage, told apart from calls that fail by themselves.

    circuit.failed(trouble, now, words)    a call got no answer: no server there, a server error, a timeout
    circuit.away                           nothing new is asked but one probe at growing intervals
    circuit.succeeded(now)                 any answer ends it

The circuit opens when eight attempts in a row have failed, of several calls, and no fewer than are on their way, over
ten seconds in which not one succeeded; until then, from the eighth on, two calls at a time are asked. A call counts
only if its own trouble began after the last answer to anybody: one that the server chokes on fails while others
succeed, and stays alone with it.
"""

from __future__ import annotations

from math import inf

__all__ = ["Circuit"]

FAILURES = 8
CALLS = 4
SECONDS = 10.0
"""So many attempts, of so many calls (all there are, where there are fewer, but two at least), for so long."""

PROBES = (2.0, 60.0)
"""Seconds to the first probe, doubled with each that follows, up to the second."""


class Circuit:
    """Whether the server is away.

    away:  whether it is
    in_doubt: whether it may be
    since: when that was found out
    words: the server's last ones
    """

    def __init__(self) -> None:
        self.away = self.in_doubt = False
        self.since = 0.0
        self.words = ""
        self.last_good = -inf
        self.next_probe = 0.0
        self._interval = PROBES[0]
        self._failures = 0
        self._troubled: set[int] = set()
        self._began = 0.0

    def failed(
        self, call: int, *, first: float, begun: float, now: float, words: str, calls: int, in_flight: int
    ) -> bool:
        """Count a failure; True where it opens the circuit.

        call:  names the call
        first: when its first attempt that failed was over
        begun: when this attempt was sent
        calls: how many are there, in flight or waiting
        in_flight: how many others are on their way
        """
        if first <= self.last_good:
            return False
        self.words = words
        if self.away:
            return False
        if not self._failures:
            self._began = begun
        self._failures += 1
        self._troubled.add(call)
        # answers may take longer than failures: those on their way may be good
        enough = self._failures >= max(FAILURES, in_flight)
        self.in_doubt = enough and len(self._troubled) >= max(2, min(CALLS, calls))
        if not self.in_doubt or now - self._began < SECONDS:
            return False
        self.away, self.since = True, now
        self._interval = PROBES[0]
        self.next_probe = now + self._interval
        return True

    def probed(self, now: float) -> None:
        """Count a probe that goes; the next one is due after twice the interval."""
        self._interval = min(PROBES[1], 2 * self._interval)
        self.next_probe = now + self._interval

    def succeeded(self, now: float) -> float | None:
        """Take notice of an answer; where it ends an outage, return its seconds."""
        self.last_good = now
        if not self._failures:
            return None
        self._failures = 0
        self._troubled.clear()
        self.in_doubt = False
        if not self.away:
            return None
        self.away = False
        return now - self._began
