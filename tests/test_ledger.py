"""The ledger within one process: every question once, remembered as what it was, asked anew when that is wanted."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_kit import (
    Counting,
    filled,
    keys_in,
    look,
    one_line,
    question,
    questions,
    said,
    until,
)

from solon.calls import Reply, Usage
from solon.errors import Aside, CallFailed, Halt, StorageError
from solon.ledger import Ledger, Tally


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


# -- remembering ----------------------------------------------------------------------------------------------


async def test_a_question_is_asked_once_and_then_known(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting()
    door = ledger.door(model)
    first, second = await door(question(1)), await door(question(1))
    assert first == second == said("question 1")
    assert (first.known, second.known) == (False, True)
    assert model.asked == [question(1).key]
    await ledger.close()
    ledger = Ledger.open(path)
    third = await ledger.door(model)(question(1))
    assert (third, third.known, len(model.asked)) == (said("question 1"), True, 1)
    await ledger.close()


@pytest.mark.parametrize(
    "reply",
    [
        Reply("", finish="stop"),
        Reply("  \n", finish="length", thinking="on and on"),
        Reply("I cannot help with that.", finish="refusal", usage=Usage(9, 8, 7, 6), model="x-2026"),
        Reply("half \ud83d of a character, \x00, 😀", thinking="\udfff"),
        Reply("A", logprobs=(-0.25, None, -math.inf, math.nan)),
        Reply("0123456789" * 1_000_000),
        Reply(os.urandom(2_000_000).hex()),
    ],
    ids=["empty", "cut", "refusal", "surrogates", "infinite", "10MB", "incompressible"],
)
async def test_a_reply_is_remembered_as_what_it_is(path: Path, reply: Reply) -> None:
    call = question("\ud83d odd \x00 question")
    ledger = Ledger.open(path)
    first = await ledger.door(Counting(lambda call: reply))(call)
    await ledger.close()
    ledger = Ledger.open(path)
    again = await ledger.door(None)(call)
    assert (again, again.known) == (reply, True)
    assert first == again, "what is handed on first is what memory gives later"
    entry = ledger.entry(call.key)
    assert entry is not None
    assert (entry.call, entry.reply, entry.key) == (call, reply, call.key)
    await ledger.close()


async def test_a_failure_reaches_its_asker_and_is_not_remembered(path: Path) -> None:
    ledger = Ledger.open(path)
    answers: list[Reply | Exception] = [
        CallFailed("no_answer", "gone"),
        Halt("no credit"),
        KeyError("bug"),
        Reply("yes"),
    ]
    model = Counting(lambda call: answers.pop(0))
    door = ledger.door(model)
    for kind in (CallFailed, Halt, KeyError):
        with pytest.raises(kind):
            await door(question(1))
        assert ledger.get(question(1).key) is None
    assert (await door(question(1))).text == "yes"
    assert (door.tally.failed, door.tally.asked, len(model.asked)) == (3, 1, 4)
    assert look(path, "SELECT * FROM leases") == []
    await ledger.close()


async def test_a_model_that_returns_no_reply_stops_the_run_and_gives_its_lease_back(path: Path) -> None:
    ledger = Ledger.open(path)
    for wrong in ("words", None, Reply("x", usage=Usage(input={1})), Reply(b"bytes")):  # type: ignore[arg-type]
        with pytest.raises(Halt, match=r"counting: its answer cannot be kept .*; a model returns a Reply"):
            await ledger.door(Counting(lambda call, wrong=wrong: wrong))(question(1))  # type: ignore[misc]
    await ledger.door(Counting())(question(2))  # queued behind the releases
    assert look(path, "SELECT * FROM leases") == []
    await ledger.close()


async def test_entries_come_oldest_first_and_say_when_and_how_long(path: Path) -> None:
    ledger = Ledger.open(path)
    door = ledger.door(Counting())
    for call in questions(5):
        await door(call)
    entries = list(ledger.entries())
    assert [entry.call for entry in entries] == questions(5)
    assert [entry.asked_at for entry in entries] == sorted(entry.asked_at for entry in entries)
    assert all(entry.seconds >= 0 for entry in entries)
    assert (len(ledger), ledger.entry("c1:none"), ledger.get("c1:none")) == (5, None, None)
    await ledger.close()


async def test_reading_entries_holds_nothing_up_and_sees_what_was_there_when_it_began(path: Path) -> None:
    ledger = Ledger.open(path)
    door = ledger.door(Counting())
    await asyncio.gather(*map(door, questions(4)))
    reading = ledger.entries()
    seen = [next(reading).key]
    await door(question(99))
    assert (await door(question(99))).known, "a reading that is under way does not hide new replies"
    gone = next(call for call in questions(4) if call.key not in seen)
    assert ledger.forget(text=gone.messages[0].content) == 1
    seen += [entry.key for entry in reading]
    assert set(seen) == {call.key for call in questions(4)} - {gone.key}
    await ledger.close()


async def test_a_probe_is_remembered_for_its_model(path: Path) -> None:
    ledger = Ledger.open(path)
    assert ledger.probe("m") is None
    ledger.record_probe("m", {"logprobs": True, "schema": None})
    ledger.record_probe("m", {"logprobs": False, "schema": None})
    await ledger.close()
    ledger = Ledger.open(path)
    assert ledger.probe("m") == {"logprobs": False, "schema": None}
    await ledger.close()


# -- one flight -----------------------------------------------------------------------------------------------


async def test_fifty_askers_of_one_question_cause_one_request(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door, other = ledger.door(model), ledger.door(Counting())
    asking = [asyncio.create_task((door if number % 2 else other)(question(1))) for number in range(1, 51)]
    await until(lambda: model.asked != [])
    assert ledger.in_flight == 1
    model.gate.set()
    replies = await asyncio.gather(*asking)
    assert model.asked == [question(1).key]
    assert {reply.text for reply in replies} == {said("question 1").text}
    assert [reply.known for reply in replies].count(False) == 1
    total = door.tally + other.tally
    assert (total.asked, total.shared, total.known, total.failed) == (1, 49, 0, 0)
    assert total.asked_usage == Usage(3, 5, 1, 2), "paid for once"
    assert ledger.in_flight == 0
    await ledger.close()


async def test_an_error_reaches_all_fifty_and_the_next_asker_asks_again(path: Path) -> None:
    ledger = Ledger.open(path)
    answers: list[Reply | Exception] = [CallFailed("no_answer", "gone"), Reply("yes")]
    model = Counting(lambda call: answers.pop(0), shut=True)
    door = ledger.door(model)
    asking = [asyncio.create_task(door(question(1))) for _ in range(50)]
    await until(lambda: model.asked != [])
    model.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert {(type(outcome), str(outcome)) for outcome in outcomes} == {
        (CallFailed, "no answer after all retries: gone")
    }
    assert door.tally == Tally(failed=1)
    assert (await door(question(1))).text == "yes"
    assert len(model.asked) == 2
    await ledger.close()


async def test_an_asker_that_is_cancelled_takes_no_reply_with_it(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model)
    first, second = asyncio.create_task(door(question(1))), asyncio.create_task(door(question(1)))
    await until(lambda: model.asked != [])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    model.gate.set()
    assert (await second).text == said("question 1").text
    assert ledger.get(question(1).key) == said("question 1")
    await ledger.close()


async def test_when_every_asker_is_cancelled_closing_with_grace_writes_the_reply_down(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    asking = [asyncio.create_task(ledger.door(model)(call)) for call in questions(20)]
    await until(lambda: len(model.asked) == 20)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert ledger.in_flight == 20
    closing = asyncio.create_task(ledger.close(grace=60))
    await asyncio.sleep(0.01)
    model.gate.set()
    await closing
    assert keys_in(path) == {call.key for call in questions(20)}
    assert look(path, "SELECT owner FROM leases UNION ALL SELECT id FROM owners") == []


async def test_closing_without_grace_ends_what_is_in_flight_with_one_clear_line(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model)
    asking = [asyncio.create_task(door(question(number % 2))) for number in range(4)]
    await until(lambda: len(model.asked) == 2)
    await ledger.close()
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(outcome, BaseException)
        assert "closed before the call was answered" in one_line(outcome)
    assert look(path, "SELECT * FROM leases") == []


async def test_nothing_new_is_asked_while_a_ledger_closes(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting(shut=True)
    door = ledger.door(model)
    flying = asyncio.create_task(door(question(1)))
    await until(lambda: model.asked != [])
    closing = asyncio.create_task(ledger.close(grace=60))
    await asyncio.sleep(0.01)
    with pytest.raises(StorageError, match="closed before the call was answered"):
        await door(question(2))
    model.gate.set()
    assert (await flying).text == said("question 1").text
    await closing
    assert model.asked == [question(1).key]


async def test_a_closed_ledger_says_so(path: Path) -> None:
    ledger = Ledger.open(path)
    await filled(path, [question(1)])
    door = ledger.door(Counting())
    await ledger.close()
    await ledger.close()  # twice does no harm
    uses: list[Callable[[], object]] = [
        lambda: ledger.get("c1:x"),
        lambda: ledger.entry("c1:x"),
        lambda: list(ledger.entries()),
        lambda: len(ledger),
        lambda: ledger.probe("m"),
        lambda: ledger.record_probe("m", {}),
        lambda: ledger.forget(model="m"),
        lambda: ledger.merge(path),
    ]
    for use in uses:
        with pytest.raises(StorageError) as told:
            use()
        assert one_line(told.value) == f"{path}: this ledger is closed; open it again"
    with pytest.raises(StorageError, match="this ledger is closed"):
        await door(question(1))


# -- asking anew, asking nobody -------------------------------------------------------------------------------


async def test_refresh_asks_anew_exactly_once_an_opening_and_replaces(path: Path) -> None:
    await filled(path, questions(2))
    for opening in ("first", "second"):
        ledger = Ledger.open(path)
        model = Counting(lambda call, opening=opening: Reply(f"{opening} new"))  # type: ignore[misc]
        doors = [ledger.door(model, refresh=True), ledger.door(model, refresh=True)]
        replies = await asyncio.gather(*(door(question(0)) for door in doors for _ in range(3)))
        replies += [await door(question(0)) for door in doors]
        assert model.asked == [question(0).key]
        assert {reply.text for reply in replies} == {f"{opening} new"}
        assert [reply.known for reply in replies].count(False) == 1
        await ledger.close()
        ledger = Ledger.open(path)
        assert ledger.get(question(0).key) == Reply(f"{opening} new")
        assert ledger.get(question(1).key) == said("question 1"), "what was not asked stays as it was"
        assert len(ledger) == 2
        await ledger.close()


async def test_a_refresh_that_fails_keeps_the_old_reply_and_asks_again(path: Path) -> None:
    await filled(path, [question(0)])
    ledger = Ledger.open(path)
    answers: list[Reply | Exception] = [CallFailed("no_answer", "gone"), Reply("new")]
    door = ledger.door(Counting(lambda call: answers.pop(0)), refresh=True)
    with pytest.raises(CallFailed):
        await door(question(0))
    assert ledger.get(question(0).key) == said("question 0")
    assert (await door(question(0))).text == "new"
    await ledger.close()


async def test_a_door_without_refresh_asks_nothing_known(path: Path) -> None:
    await filled(path, [question(0)])
    ledger, model = Ledger.open(path), Counting()
    assert (await ledger.door(model)(question(0))).known
    assert model.asked == []
    await ledger.close()


@pytest.mark.parametrize("refresh", [False, True])
async def test_with_nothing_behind_the_ledger_an_unknown_call_is_told_and_set_aside(path: Path, refresh: bool) -> None:
    await filled(path, [question(0)])
    ledger, missed = Ledger.open(path), []
    door = ledger.door(None, missed=missed.append, refresh=refresh)
    assert await door(question(0)) == said("question 0")
    for call in (question(1), question(2)):
        with pytest.raises(Aside) as told:
            await door(call)
        assert (told.value.reason, told.value.detail) == ("not_known", call.key)
    assert missed == [question(1), question(2)]
    assert door.tally == Tally(known=1, known_usage=Usage(3, 5, 1, 2))
    with pytest.raises(Aside, match="not in the ledger"):
        await ledger.door(None)(question(1))  # nobody to tell
    await ledger.close()


async def test_the_tally_says_where_replies_came_from_and_what_they_cost(path: Path) -> None:
    await filled(path, questions(3))
    ledger, model = Ledger.open(path), Counting()
    door = ledger.door(model)
    await asyncio.gather(*map(door, questions(5)))
    each = Usage(3, 5, 1, 2)
    assert door.tally == Tally(3, 2, 0, 0, each + each + each, each + each)
    assert door.tally + Tally(1, 2, 3, 4, each, each) == Tally(
        4, 4, 3, 4, each + each + each + each, each + each + each
    )
    await ledger.close()


async def test_forgetting_a_model_forgets_what_its_probes_found(path: Path) -> None:
    """With provider options too, which are recorded behind a '#'; another model's stay."""
    ledger = Ledger.open(path)
    for name in ("m", "m#1234", "m2"):
        ledger.record_probe(name, {"logprobs": True, "schema": None})
    ledger.forget(model="m")
    assert [ledger.probe(name) is None for name in ("m", "m#1234", "m2")] == [True, True, False]
    await ledger.close()
