"""What the ledger costs: in time beside a model asked barely, in bytes a call, in memory with a long memory.

    python benchmarks/ledger.py [--calls 10000] [--remembered 100000]

Both sides of a ratio are measured in one run, three times in turn, and the best of each counts: ratios travel between
machines, seconds do not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from solon.calls import Call, Can, Form, Message, Reply, Usage
from solon.ledger import Ledger

WINDOW = 512
SLOW_PLACES = 64
ROUNDS = 3
WORDS = (
    "one question of ordinary length, with words that come again as they do in any text that people write " * 2
).split()


class Instant:
    """A model that answers at once (or after `delay` seconds): what it takes is the caller's own cost."""

    identity = "scripted:instant@1"
    name = "instant"
    form: Form = "chat"
    can = Can()
    concurrency = WINDOW

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay

    async def __call__(self, call: Call) -> Reply:
        await asyncio.sleep(self.delay)
        return Reply(words(call.messages[0].content, 120), usage=Usage(80, 120), model="instant")

    async def close(self) -> None:
        """Nothing is held open."""


def words(seed: str, count: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def questions(start: int, count: int) -> list[Call]:
    return [Call(Instant.identity, (Message("user", words(str(n), 80)),)) for n in range(start, start + count)]


async def seconds(ask: Callable[[Call], Awaitable[Reply]], calls: Sequence[Call], places: int = WINDOW) -> float:
    """Return how long it takes to ask all, `places` at a time."""
    waiting = iter(calls)

    async def one_place() -> None:
        for call in waiting:
            await ask(call)

    began = time.perf_counter()
    await asyncio.gather(*(one_place() for _ in range(places)))
    return time.perf_counter() - began


async def speed(folder: Path, count: int) -> None:
    ledger, model, slow = Ledger.open(folder / "speed.db"), Instant(), Instant(delay=0.1)
    door, slow_door = ledger.door(model), ledger.door(slow)
    took: dict[str, float] = {}

    async def measure(name: str, ask: Callable[[Call], Awaitable[Reply]], calls: list[Call], places: int) -> None:
        # new objects: a Call keeps its key once it was asked for
        calls = [Call(call.model, call.messages) for call in calls]
        took[name] = min(took.get(name, float("inf")), await seconds(ask, calls, places))

    for turn in range(ROUNDS):
        calls = questions(turn * count, count)
        for name, ask in (("bare", model), ("asked", door), ("known", door)):
            await measure(name, ask, calls, WINDOW)
        calls = questions((ROUNDS + turn) * count, 10 * SLOW_PLACES)
        for name, ask in (("slow bare", slow), ("slow asked", slow_door)):
            await measure(name, ask, calls, SLOW_PLACES)
    rows, texts = 0, 0
    for entry in ledger.entries():
        rows, texts = rows + 1, texts + len(entry.call.to_json()) + len(entry.reply.to_json())
    await ledger.close()
    size = (folder / "speed.db").stat().st_size
    slower = took["slow asked"] / took["slow bare"]
    print(f"asked through the ledger      {count / took['asked']:10,.0f} calls/s")
    print(
        f"  time against a bare model   {took['asked'] / took['bare']:10.1f} where it answers at once, {WINDOW} at once"
    )
    print(f"                              {slower:10.2f} where it takes {slow.delay} s, {SLOW_PLACES} at once")
    print(f"answered from memory          {count / took['known']:10,.0f} calls/s")
    print(f"  speed against asked         {took['asked'] / took['known']:10.1f}")
    print(f"file                          {size / rows:10,.0f} bytes a call")
    print(f"  against its texts as JSON   {size / texts:10.2f} ({texts / rows:,.0f} bytes)")


def resident() -> int:
    """Return this process's resident memory in bytes, now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS in /proc/self/status: this benchmark measures memory on Linux alone")


async def grow(path: Path, count: int) -> None:
    """Ask `count` calls, and print the memory before and after, and the file's size, as JSON."""
    ledger = Ledger.open(path)
    door = ledger.door(Instant())
    await seconds(door, questions(0, 2000))
    before = resident()
    for start in range(2000, 2000 + count, 2000):
        await seconds(door, questions(start, 2000))
    after = resident()
    for _ in ledger.entries():
        pass
    read = resident()
    await ledger.close()
    print(json.dumps({"before": before, "after": after, "read": read, "size": path.stat().st_size}))


def memory(folder: Path, count: int) -> None:
    """Measure in a process of its own: what was allocated before does not blur it."""
    child = subprocess.run(
        [sys.executable, __file__, "--grow", str(folder / "grow.db"), "--remembered", str(count)],
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(child.stdout)
    grown = found["after"] - found["before"]
    print(f"memory, {count:,} calls later {grown / 1e6:+10.1f} MB on {found['before'] / 1e6:.0f} MB")
    print(f"  against the file            {grown / found['size']:10.3f} times its size ({found['size'] / 1e6:.0f} MB)")
    print(f"  after reading all entries   {(found['read'] - found['before']) / 1e6:+10.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="calls of each speed measurement")
    parser.add_argument("--remembered", type=int, default=100_000, help="calls of the memory measurement")
    parser.add_argument("--grow", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.grow:
        asyncio.run(grow(given.grow, given.remembered))
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(speed(Path(folder), given.calls))
        memory(Path(folder), given.remembered)


if __name__ == "__main__":
    main()
