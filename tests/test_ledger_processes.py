"""The ledger's promises across processes: killed with `kill -9`, run beside one another, out of room, not allowed."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ledger_kit import Counting, Process, filled, keys_in, lines, look, question, questions, said, until

from solon.ledger import Ledger
from solon.ledger import flight as ledger_flight


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_flight, "LEASE_PAUSES", (0.01, 0.02))


def test_a_reply_is_handed_on_only_after_it_is_written_down(tmp_path: Path) -> None:
    """Killed right after it was handed a reply, that reply is in the file."""
    for answers in (1, 2, 7):
        path = tmp_path / f"{answers}.db"
        with Process("ask", path, tmp_path / "log", "--concurrency", 1) as process:
            process.begin()
            heard = [process.heard() for _ in range(answers)]
            process.kill()
            process.bury()
        assert heard == [f"answered {call.key}" for call in questions(answers)]
        assert {line.split()[1] for line in heard} <= keys_in(path)


async def test_killed_at_random_moments_no_finished_call_is_asked_again(path: Path, tmp_path: Path) -> None:
    """Counted where it costs: at the provider. Finished means committed, and the file is whole after every kill."""
    dice, count = random.Random(7), 600
    finished: set[str] = set()
    for round_ in range(5):
        log = tmp_path / f"log{round_}"
        with Process("ask", path, log, "--count", count, "--delay", 0.02, "--concurrency", 16) as process:
            process.begin()
            enough = dice.randrange(1, 60)
            await until(lambda log=log, enough=enough: len(lines(log)) >= enough)  # type: ignore[misc]
            await asyncio.sleep(dice.random() * 0.01)
            process.kill()
            answered = process.rest()
            process.bury()
        asked = lines(log)
        assert not finished & set(asked), "a finished call was paid for again"
        assert len(asked) == len(set(asked))
        assert look(path, "PRAGMA integrity_check") == [("ok",)]
        now = keys_in(path)
        whole = {line.split()[1] for line in answered}
        assert finished | whole <= now <= finished | set(asked), "what was handed on is in the file, and nothing else"
        assert len(set(asked) - now) <= 16, "at most the calls in flight are lost"
        finished = now
    assert 0 < len(finished) < count, "the kills came too late to show anything"
    log = tmp_path / "last"
    with Process("ask", path, log, "--count", count) as process:
        process.begin()
        assert len(process.end()) == count
    assert sorted(lines(log)) == sorted({call.key for call in questions(count)} - finished)
    assert keys_in(path) == {call.key for call in questions(count)}
    assert look(path, "SELECT owner FROM leases UNION ALL SELECT id FROM owners") == []


def test_two_processes_ask_each_question_once_in_total(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ExitStack() as stack:
        both = [
            stack.enter_context(Process("ask", path, log, "--delay", 0.03, "--concurrency", concurrency))
            for concurrency in (3, 5)
        ]
        for process in both:
            process.begin()
        answers = [set(process.end()) for process in both]
    everything = {f"answered {call.key}" for call in questions(50)}
    assert answers == [everything, everything]
    assert sorted(lines(log)) == sorted(call.key for call in questions(50))


def test_processes_may_create_one_ledger_at_the_same_moment(path: Path) -> None:
    with ExitStack() as stack:
        many = [stack.enter_context(Process("open", path)) for _ in range(6)]
        for process in many:
            process.begin()
        for process in many:
            process.end()
    assert look(path, "PRAGMA journal_mode") == [("wal",)]
    assert look(path, "SELECT count(*) FROM calls") == [(0,)]


@pytest.mark.parametrize("zombie", [True, False], ids=["unburied", "buried"])
async def test_a_killed_process_frees_its_leases_at_once(path: Path, tmp_path: Path, zombie: bool) -> None:
    """Its leases would hold for ten days by their time: the kernel says that their owner is dead."""
    model = Counting()
    with Process("ask", path, tmp_path / "log", "--count", 5, "--hang", "--lease", 1e6) as process:
        process.begin()
        await until(lambda: len(lines(tmp_path / "log")) == 5)
        ledger = Ledger.open(path)
        door = ledger.door(model)
        asking = [asyncio.create_task(door(call)) for call in questions(5)]
        await until(lambda: ledger.in_flight == 5)
        await asyncio.sleep(0.1)
        assert model.asked == [], "they wait for the one who asks already"
        process.kill()
        if not zombie:
            process.bury()
        replies = await asyncio.wait_for(asyncio.gather(*asking), 20)
        assert [reply.text for reply in replies] == [said(f"question {number}").text for number in range(5)]
        assert sorted(model.asked) == sorted(call.key for call in questions(5))
        await ledger.close()


async def test_who_waits_for_another_process_gets_its_reply(path: Path, tmp_path: Path) -> None:
    model = Counting()
    with Process("ask", path, tmp_path / "log", "--count", 1, "--delay", 0.3) as process:
        process.begin()
        await until(lambda: len(lines(tmp_path / "log")) == 1)
        ledger = Ledger.open(path)
        door = ledger.door(model)
        reply = await door(question(0))
        assert (reply, reply.known, model.asked) == (said("question 0"), True, [])
        assert (door.tally.known, door.tally.asked) == (1, 0)
        await ledger.close()
        process.end()


def test_a_disk_without_room_is_one_clear_line_and_nothing_paid_for_is_lost(path: Path) -> None:
    """By a limit to the size of files, as a quota sets it; with more room the same ledger goes on."""
    with Process("fill", path, "--limit", 1_000_000) as process:
        process.begin()
        told, kept, after = process.end()
    assert told.startswith(f"StorageError {path}: ")
    assert "make room" in told
    known, intact = kept.split()
    assert int(known) > 10
    assert intact == "True"
    rows, asked, different = map(int, after.split())
    assert rows == int(known) + 5
    assert asked == different, "the reply that found no room was kept, and not asked again"
    assert look(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_ledger_that_may_not_be_written_answers_what_it_knows_and_asks_nothing(open_folder: Path) -> None:
    path, own = open_folder / "closed" / "ledger.db", open_folder / "own"
    asyncio.run(filled(path, questions(3)))
    own.mkdir()
    own.chmod(0o777)
    if os.geteuid() != 0:
        path.chmod(0o444)
        path.parent.chmod(0o555)
    try:
        with Process("nobody", path, own / "ledger.db") as process:
            process.begin()
            told = process.end()
    finally:
        path.parent.chmod(0o755)
    assert told[:2] == [f"known {said('question 1').text}", "asked []"]
    assert all(line.startswith(f"StorageError {path.parent}") and "permissions" in line for line in told[2:4])
    assert told[4:] == ["Merged(added=3, same=0, differed=0)"]
