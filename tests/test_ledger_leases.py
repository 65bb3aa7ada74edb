"""Leases: two ledgers of one file in one process stand for two processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from ledger_kit import (
    FAR,
    Counting,
    change,
    filled,
    look,
    question,
    questions,
    read,
    said,
    until,
)

from solon.calls import Reply
from solon.errors import CallFailed, StorageError
from solon.ledger import Ledger
from solon.ledger import flight as ledger_flight
from solon.ledger import owners as ledger_owners
from solon.ledger import pen as ledger_pen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_flight, "LEASE_PAUSES", (0.01, 0.02))


async def test_two_ledgers_of_one_file_ask_each_question_once(path: Path) -> None:
    one, two, model = Ledger.open(path), Ledger.open(path), Counting(shut=True)
    doors = [one.door(model), two.door(model)]
    asking = [asyncio.create_task(door(call)) for call in questions(10) for door in doors]
    await until(lambda: len(model.asked) == 10 and one.in_flight == two.in_flight == 10)
    model.gate.set()
    replies = await asyncio.gather(*asking)
    assert sorted(model.asked) == sorted(call.key for call in questions(10))
    assert [reply.known for reply in replies].count(True) == 10
    total = doors[0].tally + doors[1].tally
    assert (total.asked, total.known, total.shared) == (10, 10, 0)
    await one.close()
    await two.close()


async def test_after_a_failure_the_waiting_process_asks_itself(path: Path) -> None:
    one, two = Ledger.open(path), Ledger.open(path)
    failing, fine = Counting(lambda call: CallFailed("no_answer", "gone"), shut=True), Counting()
    first = asyncio.create_task(one.door(failing)(question(1)))
    await until(lambda: failing.asked != [])
    second = asyncio.create_task(two.door(fine)(question(1)))
    await until(lambda: two.in_flight == 1)
    failing.gate.set()
    with pytest.raises(CallFailed):
        await first
    assert await second == said("question 1")
    await one.close()
    await two.close()


def hold(
    path: Path,
    key: str,
    *,
    host: str | None = None,
    pid: int | None = None,
    born: str = "",
    until: float,
    ticks: float = FAR,
) -> None:
    """Write down a lease of another owner: `until` by the time of day, `ticks` by the clock since the boot."""
    pid = os.getpid() if pid is None else pid
    owner = (ledger_owners.host() if host is None else host, pid, born, until, ticks)
    change(path, "INSERT INTO owners VALUES ('other', ?, ?, ?, ?, ?)", *owner)
    change(path, "INSERT INTO leases (key, owner) VALUES (?, 'other')", ledger_pen.raw_key(key))


async def test_the_lease_of_a_foreign_host_holds_until_its_time_is_over(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting()
    hold(path, question(1).key, host="elsewhere", pid=1, until=FAR)
    asking = asyncio.create_task(ledger.door(model)(question(1)))
    await asyncio.sleep(0.1)
    assert model.asked == []
    change(path, "UPDATE owners SET until = 1 WHERE id = 'other'")
    assert await asking == said("question 1")
    await ledger.close()


@pytest.mark.parametrize(
    ("owner", "holds"),
    [
        ({"pid": 2**22 + 7}, False),  # beyond the kernel's largest: nobody's
        ({"born": "1"}, False),  # the pid was given to another process
        ({"ticks": 1.0}, False),  # alive, but its heart stopped
        ({"until": 1.0}, True),  # the clock on the wall was set: here it says nothing
        ({"until": FAR, "ticks": 1.0}, False),
        ({}, True),
        ({"born": ledger_owners.born(os.getpid())}, True),
        ({"pid": 1, "born": ledger_owners.born(1)}, True),
        # the same name, but another boot or container: its pids mean nothing here, only its time counts
        ({"host": ledger_owners.host() + "0", "pid": 2**22 + 7}, True),
    ],
)
async def test_a_lease_is_held_by_the_living(path: Path, owner: dict[str, object], holds: bool) -> None:
    ledger, model = Ledger.open(path), Counting()
    hold(path, question(1).key, **{"until": FAR, **owner})  # type: ignore[arg-type]
    asking = asyncio.create_task(ledger.door(model)(question(1)))
    if holds:
        await asyncio.sleep(0.1)
        assert model.asked == []
        await ledger.close()
        with pytest.raises(StorageError):
            await asking
    else:
        assert await asking == said("question 1")
        await ledger.close()


async def test_a_lease_without_an_owner_is_nobodys(path: Path) -> None:
    ledger = Ledger.open(path)
    change(path, "INSERT INTO leases (key, owner) VALUES (?, 'nobody')", ledger_pen.raw_key(question(1).key))
    assert await ledger.door(Counting())(question(1)) == said("question 1")
    await ledger.close()


async def test_a_heartbeat_extends_the_leases_of_who_still_asks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_pen, "HEARTBEAT_SECONDS", 0.02)
    ledger, model = Ledger.open(path), Counting(shut=True)
    asking = asyncio.create_task(ledger.door(model)(question(1)))
    await until(lambda: model.asked != [])
    times = {look(path, "SELECT until FROM owners")[0][0]}
    await until(lambda: times.add(look(path, "SELECT until FROM owners")[0][0]) or len(times) > 3)  # type: ignore[func-returns-value]
    model.gate.set()
    await asking
    await ledger.close()


async def test_who_only_reads_writes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_pen, "HEARTBEAT_SECONDS", 0.01)
    await filled(path, questions(3))
    before = read(path)
    ledger = Ledger.open(path)
    await asyncio.gather(*map(ledger.door(None), questions(3)))
    await asyncio.sleep(0.1)
    assert look(path, "SELECT * FROM owners") == []
    await ledger.close()
    assert read(path) == before


async def test_what_dead_processes_left_is_cleared(path: Path) -> None:
    Ledger.open(path)
    hold(path, question("left").key, pid=2**22 + 7, until=FAR)
    ledger = Ledger.open(path)
    await ledger.door(Counting())(question(1))
    assert look(path, "SELECT key FROM leases") == []
    assert "other" not in {row[0] for row in look(path, "SELECT id FROM owners")}
    await ledger.close()


async def test_where_a_lost_lease_was_answered_by_another_the_earlier_reply_stays_and_is_handed_on(path: Path) -> None:
    """A machine that slept: another process took its lease and wrote its reply before it woke."""
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model)
    asking = asyncio.create_task(door(question(1)))
    await until(lambda: model.asked != [])
    change(path, "UPDATE owners SET until = 1, ticks = 1")
    other = Ledger.open(path)
    await other.door(Counting(lambda call: Reply("earlier")))(question(1))
    await other.close()
    model.gate.set()
    assert (await asking).text == "earlier"
    assert ledger.get(question(1).key) == Reply("earlier")
    assert door.tally.asked == 1, "it was paid for all the same"
    await ledger.close()
