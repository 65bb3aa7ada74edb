"""A server on loopback that says and does exactly what a test wants, byte by byte; plain, or behind TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

HANG_UP = "hang up"
RESET = "reset"
HANG = "hang"
KEEP = "keep"


@dataclass
class Said:
    """What is answered to one request: these bytes, and then the connection is kept, closed, reset or left hanging."""

    bytes: bytes = b""
    then: str = KEEP


@dataclass
class Heard:
    """One request, and the number of the connection that it came on."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int = field(compare=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def http(body: Any, status: int = 200, **headers: str) -> Said:
    """Return a whole HTTP answer; `content_type` and the like name headers."""
    content = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    named = {"content_type": "application/json", "content_length": str(len(content)), **headers}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
    return Said("\r\n".join([*lines, "", ""]).encode() + content)


class Raw:
    """`async with Raw(said, said) as raw`: answers in this order, the last one for ever.

    `raw.url` is its address, `raw.heard` what it was sent. With `gather`, nobody is answered before so many have asked.
    As a proxy it tunnels what CONNECT asks for, and takes everything else as asked of itself.
    """

    def __init__(self, *said: Said, tls: ssl.SSLContext | None = None, gather: int = 0) -> None:
        self.said = list(said)
        self.heard: list[Heard] = []
        self.connections = 0
        self._tls = tls
        self._gather = gather
        self._full = asyncio.Event()
        self._tasks: set[asyncio.Task[Any] | None] = set()

    async def __aenter__(self) -> Raw:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            if task:
                task.cancel()
        await asyncio.gather(*(task for task in self._tasks if task), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            await self._talk(reader, writer, self.connections)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while True:
            line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            named = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
            body = await reader.readexactly(int(named.get("content-length", 0)))
            self.heard.append(Heard(line, named, body, connection))
            if line.startswith("CONNECT "):
                await _tunnel(line.split()[1], reader, writer)
                return
            if self._gather:
                if len(self.heard) >= self._gather:
                    self._full.set()
                await self._full.wait()
            said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
            writer.write(said.bytes)
            await writer.drain()
            if said.then == HANG:
                await asyncio.sleep(3600)
            if said.then == RESET:
                await asyncio.sleep(0.05)  # what was written is to arrive first
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if said.then != KEEP:
                return


async def _tunnel(where: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, _, port = where.rpartition(":")
    there_reader, there_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
        sink.close()

    await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))
