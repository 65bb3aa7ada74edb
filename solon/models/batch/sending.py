"""How much is sent at once, and how soon; and what a desk tells of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass

from solon.errors import Halt
from solon.jobs import Job

__all__ = ["BatchFacts", "Sending"]

MOST_REFUSALS = 8
"""Jobs that a provider may refuse as a whole in a row, each smaller than the last, before it is clear that it would
refuse them all."""


@dataclass(frozen=True)
class BatchFacts:
    """Where a model's batch jobs stand.

    waiting:          calls that are in no job yet; in_jobs: calls in jobs
    answered, failed: since this process began
    jobs:             those that this process drives
    next_look:        seconds until something is looked at again
    trouble:          what stood in the way the last time, "" where nothing did
    """

    name: str
    waiting: int = 0
    in_jobs: int = 0
    answered: int = 0
    failed: int = 0
    jobs: tuple[Job, ...] = ()
    next_look: float = 0.0
    trouble: str = ""


class Sending:
    """What was learned of a provider in one wave.

    most:  calls of one job: what the provider takes, and half of what it refused
    short: the budget holds not one call more, until a job comes back and leaves some of what was put by for it
    until: nothing is sent before (by `time.monotonic`)
    """

    def __init__(self, server: object, most: int, pauses: tuple[float, float]) -> None:
        self._server = server
        self.most = most
        self.short = False
        self.until = 0.0
        self._pause, self._longest = pauses
        self._refusals = 0

    @property
    def allowed(self) -> bool:
        return not self.short and self.until <= time.monotonic()

    def wait(self) -> None:
        """Send nothing for a while, and the next time for longer."""
        self.until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, self._longest)

    def taken(self) -> None:
        """Note that a job was taken."""
        self._refusals = 0

    def refused(self, job: Job, words: str, *, counts: bool = True) -> None:
        """Send half as much from now on. Raises Halt where nothing is taken any more."""
        self.most = max(1, job.calls // 2)
        self._refusals += counts
        if self._refusals >= MOST_REFUSALS:
            raise Halt(f"{self._server}: refused {self._refusals} batch jobs in a row ({words})")
