"""How a server is driven to its limit and not beyond: calls in flight, calls and tokens a minute, retries, outages."""

from __future__ import annotations

from solon.models.pace.facts import Listener, PaceEvent, PaceFacts
from solon.models.pace.pace import Pace, Paces

__all__ = ["Listener", "Pace", "PaceEvent", "PaceFacts", "Paces"]
