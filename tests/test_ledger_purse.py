"""Budgets: what a run spends, has in flight and may have lost stays within its limit, whatever happens to it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_kit import FLAT, Counting, Flat, Process, keys_in, lines, look, one_line, question, questions, said, until

from solon.calls import Call, Reply, Usage
from solon.errors import CallFailed, Halt, OverBudget, Parked, StorageError
from solon.ledger import Account, Ledger
from solon.ledger import flight as ledger_flight
from solon.spend import ATTEMPT_LOST, DOLLAR, Limit, Spend

ONE = Spend(1, 100, 1000)
"""What a call may cost at worst."""
PAID = Spend(1, 8, 500)
"""What it does cost."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_flight, "LEASE_PAUSES", (0.01, 0.02))


def times(count: int, spend: Spend) -> Spend:
    return Spend(count * spend.calls, count * spend.tokens, count * spend.nano)


async def outcomes(door: Callable[[Call], object], calls: list[Call]) -> Counter[str]:
    ends = await asyncio.gather(*map(door, calls), return_exceptions=True)  # type: ignore[call-overload]
    return Counter(type(end).__name__ for end in ends)


# -- one process ----------------------------------------------------------------------------------------------


async def test_a_budget_of_n_calls_stops_at_exactly_n_and_a_raised_one_repeats_none(path: Path) -> None:
    model = Counting()
    for limit, answered in ((7, 7), (7, 0), (12, 5), (100, 8)):
        ledger = Ledger.open(path)
        door = ledger.door(model, run="run", limit=Limit(calls=limit), meter=FLAT)
        ends = await outcomes(door, questions(20))
        assert (door.tally.asked, door.tally.spent) == (answered, times(answered, PAID))
        assert ends["OverBudget"] == 20 - len(ledger), "what is known costs nothing"
        assert ledger.account("run") == Account(spent=times(len(ledger), PAID))
        await ledger.close()
    assert len(model.asked) == len(set(model.asked)) == 20


@pytest.mark.parametrize(
    ("limit", "fitting"),
    [(Limit(calls=10), 10), (Limit(tokens=1000), 113), (Limit(nano=10_000), 19), (Limit(calls=15, nano=10_000), 15)],
)
async def test_the_worst_is_put_by_and_what_was_not_needed_serves_the_next(
    path: Path, limit: Limit, fitting: int
) -> None:
    """A call that costs half of its worst leaves room: the budget is used up to the worst of one call."""
    ledger = Ledger.open(path)
    ends = await outcomes(ledger.door(Counting(), run="run", limit=limit, meter=FLAT), questions(150))
    assert ends == {"Reply": fitting, "OverBudget": 150 - fitting}
    assert limit.holds(ledger.account("run").total)
    assert not limit.holds(ledger.account("run").total + ONE)
    await ledger.close()


async def test_a_call_waits_for_those_in_flight_before_it_gives_up(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model, run="run", limit=Limit(nano=2000), meter=FLAT)
    asking = [asyncio.create_task(door(call)) for call in questions(4)]
    await until(lambda: len(model.asked) == 2)
    await asyncio.sleep(0.05)
    assert (len(model.asked), ledger.account("run")) == (2, Account(reserved=times(2, ONE)))
    model.gate.set()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [Reply, Reply, Reply, OverBudget]
    assert len(model.asked) == 3
    await ledger.close()


async def test_who_is_over_the_budget_says_what_is_gone_and_what_to_do(path: Path) -> None:
    ledger = Ledger.open(path)
    meter = Flat(worst_nano=2 * DOLLAR // 100, paid_nano=DOLLAR // 100)
    ledger.door(Counting(), run="run", meter=meter)
    await ledger.settle("run", spent=Spend(1, 8, DOLLAR // 100), lost=Spend(1, 0, 12_300_000))
    for limit, said_ in (
        (Limit(nano=4 * DOLLAR // 100), "0.04 USD is used up: 0.01 USD spent, 0.0123 USD may have been billed in vain"),
        (Limit(calls=2), "2 calls is used up: 1 call spent, 1 call may have been billed in vain"),
        (Limit(tokens=50), "50 tokens is used up: 8 tokens spent, 0 tokens may have been billed in vain"),
    ):
        with pytest.raises(OverBudget) as told:
            await ledger.door(Counting(), run="run", limit=limit, meter=meter)(question(1))
        text = str(told.value)
        assert text.startswith(f"the budget of {said_}, and the next call may cost ")
        assert "raise `budget` in the recipe and start the same command again" in text
        assert "\n" not in text
    assert told.value.exit_code == 6
    await ledger.close()


class Billed(CallFailed):
    billed = True


@pytest.mark.parametrize(
    ("problem", "lost"),
    [
        (CallFailed("no_answer", "refused at the door"), False),
        (Billed("no_answer", "nobody heard the answer"), True),
        (Halt("no credit"), False),
        (Parked("in job 1"), False),
        (KeyError("a mistake in a provider"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_failed_call_frees_what_was_put_by_unless_it_may_have_been_billed(
    path: Path, problem: Exception, lost: bool
) -> None:
    ledger = Ledger.open(path)
    door = ledger.door(Counting(lambda call: problem), run="run", limit=Limit(calls=1), meter=FLAT)
    with pytest.raises(type(problem)):
        await door(question(1))
    await ledger.settle("run")  # queued behind it
    assert ledger.account("run") == (Account(lost=ONE) if lost else Account())
    if lost:
        with pytest.raises(OverBudget, match="1 call may have been billed in vain"):
            await door(question(2))
    await ledger.close()


async def test_an_answer_that_cannot_be_kept_was_billed_all_the_same(path: Path) -> None:
    ledger = Ledger.open(path)
    with pytest.raises(Halt):
        await ledger.door(Counting(lambda call: Reply(b"x")), run="run", meter=FLAT)(question(1))  # type: ignore[arg-type]
    await ledger.settle("run")
    assert ledger.account("run") == Account(lost=ONE)
    await ledger.close()


async def test_what_is_in_flight_when_a_ledger_closes_may_have_been_billed(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model, run="run", limit=Limit(calls=2), meter=FLAT)
    asking = [asyncio.create_task(door(call)) for call in questions(3)]  # the third waits for room
    await until(lambda: len(model.asked) == 2)
    await ledger.close()
    for end in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(end, StorageError)
        assert "closed before the call was answered" in one_line(end)
    ledger = Ledger.open(path)
    assert ledger.account("run") == Account(lost=times(2, ONE))
    assert look(path, "SELECT * FROM leases") == []
    await ledger.close()


async def test_an_attempt_that_nobody_heard_of_is_lost_and_the_next_begins_when_there_is_room(path: Path) -> None:
    ledger, tries = Ledger.open(path), 0

    class Stubborn(Counting):
        async def __call__(self, call: Call) -> Reply:
            nonlocal tries
            for _ in range(3):
                tries += 1
                lost = ATTEMPT_LOST.get()
                assert lost is not None
                await lost()
            return said("at last")

    for limit, done in ((None, True), (Limit(calls=4), True), (Limit(calls=3), False)):
        tries = 0
        run = str(limit)
        door = ledger.door(Stubborn(), run=run, limit=limit, meter=FLAT)
        if done:
            await door(question(run))
            assert ledger.account(run) == Account(spent=PAID, lost=times(3, ONE))
        else:
            with pytest.raises(OverBudget):
                await door(question(run))
            await ledger.settle(run)
            assert ledger.account(run) == Account(lost=times(3, ONE))
        assert tries == 3
    assert ATTEMPT_LOST.get() is None, "it is set around the model alone"
    await ledger.close()


async def test_a_door_without_a_meter_keeps_no_purse_and_one_with_a_limit_needs_a_meter(path: Path) -> None:
    ledger = Ledger.open(path)

    class Curious(Counting):
        async def __call__(self, call: Call) -> Reply:
            assert ATTEMPT_LOST.get() is None
            return await super().__call__(call)

    await ledger.door(Curious(), run="run")(question(1))
    assert look(path, "SELECT * FROM purses") == []
    assert ledger.account("run") == Account()
    with pytest.raises(ValueError, match="needs a meter"):
        ledger.door(Counting(), limit=Limit(calls=1))
    await ledger.close()


async def test_each_run_has_a_purse_of_its_own_and_who_paid_is_remembered(path: Path) -> None:
    ledger = Ledger.open(path)
    for run, numbers in (("one", (1, 2)), ("two", (2, 3)), ("", (4,))):
        door = ledger.door(Counting(), run=run, limit=Limit(calls=2), meter=FLAT)
        for number in numbers:
            await door(question(number))
    assert ledger.runs() == ["one", "two", ""]
    assert [ledger.account(run).spent.calls for run in ("one", "two", "", "nobody")] == [2, 1, 1, 0]
    paid = {run: list(ledger.paid_by(run)) for run in ("one", "two", "nobody")}
    assert [[key for key, *_ in rows] for rows in paid.values()] == [
        [question(1).key, question(2).key], [question(3).key], [],
    ]  # fmt: skip
    key, model, usage, seconds = paid["two"][0]
    assert (model, usage, seconds >= 0) == (Counting.identity, Usage(3, 5, 1, 2), True)
    entry = ledger.entry(key)
    assert entry is not None
    assert entry.run == "two"
    await ledger.close()


# -- whole jobs -----------------------------------------------------------------------------------------------


async def test_a_batch_job_puts_by_and_settles_and_its_replies_are_told_once(path: Path) -> None:
    ledger = Ledger.open(path)
    limit = Limit(calls=5)
    assert await ledger.reserve("run", times(4, ONE), limit)
    assert not await ledger.reserve("run", times(2, ONE), limit)
    assert ledger.account("run") == Account(reserved=times(4, ONE))
    for _ in range(2):  # a run that was killed in between reads the job's answers again
        for number in range(3):
            reply = await ledger.record(
                question(number), said("first"), seconds=3600.0, run="run", meter=FLAT, asked_at=12.0
            )
            assert reply == said("first")
    assert await ledger.record(question(0), said("other"), run="run", meter=FLAT) == said("first"), "the earlier stays"
    await ledger.settle("run", reserved=times(4, ONE), lost=ONE)
    assert ledger.account("run") == Account(spent=times(3, PAID), lost=ONE)
    entry = ledger.entry(question(1).key)
    assert entry is not None
    assert (entry.asked_at, entry.seconds, entry.run) == (12.0, 3600.0, "run")
    assert await ledger.record(question(9), said("free")) == said("free")
    assert ledger.account("") == Account()
    with pytest.raises(ValueError, match="cannot be kept"):
        await ledger.record(question(9), Reply(b"x"))  # type: ignore[arg-type]
    await ledger.close()


async def test_what_a_kill_left_put_by_is_put_right(path: Path) -> None:
    """A process that was killed between its job and its purse: what is in flight and in jobs is counted anew."""
    ledger, model = Ledger.open(path), Counting(shut=True)
    asking = asyncio.create_task(ledger.door(model, run="run", meter=FLAT)(question(1)))
    await until(lambda: model.asked != [])
    await ledger.reserve("run", times(9, ONE))
    await ledger.put_right("run", times(2, ONE))
    assert ledger.account("run") == Account(reserved=times(3, ONE))
    model.gate.set()
    await asking
    assert ledger.account("run") == Account(spent=PAID, reserved=times(2, ONE))
    await ledger.close()


async def test_a_fresh_reply_of_a_job_takes_the_place_of_the_old_one_and_is_paid_for(path: Path) -> None:
    ledger = Ledger.open(path)
    await ledger.record(question(1), said("old"), run="run", meter=FLAT)
    assert await ledger.record(question(1), said("new"), run="run", meter=FLAT, fresh=True) == said("new")
    assert (ledger.get(question(1).key), len(ledger)) == (said("new"), 1)
    assert ledger.account("run") == Account(spent=times(2, PAID))
    assert (await ledger.door(Counting(), refresh=True)(question(1))).known, "it was asked anew in this opening"
    await ledger.close()


async def test_a_live_call_waits_for_a_job_that_holds_the_rest_of_the_budget(path: Path) -> None:
    ledger = Ledger.open(path)
    await ledger.reserve("run", times(3, ONE))
    asking = asyncio.create_task(ledger.door(Counting(), run="run", limit=Limit(calls=3), meter=FLAT)(question(1)))
    await asyncio.sleep(0.05)
    assert not asking.done()
    await ledger.settle("run", reserved=times(3, ONE), spent=times(2, PAID))
    assert await asking == said("question 1")
    await ledger.close()


# -- processes ------------------------------------------------------------------------------------------------


async def test_two_processes_share_a_budget_and_each_waits_for_the_other(path: Path) -> None:
    """Two ledgers of one file stand for them: what one puts by is no room for the other until it is settled."""
    one, two, model, other = Ledger.open(path), Ledger.open(path), Counting(shut=True), Counting()
    limit = Limit(nano=1500)
    first = asyncio.create_task(one.door(model, run="run", limit=limit, meter=FLAT)(question(1)))
    await until(lambda: model.asked != [])
    second = asyncio.create_task(two.door(other, run="run", limit=limit, meter=FLAT)(question(2)))
    await asyncio.sleep(0.1)
    assert other.asked == []
    model.gate.set()
    await first
    assert await second == said("question 2")
    with pytest.raises(OverBudget):
        await two.door(other, run="run", limit=limit, meter=FLAT)(question(3))
    assert one.account("run") == two.account("run") == Account(spent=times(2, PAID))
    await one.close()
    await two.close()


def test_a_killed_process_may_have_been_billed_for_what_it_had_in_flight(path: Path, tmp_path: Path) -> None:
    with Process("ask", path, tmp_path / "log", "--count", 3, "--hang", "--meter") as process:
        process.begin()
        asyncio.run(until(lambda: len(lines(tmp_path / "log")) == 3))
        process.kill()
        process.bury()

    async def after() -> None:
        ledger = Ledger.open(path)
        assert ledger.account("run") == Account(reserved=times(3, ONE))
        door = ledger.door(Counting(), run="run", limit=Limit(calls=4), meter=FLAT)
        await door(question(0))
        assert ledger.account("run") == Account(spent=PAID, lost=times(3, ONE))
        with pytest.raises(OverBudget):
            await door(question(1))
        await ledger.close()

    asyncio.run(after())


async def test_a_lease_that_was_taken_for_lost_is_known_to_be_spent_when_its_answer_comes(path: Path) -> None:
    """A machine that slept: its call was counted as lost, then it woke and was answered."""
    ledger, model = Ledger.open(path), Counting(shut=True)
    asking = asyncio.create_task(ledger.door(model, run="run", meter=FLAT)(question(1)))
    await until(lambda: model.asked != [])
    pen = ledger._writer.pen  # type: ignore[union-attr]
    await ledger._writer.do(lambda db: pen.bury(pen.owner))  # type: ignore[union-attr]
    assert ledger.account("run") == Account(lost=ONE)
    model.gate.set()
    await asking
    assert ledger.account("run") == Account(spent=PAID)
    await ledger.close()


def book(path: Path) -> list[tuple[object, ...]]:
    try:
        return look(path, "SELECT spent_nano + reserved_nano + lost_nano, spent_nano, reserved_nano FROM purses")
    except Exception:  # noqa: BLE001 - it is just being made
        return []


async def test_eight_processes_killed_at_random_never_go_over_their_budget(path: Path, tmp_path: Path) -> None:
    """Counted in the book at all times, and at the provider: what was asked cannot have cost more than the budget."""
    dice, budget, count = random.Random(11), 120, 400
    most: list[int] = []
    for round_ in range(3):
        log = tmp_path / f"log{round_}"
        processes = [Process("spend", path, log, "--count", count, "--limit", budget) for _ in range(8 - 2 * round_)]
        try:
            for process in processes:
                process.begin()
            for victim in processes:
                enough = len(lines(log)) + dice.randrange(1, 8)
                ended = asyncio.get_running_loop().time() + 3.0
                while len(lines(log)) < enough and asyncio.get_running_loop().time() < ended:
                    most += [int(row[0]) for row in book(path)]  # type: ignore[call-overload]
                    await asyncio.sleep(0.005)
                victim.kill()
        finally:
            for process in processes:
                process.kill()
                process.bury()
    with Process("spend", path, tmp_path / "last", "--count", count, "--limit", budget) as process:
        process.begin()
        said_ = process.end()
    assert said_[-1].startswith("over ")
    (total, spent, reserved) = book(path)[0]
    most.append(int(total))  # type: ignore[call-overload]
    assert max(most) <= budget * FLAT.worst_nano
    assert reserved == 0
    assert int(total) + FLAT.worst_nano > budget * FLAT.worst_nano, "it is used up to the worst of one call"  # type: ignore[call-overload]
    known = keys_in(path)
    assert spent == len(known) * FLAT.paid_nano, "what is known was paid for once"
    asked = [key for log in (*tmp_path.glob("log*"), tmp_path / "last") for key in lines(log)]
    assert len(asked) * FLAT.paid_nano <= budget * FLAT.worst_nano
    assert len(asked) > len(known), "the kills came at moments that cost something"
    with Process("spend", path, tmp_path / "more", "--count", count, "--limit", 10 * budget) as process:
        process.begin()
        assert process.end()[-1] == "over 0"
    assert not known & set(lines(tmp_path / "more")), "a raised budget repeats no call"
    assert len(keys_in(path)) == count
