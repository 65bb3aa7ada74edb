"""What calls cost, in the three measures that a budget can be stated in: calls, tokens and money.

    limit = Limit(nano=25 * DOLLAR)
    limit.holds(spent + reserved + meter.worst(call))

Money is counted in billionths of a US dollar (`nano`), whole numbers, so that sums are exact whatever their order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from solon.calls import Call, Usage

__all__ = ["ATTEMPT_LOST", "DOLLAR", "Limit", "Meter", "Spend"]

DOLLAR = 1_000_000_000
"""One US dollar in `nano`."""


@dataclass(frozen=True, slots=True)
class Spend:
    """So many calls, tokens (in and out together) and billionths of a dollar."""

    calls: int = 0
    tokens: int = 0
    nano: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.calls + other.calls, self.tokens + other.tokens, self.nano + other.nano)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.calls - other.calls, self.tokens - other.tokens, self.nano - other.nano)

    @property
    def dollars(self) -> float:
        return self.nano / DOLLAR


@dataclass(frozen=True, slots=True)
class Limit:
    """A hard cap in any of the three measures; None where there is none."""

    calls: int | None = None
    tokens: int | None = None
    nano: int | None = None

    def holds(self, spend: Spend) -> bool:
        """Return whether `spend` is within the cap, in every measure."""
        pairs = ((self.calls, spend.calls), (self.tokens, spend.tokens), (self.nano, spend.nano))
        return all(most is None or used <= most for most, used in pairs)


class Meter(Protocol):
    """What one model's calls cost. Without a known price `nano` is 0: a budget in money then refuses to start."""

    def worst(self, call: Call) -> Spend:
        """Return the most that one attempt at `call` can cost: all of its question, and all of max_tokens."""
        ...

    def paid(self, usage: Usage) -> Spend:
        """Return what an answered call cost."""
        ...


ATTEMPT_LOST: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("ATTEMPT_LOST", default=None)
"""Set by a ledger's door around one call, awaited by the pace before it asks again after an attempt that may have been
billed although nobody heard its answer (a timeout, a connection that broke): that attempt is counted at its worst, and
the next one is only begun when the budget has room for it. Raises OverBudget where it has none."""
