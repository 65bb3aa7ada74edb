"""A load server on bare asyncio that speaks OpenAI's and Anthropic's chat protocols and keeps its own books.

    python benchmarks/server.py                                      measures itself: answers a second on one core
    python benchmarks/server.py --port 0 --latency 0.2               prints its port, serves until it is stopped
    python benchmarks/server.py --port 0 --requests 600 --per bucket --faults 0.3 --seed 7

    with Load(latency=0.2, faults=evenly(0.3)) as server:            the same in a thread of a test
        server.url, server.books

Answers hang on a hash of the question (`answers.py`), and so do its latency and its faults, with the seed and the
number of times that this question was asked: whoever asks the same in the same order sees the same faults.

latency    seconds; `fixed`, `lognormal` (sigma 0.5, that median) or `bimodal` (one in ten takes five times as long)
limits     requests and tokens a minute, by a `bucket` that fills all the time (a second's worth fits in) or by a
           `fixed` window of a minute; beyond them 429 with Retry-After, and rate headers on every answer
faults     429 500 503 529; reset (in mid-body), hang, drip (the body in twenty pieces); type, malformed, choices
           (none); empty, length, refusal, junk: an answer of status 200 that is none. Each with a probability
first      only the first so many attempts at a question fail (faults that pass); 0 means all may
lasting    this share of questions fails for ever

GET /stats    the books as JSON     GET /requests    by question: asked, answered in full, asked after that
POST /reset   begins new books
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent))
import answers
from manners import FAULTS, STATUS, Limit, Manners, evenly

PIECES = 20
PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass
class Asked:
    """One question's page in the books: how often it was asked, answered in full, and asked again after that.

    faults: what went wrong, in order
    """

    asked: int = 0
    answered: int = 0
    after: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Books:
    """What the server saw; times by its own monotonic clock.

    answered: whole, sound answers of status 200, written to a connection that was still open
    left:     the client went away before its answer was whole
    limited:  429 by the stated limits, not by a fault
    """

    requests: int = 0
    answered: int = 0
    limited: int = 0
    left: int = 0
    in_flight: int = 0
    peak: int = 0
    first: float = 0.0
    last: float = 0.0
    waited: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    questions: dict[str, Asked] = field(default_factory=dict)

    @property
    def distinct(self) -> int:
        return len(self.questions)

    @property
    def again(self) -> int:
        """Return how many requests came for a question that had been answered in full before."""
        return sum(page.after for page in self.questions.values())

    def summary(self) -> dict[str, Any]:
        told = {name: value for name, value in vars(self).items() if name != "questions"}
        return {**told, "faults": dict(self.faults), "distinct": self.distinct, "again": self.again}


class Server:
    """The state that all connections share."""

    def __init__(self, manners: Manners, keep: IO[bytes] | None = None) -> None:
        self.manners, self.keep = manners, keep
        self.books = Books()
        given = {"requests": manners.requests, "tokens": manners.tokens}
        self.limits = {name: Limit(rate, manners.per) for name, rate in given.items() if rate}

    def begun(self, digest: str) -> int:
        """Note a request, and return how often its question was asked by now."""
        books = self.books
        books.requests += 1
        books.in_flight += 1
        books.peak = max(books.peak, books.in_flight)
        if not books.first:
            books.first = time.monotonic()
        page = books.questions.get(digest)
        if page is None:
            page = books.questions[digest] = Asked()
        page.asked += 1
        page.after += page.answered > 0
        return page.asked

    def limited(self, size: int, body: Mapping[str, Any]) -> float:
        """Return how long the limits keep a request out; 0 where it was let in."""
        if not self.limits:
            return 0.0
        longest = body.get("max_tokens") or body.get("max_completion_tokens") or 16
        units = {"requests": 1.0, "tokens": size / 4 + longest}
        wait = max(limit.wait(units[name]) for name, limit in self.limits.items())
        if not wait:
            for name, limit in self.limits.items():
                limit.take(units[name])
        return wait

    def rate_headers(self, path: str) -> str:
        lines = ""
        for name, limit in self.limits.items():
            most, left, reset = round(limit.rate * 60), max(0, int(limit.left)), max(0.0, limit.reset())
            if path == answers.ANTHROPIC:
                when = (datetime.now(UTC) + timedelta(seconds=reset)).strftime("%Y-%m-%dT%H:%M:%SZ")
                start, rows = f"anthropic-ratelimit-{name}-", (("limit", most), ("remaining", left), ("reset", when))
                lines += "".join(f"{start}{row}: {value}\r\n" for row, value in rows)
            else:
                shown = f"{reset * 1000:.0f}ms" if reset < 1 else f"{reset:.3f}s"
                rows = (("limit", most), ("remaining", left), ("reset", shown))
                lines += "".join(f"x-ratelimit-{row}-{name}: {value}\r\n" for row, value in rows)
        return lines


class Connection(asyncio.Protocol):
    """One connection: requests are answered in their order, the next one read only when the one before is answered."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.busy = False
        self.timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, problem: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.busy:
            self.server.books.in_flight -= 1
            self.server.books.left += 1
            self.busy = False

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self.read()

    def read(self) -> None:
        """Take the next whole request out of the buffer, where there is one."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end])
        fields = head.lower()
        at = fields.find(b"\r\ncontent-length:")
        if at >= 0:
            size = int(fields[at + 17 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + size:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + size])
            del self.buffer[: end + 4 + size]
        elif b"\r\ntransfer-encoding: chunked" in fields:
            whole = _chunked(self.buffer, end + 4)
            if whole is None:
                return
            body, end = whole
            del self.buffer[:end]
        else:
            body = b""
            del self.buffer[: end + 4]
        method, path = head.split(b" ", 2)[:2]
        self.asked(method.decode("latin-1"), path.decode("latin-1").partition("?")[0], body)

    def asked(self, method: str, path: str, raw: bytes) -> None:
        server = self.server
        if method == "GET" or path == "/reset":
            self.told(path)
            return
        try:
            body = json.loads(raw)
            digest = answers.digest_of(path, body)
        except ValueError:
            self.write(400, b'{"error": {"message": "the body is no JSON"}}')
            return
        self.busy = True
        attempt = server.begun(digest)
        if server.keep:
            server.keep.write(raw + b"\n")
        if wait := server.limited(len(raw), body):
            server.books.limited += 1
            self.refuse(path, 429, "rate limit reached", wait)
            return
        fault = server.manners.fault(digest, attempt)
        if fault:
            server.books.faults[fault] += 1
            server.books.questions[digest].faults.append(fault)
        seconds = server.manners.hang if fault == "hang" else server.manners.seconds(digest, attempt)
        if seconds:
            self.timer = self.loop.call_later(seconds, self.answer, path, body, digest, fault)
        else:
            self.answer(path, body, digest, fault)

    def told(self, path: str) -> None:
        """Answer whoever asks about the server itself."""
        books = self.server.books
        if path == "/stats":
            content: Any = books.summary()
        elif path == "/requests":
            content = {digest: asdict(page) for digest, page in books.questions.items()}
        elif path == "/v1/models":
            content = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        elif path == "/reset":
            self.server.books = Books(in_flight=books.in_flight)
            content = {}
        else:
            self.write(404, b'{"error": {"message": "nothing is here"}}')
            return
        self.write(200, json.dumps(content).encode())

    def answer(self, path: str, body: dict[str, Any], digest: str, fault: str) -> None:
        """Answer one question, rightly or wrongly."""
        if fault in STATUS:
            self.refuse(path, int(fault), STATUS[fault], self.server.manners.retry_after)
            return
        if fault == "hang":
            self.broken()
            return
        kind = "application/json"
        if fault in answers.CONTENT:
            kind, content = answers.spoiled(fault, path, body, digest)
        else:
            content = json.dumps(answers.said(path, body, digest)).encode()
        head = self.head(200, len(content), kind, self.server.rate_headers(path))
        if fault == "reset":
            self.transport.write(head + content[: len(content) // 2])
            # a moment, so that half of the body really arrives before the reset does
            self.timer = self.loop.call_later(0.01, self.broken)
        elif fault == "drip":
            size = max(1, math.ceil(len(content) / PIECES))
            self.transport.write(head)
            self.drip([content[at : at + size] for at in range(0, len(content), size)], digest)
        else:
            self.transport.write(head + content)
            self.done("" if fault else digest)

    def broken(self) -> None:
        """Break the connection with a reset."""
        self.busy = False
        self.server.books.in_flight -= 1
        self.transport.abort()

    def drip(self, pieces: list[bytes], digest: str) -> None:
        self.transport.write(pieces.pop(0))
        if pieces:
            self.timer = self.loop.call_later(self.server.manners.drip / PIECES, self.drip, pieces, digest)
        else:
            self.done(digest)

    def refuse(self, path: str, status: int, words: str, wait: float) -> None:
        error = {"message": words, "type": "server_error" if status >= 500 else "rate_limit_error", "code": None}
        headers = self.server.rate_headers(path)
        if status == 429:
            # whole seconds, as the standard has it, and the exact time as OpenAI adds it
            headers += f"retry-after: {math.ceil(wait)}\r\nretry-after-ms: {wait * 1000:.0f}\r\n"
        content = json.dumps({"type": "error", "error": error}).encode()
        self.transport.write(self.head(status, len(content), "application/json", headers) + content)
        self.done("")

    def done(self, digest: str) -> None:
        """Close the books on one request; a sound answer's `digest` is noted as answered."""
        books = self.server.books
        self.busy, self.timer = False, None
        books.in_flight -= 1
        books.last = time.monotonic()
        if self.transport.is_closing():
            books.left += 1
        elif digest:
            books.answered += 1
            if page := books.questions.get(digest):
                page.answered += 1
        if self.buffer:
            self.loop.call_soon(self.data_received, b"")

    def write(self, status: int, content: bytes) -> None:
        self.transport.write(self.head(status, len(content), "application/json", "") + content)

    def head(self, status: int, size: int, kind: str, more: str) -> bytes:
        phrase = PHRASES.get(status, "Error")
        return f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n{more}\r\n".encode()


def _chunked(buffer: bytearray, at: int) -> tuple[bytes, int] | None:
    """Return a chunked body that begins at `at`, and where it ends; None where it is not whole yet."""
    parts = []
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(bytes(buffer[at:line]).split(b";")[0], 16)
        if len(buffer) < line + 4 + size:
            return None
        parts.append(bytes(buffer[line + 2 : line + 2 + size]))
        at = line + 4 + size
        if not size:
            return b"".join(parts), at


class Load:
    """A server in a thread of this process: `with Load(latency=0.1) as server: server.url, server.books`.

    bodies: every request's JSON, a line each
    """

    def __init__(self, **manners: Any) -> None:
        self.bodies = io.BytesIO()
        self._server = Server(Manners(**manners), self.bodies)
        self._ready = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def books(self) -> Books:
        return self._server.books

    @property
    def manners(self) -> Manners:
        return self._server.manners

    def change(self, *, books: bool = True, **manners: Any) -> None:
        """Behave otherwise from the next request on; with new books, unless those are to go on."""
        server = Server(Manners(**manners))
        self._server.manners, self._server.limits = server.manners, server.limits
        if books:
            self._server.books = server.books

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30), "the load server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        listening = await self._loop.create_server(lambda: Connection(self._server), "127.0.0.1", 0, backlog=4096)
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        listening.close()


async def serve(manners: Manners, port: int, keep: Path | None) -> None:
    """Serve until the process is stopped; the first line printed is the port."""
    kept = keep.open("ab", buffering=1 << 20) if keep else None
    server, over, loop = Server(manners, kept), asyncio.Event(), asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=4096)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    if kept:
        kept.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="0: any that is free")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--spread", choices=["fixed", "lognormal", "bimodal"], default="fixed")
    parser.add_argument("--requests", type=float, default=0.0, help="a minute")
    parser.add_argument("--tokens", type=float, default=0.0, help="a minute")
    parser.add_argument("--per", choices=["bucket", "fixed"], default="bucket")
    parser.add_argument("--faults", type=float, default=0.0, help="share of attempts that any kind of fault hits")
    parser.add_argument("--fault", action="append", default=[], help="KIND=SHARE instead; may be repeated")
    parser.add_argument("--first", type=int, default=0, help="only the first so many attempts at a question may fail")
    parser.add_argument("--lasting", action="append", default=[], help="KIND=SHARE of questions that fail for ever")
    parser.add_argument("--retry-after", type=float, default=1.0)
    parser.add_argument("--hang", type=float, default=3600.0, help="seconds after which a hanging connection is closed")
    parser.add_argument("--drip", type=float, default=2.0, help="seconds that a dripping answer takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a file that every request's body is written to, a line each")
    given = vars(parser.parse_args())
    port, keep, share = given.pop("port"), given.pop("keep"), given.pop("faults")
    given["faults"] = {**(evenly(share) if share else {}), **_pairs(given.pop("fault"))}
    given["lasting"] = _pairs(given["lasting"])
    if port is None:
        from endpoint import measure_server

        measure_server()
    else:
        asyncio.run(serve(Manners(**given), port, keep))


def _pairs(given: list[str]) -> dict[str, float]:
    found = {kind: float(share) for kind, _, share in (one.partition("=") for one in given)}
    if unknown := set(found) - set(FAULTS):
        raise SystemExit(f"unknown fault {sorted(unknown)[0]!r}; choose from {', '.join(FAULTS)}")
    return found


if __name__ == "__main__":
    main()
