"""The jobs file beside the ledger: which calls wait for a provider's batch job, and which job has them.

    jobs = Jobs(ledger_path, run)                <ledger>.jobs, made when the first call is parked
    jobs.begin()                                 the run starts: what it left waiting is forgotten
    jobs.park(identity, calls)                   these calls wait
    jobs.intend(intent, identity, name, ids)     written down before anything is sent
    jobs.note(job, provider="batch_1", ...)      what is known of it since
    jobs.mark(job, fates)                        what became of its calls, as the results are read
    jobs.close(job, "collected")                 answered calls are forgotten, the rest wait again

One SQLite file, so that a job and its calls change in one transaction; a commit survives `kill -9` and a power cut.
A call waits once however many rows and runs want it. What waits is scratch: a run that starts again forgets what it
left waiting and parks it anew, so that after an edit nothing is submitted that nobody wants any more. What was
submitted is kept until its answers are in the ledger.

A job has one driver, a process that holds its lock (`<ledger>.jobs.lock`, one byte a job), and gives it back when it
ends, however it ends. So a live process's job is never taken for an orphan, and an orphan finds the next process.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from solon.calls import Call
from solon.errors import StorageError
from solon.jobs.file import (
    COLUMNS,
    DIGITS,
    OPEN,
    Fate,
    Job,
    Waiting,
    bury,
    custom_id,
    job_of,
    pack,
    prepare,
    waiting_of,
)
from solon.jobs.locks import Locks
from solon.ledger.file import connect, storage
from solon.spend import Spend

__all__ = ["OPEN", "Fate", "Job", "Jobs", "Waiting", "custom_id"]

ROWS_AT_ONCE = 500


class Jobs:
    """The jobs file of the ledger at `ledger`. Its methods may be called from any thread; raises StorageError.

    run: for whom calls wait: the run folder's name, the same in all processes that walk it
    """

    def __init__(self, ledger: str | Path, run: str = "") -> None:
        self.run = run
        self.path = Path(f"{ledger}.jobs")
        self._lock = threading.RLock()
        self._locks = Locks(Path(f"{ledger}.jobs.lock"))
        self._db: sqlite3.Connection | None = None
        self._drives: set[int] = set()

    @property
    def exists(self) -> bool:
        """Return whether any call was ever parked here: looking makes no file."""
        return self._db is not None or self.path.is_file()

    def close_file(self) -> None:
        """Leave the jobs to whoever comes next, and close the file."""
        with self._lock:
            for job in list(self._drives):
                self.let_go(job)
            if self._db is not None:
                self._db.close()
                self._db = None

    # -- what waits

    def begin(self) -> None:
        """Forget what the run left waiting, and what failed for it: it starts anew, and nobody else walks it."""
        if not self.exists:
            return
        with self._change() as db:
            for table in ("waits", "failures"):
                db.execute(f"DELETE FROM {table} WHERE run = ?", (self.run,))
            db.execute("DELETE FROM calls WHERE job IS NULL AND id NOT IN (SELECT call FROM waits)")

    def park(self, identity: str, calls: Iterable[Call]) -> None:
        """Let these calls wait; one that waits already is not doubled."""
        with self._change() as db:
            for call in calls:
                db.execute(
                    "INSERT OR IGNORE INTO calls (key, identity, call) VALUES (?, ?, ?)",
                    (call.key, identity, pack(call)),
                )
                db.execute("INSERT OR IGNORE INTO waits SELECT ?, id FROM calls WHERE key = ?", (self.run, call.key))

    def waiting(self, identity: str) -> tuple[int, int]:
        """Return how many calls of a model wait for a job on behalf of the run, and how many are in one."""
        row = self._one(
            "SELECT count(*), count(c.job) FROM waits w JOIN calls c ON c.id = w.call "
            "WHERE w.run = ? AND c.identity = ?",
            self.run, identity,
        )  # fmt: skip
        return row[0] - row[1], row[1]

    def free(self, identity: str) -> Iterator[Waiting]:
        """Yield the run's calls of a model that are in no job, in the order in which they were parked."""
        last = 0
        while rows := self._all(
            "SELECT id, key, call, tries, fate FROM calls WHERE job IS NULL AND id > ? AND identity = ? "
            "AND EXISTS (SELECT 1 FROM waits WHERE run = ? AND call = calls.id) ORDER BY id LIMIT ?",
            last, identity, self.run, ROWS_AT_ONCE,
        ):  # fmt: skip
            yield from (waiting_of(self.path, row) for row in rows)
            last = rows[-1][0]

    def failure(self, key: str) -> tuple[str, str] | None:
        """Return (reason, detail) where a call failed for good since the run began."""
        row = self._one("SELECT reason, detail FROM failures WHERE run = ? AND key = ?", self.run, key)
        return None if row is None else (row[0], row[1])

    @property
    def failures(self) -> bool:
        """Return whether any call failed for good since the run began."""
        return bool(self.exists and self._one("SELECT 1 FROM failures WHERE run = ? LIMIT 1", self.run))

    def fail(self, call: int, reason: str, detail: str) -> None:
        """Let a call that waits fail: whoever wants it is told so, and does not wait for it any more."""
        with self._change() as db:
            db.execute(
                "UPDATE calls SET fate = ?, reason = ?, detail = ? WHERE id = ?", (Fate.FAILED, reason, detail, call)
            )
            bury(db, "id = ?", call)

    def parked(self) -> list[tuple[str, str, int]]:
        """Return (run, model's identity, calls) of all that waits and is in no job."""
        return self._all(
            "SELECT w.run, c.identity, count(*) FROM waits w JOIN calls c ON c.id = w.call WHERE c.job IS NULL "
            "GROUP BY w.run, c.identity ORDER BY w.run, c.identity"
        )

    # -- jobs

    def intend(self, intent: str, identity: str, name: str, calls: Iterable[int], worst: Spend) -> Job | None:
        """Write down that these calls are about to be submitted as one job, which this process drives.

        None, with nothing changed, where one of them went into another process's job meanwhile.
        """
        numbers = list(calls)
        job = 0
        try:
            with self._change() as db:
                cursor = db.execute(
                    "INSERT INTO jobs (intent, run, identity, name, state, calls, intended_at, "
                    "worst_calls, worst_tokens, worst_nano) VALUES (?, ?, ?, ?, 'intended', ?, ?, ?, ?, ?)",
                    (
                        intent, self.run, identity, name, len(numbers), time.time(),
                        worst.calls, worst.tokens, worst.nano,
                    ),
                )  # fmt: skip
                job = int(cursor.lastrowid or 0)
                self.drive(job)  # before the commit: nobody may see it without a driver
                taken = db.executemany(
                    "UPDATE calls SET job = ?, fate = 0, reason = '', detail = '' WHERE id = ? AND job IS NULL",
                    ((job, number) for number in numbers),
                )
                if taken.rowcount != len(numbers):
                    raise _Taken
        except BaseException as problem:
            self.let_go(job)
            if isinstance(problem, _Taken):
                return None
            raise
        return self.job(job)

    def job(self, number: int) -> Job:
        row = self._one(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", number)
        if row is None:
            raise StorageError(f"{self.path}: no job {number}; `solon batch list` names them")
        return job_of(row)

    def jobs(self, identity: str | None = None, states: Iterable[str] = ()) -> list[Job]:
        """Return jobs in the order of their making; of one model, or in these states alone, where they are given."""
        wanted = tuple(states)
        marks = ",".join("?" * len(wanted))
        return [
            job_of(row)
            for row in self._all(
                f"SELECT {COLUMNS} FROM jobs WHERE (? IS NULL OR identity = ?) "
                f"AND (? = 0 OR state IN ({marks})) ORDER BY id",
                identity, identity, len(wanted), *wanted,
            )
        ]  # fmt: skip

    def providers(self) -> set[str]:
        """Return the providers' ids of all jobs here: what another intent may not take for its own."""
        return {row[0] for row in self._all("SELECT provider FROM jobs WHERE provider IS NOT NULL")}

    def note(self, job: Job, **facts: Any) -> Job:
        """Write down what is newly known of a job that is not given up."""
        words = ", ".join(f"{name} = ?" for name in facts)
        with self._change() as db:
            db.execute(f"UPDATE jobs SET {words} WHERE id = ? AND state != 'given up'", (*facts.values(), job.id))
        return self.job(job.id)

    def calls_of(self, job: Job) -> Iterator[Waiting]:
        """Yield the calls of a job, always in the same order."""
        last = 0
        while rows := self._all(
            "SELECT id, key, call, tries, fate FROM calls WHERE job = ? AND id > ? ORDER BY id LIMIT ?",
            job.id, last, ROWS_AT_ONCE,
        ):  # fmt: skip
            yield from (waiting_of(self.path, row) for row in rows)
            last = rows[-1][0]

    def meant(self, job: Job, custom_id: str) -> Waiting | None:
        """Return the call of `job` that a result's custom id names, or None: it is for no call of it."""
        mark, _, digits = custom_id.partition("-")
        if mark != job.mark or len(digits) != DIGITS:
            return None
        row = self._one(
            # "+": by its key, and not by looking through the whole job
            "SELECT id, key, call, tries, fate FROM calls WHERE key >= ? AND key < ? AND +job = ?",
            f"c1:{digits}", f"c1:{digits}~", job.id,
        )  # fmt: skip
        return None if row is None else waiting_of(self.path, row)

    def mark(self, job: Job, fates: Iterable[tuple[int, int, str, str]]) -> None:
        """Write down (call, fate, reason, detail) of calls whose results were read."""
        with self._change() as db:
            db.executemany(
                "UPDATE calls SET fate = ?, reason = ?, detail = ? WHERE id = ? AND job = ?",
                ((fate, reason, detail, call, job.id) for call, fate, reason, detail in fates),
            )

    def drop(self, calls: Iterable[int]) -> None:
        """Forget calls whose answers came another way."""
        with self._change() as db:
            for call in calls:
                bury(db, "id = ?", call)

    def close(self, job: Job, state: str, *, words: str = "", tried: int = 0, spared: bool = False) -> Job:
        """End a job: answered calls are forgotten, failed ones told to whoever waits, all others wait again.

        tried:  its having had them counts, and a call that so many jobs had has failed; 0 where it does not count
        spared: failed calls wait again too
        """
        with self._change() as db:
            if spared:
                db.execute(f"UPDATE calls SET fate = {Fate.AGAIN} WHERE job = ? AND fate = {Fate.FAILED}", (job.id,))
            if tried:
                db.execute(
                    f"UPDATE calls SET fate = {Fate.FAILED}, reason = iif(reason = '', 'no_answer', reason), "
                    "detail = detail || ? WHERE job = ? AND fate NOT IN "
                    f"({Fate.ANSWERED}, {Fate.FAILED}) AND tries + 1 >= ?",
                    (f" (in {tried} batch jobs)", job.id, tried),
                )
            answered, failed = db.execute(
                "SELECT coalesce(sum(fate = ?), 0), coalesce(sum(fate = ?), 0) FROM calls WHERE job = ?",
                (Fate.ANSWERED, Fate.FAILED, job.id),
            ).fetchone()
            db.execute(
                "UPDATE jobs SET state = ?, words = ?, answered = ?, failed = ?, ended_at = ? "
                f"WHERE id = ? AND state IN {OPEN}",
                (state, words, answered, failed, time.time(), job.id),
            )
            bury(db, f"job = ? AND fate IN ({Fate.ANSWERED}, {Fate.FAILED})", job.id)
            db.execute(
                "UPDATE calls SET job = NULL, fate = 0, reason = '', detail = '', tries = tries + ? WHERE job = ?",
                (int(bool(tried)), job.id),
            )
        self.let_go(job.id)
        return self.job(job.id)

    # -- who drives a job

    def drive(self, job: int) -> bool:
        """Return whether this process drives the job now, and nobody else."""
        with self._lock:
            if job not in self._drives and self._locks.seize(job):
                self._drives.add(job)
            return job in self._drives

    def let_go(self, job: int) -> None:
        """Leave the job to whoever comes next."""
        with self._lock:
            if job in self._drives:
                self._locks.release(job)
                self._drives.discard(job)

    # -- the file

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            db = connect(self.path, patience=60.0)
            try:
                prepare(db, self.path)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, storage(self.path):
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _all(self, query: str, *given: Any) -> list[Any]:
        with self._lock, storage(self.path):
            return self._open().execute(query, given).fetchall()

    def _one(self, query: str, *given: Any) -> Any:
        with self._lock, storage(self.path):
            return self._open().execute(query, given).fetchone()


class _Taken(Exception):
    """Undoes a transaction."""
