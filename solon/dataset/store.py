"""The plan's rows and their outcomes, in one SQLite file.

    with RowStore.create(path) as store:            # the plan writes it once ...
        store.add(prompt, draws)

    with RowStore.open(path) as store:              # ... and a run walks it, as often as it is started
        for row in store.rows():                    # the unfinished ones, in the plan's order
            store.finish(await story(row, cast))

Four tables: `rows` (the plan, never changed once it is whole), `finished` (a few numbers a row: what a resume,
a progress line and the closing table ask for), `walks` (the outcomes as JSON) and `meta`. A plan is whole when
its store is closed without an error, or its first row is finished; a file that was cut off before is refused, so
that half a plan is never taken for the whole. Outcomes are committed in groups, so that several processes may walk one
plan: after `kill -9` the newest fifth of a second is walked again from the ledger's memory. Nothing here grows in
memory with the number of rows.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from solon.complaints import one_of
from solon.dataset.encoding import decode_outcome, decode_row, encode_outcome, encode_row, gate
from solon.dataset.quality import SUMS, Numbers, Quality
from solon.dataset.store_file import APPLICATION, BUSY_SECONDS, FORMAT, TABLES, connect, storage
from solon.errors import REASONS, BadInput, StorageError
from solon.rows import Draw, Pair, Prompt, Row, SetAside

__all__ = ["RowStore"]

GROUP_ROWS = 64
GROUP_SECONDS = 0.2
PLAN_GROUP = 10_000
ROWS_AT_ONCE = 256
OUTCOMES_AT_ONCE = 64


class RowStore:
    """The rows of one plan, and what became of them. `create` or `open` it, use it in one thread, `close` it.

    planned, pairs, set_aside, duplicates: counts, always up to date; a duplicate is a prompt that the plan had
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._whole = False
        self._waiting: dict[int, tuple[Numbers, bytes]] = {}  # finished rows that are not written yet
        self._committed = time.monotonic()
        self.planned = self.pairs = self.set_aside = self.duplicates = 0

    @classmethod
    def create(cls, path: Path) -> RowStore:
        """Return an empty store at `path`. Raises StorageError where there is one, or none can be written."""
        if path.exists():
            raise StorageError(f"{path}: a plan is there already; open it, or plan into another folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{path.parent}: cannot be made ({error.strerror}); check its rights") from error
        with storage(path):
            store = cls(path, sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS))
            # what is cut off here is thrown away, so nothing need be on the disk before the plan is whole
            store._connection.executescript(f"PRAGMA synchronous=OFF; PRAGMA cache_size=-4096; {TABLES}")
        return store

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> RowStore:
        """Return the store at `path`.

        Args:
            read_only: for looking only; works in a folder that cannot be written, too.

        Raises StorageError where it is missing, damaged, not whole, newer than this Solon, or cannot be written.
        """
        if not path.is_file():
            raise StorageError(f"{path}: no plan is there; check the folder's name, or start the run that makes it")
        with storage(path):
            store = cls(path, connect(path, read_only))
            try:
                store._check(read_only)
            except BaseException:
                store._connection.close()
                raise
        return store

    def _check(self, read_only: bool) -> None:
        ask = self._connection.execute
        if ask("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise StorageError(f"{self.path}: not a plan of Solon's; check the folder's name")
        version = ask("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            told = f"written by a newer Solon (format {version}, this one reads {FORMAT})"
            raise StorageError(f"{self.path}: {told}; update it: pip install -U solon")
        meta = dict(ask("SELECT key, value FROM meta").fetchall())
        if "planned" not in meta:
            raise StorageError(f"{self.path}: its planning was cut off; delete the file and run again")
        if not read_only:
            ask("BEGIN IMMEDIATE")  # says now, not after an hour of answers, that nothing can be written
            ask("ROLLBACK")
            ask("PRAGMA synchronous=NORMAL")
        self._whole = True
        self.planned, self.duplicates = meta["planned"], meta["duplicates"]
        self.count_anew()

    def count_anew(self) -> None:
        """Count again what became of the rows, after other processes wrote."""
        self.set_aside = sum(self.tally().values())
        self.pairs = self._connection.execute("SELECT count(*) FROM finished WHERE reason = ''").fetchone()[0]

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self._whole:
            self.close()
        else:
            self._connection.close()  # half a plan stays half a plan

    def close(self) -> None:
        """Write what waits and let the file go. A new plan is whole from here on."""
        try:
            with storage(self.path):
                if not self._whole:
                    self._complete()
                self.flush()
        finally:
            self._whole = True
            self._connection.close()

    # the plan

    def add(self, prompt: Prompt, draws: Iterable[Draw]) -> bool:
        """Add the plan's next row; return False where its prompt is there already (counted in `duplicates`)."""
        if self._whole:
            raise ValueError(f"{self.path}: the plan is whole, no row can be added")
        content = encode_row(prompt, draws)
        with storage(self.path):
            self._begin()
            done = self._connection.execute(
                "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (self.planned, prompt.id, content)
            )
            if not done.rowcount:
                self.duplicates += 1
                return False
            self.planned += 1
            if self.planned % PLAN_GROUP == 0:
                self._connection.execute("COMMIT")
        return True

    def _complete(self) -> None:
        """Mark the plan as whole, once it is on the disk, and take the journal that walking wants."""
        ask = self._connection.execute
        if self._connection.in_transaction:
            ask("COMMIT")
        ask("PRAGMA synchronous=FULL")
        self._begin()
        for count in ("planned", "duplicates"):
            ask("INSERT INTO meta VALUES (?, ?)", (count, getattr(self, count)))
        ask("COMMIT")
        ask("PRAGMA journal_mode=WAL")
        ask("PRAGMA synchronous=NORMAL")
        self._whole = True

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def rows(
        self, limit: int | None = None, *, unfinished: bool = True, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Row]:
        """Yield rows in the plan's order, some at a time from the disk; rows may be finished meanwhile.

        Args:
            limit: only the plan's first `limit` rows, finished or not.
            unfinished: only rows without an outcome.
            part: (number, of): only every `of`-th row, from the `number`-th, counted from 0.
        """
        todo = "AND NOT EXISTS (SELECT 1 FROM finished WHERE finished.idx = rows.idx)" if unfinished else ""
        query = (
            f"SELECT idx, content, id FROM rows WHERE idx > ? AND idx < ? AND idx % ? = ? {todo} "
            f"ORDER BY idx LIMIT {ROWS_AT_ONCE}"
        )
        end = self.planned if limit is None else limit
        index = -1
        while True:
            self.flush()
            with storage(self.path):
                found = self._connection.execute(query, (index, end, part[1], part[0])).fetchall()
            if not found:
                return
            index = found[-1][0]
            for one in found:
                with storage(self.path):
                    row = decode_row(*one)
                yield row

    def count(self, limit: int | None = None, *, part: tuple[int, int] = (0, 1)) -> tuple[int, int]:
        """Return how many rows of the plan's first `limit`, and of this `part`, there are, and how many unfinished."""
        self.flush()
        end = self.planned if limit is None else min(limit, self.planned)
        there = len(range(part[0], end, part[1]))
        with storage(self.path):
            query = "SELECT count(*) FROM finished WHERE idx < ? AND idx % ? = ?"
            done = self._connection.execute(query, (end, part[1], part[0])).fetchone()[0]
        return there, there - done

    def row(self, which: int | str) -> Row:
        """Return one row.

        Args:
            which: its place in the plan, or its id, or the beginning of it. A text of digits is a place where
                the plan has that many rows, else an id.

        Raises BadInput where no row, or more than one, is meant.
        """
        if isinstance(which, str) and (which == "0" or which[:1] != "0") and which.isdecimal():
            which = int(which) if int(which) < self.planned else which
        with storage(self.path):
            if isinstance(which, int):
                found = self._connection.execute("SELECT idx, content FROM rows WHERE idx = ?", (which,)).fetchall()
            else:
                begin = which.strip().lower()
                query = "SELECT idx, content FROM rows WHERE id >= ? AND id < ? ORDER BY idx LIMIT 6"
                found = self._connection.execute(query, (begin, begin + "g")).fetchall() if begin else []
            near = [decode_row(*one) for one in found]
        if len(near) == 1:
            return near[0]
        if near:
            several = ", ".join(f"{row.id[:12]} (row {row.index})" for row in near[:5])
            more = ", ..." if len(near) > 5 else ""
            raise BadInput(f"{which}: more than one row begins so: {several}{more}; give more of the id")
        there = f"rows 0 to {self.planned - 1}, or the beginning of an id" if self.planned else "no rows at all"
        raise BadInput(f"{which}: no such row in {self.path}; there are {there}")

    # the outcomes

    @property
    def finished(self) -> int:
        """Return how many rows have an outcome."""
        return self.pairs + self.set_aside

    def finish(self, outcome: Pair | SetAside) -> Pair | SetAside:
        """Write down what became of a row, in place of an earlier outcome; return it as it was written.

        A pair that is none (equal or empty texts, no preference) is written as a SetAside: see `encoding.gate`.
        """
        outcome = gate(outcome)
        row, numbers, content = outcome.row, Numbers.of(outcome), encode_outcome(outcome)
        ask = self._connection.execute
        with storage(self.path):
            if not self._whole:
                self._complete()
            planned = ask("SELECT id FROM rows WHERE idx = ?", (row.index,)).fetchone()
        if planned != (row.id,):
            raise ValueError(f"{self.path}: row {row.index} ({row.id}) is not of this plan")
        with storage(self.path):
            if row.index in self._waiting:
                earlier: str | None = self._waiting[row.index][0].reason
            else:
                found = ask("SELECT reason FROM finished WHERE idx = ?", (row.index,)).fetchone()
                earlier = found[0] if found else None
        for reason, step in ((earlier, -1), (numbers.reason, 1)):
            if reason is not None:
                self.pairs += step if reason == "" else 0
                self.set_aside += step if reason != "" else 0
        self._waiting[row.index] = (numbers, content)
        if len(self._waiting) >= GROUP_ROWS or time.monotonic() - self._committed > GROUP_SECONDS:
            self.flush()
        return outcome

    def flush(self) -> None:
        """Commit the outcomes that wait, in one short transaction: another process may want to write too."""
        self._committed = time.monotonic()
        if not self._waiting:
            return
        places = ", ".join("?" * (1 + len(Numbers._fields)))
        with self._transaction() as db:
            db.executemany(
                f"INSERT OR REPLACE INTO finished VALUES ({places})",
                [(index, *numbers) for index, (numbers, _) in self._waiting.items()],
            )
            db.executemany(
                "INSERT OR REPLACE INTO walks VALUES (?, ?)",
                [(index, content) for index, (_, content) in self._waiting.items()],
            )
        self._waiting.clear()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: what cannot be written now can be tried again."""
        with storage(self.path):
            self._begin()
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def reopen(self, reasons: Iterable[str] | None, *, limit: int | None = None, part: tuple[int, int] = (0, 1)) -> int:
        """Forget outcomes, so that their rows are walked again; return how many.

        Args:
            reasons: of the rows that were set aside for one of these; None forgets every outcome, pairs too.
            limit, part: only among these rows, as in `rows`.

        Raises BadInput on a reason that does not exist.
        """
        wanted = None if reasons is None else sorted(set(reasons))
        for reason in wanted or ():
            if reason not in REASONS:
                raise BadInput(f"unknown reason {reason!r}; {one_of(reason, sorted(REASONS))}")
        which = "WHERE idx < ? AND idx % ? = ?"
        which += "" if wanted is None else f" AND reason IN ({', '.join('?' * len(wanted))})"
        given = (self.planned if limit is None else limit, part[1], part[0], *(wanted or ()))
        self.flush()
        with self._transaction() as db:
            db.execute(f"DELETE FROM walks WHERE idx IN (SELECT idx FROM finished {which})", given)
            gone = db.execute(f"DELETE FROM finished {which}", given).rowcount
        if gone:
            self.count_anew()
        return gone

    def outcomes(self) -> Iterator[Pair | SetAside]:
        """Yield the outcomes in the plan's order, one by one from the disk."""
        query = (
            "SELECT walks.idx, rows.content, walks.content FROM walks JOIN rows ON rows.idx = walks.idx "
            f"WHERE walks.idx > ? ORDER BY walks.idx LIMIT {OUTCOMES_AT_ONCE}"
        )
        index = -1
        while True:
            self.flush()
            with storage(self.path):
                found = self._connection.execute(query, (index,)).fetchall()
            if not found:
                return
            index = found[-1][0]
            for place, row, content in found:
                with storage(self.path):
                    outcome = decode_outcome(decode_row(place, row), content)
                yield outcome

    def outcome(self, row: Row) -> Pair | SetAside | None:
        """Return what became of `row`, None while it is unfinished."""
        self.flush()
        with storage(self.path):
            query = "SELECT content FROM walks WHERE idx = ?"
            found = self._connection.execute(query, (row.index,)).fetchone()
            return decode_outcome(row, found[0]) if found else None

    def outcome_of(self, id: str) -> Pair | SetAside | None:
        """Return what became of the row of this whole id, None where it is unfinished or not of this plan."""
        self.flush()
        with storage(self.path):
            query = (
                "SELECT rows.idx, rows.content, walks.content FROM rows JOIN walks ON walks.idx = rows.idx "
                "WHERE rows.id = ?"
            )
            found = self._connection.execute(query, (id,)).fetchone()
            return decode_outcome(decode_row(*found[:2]), found[2]) if found else None

    def tally(self) -> dict[str, int]:
        """Return {reason: rows set aside for it}, in the order of `errors.REASONS`."""
        self.flush()
        with storage(self.path):
            query = "SELECT reason, count(*) FROM finished WHERE reason != '' GROUP BY reason"
            counts = dict(self._connection.execute(query).fetchall())
        known = [reason for reason in REASONS if reason in counts]
        return {reason: counts[reason] for reason in [*known, *sorted(counts.keys() - set(known))]}

    def quality(self) -> Quality:
        """Return the counts that closing tables and cards are made of."""
        self.flush()
        with storage(self.path):
            sums = self._connection.execute(SUMS).fetchone()
            query = "SELECT chosen_draft, count(*) FROM finished WHERE reason = '' GROUP BY chosen_draft ORDER BY 1"
            drafts = dict(self._connection.execute(query).fetchall())
            return Quality(*(*sums, drafts))
