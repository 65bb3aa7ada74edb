"""The one thread that writes the ledger: group commits, and patience with a disk or a lock.

It takes whatever has queued up while it was busy into one transaction, so that a thousand replies a second need a few
dozen commits; a job settles after its commit, never before. A reply that could not be written (a full disk) is kept
and written with the next commit that succeeds. What the jobs do is in `pen`.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from solon.errors import StorageError
from solon.ledger import pen
from solon.ledger.file import connect, told
from solon.ledger.pen import Pen, Stored

__all__ = ["Job", "Writer"]

MOST_IN_ONE_COMMIT = 1024
PATIENCE_SECONDS = {sqlite3.SQLITE_FULL: 3.0, sqlite3.SQLITE_IOERR: 3.0, sqlite3.SQLITE_BUSY: 120.0}
"""How long a commit is tried again, by SQLite's error code: the replies in it are paid for."""

Settled = tuple["Job", Any, BaseException | None]


class Job:
    """One piece of work for the writer: `await` it in the event loop that queued it, or `wait()` elsewhere.

    work:  may be done more than once (a commit that is tried again), so it must touch the database alone
    key:   of the call that it looks at, so that those of many jobs are looked up at once
    then:  called with the job, in the loop that queued it, when it is done: a turn of the loop sooner than who awaits
    """

    __slots__ = ("done", "future", "key", "loop", "problem", "result", "settled", "stored", "then", "work")

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], Any],
        settled: threading.Condition,
        stored: Stored | None = None,
        then: Callable[[Job], None] | None = None,
        key: str = "",
    ) -> None:
        self.work = work
        self.key = key
        self.stored = stored
        self.then = then
        self.settled = settled  # the writer's: told of every group of jobs that are done
        self.done = False
        self.result: Any = None
        self.problem: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[Any] | None = None
        with suppress(RuntimeError):  # outside a loop: it will be waited for
            self.loop = asyncio.get_running_loop()
            if then is None:
                self.future = self.loop.create_future()

    def wait(self) -> Any:
        with self.settled:
            while not self.done:
                self.settled.wait()
        if self.problem:
            raise self.problem
        return self.result

    def __await__(self) -> Generator[Any, None, Any]:
        assert self.future is not None, "outside an event loop, use wait()"
        return self.future.__await__()

    def tell(self) -> None:
        if self.then is not None:
            self.then(self)
            return
        future = self.future
        if future is None or future.done():
            return
        if self.problem:
            future.set_exception(self.problem)
            future.exception()  # a lease given back by a cancelled flight has nobody to read its problem
        else:
            future.set_result(self.result)


class _Apart(Exception):
    """A job failed for a reason of its own: its neighbours are done again without it."""


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
        self._settled = threading.Condition()
        self._stopped = False
        # touched by the thread alone
        self.pen = Pen(self._db, self.owner)
        self._owed: dict[str, Stored] = {}
        self._thread = threading.Thread(target=self._run, name="solon-ledger", daemon=True)
        self._thread.start()

    def do(
        self,
        work: Callable[[sqlite3.Connection], Any],
        *,
        stored: Stored | None = None,
        then: Callable[[Job], None] | None = None,
        key: str = "",
    ) -> Job:
        """Queue `work`; it runs inside a transaction with others, and its job settles after the commit."""
        job = Job(work, self._settled, stored, then, key)
        with self._gate:  # nothing may be queued behind the end
            if not self._stopped:
                self._jobs.put(job)
                return job
        self._settle([(job, None, StorageError(f"{self.path}: this ledger is closed; open it again"))])
        return job

    def record(self, stored: Stored, *, then: Callable[[Job], None] | None = None) -> Job:
        """Write a reply down (`Pen.record`); it is kept until that succeeds."""
        return self.do(lambda db: self.pen.record(stored), stored=stored, then=then, key=stored.key)

    def stop(self) -> int:
        """Finish what is queued, end the thread, and return how many replies could not be written down."""
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
        self._thread.join()
        lost, self._owed = len(self._owed), {}
        return lost

    # -- the thread

    def _run(self) -> None:
        running = True
        while running:
            jobs, running = self._queued()
            if jobs or self._owed or (running and self.pen.held):
                self._commit(jobs)
        if self.pen.beaten is not None:
            with suppress(sqlite3.Error):
                self._db.execute("BEGIN IMMEDIATE")
                self.pen.begin()
                self.pen.bury(self.owner)
                self.pen.write()
                self._db.execute("COMMIT")
        self._db.close()

    def _queued(self) -> tuple[list[Job], bool]:
        """Return what has queued up (nothing, after a heartbeat's time), and False after the end."""
        jobs: list[Job] = []
        with suppress(queue.Empty):
            job = self._jobs.get(timeout=pen.HEARTBEAT_SECONDS)
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
                self._take_back()
                patience = PATIENCE_SECONDS.get(getattr(problem, "sqlite_errorcode", 0) & 0xFF, 0.0)
                if self._stopped and not any(job.stored for job in jobs):
                    patience = 0.0  # nothing paid for hangs on it
                if jobs and time.monotonic() - started < patience:
                    time.sleep(0.1)
                    continue
                self._owed |= {job.stored.key: job.stored for job in jobs if job.stored}
                self.problem = told(self.path, problem)
                settled = [(job, None, self.problem) for job in jobs]
            self._settle(settled)
            return

    def _take_back(self) -> None:
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        self.pen.forget()

    def _transact(self, jobs: list[Job]) -> list[Settled]:
        try:
            return self._together(jobs, self._done)
        except _Apart:
            self._take_back()
            return self._together(jobs, self._done_apart)

    def _together(self, jobs: list[Job], done: Callable[[Job], Settled]) -> list[Settled]:
        self._look()
        self._db.execute("BEGIN IMMEDIATE")
        self.pen.begin([job.key for job in jobs if job.key])
        for stored in self._owed.values():
            self.pen.record(stored)
        settled = [done(job) for job in jobs]
        self.pen.write()
        self._db.execute("COMMIT")
        self._owed.clear()
        self.pen.committed()
        return settled

    def _done(self, job: Job) -> Settled:
        try:
            return job, job.work(self._db), None
        except Exception as problem:
            if _everybodys(problem):
                raise
            raise _Apart from problem

    def _done_apart(self, job: Job) -> Settled:
        """Do one job. What is wrong with it alone is its asker's; what is wrong with the file is everybody's."""
        result = trouble = None
        self.pen.write()
        self._db.execute("SAVEPOINT job")
        try:
            result = job.work(self._db)
            self.pen.write()
        except Exception as problem:
            if _everybodys(problem):
                raise
            self._db.execute("ROLLBACK TO job")
            self.pen.forget()
            trouble = told(self.path, problem)
        self._db.execute("RELEASE job")
        return job, result, trouble

    def _look(self) -> None:
        """Raise where the file is not the one that was opened: SQLite would go on writing into a deleted one."""
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                return
        raise StorageError(f"{self.path}: moved or deleted while it was open; put it back, and start again")

    def _settle(self, settled: list[Settled]) -> None:
        """Tell every asker; those of one loop by one wake-up."""
        waiting: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job, result, problem in settled:
            job.result, job.problem = result, problem
            if job.loop is not None:
                waiting.setdefault(job.loop, []).append(job)
        with self._settled:
            for job, _, _ in settled:
                job.done = True
            self._settled.notify_all()
        for loop, jobs in waiting.items():
            with suppress(RuntimeError):  # the loop may be gone: then nobody is waiting
                loop.call_soon_threadsafe(_tell, jobs)


def _everybodys(problem: Exception) -> bool:
    """Return whether a job's failure is the file's: a damaged page is a DatabaseError, not one of its subclasses."""
    return isinstance(problem, (sqlite3.OperationalError, sqlite3.InternalError)) or (
        type(problem) is sqlite3.DatabaseError
    )


def _tell(jobs: list[Job]) -> None:
    for job in jobs:
        job.tell()
