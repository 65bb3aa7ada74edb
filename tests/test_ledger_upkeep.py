"""Looking after a ledger: what is wrong with it, what is in it, and what it costs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_kit import FLAT, Counting, change, cut_in_half, filled, look, one_line, question, questions, read, said
from run_kit import Solon, desk

from solon.calls import Call, Message, Reply, Usage
from solon.errors import StorageError
from solon.ledger import Ledger
from solon.ledger.packing import pack_text

LONG = "A paragraph that is long enough to be kept apart from the messages that say it, number "


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def talk(*numbers: int) -> Call:
    """Return a call whose messages are the paragraphs of these numbers."""
    return Call("m", tuple(Message("user", f"{LONG}{number}.") for number in numbers))


def lacks_a_text(path: Path) -> None:
    change(path, "DELETE FROM texts WHERE id = 2")


def another_text(path: Path) -> None:
    change(path, "UPDATE texts SET body = ? WHERE id = 2", pack_text(f"{LONG}changed."))


def spoiled_text(path: Path) -> None:
    change(path, "UPDATE texts SET body = ? WHERE id = 2", b"\x01nothing")


def spoiled_reply(path: Path) -> None:
    change(path, "UPDATE calls SET reply = substr(reply, 1, length(reply) - 1) WHERE id = 2")


def another_reply(path: Path) -> None:
    change(path, "UPDATE calls SET reply = ? WHERE id = 2", b"\0\0\0\0\0changed")


def no_frame(path: Path) -> None:
    change(path, "UPDATE calls SET frame = 77 WHERE id = 2")


def no_server(path: Path) -> None:
    change(path, "UPDATE calls SET server = 77 WHERE id = 2")


def another_key(path: Path) -> None:
    change(path, "UPDATE calls SET key = ? WHERE id = 2", os.urandom(32))


def twice(path: Path) -> None:
    columns = "key, frame, run, asked_at, seconds, input, output, thinking, cached, server, reply, messages"
    change(path, f"INSERT INTO calls ({columns}) SELECT {columns} FROM calls WHERE id = 2")


@pytest.mark.parametrize(
    ("harm", "words", "trouble"),
    [
        (lacks_a_text, "text 2 is not there", False),
        (another_text, "text 2 does not bear the name of its words", True),
        (spoiled_text, "invalid", True),
        (spoiled_reply, "its checksum does not fit", False),
        (another_reply, "its checksum does not fit", False),
        (no_frame, "frame 77 is not there", False),
        (no_server, "name 77 is not there", False),
        (another_key, "does not bear the key of its call", False),
        (twice, "its key is there twice", False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_verify_finds_what_is_wrong_and_drop_lets_it_be_asked_again(
    path: Path, harm: Callable[[Path], None], words: str, trouble: bool
) -> None:
    calls = [talk(1), talk(2), talk(3)]
    await filled(path, calls)
    harm(path)
    ledger, model = Ledger.open(path), Counting()
    found = ledger.verify()
    assert not found.whole
    assert list(found.damaged) == [4 if harm is twice else 2]
    assert words in next(iter(found.damaged.values()))
    assert bool(found.trouble) == trouble
    assert ledger.verify(drop=True).damaged == found.damaged
    after = ledger.verify()
    assert (after.whole, after.calls) == (True, 3 if harm is twice else 2)
    await asyncio.gather(*map(ledger.door(model), calls))
    assert model.asked == ([] if harm is twice else [calls[1].key])
    assert ledger.verify().whole
    await ledger.close()


def test_the_command_says_how_many_and_exits_with_1(path: Path, solon: Solon) -> None:
    asyncio.run(filled(path, [talk(number) for number in range(1, 9)]))
    told = solon("ledger", "verify", path)
    assert (told.code, told.out) == (0, "8 calls and 8 shared texts looked at\nall are whole\n")
    change(path, "UPDATE calls SET reply = x'00' WHERE id > 1")
    told = solon("ledger", "verify", path)
    assert told.code == 1
    assert told.out.splitlines() == [
        "8 calls and 8 shared texts looked at",
        *(f"entry {number}: its checksum does not fit" for number in sorted(range(2, 9), key=order(path))[:5]),
        "... and 2 more",
        "7 damaged calls; --drop removes them, and they are asked again",
    ]
    told = solon("ledger", "verify", path, "--drop")
    assert (told.code, told.out.splitlines()[-1]) == (1, "7 damaged calls dropped: they will be asked again")
    assert solon("ledger", "verify", path).out == "1 call and 1 shared texts looked at\nall are whole\n"
    told = solon("ledger", "verify", path.parent / "nowhere.db")
    assert (told.code, told.err) == (2, f"solon: {path.parent}/nowhere.db: no ledger there; give its path\n")


def order(path: Path) -> Callable[[int], object]:
    keys = dict(look(path, "SELECT id, key FROM calls"))  # type: ignore[arg-type]
    return lambda number: keys[number]


def test_a_ledger_that_was_cut_short_is_told_in_one_line_and_never_taken_for_an_empty_one(
    path: Path, solon: Solon
) -> None:
    cut_in_half(path)
    for command in ("verify", "stats", "compact"):
        told = solon("ledger", command, path)
        assert told.code in (1, 4)
        assert "malformed" in told.out + told.err
    assert len(told.err.splitlines()) == 1


def test_damage_in_a_page_is_found_without_reading_it_as_data(path: Path, solon: Solon) -> None:
    asyncio.run(filled(path, questions(500)))
    pages = bytearray(read(path))
    pages[4096 * 20 : 4096 * 22] = os.urandom(8192)
    path.write_bytes(bytes(pages))
    told = solon("ledger", "verify", path)
    assert told.code == 1
    assert "SQLite: " in told.out


# -- small again ----------------------------------------------------------------------------------------------


async def test_compacting_removes_what_no_call_needs(path: Path, solon: Solon) -> None:
    await filled(path, [talk(1, 2), talk(2, 3)])
    change(path, "DELETE FROM calls WHERE id = 1")
    many = "WITH RECURSIVE many (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM many WHERE n < 200)"
    change(path, f"INSERT INTO texts (name, body) {many} SELECT n, randomblob(500) FROM many")
    ledger = Ledger.open(path)
    before, after = ledger.compact()
    assert after < before - 90_000
    assert after == path.stat().st_size
    assert look(path, "SELECT id FROM texts ORDER BY id") == [(2,), (3,)]
    assert ledger.get(talk(2, 3).key) is not None
    assert ledger.verify().whole
    await ledger.close()


def test_the_command_says_the_bytes_before_and_after(path: Path, solon: Solon) -> None:
    asyncio.run(filled(path, [talk(1)]))
    size = path.stat().st_size
    assert solon("ledger", "compact", path).out == f"{size:,} bytes before, {path.stat().st_size:,} after\n"


async def test_a_shared_text_goes_with_the_last_call_that_says_it(path: Path) -> None:
    """Looked for in the raw bytes: what is deflated to the same bytes would be found."""
    shared, own = pack_text(f"{LONG}2."), pack_text(f"{LONG}1.")
    calls = [talk(1, 2), talk(2, 3)]
    await filled(path, calls)
    ledger = Ledger.open(path)
    assert shared in read(path)
    assert own in read(path)
    assert ledger.forget(text="number 1.") == 1
    assert (shared in read(path), own in read(path)) == (True, False)
    entry = ledger.entry(calls[1].key)
    assert entry is not None
    assert entry.call == calls[1]
    assert ledger.forget(text="number 3.") == 1
    assert shared not in read(path)
    assert look(path, "SELECT count(*) FROM texts") == look(path, "SELECT count(*) FROM frames") == [(0,)]
    await ledger.close()


async def test_a_forgotten_models_name_is_gone_from_the_file_and_what_was_paid_stays(path: Path) -> None:
    ledger = Ledger.open(path)
    for model in ("secret-model-name", "other-model-name"):
        call = Call(model, (Message("user", "Hi"),))
        await ledger.door(Counting(lambda call: Reply("x", model="at " + call.model)), run="r", meter=FLAT)(call)
    assert ledger.forget(model="secret-model-name") == 1
    assert (b"secret-model-name" in read(path), b"other-model-name" in read(path)) == (False, True)
    assert ledger.account("r").spent.calls == 2
    assert not (await ledger.door(Counting())(Call("secret-model-name", (Message("user", "Hi"),)))).known
    await ledger.close()


# -- counting -------------------------------------------------------------------------------------------------


async def test_statistics_count_by_model_and_by_who_paid(path: Path) -> None:
    ledger = Ledger.open(path)
    for number in range(4):
        await ledger.record(
            question(number), said("x"), run="one" if number else "", meter=FLAT, asked_at=100.0 + number
        )
    await ledger.record(talk(1), said("x"), asked_at=50.0)
    await ledger.record(talk(1, 2), said("x"), asked_at=60.0)
    found = ledger.statistics()
    assert (found.calls, found.texts) == (6, 2)
    assert found.bytes >= path.stat().st_size
    assert found.saved == len(pack_text(f"{LONG}1."))
    assert [(each.model, each.calls, each.first, each.last) for each in found.models] == [
        (Counting.identity, 4, 100.0, 103.0), ("m", 2, 50.0, 60.0),
    ]  # fmt: skip
    assert found.models[0].usage == Usage(12, 20, 4, 8)
    assert {each.run: (each.calls, each.account.spent.calls) for each in found.runs} == {"": (3, 1), "one": (3, 3)}
    await ledger.close()


def test_the_command_prints_them(path: Path, solon: Solon) -> None:
    asyncio.run(filled(path, [talk(1), talk(1, 2)]))
    told = solon("ledger", "stats", path)
    assert told.code == 0
    lines = [line.split() for line in told.out.splitlines()]
    assert lines[0][1:3] == ["2", "calls,"]
    assert lines[1][:7] == ["2", "texts", "that", "calls", "share", "save", str(len(pack_text(f"{LONG}1.")))]
    assert lines[3][:4] == ["m", "2", "6", "10"]
    assert lines[5][:7] == ["(no", "run", "named)", "2", "6", "10", "0.0000"]
    asyncio.run(filled(path.parent / "empty.db", []))
    assert "0 calls" in solon("ledger", "stats", path.parent / "empty.db").out


# -- nothing can be written -----------------------------------------------------------------------------------


async def test_a_ledger_that_can_only_be_read_answers_and_says_why_it_writes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path, [talk(1)])
    before = read(path)
    monkeypatch.setattr("os.access", lambda place, mode, **more: False)
    ledger, model = Ledger.open(path), Counting()
    assert ledger.unwritable.startswith(f"{path}: it cannot be written; check the permissions")
    assert (await ledger.door(model)(talk(1))).known
    assert (len(list(ledger.entries())), ledger.verify().whole, ledger.statistics().calls) == (1, True, 1)
    uses: list[Callable[[], object]] = [
        lambda: ledger.record_probe("m", {}),
        lambda: ledger.merge(path),
        lambda: ledger.forget(model="m"),
        ledger.compact,
    ]
    for use in uses:
        with pytest.raises(StorageError) as told:
            use()
        assert one_line(told.value) == ledger.unwritable
    for asking in (
        ledger.door(model)(talk(2)), ledger.record(talk(2), said("x")), ledger.reserve("r", FLAT.worst(talk(2))),
        ledger.settle("r"),
    ):  # fmt: skip
        with pytest.raises(StorageError) as told:
            await asking
        assert one_line(told.value) == ledger.unwritable
    assert model.asked == [], "nothing is paid for that cannot be written down"
    await ledger.close()
    assert read(path) == before


def test_on_a_read_only_ledger_all_that_asks_nobody_works_and_a_run_ends_before_anything_is_paid(
    tmp_path: Path, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = desk(tmp_path / "desk")
    assert solon("run", made.recipe, "-q").code == 0
    asked, ledger = made.asked(), (made.path / ".solon" / "ledger.db").resolve()
    access = os.access

    def shut(place: Path, mode: int, **more: bool) -> bool:
        return not (mode == os.W_OK and Path(place).resolve() == ledger) and access(place, mode, **more)

    monkeypatch.setattr("os.access", shut)
    told = solon("plan", made.recipe)
    assert (told.code, told.err) == (0, "")
    assert solon("show", "1", "--run", made.latest, "--calls").out.count("not in the ledger") == 0
    shutil.rmtree(made.path / "runs")
    told = solon("run", made.recipe, "-q", "--offline")
    assert (told.code, told.err) == (0, "")
    assert (solon("ledger", "verify", ledger).code, solon("ledger", "stats", ledger).code) == (0, 0)
    (made.path / "prompts.txt").write_text("What is new?\n", encoding="utf-8")
    told = solon("run", made.recipe, "-q")
    assert (told.code, len(told.err.splitlines())) == (4, 1)
    assert "ledger.db: it cannot be written; check the permissions" in told.err
    assert made.asked() == asked
