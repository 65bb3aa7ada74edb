"""The one thread that writes the ledger: group commits, leases, and patience with a disk or a lock.

It takes whatever has queued up while it was busy into one transaction, so that a thousand replies a second need a few
dozen commits; a job settles after its commit, never before. A reply that could not be written (a full disk) is kept
and written with the next commit that succeeds.

A lease says "this process is asking this key". It belongs to an owner: a process with its host, its birth and a
heartbeat. On the same host the kernel is asked whether the owner lives; elsewhere the heartbeat's time decides, so
clocks of machines that share a ledger must agree to within LEASE_SECONDS.
"""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from solon.errors import StorageError
from solon.ledger_file import Stored, connect, told, write_row

__all__ = ["Job", "Writer"]

LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0
MOST_IN_ONE_COMMIT = 1024
PATIENCE_SECONDS = {sqlite3.SQLITE_FULL: 3.0, sqlite3.SQLITE_IOERR: 3.0, sqlite3.SQLITE_BUSY: 120.0}
"""How long a commit is tried again, by SQLite's error code: the replies in it are paid for."""

Settled = tuple["Job", Any, BaseException | None]


@dataclass(eq=False)
class Job:
    """One piece of work for the writer: `await` it in the event loop that queued it, or `wait()` elsewhere.

    `work` may be done more than once (a commit that is tried again), so it must touch the database alone.
    """

    work: Callable[[sqlite3.Connection], Any]
    stored: Stored | None = None
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[Any] | None = None
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    problem: BaseException | None = None

    def wait(self) -> Any:
        self.done.wait()
        if self.problem:
            raise self.problem
        return self.result

    def __await__(self) -> Generator[Any, None, Any]:
        assert self.future is not None, "outside an event loop, use wait()"
        return self.future.__await__()

    def tell(self) -> None:
        future = self.future
        if future is None or future.done():
            return
        if self.problem:
            future.set_exception(self.problem)
            future.exception()  # a lease given back by a cancelled flight has nobody to read its problem
        else:
            future.set_result(self.result)


class Writer:
    """Owns the writing connection. Raises sqlite3.Error and OSError where the file cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = uuid.uuid4().hex
        self.problem: BaseException | None = None
        self._db = connect(path)
        self._inode = path.stat().st_ino
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._stopped = False
        # touched by the thread alone
        self._held: set[str] = set()
        self._owed: dict[str, Stored] = {}
        self._beaten: float | None = None
        self._beating: float | None = None
        self._thread = threading.Thread(target=self._run, name="solon-ledger", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[sqlite3.Connection], Any], *, stored: Stored | None = None) -> Job:
        """Queue `work`; it runs inside a transaction with others, and its job settles after the commit."""
        job = Job(work, stored)
        with suppress(RuntimeError):  # outside a loop: it will be waited for
            job.loop = asyncio.get_running_loop()
            job.future = job.loop.create_future()
        with self._gate:  # nothing may be queued behind the end
            if not self._stopped:
                self._jobs.put(job)
                return job
        _settle([(job, None, StorageError(f"{self.path}: this ledger is closed; open it again"))])
        return job

    def stop(self) -> int:
        """Finish what is queued, end the thread, and return how many replies could not be written down."""
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
        self._thread.join()
        lost, self._owed = len(self._owed), {}
        return lost

    # -- the three jobs of a flight

    def claim(self, key: str, *, fresh: bool) -> Job:
        """Result: the packed reply if it is known by now (unless `fresh`), True with the lease, False if it is held."""
        return self.do(lambda db: self._claim(db, key, fresh))

    def release(self, key: str) -> Job:
        """Give the lease back."""

        def release(db: sqlite3.Connection) -> None:
            # it may be another's by now: a process that slept too long has lost it
            db.execute("DELETE FROM leases WHERE key = ? AND owner = ?", (key, self.owner))
            self._held.discard(key)

        return self.do(release)

    def record(self, stored: Stored) -> Job:
        """Write a reply down. Result: None, or the packed reply of an earlier answer, which stays."""
        return self.do(lambda db: self._record(db, stored), stored=stored)

    def _claim(self, db: sqlite3.Connection, key: str, fresh: bool) -> bytes | bool:
        if not fresh:
            row = db.execute("SELECT reply FROM calls WHERE key = ?", (key,)).fetchone()
            if row:
                return bytes(row[0])
        holder = db.execute(
            "SELECT o.id, o.host, o.pid, o.born, o.until FROM leases l JOIN owners o ON o.id = l.owner WHERE l.key = ?",
            (key,),
        ).fetchone()
        if holder and holder[0] != self.owner:
            if _alive(*holder[1:]):
                return False
            _bury(db, holder[0])
        self._beat(db)  # a lease without its owner's row would be nobody's
        db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?)", (key, self.owner))
        self._held.add(key)
        return True

    def _record(self, db: sqlite3.Connection, stored: Stored) -> bytes | None:
        earlier = db.execute("SELECT reply FROM calls WHERE key = ?", (stored.key,)).fetchone()
        if stored.fresh or not earlier:
            write_row(db, stored.row())
            earlier = None
        db.execute("DELETE FROM leases WHERE key = ? AND owner = ?", (stored.key, self.owner))
        self._held.discard(stored.key)
        return bytes(earlier[0]) if earlier else None

    # -- the thread

    def _run(self) -> None:
        running = True
        while running:
            jobs, running = self._queued()
            if jobs or self._owed or (running and self._held):
                self._commit(jobs)
        with suppress(sqlite3.Error):
            if self._beaten is not None:
                _bury(self._db, self.owner)
        self._db.close()

    def _queued(self) -> tuple[list[Job], bool]:
        """Return what has queued up (nothing, after a heartbeat's time), and False after the end."""
        jobs: list[Job] = []
        with suppress(queue.Empty):
            job = self._jobs.get(timeout=HEARTBEAT_SECONDS)
            while job is not None:
                jobs.append(job)
                if len(jobs) >= MOST_IN_ONE_COMMIT:
                    return jobs, True
                job = self._jobs.get_nowait()
            return jobs, False
        return jobs, True

    def _commit(self, jobs: list[Job]) -> None:
        """Do all jobs in one transaction, tried again for a while where the disk is full or the file is locked."""
        started = time.monotonic()
        while True:
            try:
                settled = self._transact(jobs)
            except Exception as problem:  # noqa: BLE001 - whatever it is, every asker is told, and the thread lives on
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                patience = PATIENCE_SECONDS.get(getattr(problem, "sqlite_errorcode", 0) & 0xFF, 0.0)
                if self._stopped and not any(job.stored for job in jobs):
                    patience = 0.0  # nothing paid for hangs on it
                if jobs and time.monotonic() - started < patience:
                    time.sleep(0.1)
                    continue
                self._owed |= {job.stored.key: job.stored for job in jobs if job.stored}
                self.problem = told(self.path, problem)
                settled = [(job, None, self.problem) for job in jobs]
            _settle(settled)
            return

    def _transact(self, jobs: list[Job]) -> list[Settled]:
        db = self._db
        self._look()
        db.execute("BEGIN IMMEDIATE")
        self._beating = None
        for stored in self._owed.values():
            self._record(db, stored)
        if self._held:
            self._beat(db)
        settled = [self._done(db, job) for job in jobs]
        db.execute("COMMIT")
        self._owed.clear()
        # only now: a heartbeat that was rolled back was none
        self._beaten = self._beating if self._beating is not None else self._beaten
        return settled

    def _done(self, db: sqlite3.Connection, job: Job) -> Settled:
        """Do one job. What is wrong with it alone is its asker's; what is wrong with the file is everybody's."""
        db.execute("SAVEPOINT job")
        result = trouble = None
        try:
            result = job.work(db)
        except (sqlite3.OperationalError, sqlite3.InternalError):
            raise
        except Exception as problem:
            if type(problem) is sqlite3.DatabaseError:  # a damaged page, not one of its subclasses
                raise
            db.execute("ROLLBACK TO job")
            trouble = told(self.path, problem)
        db.execute("RELEASE job")
        return job, result, trouble

    def _look(self) -> None:
        """Raise where the file is not the one that was opened: SQLite would go on writing into a deleted one."""
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                return
        raise StorageError(f"{self.path}: moved or deleted while it was open; put it back, and start again")

    def _beat(self, db: sqlite3.Connection) -> None:
        now = time.monotonic()
        if self._beating is not None or (self._beaten is not None and now - self._beaten < HEARTBEAT_SECONDS):
            return
        if self._beaten is None:
            for owner in db.execute("SELECT id, host, pid, born, until FROM owners").fetchall():
                if not _alive(*owner[1:]):
                    _bury(db, owner[0])
        self._beating = now
        db.execute(
            "INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?)",
            (self.owner, _host(), os.getpid(), _born(os.getpid()), time.time() + LEASE_SECONDS),
        )


def _settle(settled: Iterable[Settled]) -> None:
    """Tell every asker; those of one loop by one wake-up."""
    waiting: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job, result, problem in settled:
        job.result, job.problem = result, problem
        job.done.set()
        if job.loop is not None:
            waiting.setdefault(job.loop, []).append(job)
    for loop, jobs in waiting.items():
        with suppress(RuntimeError):  # the loop may be gone: then nobody is waiting
            loop.call_soon_threadsafe(_tell, jobs)


def _tell(jobs: list[Job]) -> None:
    for job in jobs:
        job.tell()


# -- owners of leases ----------------------------------------------------------------------------------------


def _bury(db: sqlite3.Connection, owner: str) -> None:
    db.execute("DELETE FROM leases WHERE owner = ?", (owner,))
    db.execute("DELETE FROM owners WHERE id = ?", (owner,))


@cache
def _host() -> str:
    """Return where process ids mean what they mean here: the host, this boot of it, this container's id space."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _born(pid: int) -> str:
    """Return when a process started, as the kernel counts it, so that a reused pid is not taken for its owner.

    "" for one that is dead but not buried by its parent, and where the kernel does not tell.
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if facts[0] in "ZX" else facts[19]
    except (OSError, IndexError):
        return ""


def _alive(host: str, pid: int, born: str, until: float) -> bool:
    """Return whether the owner of a lease still works. A process that stopped beating is given up on any host."""
    if host == _host():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        if born and _born(pid) != born:
            return False
    return until > time.time()
