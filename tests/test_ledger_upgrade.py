"""Ledgers of version 1: what they know stays known, and they become ledgers of this version where they lie."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from ledger_kit import Counting, change, look, one_line, question, questions, read, said, version_1

from solon.calls import Call, Message, Reply, Usage
from solon.errors import StorageError
from solon.ledger import Ledger, Merged
from solon.ledger import upgrade as ledger_upgrade
from solon.ledger.owners import host

ODD = (
    Call("m", (Message("user", "half \ud83d of a character"),), labels=("A",), schema='{"b":1,"a":2}'),
    Reply("", "length", "on and on", (-0.5, None), Usage(1, 2, 3, 4), "server"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def old(path: Path, count: int = 3) -> None:
    version_1(path, [(call, said(call.messages[0].content)) for call in questions(count)] + [ODD])


async def test_an_old_ledger_is_made_a_new_one_and_nothing_is_asked_again(path: Path) -> None:
    old(path)
    ledger, model = Ledger.open(path), Counting()
    assert look(path, "PRAGMA user_version") == [(2,)]
    door = ledger.door(model)
    for call in questions(3):
        assert await door(call) == said(call.messages[0].content)
    assert model.asked == []
    entries = list(ledger.entries())
    assert [(entry.asked_at, entry.seconds, entry.run) for entry in entries] == [(n, 0.5, "") for n in (1.0, 2, 3, 4)]
    assert (entries[3].call, entries[3].call.key, entries[3].reply) == (ODD[0], ODD[0].key, ODD[1])
    assert ledger.probe("m") == {"logprobs": True}
    assert ledger.verify().whole
    assert not (await door(question("new"))).known
    await ledger.close()
    ledger = Ledger.open(path)
    assert len(ledger) == 5
    await ledger.close()


async def test_an_old_ledger_is_merged_from_as_it_stands(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    old(other)
    before = read(other)
    ledger = Ledger.open(path)
    assert ledger.merge(other) == Merged(4, 0, 0)
    assert ledger.merge(other) == Merged(0, 4, 0)
    assert (ledger.get(ODD[0].key), ledger.probe("m")) == (ODD[1], {"logprobs": True})
    await ledger.close()
    assert read(other) == before


async def test_a_damaged_entry_of_an_old_ledger_stays_one_and_its_neighbours_are_kept(path: Path) -> None:
    old(path, 6)
    change(path, "UPDATE calls SET reply = ? WHERE id = 2", b"no zlib")
    change(path, "UPDATE calls SET call = ? WHERE id = 3", zlib.compress(b"{}"))
    change(path, "UPDATE calls SET call = (SELECT call FROM calls WHERE id = 1) WHERE id = 4")
    ledger = Ledger.open(path)
    assert len(ledger) == 7
    assert [ledger.get(question(number).key) for number in (0, 4, 5)] == [
        said(f"question {number}") for number in (0, 4, 5)
    ]
    with pytest.raises(StorageError) as told:
        await ledger.door(Counting())(question(1))
    assert "an entry cannot be read" in one_line(told.value)
    assert set(ledger.verify(drop=True).damaged) == {2, 3, 4}
    assert not (await ledger.door(Counting())(question(1))).known
    assert ledger.verify().whole
    await ledger.close()


def test_an_old_ledger_in_use_by_an_older_solon_is_left_alone_until_that_has_ended(path: Path) -> None:
    old(path)
    change(path, "INSERT INTO owners VALUES ('old', ?, ?, '', 1e12)", host(), os.getpid())
    with pytest.raises(StorageError) as told:
        Ledger.open(path)
    assert "an older Solon is asking through this ledger; wait for its end" in one_line(told.value)
    assert look(path, "PRAGMA user_version") == [(1,)]
    assert look(path, "SELECT count(*) FROM calls") == [(4,)]
    change(path, "UPDATE owners SET until = 1")
    ledger = Ledger.open(path)
    assert len(ledger) == 4


def test_an_upgrade_that_is_broken_off_leaves_the_old_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old(path, 50)
    seen: list[object] = []

    def breaks(row: tuple[object, ...]) -> object:
        seen.append(row)
        if len(seen) == 30:
            raise OSError(28, "No space left on device")
        return entry(row)

    entry = ledger_upgrade.old_entry
    monkeypatch.setattr(ledger_upgrade, "old_entry", breaks)
    with pytest.raises(StorageError) as told:
        Ledger.open(path)
    assert "No space left on device" in one_line(told.value)
    assert look(path, "PRAGMA user_version") == [(1,)]
    monkeypatch.undo()
    assert len(Ledger.open(path)) == 51
