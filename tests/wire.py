"""A real HTTP server on loopback that answers from a script, faults included, and a clock that tests can turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from solon.calls import Call, Message, Sampling


@dataclass
class Answer:
    """One HTTP answer. `cut` breaks the connection after so many bytes of the body; `delay` and `drip` (between two
    bytes of the body) are in seconds."""

    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut: int | None = None
    delay: float = 0.0
    drip: float = 0.0

    def bytes(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass
class Request:
    """What a client sent."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Wire:
    """`async with Wire(answer, answer) as wire`: answers in this order, the last one for ever.

    `wire.url` is its address without a path, `wire.requests` what it was sent, `wire.asked` set by the
    first request.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Wire:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.path, dict(request.headers), await request.json()))
        self.asked.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.delay:
            await asyncio.sleep(answer.delay)
        content = answer.bytes()
        headers = {"Content-Type": answer.content_type, **answer.headers}
        if answer.cut is None and not answer.drip:
            return web.Response(body=content, status=answer.status, headers=headers)
        response = web.StreamResponse(status=answer.status, headers={**headers, "Content-Length": str(len(content))})
        await response.prepare(request)
        if answer.drip:
            for byte in content:
                await response.write(bytes([byte]))
                await asyncio.sleep(answer.drip)
            return response
        await response.write(content[: answer.cut])
        assert request.transport is not None
        request.transport.close()
        return response


class Time:
    """A clock that only naps move: `Pace(..., sleep=time.sleep, clock=time.clock)`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)

    @property
    def pacing(self) -> dict[str, Any]:
        return {"sleep": self.sleep, "clock": self.clock}


def asking(text: str = "Hello?", role: str = "user", **given: Any) -> Call:
    """Return a Call of one message; `given` may hold any field of Call."""
    return Call("test", (Message(role, text),), given.pop("sampling", Sampling(max_tokens=64)), **given)


def chat(content: Any = "Hi.", finish: str = "stop", *, logprobs: Any = None, **message: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-name",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish,
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }


def claude(*blocks: dict[str, Any], stop: str = "end_turn", **usage: int) -> dict[str, Any]:
    """Return the body of an Anthropic message."""
    return {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": "served-name",
        "content": list(blocks or ({"type": "text", "text": "Hi."},)),
        "stop_reason": stop,
        "usage": {"input_tokens": 7, "output_tokens": 5, **usage},
    }


def error(
    message: str, *, code: str | None = None, kind: str = "invalid_request_error", param: str | None = None
) -> Any:
    """Return an OpenAI error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
