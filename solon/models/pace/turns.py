"""What waits for a turn at a server, and what has one."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from solon.models.pace.guess import Cost

__all__ = ["ATTEMPT", "Attempt", "Waiter"]


class Attempt:
    """One attempt that is on its way: when it was sent, and what had been sent and refused by then."""

    __slots__ = ("begun", "bursts", "cost", "full", "sent")

    def __init__(self, begun: float, bursts: int, cost: Cost, sent: Cost) -> None:
        self.begun, self.bursts, self.cost, self.sent = begun, bursts, cost, sent


ATTEMPT: ContextVar[Attempt | None] = ContextVar("ATTEMPT", default=None)
"""Which attempt's headers are being heeded."""


class Waiter:
    """A call that waits for its turn."""

    __slots__ = ("cost", "future", "patience")

    def __init__(self, cost: Cost, patience: float) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cost, self.patience = cost, patience
