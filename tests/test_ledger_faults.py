"""Files that are not what they should be, disks without room, locks that do not end: one clear line each."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import zlib
from pathlib import Path

import pytest
from ledger_kit import (
    Counting,
    filled,
    keys_in,
    look,
    make_newer,
    one_line,
    question,
    questions,
    read,
    said,
    someone_elses,
    spoil,
    until,
    write,
)

from solon.calls import Reply
from solon.errors import StorageError
from solon.ledger import Ledger, Merged
from solon.ledger import file as ledger_file
from solon.ledger import writer as ledger_writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


# -- files that are not what they should be -------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(StorageError) as told:
        Ledger.open(path)
    return one_line(told.value)


def test_a_newer_ledger_is_left_alone(path: Path) -> None:
    make_newer(path)
    before = path.read_bytes()
    assert refused(path) == (
        f"{path}: a ledger of version 3, written by a newer Solon (this one reads 2); upgrade Solon, or give another "
        "path with `ledger:` in the recipe"
    )
    assert path.read_bytes() == before


def test_somebody_elses_database_is_left_alone(path: Path) -> None:
    someone_elses(path)
    before = path.read_bytes()
    assert "an SQLite file, but not a ledger" in refused(path)
    assert path.read_bytes() == before, "not even its journal mode is changed"


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_text("what I asked today\n" * 100)
    assert "damaged, or not a ledger" in refused(path)
    assert path.read_text() == "what I asked today\n" * 100


def test_a_folder_is_no_ledger(path: Path) -> None:
    path.mkdir()
    assert refused(path) == f"{path}: a folder; name a file in it with `ledger:` in the recipe"


@pytest.mark.parametrize("place", ["file/ledger.db", "file/sub/ledger.db"])
def test_a_path_below_a_file_is_no_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    assert "check the path" in refused(tmp_path / place)


def test_a_place_where_nothing_can_be_created_is_one_clear_line() -> None:
    assert "permissions" in refused(Path("/proc/ledger.db"))


async def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    write(path, b"")
    await filled(path, [question(1)])
    assert keys_in(path) == {question(1).key}


async def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    await filled(tmp_path / "a" / "b" / "ledger.db", [question(1)])
    assert (tmp_path / "a" / "b" / "ledger.db").is_file()


@pytest.mark.parametrize("column", ["reply", "messages"])
@pytest.mark.parametrize("blob", [b"", b"no zlib", zlib.compress(b"{"), zlib.compress(b"[]"), zlib.compress(b"\xff")])
async def test_an_entry_that_cannot_be_read_is_one_clear_line(path: Path, column: str, blob: bytes) -> None:
    spoil(path, column, blob)
    ledger = Ledger.open(path)
    for use in (lambda: ledger.entry(question(1).key), lambda: list(ledger.entries()), lambda: ledger.forget(text="x")):
        with pytest.raises(StorageError) as told:
            use()
        assert f"{path}: an entry cannot be read" in one_line(told.value)
    if column == "reply":
        with pytest.raises(StorageError, match="an entry cannot be read"):
            await ledger.door(Counting())(question(1))
    await ledger.close()


async def test_damage_in_the_middle_of_a_file_is_one_clear_line(path: Path) -> None:
    await filled(path, questions(2000))
    pages = bytearray(read(path))
    pages[4096 * 3 : -4096] = os.urandom(len(pages) - 4096 * 4)
    write(path, bytes(pages))
    with pytest.raises(StorageError) as told:
        ledger = Ledger.open(path)
        try:
            await asyncio.gather(*map(ledger.door(Counting()), questions(2500)))
        finally:
            await ledger.close()
    assert f"{path}: " in one_line(told.value)


async def test_a_ledger_that_is_deleted_while_it_is_open_is_one_clear_line(path: Path) -> None:
    """SQLite would go on writing into the deleted file, and everything paid for would be gone at the end."""
    ledger = Ledger.open(path)
    door = ledger.door(Counting())
    await door(question(1))
    os.unlink(path)  # noqa: PTH108
    with pytest.raises(StorageError) as told:
        await door(question(2))
    assert "moved or deleted while it was open" in one_line(told.value)
    await ledger.close()


# -- no room, no turn -----------------------------------------------------------------------------------------


async def test_what_found_no_room_is_kept_and_written_when_there_is_room_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ledger_writer.PATIENCE_SECONDS, sqlite3.SQLITE_FULL, 0.2)
    ledger, model = Ledger.open(path), Counting(lambda call: Reply(os.urandom(20_000).hex()), shut=True)
    door = ledger.door(model)
    asking = [asyncio.create_task(door(call)) for call in questions(5)]
    await until(lambda: len(model.asked) == 5)
    writer = ledger._writer
    pages = writer.do(lambda db: db.execute("PRAGMA page_count").fetchone()[0]).wait()
    writer.do(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()).wait()
    model.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, StorageError)
        assert one_line(outcome) == (
            f"{path}: database or disk is full: the disk is full; make room and start again, what is written stays"
        )
    assert keys_in(path) == set()
    writer._db.execute("PRAGMA max_page_count = 1000000")  # idle, so this thread may use its connection
    replies = await asyncio.gather(*map(door, questions(5)))
    assert all(reply.known for reply in replies)
    assert len(model.asked) == 5, "paid for once"
    await ledger.close()
    assert keys_in(path) == {call.key for call in questions(5)}


async def test_a_full_disk_that_gets_room_in_time_is_nobodys_trouble(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(lambda call: Reply(os.urandom(20_000).hex()))
    writer = ledger._writer
    pages = writer.do(lambda db: db.execute("PRAGMA page_count").fetchone()[0]).wait()
    writer.do(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()).wait()
    tries: list[int] = []
    transact = writer._transact

    def watched(jobs: list[ledger_writer.Job]) -> list[ledger_writer.Settled]:
        tries.append(len(jobs))
        if len(tries) == 4:
            writer._db.execute("PRAGMA max_page_count = 1000000")
        return transact(jobs)

    writer._transact = watched  # type: ignore[method-assign]
    assert not (await ledger.door(model)(question(1))).known
    assert len(tries) >= 4
    await ledger.close()
    assert keys_in(path) == {question(1).key}


async def test_closing_says_how_many_paid_replies_found_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ledger_writer.PATIENCE_SECONDS, sqlite3.SQLITE_FULL, 0.0)
    ledger = Ledger.open(path)
    writer = ledger._writer
    writer.do(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone()).wait()
    door = ledger.door(Counting(lambda call: Reply(os.urandom(20_000).hex())))
    outcomes = await asyncio.gather(*map(door, questions(3)), return_exceptions=True)
    assert all(isinstance(outcome, StorageError) for outcome in outcomes)
    with pytest.raises(StorageError) as told:
        await ledger.close()
    assert one_line(told.value).startswith(f"{path}: database or disk is full")
    assert "3 answered calls could not be written down, and will be asked again" in str(told.value)
    await ledger.close()  # it is closed all the same


async def test_a_file_that_another_process_keeps_locked_is_waited_for(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model)
    asking = asyncio.create_task(door(question(1)))
    await until(lambda: model.asked != [])
    ledger._writer._db.execute("PRAGMA busy_timeout = 10")  # idle, so this thread may use its connection
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    model.gate.set()
    await asyncio.sleep(0.3)
    assert not asking.done()
    assert ledger.get(question(1).key) is None, "reading is never held up"
    blocker.execute("COMMIT")
    blocker.close()
    assert await asking == said("question 1")
    await ledger.close()


async def test_a_lock_that_never_ends_is_one_clear_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ledger_writer.PATIENCE_SECONDS, sqlite3.SQLITE_BUSY, 0.1)
    ledger = Ledger.open(path)
    ledger._writer._db.execute("PRAGMA busy_timeout = 10")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as told:
        await ledger.door(Counting())(question(1))
    assert "another process keeps it locked; wait, or stop that one" in one_line(told.value)
    blocker.close()
    assert await ledger.door(Counting())(question(1)) == said("question 1")
    await ledger.close()


async def test_a_heartbeat_that_was_rolled_back_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the lease that follows has no owner, and another process asks the same question."""
    monkeypatch.setitem(ledger_writer.PATIENCE_SECONDS, sqlite3.SQLITE_BUSY, 0.0)
    ledger = Ledger.open(path)
    writer, model = ledger._writer, Counting(shut=True)
    commit, fails = writer._transact, [True]

    def once(jobs: list[ledger_writer.Job]) -> list[ledger_writer.Settled]:
        settled = commit(jobs[:0]) if not fails else None
        if settled is None:
            fails.pop()
            writer._db.execute("BEGIN IMMEDIATE")
            writer.pen._beating = None
            writer.pen.beat()
            raise sqlite3.OperationalError("disk I/O error")
        return commit(jobs)

    writer._transact = once  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        await ledger.door(model)(question(1))
    asking = asyncio.create_task(ledger.door(model)(question(1)))
    await until(lambda: model.asked != [])
    assert look(path, "SELECT count(*) FROM leases JOIN owners ON id = owner") == [(1,)]
    model.gate.set()
    await asking
    await ledger.close()


async def test_the_journal_does_not_grow_with_the_ledger(path: Path) -> None:
    ledger = Ledger.open(path)
    door = ledger.door(Counting(lambda call: Reply(os.urandom(8_000).hex())))
    largest = 0
    for start in range(0, 2000, 100):
        await asyncio.gather(*map(door, (question(start + number) for number in range(100))))
        largest = max(largest, len(read(path.with_name("ledger.db-wal"))))
    assert len(read(path)) > 12_000_000
    assert largest < 8_000_000
    await ledger.close()
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]


async def test_all_holds_where_the_file_system_has_no_shared_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There SQLite keeps its older journal: slower, and readers wait for writers, but as safe."""
    monkeypatch.setattr(ledger_file, "JOURNAL", "DELETE")
    one, two, model = Ledger.open(path), Ledger.open(path), Counting()
    assert look(path, "PRAGMA journal_mode") == [("delete",)]
    await asyncio.gather(*(door(call) for call in questions(40) for door in (one.door(model), two.door(model))))
    assert sorted(model.asked) == sorted(call.key for call in questions(40))
    reading = one.entries()
    next(reading)
    assert not (await two.door(model)(question(40))).known, "an unfinished reading locks nobody out"
    assert len(list(reading)) == 39
    assert one.forget(text="question 1") == 11
    assert two.merge(path) == Merged(0, 30, 0)
    await one.close()
    await two.close()
