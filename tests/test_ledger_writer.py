"""The one thread that writes: group commits, jobs that always settle, loops that come and go."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from ledger_kit import (
    Counting,
    keys_in,
    one_line,
    question,
    questions,
    said,
    until,
)

from solon.calls import Reply, Sampling
from solon.errors import StorageError
from solon.ledger import Ledger
from solon.ledger import writer as ledger_writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_what_is_queued_when_a_ledger_closes_is_done_first(path: Path) -> None:
    ledger = Ledger.open(path)
    jobs = [ledger._writer.do(lambda db, number=number: number) for number in range(3000)]  # type: ignore[misc]
    await ledger.close()
    assert [job.wait() for job in jobs] == list(range(3000))


async def test_every_job_is_settled_though_the_ledger_closes_meanwhile(path: Path) -> None:
    ledger = Ledger.open(path)
    outcomes: list[object] = []

    def hammer() -> None:
        for _ in range(3000):
            try:
                outcomes.append(ledger._writer.do(lambda db: "done").wait())
            except StorageError as problem:
                outcomes.append(one_line(problem))

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    await until(lambda: len(outcomes) > 20)
    await ledger.close()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 9000
    assert set(outcomes) == {"done", f"{path}: this ledger is closed; open it again"}


def test_a_loop_that_is_gone_leaves_the_writer_at_work(path: Path) -> None:
    ledger = Ledger.open(path)
    turn = threading.Event()

    async def leave() -> None:
        ledger._writer.do(lambda db: turn.wait(30))  # its loop is closed before it settles

    asyncio.run(leave())
    turn.set()
    ledger.record_probe("m", {"schema": True})

    async def go_on() -> Reply:
        reply = await ledger.door(Counting())(question(1))
        await ledger.close()
        return reply

    assert asyncio.run(go_on()) == said("question 1")
    assert keys_in(path) == {question(1).key}


def test_a_flight_whose_loop_is_gone_does_not_keep_a_ledger_from_closing(path: Path) -> None:
    ledger = Ledger.open(path)
    turn = threading.Event()

    async def leave() -> None:
        ledger._writer.do(lambda db: turn.wait(30))  # type: ignore[union-attr]
        asyncio.create_task(ledger.door(Counting())(question(1)))  # noqa: RUF006
        await until(lambda: ledger.in_flight == 1)  # its claim waits behind the writer's work

    asyncio.run(leave())
    turn.set()
    asyncio.run(ledger.close())
    assert keys_in(path) == set()


async def test_one_jobs_mistake_is_not_its_neighbours(path: Path) -> None:
    ledger = Ledger.open(path)

    def wrong(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO probes VALUES ('half', 'x', 1)")
        raise KeyError("mine alone")

    def clash(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO calls (id) VALUES (1)")

    gate = threading.Event()
    ledger._writer.do(lambda db: gate.wait(30))  # so that the next ones share a commit
    jobs = [ledger._writer.do(wrong), ledger._writer.do(clash), ledger._writer.do(lambda db: "fine")]
    asking = asyncio.create_task(ledger.door(Counting())(question(1)))
    gate.set()
    with pytest.raises(KeyError, match="mine alone"):
        await jobs[0]
    with pytest.raises(StorageError, match="NOT NULL"):
        await jobs[1]
    assert await jobs[2] == "fine"
    assert await asking == said("question 1")
    assert ledger.probe("half") is None, "what a failing job wrote is taken back"
    await ledger.close()


async def test_the_writer_lives_on_whatever_a_transaction_meets(path: Path) -> None:
    ledger = Ledger.open(path)
    look_, bad = ledger._writer._look, [MemoryError("no memory"), OSError(5, "Input/output error")]

    def looked() -> None:
        if bad:
            raise bad.pop(0)
        look_()

    ledger._writer._look = looked  # type: ignore[method-assign]
    door = ledger.door(Counting())
    with pytest.raises(MemoryError):
        await door(question(1))
    with pytest.raises(StorageError, match="Input/output error"):
        await door(question(1))
    assert await door(question(1)) == said("question 1")
    await ledger.close()


async def test_a_thousand_replies_need_few_commits(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting()
    commits: list[int] = []
    transact = ledger._writer._transact

    def counted(jobs: list[ledger_writer.Job]) -> list[ledger_writer.Settled]:
        commits.append(len(jobs))
        return transact(jobs)

    ledger._writer._transact = counted  # type: ignore[method-assign]
    await asyncio.gather(*map(ledger.door(model), questions(1000)))
    assert sum(commits) == 2000
    assert len(commits) < 100
    await ledger.close()


async def test_calls_that_differ_in_one_parameter_are_remembered_apart(path: Path) -> None:
    calls = [
        question(1),
        question(1, sample=1),
        question(1, attempt=1),
        question(1, sampling=Sampling(0.0)),
        question(1, labels=("A", "B")),
        question(1, model="scripted:other@1"),
    ]
    ledger, model = Ledger.open(path), Counting()
    await asyncio.gather(*map(ledger.door(model), calls))
    assert len(model.asked) == len(ledger) == 6
    await ledger.close()
