"""What the two server protocols share: one request, one JSON answer, our own retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import httpx2

from solon.calls import Call, Can, Form, Message, Reply
from solon.errors import Halt, Passing
from solon.models.failures import WIRE_ERRORS, meaning_of
from solon.models.pace import Pace
from solon.models.server import Server
from solon.models.spec import ModelSpec

__all__ = ["ServerModel", "count", "merged", "timeouts", "turns"]

CONNECT_SECONDS = 10.0


class ServerModel:
    """What `solon.calls.Model` asks for, over an SDK's client; a provider adds `request` and `read`.

    Requests go through the client's documented `post`, which keeps its address, key and error classes: half the
    CPU of the typed methods, and a provider's options pass through whatever signature the SDK has today.
    `pacing` is handed to the Pace (a test's own sleep and clock).
    """

    sdk: ModuleType
    sdk_error: type[Exception]
    can = Can()

    def __init__(self, spec: ModelSpec, server: Server, client: Any, **pacing: Any) -> None:
        self.server = server
        self.identity = spec.identity or server.identity
        self.name = spec.target
        self.form: Form = spec.form
        self.concurrency = spec.concurrency or 32
        self._client = client
        self._timeout = spec.timeout
        self._heard = False
        self._pace = Pace(self._ask, patience=spec.patience, concurrency=self.concurrency, **pacing)

    async def __call__(self, call: Call) -> Reply:
        if self.unusable:
            raise Halt(self.unusable)
        return await self._pace(call)

    async def close(self) -> None:
        await self._client.close()

    @property
    def unusable(self) -> str:
        """Return why this model cannot be asked (its key is missing), or ""."""
        return self.server.unusable

    def request(self, call: Call) -> tuple[str, dict[str, Any]]:
        """Return the path and the JSON body that ask `call`."""
        raise NotImplementedError

    def read(self, body: Mapping[str, Any], call: Call) -> Reply:
        """Return what the server's JSON says. LookupError, TypeError, ValueError: it is not what was promised."""
        raise NotImplementedError

    async def _ask(self, call: Call) -> Reply:
        path, body = self.request(call)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(path, cast_to=httpx2.Response, body=body)
        except TimeoutError:
            raise Passing("no_answer", f"{self.server}: no answer within {self._timeout:g} s") from None
        except (self.sdk_error, *WIRE_ERRORS) as error:
            meaning = meaning_of(error, self.server, sdk=self.sdk, heard=self._heard, sent=body)
            if isinstance(meaning, Reply):
                self._heard = True
                return meaning
            raise meaning from None
        try:
            said = json.loads(response.content)
            reply = self.read(said, call)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            start = self.server.quote(response.text, 120) or "nothing"
            raise Passing(
                "unreadable_answer",
                f"{self.server}: {type(error).__name__} in its answer, which begins {start!r}",
            ) from None
        self._heard = True
        return reply


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
