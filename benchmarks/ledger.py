"""What the ledger costs: in time beside a model asked barely, in bytes a call, in memory with a long memory.

    python benchmarks/ledger.py [--calls 10000] [--remembered 100000] [--rows 1000]
    python benchmarks/ledger.py --large 1000000

Both sides of a ratio are measured in one run, three times in turn, and the best of each counts: ratios travel between
machines, seconds do not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

from solon.calls import Call, Can, Form, Message, Reply, Sampling, Usage
from solon.generators.dialogue import Round, Shot, document, turns
from solon.judges.pairwise import compare
from solon.ledger import Ledger
from solon.ledger.file import connect
from solon.ledger.pen import Pen, Stored
from solon.markup import ask_for, conversation

ROOT = Path(__file__).parents[1]

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


def sentences() -> list[str]:
    """Return English sentences as people write them: Solon's own pages and constitutions."""
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "solon" / "constitution").rglob("*.yaml")]
    found = {
        " ".join(sentence.split())
        for page in sorted(pages)
        for sentence in re.split(r"(?<=[.!?])\s+", page.read_text(encoding="utf-8"))
        if 40 < len(sentence) < 300 and sentence[0].isalpha() and "|" not in sentence and "`" not in sentence
    }
    return sorted(found)


class Writing:
    """Answers of two or three paragraphs, each of its own words: no answer is another's."""

    def __init__(self) -> None:
        self.known = sentences()

    def say(self, seed: str, paragraphs: int = 2) -> str:
        draw = random.Random(seed)
        return "\n\n".join(
            " ".join(self._own(draw.choice(self.known), draw) for _ in range(draw.randint(2, 5)))
            for _ in range(paragraphs)
        )

    def _own(self, sentence: str, draw: random.Random) -> str:
        """Return a sentence with a third of its words taken from others, so that it is found nowhere else."""
        words = sentence.split()
        return " ".join(
            draw.choice(draw.choice(self.known).split()) if draw.random() < 0.33 else word for word in words
        )


def row(writing: Writing, number: int, form: Form, shots: list[Shot]) -> list[tuple[Call, Reply]]:
    """Return the calls of one row: an answer, two rounds of critique and revision, a judge in both orders."""
    prompt = [Message("user", writing.say(f"{number}.prompt", 1)[:300])]
    sampling = Sampling(1.0, None, 512, ("\n\nHuman:",) if form == "text" else ())
    model = f"openai:model-{form}"
    asked: list[tuple[Call, Reply]] = []

    def ask(messages: list[Message], step: str, paragraphs: int = 2) -> str:
        said = writing.say(f"{number}.{step}", paragraphs)
        usage = Usage(sum(len(message.content) for message in messages) // 4, len(said) // 4)
        asked.append((Call(model, tuple(messages), sampling), Reply(said, usage=usage, model=f"{model}-2026-05-01")))
        return said

    def write(response: str, step: Round) -> list[Message]:
        if form == "chat":
            return turns(prompt, response, step)
        return [Message("text", document(prompt, response, step, shots))]

    first = answer = ask(
        prompt if form == "chat" else [Message("text", conversation(prompt) + ask_for("Assistant"))], "0"
    )
    for turn in (1, 2):
        request = writing.known[(number * 7 + turn) % 16], writing.known[16 + (number * 7 + turn) % 16]
        said = ask(write(answer, Round(request[0])), f"critique.{turn}", 1)
        answer = ask(write(answer, Round(request[0], said, request[1])), f"revision.{turn}")
    for one, two in ((first, answer), (answer, first)):
        question = compare(form, prompt, one, two, writing.known[40 + number % 16], f"{number:012x}")
        call = Call(
            model, (Message("user" if form == "chat" else "text", question),), Sampling(None, None, 1), ("A", "B")
        )
        logs = (-0.1 - 1 / (number + 3), -2.3 - 1 / (number + 7))
        asked.append((call, Reply("A", logprobs=logs, usage=Usage(len(question) // 4, 1), model=f"{model}-2026-05-01")))
    return asked


def shots(writing: Writing) -> list[Shot]:
    """Return worked examples, of 10,000 characters together."""
    made: list[Shot] = []
    while sum(len(document(shot.prompt, shot.response, shot.round)) for shot in made) < 10_000:
        said = [writing.say(f"shot {len(made)}.{part}", 1) for part in range(6)]
        made.append(Shot((Message("user", said[0]),), said[1], Round(said[2], said[3], said[4], said[5])))
    return made


def version_1(path: Path, asked: list[tuple[Call, Reply]]) -> int:
    """Write calls as version 1 of the ledger did; return the file's bytes."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE calls (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, "
            "asked_at REAL NOT NULL, seconds REAL NOT NULL, call BLOB NOT NULL, reply BLOB NOT NULL)"
        )
        db.execute("CREATE INDEX calls_by_model ON calls (model)")
        for call, reply in asked:
            texts = [zlib.compress(text.encode(), 3) for text in (call.to_json(), reply.to_json())]
            row = (call.key, call.model, time.time(), 1.5, *texts)
            db.execute("INSERT INTO calls (key, model, asked_at, seconds, call, reply) VALUES (?, ?, ?, ?, ?, ?)", row)
        db.commit()
    return path.stat().st_size


async def size(folder: Path, rows: int) -> None:
    writing = Writing()
    kinds: list[tuple[str, Form, list[Shot]]] = [
        ("chat: revision in 2 rounds, judged in both orders", "chat", []),
        ("base model, the same after 10,000 characters of worked examples", "text", shots(writing)),
    ]
    for name, form, worked in kinds:
        path = folder / f"size-{form}.db"
        ledger = Ledger.open(path)
        asked = [each for number in range(rows) for each in row(writing, number, form, worked)]
        used = cpu()
        for number in range(0, len(asked), 64):
            await asyncio.gather(*(ledger.record(*each, seconds=1.5) for each in asked[number : number + 64]))
        used = cpu() - used
        await ledger.close()
        count = len(asked)
        texts = sum(len(call.to_json().encode()) + len(reply.to_json().encode()) for call, reply in asked)
        mine, old = path.stat().st_size, version_1(folder / f"old-{form}.db", asked)
        print(f"{name}: {count:,} calls")
        print(f"  bytes a call                {mine / count:10,.0f}")
        print(f"  against version 1           {mine / old:10.2f} ({old / count:,.0f} bytes)")
        print(f"  against the texts as JSON   {mine / texts:10.3f} ({texts / count:,.0f} bytes)")
        print(f"  CPU to write it             {1e6 * used / count:10.0f} us a call")


def large(path: Path, count: int) -> None:
    """Write a ledger of `count` calls, then open it and ask what it knows, a key at a time and anywhere in it."""

    def ask(number: int) -> Call:
        return Call(Instant.identity, (Message("user", f"Question {number}: {words(str(number % 5000), 40)}"),))

    said = [words(f"answer {number}", 60) for number in range(5000)]
    asyncio.run(Ledger.open(path).close())  # the tables
    with closing(connect(path)) as db:
        pen, began = Pen(db, ""), time.perf_counter()
        for start in range(0, count, 5000):
            db.execute("BEGIN IMMEDIATE")
            pen.begin()
            for number in range(start, min(start + 5000, count)):
                call = ask(number)
                pen.add(Stored(call.key, call, Reply(f"{number} {said[number % 5000]}", usage=Usage(60, 80)), 1.0, 1.0))
            pen.write()
            db.execute("COMMIT")
        took = time.perf_counter() - began
    print(f"a ledger of {count:,} calls: {path.stat().st_size:,} bytes, written in {took:.0f} s")
    began = time.perf_counter()
    ledger = Ledger.open(path)
    first = ledger.get(ask(count // 2).key)
    print(f"  opened, first answer after  {1e3 * (time.perf_counter() - began):10.1f} ms ({first is not None})")
    draw = random.Random(1)
    calls = [ask(draw.randrange(count)) for _ in range(20_000)]
    keys = [call.key for call in calls]
    for name in ("a known call, the first time", "the same calls again"):
        took, used = time.perf_counter(), cpu()
        for key in keys:
            assert ledger.get(key) is not None
        used = cpu() - used
        each = 1e6 * (time.perf_counter() - took) / len(keys)
        print(f"  {name:28}{each:10.1f} us ({1e6 * used / len(keys):.1f} us CPU)")
    asyncio.run(ledger.close())


def cpu() -> float:
    """Return the CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


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
    parser.add_argument("--rows", type=int, default=1000, help="rows of each measurement of size, 7 calls each")
    parser.add_argument("--grow", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--large", type=int, metavar="CALLS", help="measure a ledger of so many calls, and only that")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    given = parser.parse_args()
    if given.large:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            large(Path(folder) / "large.db", given.large)
        return
    if given.grow:
        asyncio.run(grow(given.grow, given.remembered))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        asyncio.run(size(Path(folder), given.rows))
        asyncio.run(speed(Path(folder), given.calls))
        memory(Path(folder), given.remembered)


if __name__ == "__main__":
    main()
