"""The door of a ledger: memory first, then one flight to the model, within a budget where there is one.

A flight goes on by itself (`flight`): an asker that is cancelled takes no paid reply with it.
"""

from __future__ import annotations

from collections.abc import Callable

from solon.calls import Call, Model, Reply
from solon.errors import Aside
from solon.ledger.flight import Flight, Flights, Payer, Tally

__all__ = ["Door"]


class Door:
    """`await door(call)`: memory first, then one flight to the model. Keeps a Tally of what went through."""

    def __init__(
        self,
        flights: Flights,
        model: Model | None,
        *,
        refresh: bool,
        missed: Callable[[Call], None] | None,
        payer: Payer,
    ) -> None:
        if payer.limit is not None and payer.meter is None:
            raise ValueError("a limit needs a meter")
        self._flights = flights
        self._model = model
        self._refresh = refresh
        self._missed = missed
        self._payer = payer
        self.tally = Tally()

    async def __call__(self, call: Call) -> Reply:
        flights, key = self._flights, call.key
        flight = flights.flying.get(key)
        if flight is not None:
            shared = await flight.landing()
            self.tally.shared += 1
            return shared.from_memory()
        fresh = self._refresh and self._model is not None and key not in flights.refreshed
        reply = None if fresh else flights.known(key)
        if reply is not None:
            self.tally.remember(reply)
            return reply
        if self._model is None:
            if self._missed:
                self._missed(call)
            raise Aside("not_known", key)
        if flights.closing:
            raise flights.shut()
        flight = Flight(flights, self._model, call, self._payer, self.tally, fresh=fresh)
        landing = flight.landing()
        flight.begin()
        return await landing
