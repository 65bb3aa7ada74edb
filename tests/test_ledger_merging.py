"""Two ledgers become one; what is forgotten is gone, from the disk too."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_kit import (
    FAR,
    Counting,
    cut_in_half,
    filled,
    look,
    make_newer,
    one_line,
    question,
    questions,
    said,
    someone_elses,
    spoil,
    swap_calls,
)

from solon.calls import Call, Message, Reply
from solon.errors import StorageError
from solon.ledger import Ledger, Merged
from solon.ledger import ledger as ledger_module
from solon.ledger import upkeep as ledger_upkeep
from solon.ledger.packing import unpack_text
from solon.ledger.pen import raw_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


# -- merging --------------------------------------------------------------------------------------------------


async def test_a_merge_is_the_union_and_the_earlier_reply_stays(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    await filled(path, [question("both"), question("mine first")])
    await filled(other, [question("both"), question("mine first"), question("theirs")], lambda call: Reply("other"))
    await filled(other, [question("equal"), question("theirs first")])
    await filled(path, [question("equal")])
    await filled(path, [question("theirs first")], lambda call: Reply("later"))
    ledger = Ledger.open(path)
    ledger.record_probe("m", {"mine": True})
    theirs = Ledger.open(other)
    theirs.record_probe("m", {"mine": False})
    theirs.record_probe("n", {"mine": False})
    await theirs.close()
    assert ledger.merge(other) == Merged(added=1, same=1, differed=3)
    assert len(ledger) == 5
    texts = {name: ledger.get(question(name).key).text for name in ("both", "mine first", "theirs", "theirs first")}  # type: ignore[union-attr]
    assert texts == {
        "both": said("question both").text,
        "mine first": said("question mine first").text,
        "theirs": "other",
        "theirs first": said("question theirs first").text,
    }
    assert (ledger.probe("m"), ledger.probe("n")) == ({"mine": True}, {"mine": False})
    assert ledger.merge(other) == Merged(added=0, same=3, differed=2), "again it changes nothing"
    await ledger.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from("ab")), max_size=12))
def test_two_ledgers_merge_into_the_same_whichever_way(tmp_path: Path, asked: list[tuple[int, bool, str]]) -> None:
    """Each (question, which ledger, answer) is asked in this order."""
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    paths = [tmp_path / "one.db", tmp_path / "two.db"]

    async def ask_all() -> None:
        ledgers = [Ledger.open(path) for path in paths]
        for number, which, answer in asked:
            await ledgers[which].door(Counting(lambda call, answer=answer: Reply(answer)))(question(number))  # type: ignore[misc]
        for ledger in ledgers:
            await ledger.close()

    asyncio.run(ask_all())
    copies = [shutil.copy(path, path.with_suffix(".copy")) for path in paths]
    what = []
    for path, other in zip(paths, reversed(copies), strict=True):
        ledger = Ledger.open(path)
        ledger.merge(other)
        what.append([(entry.key, entry.reply, entry.asked_at) for entry in ledger.entries()])
        asyncio.run(ledger.close())
    assert what[0] == what[1]
    assert {key for key, _, _ in what[0]} == {question(number).key for number, _, _ in asked}


async def test_a_ledger_merged_into_itself_stays_as_it_is(path: Path) -> None:
    await filled(path, questions(700))
    ledger = Ledger.open(path)
    assert ledger.merge(path) == Merged(added=0, same=700, differed=0)
    assert len(ledger) == 700
    await ledger.close()


async def test_others_write_while_a_merge_goes_on(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge in one transaction would lock everybody out for its whole length."""
    other, third = tmp_path / "other.db", Ledger.open(path)
    await filled(other, questions(50))
    monkeypatch.setattr(ledger_upkeep, "ROWS_AT_ONCE", 10)
    ledger, seen = Ledger.open(path), []
    taken = ledger_module.merge_entries

    def watched(db: sqlite3.Connection, **more: Any) -> tuple[int, int, int]:
        seen.append(len(third))
        return taken(db, **more)

    monkeypatch.setattr(ledger_module, "merge_entries", watched)
    assert ledger.merge(other).added == 50
    assert seen == [0, 10, 20, 30, 40]
    await ledger.close()
    await third.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such ledger; give the path of a ledger.db"),
        (lambda path: path.mkdir(), "no such ledger; give the path of a ledger.db"),
        (lambda path: path.write_bytes(b""), "an empty file, not a ledger"),
        (lambda path: path.write_text("key,reply\n" * 400), "damaged, or not a ledger"),
        (lambda path: someone_elses(path), "an SQLite file, but not a ledger"),
        (lambda path: make_newer(path), "written by a newer Solon (this one reads 2); upgrade Solon"),
        (lambda path: swap_calls(path), "does not bear the key of its call"),
        (lambda path: spoil(path, "reply", b"no zlib"), "an entry cannot be read"),
        (lambda path: spoil(path, "reply", zlib.compress(b"{}")), "an entry cannot be read"),
        (lambda path: cut_in_half(path), "damaged, or not a ledger"),
    ],
    ids=["missing", "folder", "empty", "text", "foreign", "newer", "swapped", "no-zlib", "no-reply", "half"],
)
async def test_what_cannot_be_merged_is_one_clear_line(
    path: Path, tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    other = tmp_path / "other.db"
    make(other)
    ledger = Ledger.open(path)
    door = ledger.door(Counting())
    await door(question("mine"))
    with pytest.raises(StorageError) as told:
        ledger.merge(other)
    assert one_line(told.value).startswith(f"{other}: ")
    assert words in str(told.value)
    assert not (await door(question("after"))).known, "the ledger itself goes on"
    await ledger.close()


# -- forgetting -----------------------------------------------------------------------------------------------


async def test_forgetting_removes_what_matches_every_condition(path: Path) -> None:
    calls = [question("alpha"), question("beta"), question("alpha", model="scripted:other@1")]
    await filled(path, calls)
    ledger = Ledger.open(path)
    for model in (Counting.identity, "scripted:other@1"):
        ledger.record_probe(model, {"logprobs": True})
    assert ledger.forget(model=Counting.identity, text="alpha") == 1
    assert [ledger.get(call.key) is None for call in calls] == [True, False, False]
    assert ledger.probe(Counting.identity) is not None, "a text says nothing about what a model can do"
    assert ledger.forget(model=Counting.identity) == 1
    assert (ledger.probe(Counting.identity), ledger.probe("scripted:other@1")) == (None, {"logprobs": True})
    assert ledger.forget(before=1.0) == 0
    assert ledger.forget(before=FAR) == 1
    assert len(ledger) == 0
    with pytest.raises(ValueError, match="a model, a time or a text"):
        ledger.forget()
    await ledger.close()


async def test_a_text_is_found_in_questions_answers_and_thinking_as_people_read_it(path: Path) -> None:
    replies = {
        "q1": Reply("plain"),
        "q2": Reply('He said "naïve" 😀\nand left.'),
        "q3": Reply("x", thinking="a secret name"),
    }
    calls = [Call("m", (Message("system", "Tab\tand \\ slash"), Message("user", name))) for name in replies]
    await filled(path, calls, lambda call: replies[call.messages[-1].content])
    ledger = Ledger.open(path)
    for text, count in [
        ("nowhere", 0),
        ('"naïve" 😀\nand', 1),
        ("secret name", 1),
        ("Tab\tand \\ slash", 1),
    ]:
        assert ledger.forget(text=text) == count, text
    assert len(ledger) == 0
    await ledger.close()


async def test_what_is_forgotten_is_asked_again(path: Path) -> None:
    ledger, model = Ledger.open(path), Counting()
    door = ledger.door(model)
    await door(question(1))
    assert ledger.forget(text="question 1") == 1
    assert not (await door(question(1))).known
    assert len(model.asked) == 2
    await ledger.close()


async def test_no_byte_of_what_is_forgotten_stays_on_disk(path: Path) -> None:
    """This looks for the compressed texts themselves; some builds of SQLite clean most of what they free, not all."""
    secret = [question(f"{number} {os.urandom(50 + number % 300).hex()}") for number in range(1500)]
    for number, call in enumerate(secret):
        secret[number] = Call(
            call.model, (Message("user", call.messages[0].content + (" burn" if number % 3 else "")),)
        )
    await filled(path, secret, lambda call: Reply(os.urandom(30 + len(call.messages[0].content) * 2).hex()))
    ledger = Ledger.open(path)
    ledger._writer._db.execute("PRAGMA secure_delete = OFF")  # idle, so this thread may use its connection
    # what a refresh replaced was written over in the tables, and must be gone from the file as well
    replaced = [row[0] for row in look(path, "SELECT reply FROM calls ORDER BY id LIMIT 50")]
    door = ledger.door(Counting(), refresh=True)
    await asyncio.gather(*map(door, secret[:50]))
    texts = {unpack_text(body): body for (body,) in look(path, "SELECT body FROM texts")}
    gone = [body for text, body in texts.items() if str(text).endswith("burn")]
    kept = [body for text, body in texts.items() if not str(text).endswith("burn")]
    assert (len(gone), len(kept)) == (1000, 500)
    gone += [
        row[0]
        for call in secret
        if call.messages[0].content.endswith("burn")
        for row in look(path, "SELECT reply FROM calls WHERE key = ?", raw_key(call.key))
    ]

    def in_files(blob: object) -> bool:
        assert isinstance(blob, bytes)
        return any(blob[20:60] in data for data in files)

    def files_now() -> list[bytes]:
        return [file.read_bytes() for file in path.parent.iterdir()]

    files = files_now()
    assert all(map(in_files, gone)), "they were there before"
    assert ledger.forget(text="burn") == 1000
    files = files_now()
    assert not [blob for blob in [*gone, *replaced] if in_files(blob)]
    assert all(map(in_files, kept))
    await ledger.close()
    files = files_now()
    assert not [blob for blob in [*gone, *replaced] if in_files(blob)]


async def test_forgetting_beside_a_reader_says_that_bytes_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(path, questions(3))
    monkeypatch.setattr(ledger_upkeep, "REWRITE_SECONDS", 0.05)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM calls").fetchone() == (3,)
    ledger = Ledger.open(path)
    with pytest.raises(StorageError) as told:
        ledger.forget(text="question 1")
    assert "another process reads the file" in one_line(told.value)
    assert len(ledger) == 2
    reader.close()
    assert ledger.forget(text="question 1") == 0  # again, as it said: now the file is rewritten
    await ledger.close()
