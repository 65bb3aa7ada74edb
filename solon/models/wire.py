"""What the two server protocols share: one request, one JSON answer, our own retries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

import httpx2

from solon.calls import Call, Can, Form, Message, Reply
from solon.errors import Halt, Passing
from solon.models.carrier import CONNECT_SECONDS, Carrier, room_for
from solon.models.failures import WIRE_ERRORS, meaning_of
from solon.models.pace import Paces
from solon.models.pace.concurrency import CEILING
from solon.models.server import Server
from solon.models.spec import ModelSpec

__all__ = ["ServerModel", "count", "merged", "timeouts", "turns"]

logger = logging.getLogger("solon")


class ServerModel:
    """What `solon.calls.Model` asks for, over an SDK's client; a provider adds `path`, `request` and `read`.

    Args:
        client: the SDK's, on a `solon.models.carrier.stand_in`: it addresses requests and names failures, while the
            carrier moves the bytes.
        paces: shared by all models of a run, so that two that ask the same server with the same key share a limit.
        pacing: handed to the Paces where none are given (a test's own sleep and clock).
    """

    sdk: ModuleType
    sdk_error: type[Exception]
    can = Can()

    def __init__(
        self, spec: ModelSpec, server: Server, client: Any, *, path: str, paces: Paces | None = None, **pacing: Any
    ) -> None:
        self.server = server
        self.identity = spec.identity or server.identity
        self.name = spec.target
        self.form: Form = spec.form
        self._carrier = Carrier(client, path, url=server.url, timeout=spec.timeout)
        self._timeout = spec.timeout
        self._heard = False
        self._pace = (paces or Paces(**pacing)).of(server, spec, most=affordable(spec.concurrency, server))
        self._paced = self._pace.through(self._ask, patience=spec.patience)

    async def __call__(self, call: Call) -> Reply:
        if self.unusable:
            raise Halt(self.unusable)
        return await self._paced(call)

    async def close(self) -> None:
        await self._carrier.close()

    @property
    def concurrency(self) -> int:
        """Return how many calls may be in flight just now."""
        return self._pace.limit

    @property
    def unusable(self) -> str:
        """Return why this model cannot be asked (its key is missing), or ""."""
        return self.server.unusable

    def request(self, call: Call) -> dict[str, Any]:
        """Return the JSON body that asks `call`."""
        raise NotImplementedError

    def read(self, body: Mapping[str, Any], call: Call) -> Reply:
        """Return what the server's JSON says. LookupError, TypeError, ValueError: it is not what was promised."""
        raise NotImplementedError

    async def _ask(self, call: Call, body: dict[str, Any] | None = None) -> Reply:
        body = body or self.request(call)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._carrier.post(body)
            self._pace.heed(answer.headers)
        except (self.sdk_error, *WIRE_ERRORS) as error:
            return self._means(error, body)
        except TimeoutError:
            raise Passing("no_answer", f"{self.server}: no answer within {self._timeout:g} s", billed=True) from None
        if not 200 <= answer.status < 300:
            return self._means(await self._carrier.error(answer), body)
        try:
            reply = self.read(json.loads(answer.content), call)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            start = self.server.quote(answer.content[:10_000].decode(errors="replace"), 120) or "nothing"
            raise Passing(
                "unreadable_answer",
                f"{self.server}: {type(error).__name__} in its answer, which begins {start!r}",
                billed=True,
            ) from None
        self._heard = True
        return reply

    def _means(self, error: Exception, sent: Collection[str]) -> Reply:
        meaning = meaning_of(error, self.server, sdk=self.sdk, heard=self._heard, sent=sent)
        if isinstance(meaning, Reply):
            self._heard = True
            return meaning
        raise meaning from None


def affordable(concurrency: int | None, server: Server) -> int:
    """Return how many calls may be in flight at once at all, and say so where the system allows fewer than stated."""
    most = room_for(max(CEILING, concurrency or 0))
    if concurrency and most < concurrency:
        logger.warning(
            f"{server}: {most} calls at once instead of {concurrency}: this process may open no more files "
            "(raise the hard limit, ulimit -Hn)"
        )
    return most


def timeouts(seconds: float) -> httpx2.Timeout:
    """Return the HTTP library's limits for one attempt: `seconds`, but no longer than 10 to be let in."""
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def merged(body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` with the recipe's options in it; where both hold a mapping, theirs are joined."""
    for name, value in options.items():
        held = body.get(name)
        body[name] = {**held, **value} if isinstance(held, dict) and isinstance(value, dict) else value
    return body


def turns(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Return messages as both protocols write them. Raises ValueError for a document among turns."""
    if any(message.role == "text" for message in messages):
        raise ValueError("a document to be continued was put to a chat model; its role in the recipe needs form: text")
    return [{"role": message.role, "content": message.content} for message in messages]


def count(tokens: Any) -> int:
    """Return a number of tokens; 0 where the server does not say."""
    return int(tokens or 0)
