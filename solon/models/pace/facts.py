"""What the pace of a server tells: where it stands, for a progress view, and what happened to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Listener", "PaceEvent", "PaceFacts", "State"]

State = Literal["open", "paused", "outage", "told to wait"]


@dataclass(frozen=True, slots=True)
class PaceEvent:
    """What happened to a server: an "outage" (`words` are its last ones), or it "resumed" after so many seconds."""

    kind: Literal["outage", "resumed"]
    server: str
    words: str = ""
    seconds: float = 0.0


Listener = Callable[[PaceEvent], None]


@dataclass(frozen=True, slots=True)
class PaceFacts:
    """Where one server stands.

    name, server:        the model ("openai:gpt-4.1"), and with its address
    in_flight, waiting:  calls that are being asked, and that wait for a turn
    limit, ceiling:      calls there may be in flight now, and the most there may ever be
    requests_per_minute, tokens_per_minute: in the last minute (tokens of answered calls, in and out)
    requests_limit, tokens_limit: limits on them, stated, told or learned; None where none is known
    used_share:          what the last minute used of the tightest known limit; None where none is known
    used_of:             that limit in words ("600 requests a minute")
    throttled:           how often the server said "too many requests"
    state, since:        what it is in, and for how many seconds
    """

    name: str
    server: str
    in_flight: int
    waiting: int
    limit: int
    ceiling: int
    requests_per_minute: float
    tokens_per_minute: float
    requests_limit: float | None
    tokens_limit: float | None
    used_share: float | None
    used_of: str
    throttled: int
    state: State
    since: float
