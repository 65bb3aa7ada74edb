"""The hot path: one SDK's requests, carried by an aiohttp session of our own.

The SDK owns keys, addresses, headers and error classes; what costs is its way through httpx and pydantic, once a
call. So it is asked twice only: its client writes one empty letter, whose envelope (address and headers) goes on all
that follow, and it is shown every answer that is no success, for the exception that it raises. Both times its own
code runs, over an HTTP client that sends nothing (`stand_in`); `tests/test_wire.py` holds that the wire and the
exceptions are those of `create`.

What differs on the wire is what belongs to the carrier and not to the letter: Host, Accept-Encoding, Connection, and
cookies, which are not kept (256 calls in flight would all follow one cookie to one backend).
"""

from __future__ import annotations

import asyncio
import json
import resource
import urllib.request
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
import httpx2
from yarl import URL

from solon.errors import BadInput

__all__ = ["Answer", "Carrier", "Stale", "proxy_for", "room_for", "stand_in"]

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 4.0
"""How long a connection is kept idle: less than the five seconds after which uvicorn and Node close theirs."""
STALE_SECONDS = 1.0
"""A server that closed a connection while we began to write on it is heard of within a round trip. One that hangs up
later had the request, and may have worked on it."""
OTHER_FILES = 128
"""What a process has open besides its connections: ledger, run folder, libraries, pipes."""
MOST_FILES = 65_536
CARRIERS_OWN = frozenset({"host", "accept-encoding", "connection", "content-length", "transfer-encoding"})
DECODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: its status, its headers (by name in any case), and its body, decompressed."""

    status: int
    headers: Mapping[str, str]
    content: bytes


NOTHING = Answer(200, {}, b"{}")
SHOWN: ContextVar[Answer] = ContextVar("SHOWN", default=NOTHING)
"""What an SDK's stand-in answers to whoever asks in this task."""


def stand_in() -> httpx2.AsyncClient:
    """Return an HTTP client for an SDK that sends nothing: it answers what is shown to it."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        shown = SHOWN.get()
        headers = [(name, value) for name, value in shown.headers.items() if name.lower() not in DECODED]
        return httpx2.Response(shown.status, headers=headers, content=shown.content, request=request)

    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer), trust_env=False)


class Carrier:
    """Posts JSON to one path of one server, as an SDK's client would.

    Args:
        client: the SDK's client, on a `stand_in`, without retries.
        path: as the SDK's own methods give it to `client.post`.
        url: the server's address, for its scheme and its proxy.
        timeout: seconds for one attempt, of which at most 10 are for being let in.

    The time for a whole attempt is the caller's to keep: `asyncio.timeout` around `post`.
    """

    def __init__(self, client: Any, path: str, *, url: str, timeout: float) -> None:
        self._client = client
        self._path = path
        self._tls = url.startswith("https:")
        self._proxy = proxy_for(url)
        self._connect = min(timeout, CONNECT_SECONDS)
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._url = URL()

    async def post(self, body: Mapping[str, Any]) -> Answer:
        """Return the server's answer, whatever its status.

        Raises aiohttp.ClientError where there is none, and the SDK's own errors where it refuses to ask. A connection
        that the server had closed meanwhile is no failure: nothing was read from it, and a fresh one is tried.
        """
        session = self._session or await self._open()
        data = encode(body).encode()
        try:
            response = await session.post(self._url, data=data)
        except Stale:
            response = await session.post(self._url, data=data)
        return Answer(response.status, response.headers, await response.read())

    async def error(self, answer: Answer) -> Exception:
        """Return what the SDK raises for `answer`, which is no success."""
        token = SHOWN.set(answer)
        try:
            await self._client.post(self._path, cast_to=httpx2.Response, body={})
        except Exception as error:  # noqa: BLE001 - it is what was asked for
            return error
        finally:
            SHOWN.reset(token)
        raise AssertionError(f"the SDK takes status {answer.status} for a success")

    async def close(self) -> None:
        if self._session:
            await self._session.close()
        await self._client.close()

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session:
                return self._session
            letter = (await self._client.post(self._path, cast_to=httpx2.Response, body={})).request
            self._url = URL(str(letter.url), encoded=True)
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in letter.headers.raw]
            self._session = aiohttp.ClientSession(
                headers=[(name, value) for name, value in headers if name.lower() not in CARRIERS_OWN],
                connector=aiohttp.TCPConnector(
                    limit=0,  # how many are in flight is the pace's to say
                    keepalive_timeout=IDLE_SECONDS,
                    ttl_dns_cache=300,
                    ssl=httpx2.create_ssl_context() if self._tls else True,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
                response_class=_Response,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect),
            )
            return self._session


class Stale(aiohttp.ClientConnectionError):
    """A connection that had been good broke before a byte of the answer, as soon as it was used again."""


class _Response(aiohttp.ClientResponse):
    """aiohttp's response, which knows whether its connection has served before.

    aiohttp itself asks again on a fresh connection only what it holds for idempotent, and POST is not.
    """

    served: ClassVar[WeakSet[Any]] = WeakSet()

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await super().start(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if protocol in self.served and loop.time() - begun < STALE_SECONDS:
                raise Stale(str(error)) from error
            raise
        self.served.add(protocol)
        return self


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url` (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), or None.

    Raises BadInput for a SOCKS proxy.
    """
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.netloc.rpartition("@")[2]
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise BadInput(
            f"the environment names a {proxy.partition(':')[0]} proxy for {parts.scheme}://{host}; "
            "name an http proxy, or put the host into NO_PROXY"
        )
    return proxy


def room_for(connections: int) -> int:
    """Return how many of so many connections this process may hold open, after raising its limit as far as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        soft = highest
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - OTHER_FILES))
