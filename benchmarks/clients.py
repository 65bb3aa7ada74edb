"""Plain loops over chains of recorded questions: what an endpoint gives to whoever keeps no memory and writes nothing.

    python benchmarks/clients.py protocol|aiohttp|sdk-aiohttp|sdk URL CHAINS IN_FLIGHT

    sdk            the openai SDK as it comes: `create`, its own retries on
    sdk-aiohttp    the same on the SDK's own aiohttp back end
    aiohttp        a session of aiohttp, JSON read by hand
    protocol       asyncio's Protocol and nothing else: what the interpreter itself allows

CHAINS holds a line a chain: a JSON list of request bodies, each asked when the one before has been answered. IN_FLIGHT
loops share the chains, so that many calls are in flight until the chains run out.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Chain = list[dict[str, Any]]
Ask = Callable[[dict[str, Any]], Awaitable[str]]
PATH = "/v1/chat/completions"


def chains_in(file: Path) -> list[Chain]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


async def walk(chains: Iterator[Chain], ask: Ask) -> None:
    """Take chains until there are none left; every answer must have words."""
    for chain in chains:
        for body in chain:
            assert await ask(body)


async def sdk(url: str, chains: Iterator[Chain], in_flight: int, *, aiohttp: bool = False) -> None:
    import openai

    client = openai.AsyncOpenAI(
        api_key="none", base_url=url + "/v1", http_client=openai.DefaultAioHttpClient() if aiohttp else None
    )

    async def ask(body: dict[str, Any]) -> str:
        answer = await client.chat.completions.create(**body)
        return answer.choices[0].message.content or ""

    async with client:
        await asyncio.gather(*(walk(chains, ask) for _ in range(in_flight)))


async def by_hand(url: str, chains: Iterator[Chain], in_flight: int) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def ask(body: dict[str, Any]) -> str:
            async with session.post(url + PATH, json=body) as response:
                return str((await response.json())["choices"][0]["message"]["content"])

        await asyncio.gather(*(walk(chains, ask) for _ in range(in_flight)))


class Line(asyncio.Protocol):
    """One kept-alive connection: a request out, an answer with a Content-Length back."""

    transport: asyncio.Transport
    answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        size = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self.buffer) >= end + 4 + size:
            assert head.startswith(b"http/1.1 200"), head
            body = bytes(self.buffer[end + 4 : end + 4 + size])
            del self.buffer[: end + 4 + size]
            assert self.answer
            self.answer.set_result(body)

    def connection_lost(self, problem: Exception | None) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(problem or ConnectionError("the server hung up"))


async def protocol(url: str, chains: Iterator[Chain], in_flight: int) -> None:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    loop = asyncio.get_running_loop()

    async def one() -> None:
        _, line = await loop.create_connection(Line, host, port)

        async def ask(body: dict[str, Any]) -> str:
            content = json.dumps(body).encode()
            head = f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(content)}\r\n\r\n"
            line.answer = loop.create_future()
            line.transport.write(head.encode() + content)
            return str(json.loads(await line.answer)["choices"][0]["message"]["content"])

        await walk(chains, ask)
        line.transport.close()

    await asyncio.gather(*(one() for _ in range(in_flight)))


async def sdk_on_aiohttp(url: str, chains: Iterator[Chain], in_flight: int) -> None:
    await sdk(url, chains, in_flight, aiohttp=True)


CLIENTS = {"protocol": protocol, "aiohttp": by_hand, "sdk-aiohttp": sdk_on_aiohttp, "sdk": sdk}


def main() -> None:
    if len(sys.argv) < 5:  # `make bench` runs every file here; this one needs a server
        print(__doc__)
        return
    name, url, file, in_flight = sys.argv[1:]
    asyncio.run(CLIENTS[name](url, iter(chains_in(Path(file))), int(in_flight)))


if __name__ == "__main__":
    main()
