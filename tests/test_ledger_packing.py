"""Calls and replies come back as they were, and what many of them say is kept once."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_kit import filled, look
from test_calls import CALLS, REPLIES

from solon.calls import Call, Message, Reply
from solon.generators.dialogue import Round, document
from solon.judges.pairwise import compare
from solon.ledger import Ledger
from solon.ledger.file import SCHEMA
from solon.ledger.packing import pack_reply, unpack_reply
from solon.ledger.texts import SHORT, Reading, Texts

WORDS = "many people ask about the weather because it is a thing that we all share and that nobody can change"


def prose(seed: str, count: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS.split(), k=count)) + f" {seed}."


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


# -- round trips ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CALLS, REPLIES), min_size=1, max_size=5))
def test_every_call_and_reply_comes_back_as_it_was(tmp_path: Path, asked: list[tuple[Call, Reply]]) -> None:
    path = tmp_path / "ledger.db"
    path.unlink(missing_ok=True)
    first = {call.key: (call, reply) for call, reply in reversed(asked)}  # the earlier reply stays

    async def work() -> None:
        ledger = Ledger.open(path)
        for call, reply in asked:
            await ledger.record(call, reply)
        await ledger.close()
        ledger = Ledger.open(path)
        for key, (call, reply) in first.items():
            entry = ledger.entry(key)
            assert entry is not None
            assert (entry.key, entry.call.key, entry.call.to_json()) == (key, key, call.to_json())
            assert entry.reply == reply == ledger.get(key)
        assert ledger.verify().whole
        await ledger.close()

    asyncio.run(work())


PIECES = st.sampled_from(
    ["\n", "\n\n", "\n\n\n", "Human: ", "Assistant: ", "[[[", "]]]", "[response A 12ab]\n", "\n[end 12ab]", "x" * 79]
)
CONTENTS = st.lists(PIECES | st.sampled_from(range(6)).map(lambda n: prose(str(n), 20 + 60 * n)), max_size=30).map(
    "".join
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=12))
def test_however_contents_are_cut_they_are_put_together_again(contents: list[str]) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    texts = Texts()
    parts = [texts.parts(db, content) for content in contents]
    texts.write(db)
    assert [Reading(db).text(part) for part in parts] == contents
    assert Texts().parts(db, contents[0]) != [] or contents[0] == ""
    db.close()


@pytest.mark.parametrize("place", [0, 3, 4, 5, -1])
def test_a_reply_with_one_changed_byte_is_noticed(place: int) -> None:
    for reply in (Reply("A"), Reply(prose("long")), Reply("A", "length", "hm", (-0.5, None))):
        blob = bytearray(pack_reply(reply))
        blob[place] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            unpack_reply(bytes(blob), reply.usage, reply.model)


def test_a_text_of_many_megabytes_is_kept(path: Path) -> None:
    call = Call("m", (Message("text", "\n\n".join(prose(str(n)) for n in range(30_000))),))
    asyncio.run(filled(path, [call], lambda call: Reply("x" * 5_000_000)))
    ledger = Ledger.open(path)
    entry = ledger.entry(call.key)
    assert entry is not None
    assert (entry.call, len(entry.reply.text)) == (call, 5_000_000)
    asyncio.run(ledger.close())


# -- what is shared -------------------------------------------------------------------------------------------


def shared(path: Path, *contents: str) -> int:
    """Return how many shared texts these contents need, each asked of a base model."""
    asyncio.run(filled(path, [Call("m", (Message("text", content),)) for content in contents]))
    return int(look(path, "SELECT count(*) FROM texts")[0][0])  # type: ignore[call-overload]


def test_an_answer_is_one_text_wherever_it_is_quoted(path: Path) -> None:
    """As a turn, in a document, in brackets, between a chat judge's marks; by paragraph."""
    one, two, prompt = prose("one"), f"{prose('two')}\n\n{prose('three')}", prose("prompt")
    asked = [
        Call("m", (Message("user", prompt), Message("assistant", one), Message("user", "Go on."))),
        Call("m", (Message("text", document([Message("user", prompt)], one, Round("Why?"))),)),
        Call("m", (Message("text", compare("text", [Message("user", prompt)], one, two, "Which?", "12ab")),)),
        Call("m", (Message("user", compare("chat", [Message("user", prompt)], two, one, "Which?", "12ab")),)),
    ]
    asyncio.run(filled(path, asked))
    # beside the four paragraphs: the chat judge's first words
    assert look(path, "SELECT count(*) FROM texts") == [(5,)]


def test_a_long_beginning_is_one_number_in_every_document_after_the_second(path: Path) -> None:
    shots = "".join(
        document(
            [Message("user", prose(f"p{n}"))], prose(f"a{n}"), Round(prose("ask"), prose(f"c{n}"), "Go", prose("r"))
        )
        for n in range(12)
    )
    assert len(shots) > 10_000
    contents = [f"{shots}\n\nHuman: {prose(str(n))}\n\nAssistant:" for n in range(6)]
    asked = [Call("m", (Message("text", content),)) for content in contents]
    asyncio.run(filled(path, asked))
    sizes = [row[0] for row in look(path, "SELECT length(messages) FROM calls ORDER BY id")]
    assert max(sizes[1:]) < 60 < sizes[0]  # type: ignore[operator]
    ledger = Ledger.open(path)
    assert [ledger.entry(call.key).call for call in asked] == asked  # type: ignore[union-attr]
    asyncio.run(ledger.close())


def test_what_is_short_or_said_once_is_not_worth_a_row(path: Path) -> None:
    assert shared(path, "y" * (SHORT - 1), "short\n\n" * 40) == 0


def test_a_text_is_found_again_after_a_restart(path: Path) -> None:
    assert shared(path, prose("one")) == 1
    assert shared(path, f"Again: {prose('one')}", prose("two")) == 2


def test_two_texts_of_one_name_stay_two(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes two texts with one name of 63 bits gets both back."""
    monkeypatch.setattr("solon.ledger.texts.name_of", lambda text: 7)
    calls = [Call("m", (Message("user", prose(str(n))),)) for n in range(3)]
    asyncio.run(filled(path, calls))
    ledger = Ledger.open(path)
    assert [ledger.entry(call.key).call for call in calls] == calls  # type: ignore[union-attr]
    asyncio.run(ledger.close())


async def test_numbers_from_before_a_removal_are_not_trusted(path: Path) -> None:
    """Another process forgets a text that this one has just written: the next call that says it writes it anew."""
    ledger, text = Ledger.open(path), prose("secret")
    await ledger.record(Call("m", (Message("user", text),)), Reply("x"))
    other = Ledger.open(path)
    assert other.forget(text="secret") == 1
    assert look(path, "SELECT count(*) FROM texts") == [(0,)]
    again = Call("m", (Message("user", text),), sample=1)
    await ledger.record(again, Reply("y"))
    for each in (ledger, other):
        entry = each.entry(again.key)
        assert entry is not None
        assert entry.call == again
    assert other.verify().whole
    await ledger.close()
    await other.close()


async def test_a_transaction_that_was_taken_back_leaves_no_number_behind(path: Path) -> None:
    ledger = Ledger.open(path)
    pen = ledger._writer.pen  # type: ignore[union-attr]
    text = prose("never written")

    def fails(db: sqlite3.Connection) -> None:
        pen._texts.parts(db, text)
        raise KeyError("after it was written")

    with pytest.raises(KeyError):
        await ledger._writer.do(fails)  # type: ignore[union-attr]
    call = Call("m", (Message("user", text),))
    await ledger.record(call, Reply("x"))
    entry = ledger.entry(call.key)
    assert entry is not None
    assert entry.call == call
    await ledger.close()


async def test_who_reads_while_texts_are_removed_sees_all_of_an_entry_or_none(path: Path) -> None:
    calls = [Call("m", (Message("user", prose(f"entry {n}")),)) for n in range(20)]
    await filled(path, calls)
    ledger, other = Ledger.open(path), Ledger.open(path)
    seen = []
    for entry in ledger.entries():
        seen.append(entry.call)
        if len(seen) == 5:
            assert other.forget(text="entry 1") == 11
    assert set(seen) | set(calls[10:]) | {calls[1]} >= set(calls)
    assert len(seen) >= 9
    await ledger.close()
    await other.close()
