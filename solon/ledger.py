"""The ledger: every question once. One SQLite file remembers each Reply by its Call's key.

    ledger = Ledger.open(path)
    ask = ledger.door(model)          # Call -> Reply, through memory
    reply = await ask(call)           # reply.known tells where it came from

What it promises:

* *Finished* means committed: a reply is handed on only after its commit, so no finished call is paid for twice.
* Single flight: fifty askers of one question cause one request. Within a process they share a task; between
  processes the asker holds a lease in the same file, which ends with its process.
* Failures are never remembered, and reach every asker of that flight.
* Refusals, empty and truncated answers are replies, remembered as what they are.

One thread writes. It takes whatever has queued up while it was busy into one transaction (group commit), so that
a thousand replies a second need a few dozen commits.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import socket
import sqlite3
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon.calls import Call, Model, Reply, Usage
from solon.errors import Aside, StorageError

__all__ = ["Door", "Entry", "Ledger", "Merged", "Tally"]

VERSION = 1
APPLICATION = 0x501_0501  # tells a ledger from any other SQLite file
LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0
MOST_IN_ONE_COMMIT = 1024
DISK_PATIENCE_SECONDS = 3.0

SCHEMA = """
CREATE TABLE calls (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, asked_at REAL NOT NULL, seconds REAL NOT NULL,
    call BLOB NOT NULL, reply BLOB NOT NULL
);
CREATE INDEX calls_by_model ON calls (model);
CREATE TABLE owners (id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE leases (key TEXT PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE probes (model TEXT PRIMARY KEY, can TEXT NOT NULL, asked_at REAL NOT NULL);
"""


@dataclass
class Tally:
    """What went through one door: calls by where their reply came from, and the tokens of each kind."""

    known: int = 0
    asked: int = 0
    shared: int = 0
    failed: int = 0
    known_usage: Usage = Usage()
    asked_usage: Usage = Usage()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.known + other.known,
            self.asked + other.asked,
            self.shared + other.shared,
            self.failed + other.failed,
            self.known_usage + other.known_usage,
            self.asked_usage + other.asked_usage,
        )


@dataclass(frozen=True)
class Entry:
    """One remembered call, as `show` and audits read it."""

    key: str
    call: Call
    reply: Reply
    asked_at: float
    seconds: float


@dataclass(frozen=True)
class Merged:
    """What a merge did: replies taken over, equal ones, and keys where two replies differed (the earlier stays)."""

    added: int
    same: int
    differed: int


class Ledger:
    """Every Call ever answered, by key. Open it with `Ledger.open`, use it from one event loop, `await close()`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._flights: dict[str, asyncio.Task[Reply]] = {}
        self._refreshed: set[str] = set()
        self._reader = _connect(path)
        self._writer = _Writer(path)

    @classmethod
    def open(cls, path: str | Path) -> Ledger:
        """Open or create the ledger at `path`. Raises StorageError: unwritable, not a ledger, or a newer one."""
        path = Path(path)
        with _storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _prepare(path)
            return cls(path)

    def door(self, model: Model | None, *, refresh: bool = False, missed: Callable[[Call], None] | None = None) -> Door:
        """Return the way to ask `model` through memory.

        With None nothing stands behind the ledger: an unknown call is told to `missed` and sets its row aside as
        "not_known" (the dry run). With `refresh` each key is asked anew once, and the new reply takes its place.
        """
        return Door(self, model, refresh, missed)

    def get(self, key: str) -> Reply | None:
        """Return the remembered reply of `key`, or None."""
        with _storage(self.path):
            row = self._reader.execute("SELECT reply FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply.from_json(_unpack(row[0])).from_memory()

    def entry(self, key: str) -> Entry | None:
        """Return all that is remembered of `key`, or None."""
        with _storage(self.path):
            row = self._reader.execute(
                "SELECT key, call, reply, asked_at, seconds FROM calls WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else _entry(row)

    def entries(self) -> Iterator[Entry]:
        """Yield every remembered call, oldest first."""
        with _storage(self.path):
            for row in self._reader.execute(
                "SELECT key, call, reply, asked_at, seconds FROM calls ORDER BY asked_at, key"
            ):
                yield _entry(row)

    def __len__(self) -> int:
        with _storage(self.path):
            return int(self._reader.execute("SELECT count(*) FROM calls").fetchone()[0])

    def probe(self, model: str) -> dict[str, Any] | None:
        """Return what an earlier probe found `model` able to do, or None."""
        with _storage(self.path):
            row = self._reader.execute("SELECT can FROM probes WHERE model = ?", (model,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def record_probe(self, model: str, can: dict[str, Any]) -> None:
        """Remember what a probe found."""
        self._writer.do(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO probes VALUES (?, ?, ?)", (model, json.dumps(can), time.time())
            )
        ).wait()

    def merge(self, other: str | Path) -> Merged:
        """Take over what another ledger knows. Where both know a key, the earlier reply stays, and it is counted."""
        if not Path(other).is_file():
            raise StorageError(f"{other}: no such ledger; give the path of a ledger.db")
        with _storage(Path(other)):
            _check(Path(other))
        return self._writer.do(lambda db: _merge(db, Path(other))).wait()

    def forget(self, *, model: str | None = None, before: float | None = None, text: str | None = None) -> int:
        """Remove what matches every given condition: the model's identity, asked before a time, holding a text.

        `text` is looked for in questions and answers as people read them. Returns how many were removed. At least
        one condition must be given (ValueError).
        """
        if model is None and before is None and text is None:
            raise ValueError("forget needs a model, a time or a text")

        def remove(db: sqlite3.Connection) -> int:
            where = "(? IS NULL OR model = ?) AND (? IS NULL OR asked_at < ?)"
            rows = db.execute(f"SELECT key, call, reply FROM calls WHERE {where}", (model, model, before, before))
            keys = [(key,) for key, call, reply in rows if text is None or _holds(call, reply, text)]
            db.executemany("DELETE FROM calls WHERE key = ?", keys)
            if model is not None:
                db.execute("DELETE FROM probes WHERE model = ?", (model,))
            return len(keys)

        return self._writer.do(remove).wait()

    async def close(self, *, grace: float = 0.0) -> None:
        """Wait up to `grace` seconds for calls in flight (they are paid for), write everything down, close the file."""
        flights = list(self._flights.values())
        if flights and grace > 0:
            await asyncio.wait(flights, timeout=grace)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await asyncio.to_thread(self._writer.stop)
        self._reader.close()

    @property
    def in_flight(self) -> int:
        return len(self._flights)


class Door:
    """`await door(call)`: memory first, then one flight to the model. Keeps a Tally of what went through."""

    def __init__(
        self, ledger: Ledger, model: Model | None, refresh: bool, missed: Callable[[Call], None] | None
    ) -> None:
        self._ledger = ledger
        self._model = model
        self._refresh = refresh
        self._missed = missed
        self.tally = Tally()

    async def __call__(self, call: Call) -> Reply:
        ledger, key = self._ledger, call.key
        flight = ledger._flights.get(key)
        if flight is not None:
            reply = await asyncio.shield(flight)
            self.tally.shared += 1
            return reply.from_memory()
        fresh = self._refresh and key not in ledger._refreshed
        reply = None if fresh else ledger.get(key)
        if reply is None:
            if self._model is None:
                if self._missed:
                    self._missed(call)
                raise Aside("not_known", key)
            # the flight is a task of its own: an asker that is cancelled must not take a paid reply with it
            flight = asyncio.create_task(self._fly(self._model, call, fresh))
            ledger._flights[key] = flight
            flight.add_done_callback(
                lambda done: (ledger._flights.pop(key, None), done.cancelled() or done.exception())
            )
            return await asyncio.shield(flight)
        self.tally.known += 1
        self.tally.known_usage += reply.usage
        return reply

    async def _fly(self, model: Model, call: Call, fresh: bool) -> Reply:
        """Hold the lease, ask, write down. Raises what the model raises; StorageError if it cannot be kept."""
        writer, key, pause = self._ledger._writer, call.key, 0.05
        while (claim := await writer.do(lambda db: writer.claim(db, key, fresh))) is False:
            await asyncio.sleep(pause)  # another process is asking this very question
            pause = min(pause * 1.5, 1.0)
        if isinstance(claim, bytes):
            reply = Reply.from_json(_unpack(claim)).from_memory()
            self.tally.known += 1
            self.tally.known_usage += reply.usage
            return reply
        started = time.monotonic()
        try:
            reply = await model(call)
        except BaseException as problem:
            if not isinstance(problem, asyncio.CancelledError):
                self.tally.failed += 1
            # not awaited: a cancelled flight must still give its lease back
            writer.do(lambda db: db.execute("DELETE FROM leases WHERE key = ?", (key,)))
            raise
        seconds = time.monotonic() - started
        stored = (key, call.model, time.time(), seconds, _pack(call.to_json()), _pack(reply.to_json()))
        await writer.do(lambda db: writer.record(db, stored))
        self._ledger._refreshed.add(key)
        self.tally.asked += 1
        self.tally.asked_usage += reply.usage
        return reply


@dataclass
class _Job:
    """One piece of work for the writer, to be awaited (in an event loop) or waited for (outside of one)."""

    work: Callable[[sqlite3.Connection], Any]
    loop: asyncio.AbstractEventLoop | None
    done: threading.Event = field(default_factory=threading.Event)
    future: asyncio.Future[Any] | None = None
    result: Any = None
    problem: BaseException | None = None

    def wait(self) -> Any:
        self.done.wait()
        if self.problem:
            raise self.problem
        return self.result

    def __await__(self) -> Any:
        assert self.future is not None, "outside an event loop, use wait()"
        return self.future.__await__()

    def settle(self, result: Any = None, problem: BaseException | None = None) -> None:
        self.result, self.problem = result, problem
        self.done.set()
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop may be gone: then nobody is waiting
                self.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        future = self.future
        if future is None or future.done():
            return
        if self.problem:
            future.set_exception(self.problem)
            future.exception()  # a lease given back by a cancelled flight has nobody to read its problem
        else:
            future.set_result(self.result)


class _Writer:
    """The one thread that writes. Jobs that queue up while it commits share the next commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = uuid.uuid4().hex
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="solon-ledger", daemon=True)
        self._heartbeat = 0.0
        self._stopped = False
        self._thread.start()

    def do(self, work: Callable[[sqlite3.Connection], Any]) -> _Job:
        """Queue `work`; it runs inside a transaction with others, and its job settles after the commit."""
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        job = _Job(work, loop)
        if loop is not None:
            job.future = loop.create_future()
        if self._stopped:
            job.settle(problem=StorageError(f"{self.path}: this ledger is closed"))
        else:
            self._jobs.put(job)
        return job

    def stop(self) -> None:
        """Finish what is queued, then end the thread."""
        self._stopped = True
        self._jobs.put(None)
        self._thread.join()

    def claim(self, db: sqlite3.Connection, key: str, fresh: bool) -> bytes | bool:
        """Return the packed reply if it is known by now, True with the lease, False if another holds it."""
        if not fresh:
            row = db.execute("SELECT reply FROM calls WHERE key = ?", (key,)).fetchone()
            if row:
                return bytes(row[0])
        row = db.execute(
            "SELECT o.id, o.host, o.pid, o.born, o.until FROM leases l LEFT JOIN owners o ON o.id = l.owner "
            "WHERE l.key = ?",
            (key,),
        ).fetchone()
        if row and row[0] is not None and row[0] != self.owner:
            if _alive(*row[1:]):
                return False
            db.execute("DELETE FROM leases WHERE owner = ?", (row[0],))
            db.execute("DELETE FROM owners WHERE id = ?", (row[0],))
        db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?)", (key, self.owner))
        return True

    def record(self, db: sqlite3.Connection, stored: tuple[Any, ...]) -> None:
        db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?)", stored)
        db.execute("DELETE FROM leases WHERE key = ?", (stored[0],))

    def _run(self) -> None:
        db = _connect(self.path)
        running = True
        while running:
            jobs: list[_Job] = []
            try:
                job = self._jobs.get(timeout=HEARTBEAT_SECONDS)
                while True:
                    if job is None:
                        running = False
                        break
                    jobs.append(job)
                    if len(jobs) >= MOST_IN_ONE_COMMIT:
                        break
                    job = self._jobs.get_nowait()
            except queue.Empty:
                pass
            if jobs or running:
                self._commit(db, jobs)
        with suppress(sqlite3.Error):
            db.execute("DELETE FROM leases WHERE owner = ?", (self.owner,))
            db.execute("DELETE FROM owners WHERE id = ?", (self.owner,))
        db.close()

    def _commit(self, db: sqlite3.Connection, jobs: list[_Job]) -> None:
        """Do all jobs in one transaction. A full disk is tried again for some seconds: the replies are paid for."""
        until = time.monotonic() + DISK_PATIENCE_SECONDS
        while True:
            results: list[tuple[_Job, Any, Exception | None]] = []
            try:
                with _storage(self.path):
                    db.execute("BEGIN IMMEDIATE")
                    self._beat(db)
                    for job in jobs:
                        db.execute("SAVEPOINT job")
                        try:
                            results.append((job, job.work(db), None))
                        except sqlite3.Error:
                            raise
                        except Exception as problem:  # noqa: BLE001 - it is the asker's, and is raised there
                            db.execute("ROLLBACK TO job")
                            results.append((job, None, problem))
                        db.execute("RELEASE job")
                    db.execute("COMMIT")
            except StorageError as problem:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                if time.monotonic() < until and jobs:
                    time.sleep(0.2)
                    continue
                for job in jobs:
                    job.settle(problem=problem)
                return
            for job, result, trouble in results:
                job.settle(result, trouble)
            return

    def _beat(self, db: sqlite3.Connection) -> None:
        now = time.time()
        if now - self._heartbeat >= HEARTBEAT_SECONDS:
            self._heartbeat = now
            db.execute(
                "INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?)",
                (self.owner, socket.gethostname(), os.getpid(), _born(os.getpid()), now + LEASE_SECONDS),
            )


def _connect(path: Path) -> sqlite3.Connection:
    # check_same_thread: the reader is used by the event loop's thread alone, the writer's by its own
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit survives a power cut too; group commit makes it cheap
    db.execute("PRAGMA synchronous = FULL")
    return db


def _prepare(path: Path) -> None:
    """Create the tables of a new ledger, or check an old one."""
    db = _connect(path)
    try:
        db.execute("BEGIN EXCLUSIVE")  # two processes may open a new ledger at once
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    finally:
        db.close()
    _check(path)


def _check(path: Path) -> None:
    db = sqlite3.connect(path, timeout=30)
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
    finally:
        db.close()
    if application != APPLICATION:
        raise StorageError(f"{path}: an SQLite file, but not a ledger; give another path with `ledger:` in the recipe")
    if version > VERSION:
        raise StorageError(
            f"{path}: a ledger of version {version}, written by a newer Solon (this one reads {VERSION}); "
            "upgrade Solon, or give another path with `ledger:` in the recipe"
        )


def _merge(db: sqlite3.Connection, other: Path) -> Merged:
    theirs = sqlite3.connect(other)
    added = same = differed = 0
    try:
        for row in theirs.execute("SELECT key, model, asked_at, seconds, call, reply FROM calls"):
            mine = db.execute("SELECT asked_at, reply FROM calls WHERE key = ?", (row[0],)).fetchone()
            if mine is None:
                added += 1
            elif _unpack(mine[1]) == _unpack(row[5]):
                same += 1
                continue
            else:
                differed += 1
                if mine[0] <= row[2]:
                    continue
            db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?)", row)
        for probe in theirs.execute("SELECT model, can, asked_at FROM probes"):
            db.execute("INSERT OR IGNORE INTO probes VALUES (?, ?, ?)", probe)
    finally:
        theirs.close()
    return Merged(added, same, differed)


def _pack(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8"), 3)


def _unpack(blob: bytes) -> str:
    return zlib.decompress(blob).decode("utf-8")


def _entry(row: tuple[Any, ...]) -> Entry:
    key, call, reply, asked_at, seconds = row
    return Entry(key, Call.from_json(_unpack(call)), Reply.from_json(_unpack(reply)), asked_at, seconds)


def _holds(call: bytes, reply: bytes, text: str) -> bool:
    question, answer = Call.from_json(_unpack(call)), Reply.from_json(_unpack(reply))
    words = [message.content for message in question.messages] + [answer.text, answer.thinking]
    return any(text in each for each in words)


def _born(pid: int) -> str:
    """Return when a process started, as the kernel counts it, so that a reused pid is not taken for its owner."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(host: str, pid: int, born: str, until: float) -> bool:
    """Return whether the owner of a lease still works: asked of the kernel on this host, of its heartbeat elsewhere."""
    if host == socket.gethostname():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        if born and _born(pid) != born:
            return False
    return until > time.time()


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one line with a remedy."""
    try:
        yield
    except sqlite3.Error as problem:
        words = str(problem)
        if "full" in words:
            remedy = "the disk is full; make room and start again, what is written stays"
        elif "readonly" in words or "unable to open" in words:
            remedy = "it cannot be written; check the permissions, or give another path with `ledger:` in the recipe"
        elif "not a database" in words or "malformed" in words:
            remedy = "it is damaged, or not a ledger; move it away, or give another path with `ledger:` in the recipe"
        elif "locked" in words:
            remedy = "another process keeps it locked; wait, or stop that one"
        else:
            remedy = "see the message; give another path with `ledger:` in the recipe if it persists"
        raise StorageError(f"{path}: {words}: {remedy}") from problem
    except OSError as problem:
        raise StorageError(f"{path}: {problem.strerror or problem}; check the path and its permissions") from problem
