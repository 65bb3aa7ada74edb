"""How a load server behaves: how long it takes, what goes wrong, how much it lets in. All of it decided by hashes.

manners = Manners(latency=0.2, faults=evenly(0.3), first=2)
manners.seconds(digest, 1), manners.fault(digest, 1)      of the first attempt at the question with this digest
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import answers

__all__ = ["FAULTS", "STATUS", "Limit", "Manners", "evenly"]

FAULTS = ("429", "500", "503", "529", "reset", "hang", "drip", *answers.CONTENT)
STATUS = {"429": "rate limit reached", "500": "server error", "503": "service unavailable", "529": "overloaded"}


def evenly(share: float, kinds: tuple[str, ...] = FAULTS) -> dict[str, float]:
    """Return faults that together hit `share` of all attempts, each as often as the others."""
    return dict.fromkeys(kinds, share / len(kinds))


@dataclass(frozen=True)
class Manners:
    """How the server behaves; `server.py` says what each option is."""

    latency: float = 0.0
    spread: str = "fixed"
    requests: float = 0.0
    tokens: float = 0.0
    per: str = "bucket"
    faults: Mapping[str, float] = field(default_factory=dict)
    first: int = 0
    lasting: Mapping[str, float] = field(default_factory=dict)
    retry_after: float = 1.0
    hang: float = 3600.0
    drip: float = 2.0
    seed: int = 0

    def seconds(self, digest: str, attempt: int) -> float:
        """Return this attempt's latency."""
        if self.spread == "fixed" or not self.latency:
            return self.latency
        share = answers.share_of("latency", self.seed, digest, attempt)
        if self.spread == "bimodal":
            return self.latency * (5 if share < 0.1 else 1)
        return self.latency * math.exp(0.5 * NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9)))

    def fault(self, digest: str, attempt: int) -> str:
        """Return what goes wrong with the `attempt`th time (from 1) that this question is asked; "" for nothing."""
        for_ever = _picked(self.lasting, answers.share_of("lasting", self.seed, digest))
        if for_ever or (self.first and attempt > self.first):
            return for_ever
        return _picked(self.faults, answers.share_of("fault", self.seed, digest, attempt))


def _picked(chances: Mapping[str, float], share: float) -> str:
    for kind, chance in chances.items():
        share -= chance
        if share < 0:
            return kind
    return ""


class Limit:
    """So many units a minute; `take` returns the seconds after which these units would fit, 0 where they fit now."""

    def __init__(self, a_minute: float, per: str) -> None:
        self.rate = a_minute / 60
        self.fixed = per == "fixed"
        self.most = a_minute if self.fixed else max(self.rate, 1.0)
        self.left, self.at = self.most, time.monotonic()

    def _refill(self) -> None:
        now = time.monotonic()
        if not self.fixed:
            self.left = min(self.most, self.left + (now - self.at) * self.rate)
            self.at = now
        elif now - self.at >= 60:
            self.left, self.at = self.most, now - (now - self.at) % 60

    def wait(self, units: float) -> float:
        self._refill()
        # what is larger than the bucket itself passes when the bucket is full
        short = min(units, self.most) - self.left
        if short <= 0:
            return 0.0
        return 60 - (time.monotonic() - self.at) if self.fixed else short / self.rate

    def take(self, units: float) -> None:
        self.left -= units

    def reset(self) -> float:
        """Return the seconds until all of it is there again."""
        return 60 - (time.monotonic() - self.at) if self.fixed else (self.most - self.left) / self.rate
