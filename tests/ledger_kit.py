"""What the ledger's tests share: a model that counts, and a process that asks.

    python tests/ledger_kit.py ask LEDGER LOG [--count N] [--delay S] [--hang] ...

The process appends "<key>\n" to LOG before each answer (the provider's own count), and prints "answered <key>" for
every reply that it was handed. It begins when it reads a line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from solon.calls import Call, Can, Form, Message, Reply, Usage
from solon.errors import OverBudget, StorageError
from solon.ledger import Ledger
from solon.ledger.file import VERSION
from solon.spend import ATTEMPT_LOST, Limit, Spend

PATIENCE = 30.0

FAR = 1e12
"""A time that never comes."""


class Counting:
    """A model that counts (`asked`: keys in order), and answers when `gate` is open. Answers may be exceptions."""

    identity = "scripted:counting@1"
    name = "counting"
    form: Form = "chat"
    can = Can()
    concurrency = 64

    def __init__(self, answer: Callable[[Call], Reply | Exception] | None = None, *, shut: bool = False) -> None:
        self.asked: list[str] = []
        self.answer = answer or (lambda call: said(call.messages[-1].content))
        self.gate = asyncio.Event()
        if not shut:
            self.gate.set()

    async def __call__(self, call: Call) -> Reply:
        self.asked.append(call.key)
        await self.gate.wait()
        answer = self.answer(call)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing is held open."""


def said(text: str) -> Reply:
    return Reply(f"You said {text!r}.", usage=Usage(3, 5, 1, 2), model="counting-1")


def question(number: int | str, *, model: str = Counting.identity, **more: object) -> Call:
    return Call(model, (Message("user", f"question {number}"),), **more)  # type: ignore[arg-type]


def questions(count: int) -> list[Call]:
    return [question(number) for number in range(count)]


async def until(true: Callable[[], bool]) -> None:
    """Wait until something becomes true; its never becoming true is a failure, not its taking long."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never became true"
        await asyncio.sleep(0.005)


def look(path: Path, query: str, *given: object) -> list[tuple[object, ...]]:
    """Return what stands in the file, read by SQLite alone."""
    db = sqlite3.connect(path, timeout=30)
    try:
        return db.execute(query, given).fetchall()
    finally:
        db.close()


def keys_in(path: Path) -> set[str]:
    return {f"c1:{row[0].hex()}" for row in look(path, "SELECT key FROM calls")}  # type: ignore[attr-defined]


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def one_line(problem: BaseException) -> str:
    """Return what a StorageError says; it must be one, and say it in one line."""
    assert type(problem) is StorageError
    assert "\n" not in str(problem)
    return str(problem)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# -- ledgers in every state ----------------------------------------------------------------------------------


async def filled(path: Path, calls: list[Call], answer: Callable[[Call], Reply] | None = None) -> None:
    """Open, ask, close."""
    ledger = Ledger.open(path)
    door = ledger.door(Counting(answer))
    await asyncio.gather(*map(door, calls))
    await ledger.close()


def in_a_thread(work: Coroutine[None, None, None]) -> None:
    """Run a coroutine to its end, also from inside an event loop."""
    thread = threading.Thread(target=lambda: asyncio.run(work))
    thread.start()
    thread.join()


def change(path: Path, statement: str, *given: object) -> None:
    """Change the file behind the ledger's back."""
    db = sqlite3.connect(path, timeout=30)
    db.execute(statement, given)
    db.commit()
    db.close()


def someone_elses(path: Path) -> None:
    change(path, "CREATE TABLE bookmarks (url TEXT)")


def make_newer(path: Path) -> None:
    in_a_thread(filled(path, questions(2)))
    change(path, f"PRAGMA user_version = {VERSION + 1}")


def swap_calls(path: Path) -> None:
    in_a_thread(filled(path, questions(2)))
    change(path, "UPDATE calls SET messages = (SELECT messages FROM calls WHERE id = 1)")


def spoil(path: Path, column: str, blob: bytes) -> None:
    in_a_thread(filled(path, questions(2)))
    change(path, f"UPDATE calls SET {column} = ?", blob)


def cut_in_half(path: Path) -> None:
    in_a_thread(filled(path, questions(300)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


VERSION_1 = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, asked_at REAL NOT NULL,
    seconds REAL NOT NULL, call BLOB NOT NULL, reply BLOB NOT NULL
);
CREATE INDEX calls_by_model ON calls (model);
CREATE TABLE owners (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, until REAL NOT NULL
);
CREATE TABLE leases (key TEXT PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE probes (model TEXT PRIMARY KEY, can TEXT NOT NULL, asked_at REAL NOT NULL);
"""


def version_1(path: Path, asked: list[tuple[Call, Reply]]) -> None:
    """Write a ledger as Solon did before there were purses and shared texts; its calls were asked at 1.0, 2.0, ..."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(VERSION_1)
    for number, (call, reply) in enumerate(asked, 1):
        texts = [zlib.compress(text.encode("utf-8", "surrogatepass"), 3) for text in (call.to_json(), reply.to_json())]
        row = (call.key, call.model, float(number), 0.5, *texts)
        db.execute("INSERT INTO calls (key, model, asked_at, seconds, call, reply) VALUES (?, ?, ?, ?, ?, ?)", row)
    db.execute("INSERT INTO probes VALUES ('m', '{\"logprobs\": true}', 1.0)")
    db.execute("PRAGMA application_id = 83952897")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


# -- another process -----------------------------------------------------------------------------------------


class Process:
    """A process that asks. Use it as a context manager: it is gone at the end, whatever happened."""

    def __init__(self, *arguments: str | Path | int | float) -> None:
        self.child = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *problem: object) -> None:
        self.kill()
        self.bury()

    def begin(self) -> None:
        assert self.child.stdin
        self.child.stdin.write("go\n")
        self.child.stdin.flush()

    def heard(self) -> str:
        """Return its next line, "" after its end."""
        assert self.child.stdout
        return self.child.stdout.readline().strip()

    def rest(self) -> list[str]:
        """Return all its further whole lines: a kill may cut the last one."""
        assert self.child.stdout
        return self.child.stdout.read().split("\n")[:-1]

    def kill(self) -> None:
        """kill -9; until `bury` it stays a zombie, as under a parent that does not look after its children."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)

    def bury(self) -> None:
        self.child.wait(PATIENCE)
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            assert stream
            stream.close()

    def end(self) -> list[str]:
        """Return all its further lines; it must end well."""
        out, problem = self.child.communicate(timeout=PATIENCE)
        assert self.child.returncode == 0, problem
        return out.split("\n")[:-1]


# -- what runs in that process -------------------------------------------------------------------------------


async def ask(
    path: Path, log: Path, count: int, delay: float, concurrency: int, *, hang: bool, meter: Flat | None
) -> None:
    count_asked = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Provider(Counting):
        async def __call__(self, call: Call) -> Reply:
            os.write(count_asked, f"{call.key}\n".encode())
            await (asyncio.Event().wait() if hang else asyncio.sleep(delay))
            return said(call.messages[-1].content)

    ledger = Ledger.open(path)
    door, turns = ledger.door(Provider(), run="run", meter=meter), asyncio.Semaphore(concurrency)

    async def one(call: Call) -> None:
        async with turns:
            reply = await door(call)
        assert reply == said(call.messages[-1].content)
        print("answered", call.key, flush=True)  # noqa: T201

    await asyncio.gather(*map(one, questions(count)))
    await ledger.close()


async def spend(path: Path, log: Path, count: int, budget: int) -> None:
    """Ask under a budget of so many calls' worth; every third attempt is lost, and asked again by the model itself."""
    count_asked = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Provider(Counting):
        async def __call__(self, call: Call) -> Reply:
            for attempt in range(2):
                os.write(count_asked, f"{call.key}\n".encode())
                await asyncio.sleep(0.001 * (int(call.key[-2:], 16) % 7))
                if attempt or int(call.key[-4:-2], 16) % 3:
                    break
                lost = ATTEMPT_LOST.get()
                assert lost is not None
                await lost()
            return said(call.messages[-1].content)

    ledger = Ledger.open(path)
    door = ledger.door(Provider(), run="run", limit=Limit(nano=budget * FLAT.worst_nano), meter=FLAT)
    turns = asyncio.Semaphore(8)

    async def one(call: Call) -> None:
        async with turns:
            await door(call)
        print("answered", call.key, flush=True)  # noqa: T201

    ends = await asyncio.gather(*map(one, questions(count)), return_exceptions=True)
    for end in ends:
        assert end is None or type(end) is OverBudget, end
    print("over", sum(end is not None for end in ends), flush=True)  # noqa: T201
    await ledger.close()


@dataclass(frozen=True)
class Flat:
    """A meter by which every call costs the same, and half of what it may cost at worst."""

    worst_nano: int = 1000
    paid_nano: int = 500

    def worst(self, call: Call) -> Spend:
        return Spend(1, 100, self.worst_nano)

    def paid(self, usage: Usage) -> Spend:
        return Spend(1, usage.input + usage.output, self.paid_nano)


FLAT = Flat()


async def fill(path: Path, limit: int) -> None:
    """Ask under a limit to the size of files (as a quota or a full disk), then with more room."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    model = Counting(lambda call: Reply(os.urandom(4000).hex()))
    ledger = Ledger.open(path)
    door, known = ledger.door(model), {}
    try:
        for call in questions(1000):
            known[call.key] = (await door(call)).text
    except Exception as problem:  # noqa: BLE001, the parent looks at what kind it is
        print(type(problem).__name__, problem, flush=True)  # noqa: T201
    print(len(known), all(ledger.get(key).text == text for key, text in known.items()), flush=True)  # type: ignore[union-attr]  # noqa: T201
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for call in questions(len(known) + 5):
        await door(call)
    print(len(ledger), len(model.asked), len(set(model.asked)), flush=True)  # noqa: T201
    await ledger.close()


def as_nobody(path: Path, own: Path) -> None:
    """Use a ledger, and open one in a new folder, as a user who may not write there; then merge it into `own`."""
    import concurrent.futures.thread  # noqa: F401, nobody may not read where Python lies

    if os.geteuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)

    async def use() -> None:
        ledger, model = Ledger.open(path), Counting()
        door = ledger.door(model)
        try:
            print("known", (await door(question(1))).text, flush=True)  # noqa: T201
            await door(question("new"))
        except StorageError as problem:
            print("asked", model.asked, flush=True)  # noqa: T201
            print("StorageError", problem, flush=True)  # noqa: T201
        await ledger.close()

    asyncio.run(use())
    try:
        Ledger.open(path.parent / "sub" / "new.db")
    except Exception as problem:  # noqa: BLE001, the parent looks at what kind it is
        print(type(problem).__name__, problem, flush=True)  # noqa: T201
    ledger = Ledger.open(own)
    print(ledger.merge(path), flush=True)  # noqa: T201
    asyncio.run(ledger.close())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ask", "open", "fill", "nobody", "spend"])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("log", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--meter", action="store_true")
    parser.add_argument("--lease", type=float)
    parser.add_argument("--limit", type=int, default=0)
    given = parser.parse_args()
    if given.lease is not None:
        from solon.ledger import owners as ledger_owners

        ledger_owners.LEASE_SECONDS = given.lease
    sys.stdin.readline()
    meter = FLAT if given.meter else None
    work: dict[str, Callable[[], Coroutine[None, None, None]]] = {
        "ask": lambda: ask(
            given.ledger, given.log, given.count, given.delay, given.concurrency, hang=given.hang, meter=meter
        ),
        "fill": lambda: fill(given.ledger, given.limit),
        "spend": lambda: spend(given.ledger, given.log, given.count, given.limit),
    }
    if given.what in work:
        asyncio.run(work[given.what]())
    elif given.what == "nobody":
        as_nobody(given.ledger, given.log)
    else:
        asyncio.run(Ledger.open(given.ledger).close())


if __name__ == "__main__":
    main()
