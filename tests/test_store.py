"""The plan's rows and their outcomes survive what a run goes through, and never take memory with their number."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solon.calls import Message
from solon.dataset.encoding import decode_outcome, decode_row, encode_outcome, encode_row, gate
from solon.dataset.store import RowStore
from solon.dataset.store_file import FORMAT
from solon.errors import REASONS, BadInput, StorageError
from solon.rows import Asked, Draft, Draw, Pair, Prompt, Row, SetAside, Vote

TEXT = st.text(st.characters(), max_size=12)  # half characters, NUL and all
FLOAT = st.floats(0, 1) | st.just(1) | st.just(0)
DRAFTS = st.lists(st.builds(Draft, *[TEXT] * 5, stripped=st.booleans(), trimmed=st.booleans()), max_size=3).map(tuple)
VOTES = st.lists(
    st.builds(Vote, TEXT, st.none() | FLOAT, TEXT, st.none() | FLOAT, TEXT, TEXT), max_size=3
).map(tuple)  # fmt: skip
ASKED = st.lists(st.builds(Asked, TEXT, TEXT, TEXT), max_size=3).map(tuple)
ROW = Row(0, Prompt((Message("user", "Hello"),)), (Draw("critique.1", "no-harm", "d1"),))
PAIRS = st.builds(Pair, st.just(ROW), *[TEXT] * 4, FLOAT, *[TEXT] * 3, VOTES, DRAFTS, ASKED)
ASIDES = st.builds(SetAside, st.just(ROW), st.sampled_from(sorted(REASONS)), TEXT, DRAFTS, VOTES, ASKED)
ROWS = st.builds(
    Row,
    st.just(3),
    st.builds(
        Prompt,
        st.lists(st.builds(Message, TEXT, TEXT), max_size=3).map(tuple),
        st.lists(TEXT, max_size=2).map(tuple),
    ),
    st.lists(st.builds(Draw, TEXT, TEXT, TEXT), max_size=3).map(tuple),
)


def prompt(number: int) -> Prompt:
    return Prompt((Message("user", f"Question {number}?"),), ("tag",))


def draws(number: int) -> list[Draw]:
    return [Draw("critique.1", f"p{number % 3}", "d"), Draw("judge", "better", "e")]


def pair(row: Row, chosen: str = "Better.", rejected: str = "Worse.", p: float = 0.9) -> Pair:
    votes = (Vote("ab", 1 - p, "logprobs", 0.9, "", "k1"), Vote("ba", 1 - p, "logprobs", 0.8, "", "k2"))
    drafts = (Draft("response", rejected), Draft("revision.1", chosen, "p1", "d", "It is rude.", True, False))
    return Pair(row, chosen, rejected, "revision.1", "response", p, "better", "e", "tiny", votes, drafts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


def planned(path: Path, count: int) -> Path:
    with RowStore.create(path) as store:
        for number in range(count):
            assert store.add(prompt(number), draws(number))
    return path


@contextmanager
def no_disk_left(room: int = 0) -> Iterator[None]:
    """Let no file of this process grow beyond `room` bytes; the kernel refuses the write as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def rights_of_nobody() -> Iterator[None]:
    """Lay down root's power to write everywhere, where the tests run as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


# the plan


def test_rows_come_back_in_the_plans_order_as_they_were(path: Path) -> None:
    with RowStore.open(planned(path, 5)) as store:
        assert list(store.rows()) == [Row(number, prompt(number), tuple(draws(number))) for number in range(5)]
        assert (store.planned, store.finished, store.pairs, store.set_aside) == (5, 0, 0, 0)


def test_duplicates_fall_together_and_are_counted(path: Path) -> None:
    with RowStore.create(path) as store:
        assert [store.add(prompt(number % 3), draws(0)) for number in range(5)] == [True, True, True, False, False]
    with RowStore.open(path) as store:
        assert (store.planned, store.duplicates) == (3, 2)
        assert [row.index for row in store.rows()] == [0, 1, 2]


def test_limit_means_the_first_rows_of_the_plan_finished_or_not(path: Path) -> None:
    with RowStore.open(planned(path, 6)) as store:
        for row in store.rows(limit=2):
            store.finish(pair(row))
        assert [row.index for row in store.rows(limit=4)] == [2, 3]
        assert [row.index for row in store.rows(limit=4, unfinished=False)] == [0, 1, 2, 3]
        assert [row.index for row in store.rows(limit=99)] == [2, 3, 4, 5]


def test_a_row_is_found_by_its_place_or_the_beginning_of_its_id(path: Path) -> None:
    with RowStore.open(planned(path, 300)) as store:
        rows = list(store.rows())
        assert store.row(7) == store.row("7") == store.row(rows[7].id) == store.row(rows[7].id[:12].upper()) == rows[7]
        zero = next(row for row in rows if row.id.startswith("0"))
        assert store.row(zero.id[:10]) == zero
        with pytest.raises(
            BadInput, match=r"^[0-9a-f]: more than one row begins so: .* \(row \d+\).*, \.\.\.; give more"
        ):
            store.row(next(row.id[0] for row in rows if row.id[0] in "abcdef"))
        for unknown in (300, -1, "zz", "", "300", "-1"):
            with pytest.raises(BadInput, match=r"no such row in .*rows.db; there are rows 0 to 299, or the beginning"):
                store.row(unknown)


def test_a_whole_plan_takes_no_more_rows(path: Path) -> None:
    with RowStore.open(planned(path, 1)) as store, pytest.raises(ValueError, match=r"the plan is whole"):
        store.add(prompt(9), [])


def test_half_a_plan_is_never_taken_for_the_whole(path: Path) -> None:
    with pytest.raises(RuntimeError), RowStore.create(path) as store:
        store.add(prompt(0), [])
        raise RuntimeError("the planner fell")
    with pytest.raises(StorageError, match=r"its planning was cut off; delete the file and run again"):
        RowStore.open(path)


def test_a_plan_stays_whole_when_its_walk_fails(path: Path) -> None:
    with pytest.raises(RuntimeError), RowStore.create(path) as store:
        store.add(prompt(0), [])
        store.finish(pair(store.row(0)))
        raise RuntimeError("the walk fell")
    with RowStore.open(path) as store:
        assert (store.planned, store.pairs) == (1, 1)


# outcomes


@settings(max_examples=150, deadline=None)
@given(PAIRS | ASIDES)
def test_an_outcome_is_read_back_as_it_was_written(outcome: Pair | SetAside) -> None:
    assert decode_outcome(ROW, encode_outcome(outcome)) == outcome


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_a_row_is_read_back_as_it_was_planned(row: Row) -> None:
    assert decode_row(3, encode_row(row.prompt, row.draws)) == row


def test_outcomes_come_in_the_plans_order_whatever_finished_first(path: Path) -> None:
    with RowStore.open(planned(path, 5)) as store:
        rows = list(store.rows())
        for row in (rows[3], rows[0], rows[4]):
            store.finish(pair(row))
        store.finish(SetAside(rows[1], "tie", "P = 0.5"))
    with RowStore.open(path) as store:
        assert [outcome.row.index for outcome in store.outcomes()] == [0, 1, 3, 4]
        assert store.outcome(rows[0]) == pair(rows[0])
        assert store.outcome(rows[1]) == SetAside(rows[1], "tie", "P = 0.5")
        assert store.outcome(rows[2]) is None
        assert [row.index for row in store.rows()] == [2]
        assert (store.planned, store.finished, store.pairs, store.set_aside) == (5, 4, 3, 1)


def test_rows_can_be_finished_while_they_are_walked(path: Path) -> None:
    """A window of rows in flight: each is seen once, though finished ones drop out behind the reader."""
    with RowStore.open(planned(path, 200)) as store:
        seen, flying = [], []
        for row in store.rows():
            seen.append(row.index)
            flying.append(row)
            if len(flying) == 7:
                store.finish(pair(flying.pop(row.index % 7)))
        assert seen == list(range(200))
        assert store.finished == 194 and len(list(store.rows())) == 6


def test_a_new_outcome_takes_the_place_of_the_old_one(path: Path) -> None:
    with RowStore.open(planned(path, 2)) as store:
        row = store.row(0)
        store.finish(SetAside(row, "no_answer", "429"))
        assert (store.pairs, store.set_aside) == (0, 1)
        store.finish(pair(row))
        store.finish(pair(row, chosen="Best."))
        assert (store.pairs, store.set_aside, store.tally()) == (1, 0, {})
        (outcome,) = store.outcomes()
        assert isinstance(outcome, Pair) and outcome.chosen == "Best."


def test_rows_set_aside_for_a_failure_can_be_walked_again(path: Path) -> None:
    with RowStore.open(planned(path, 5)) as store:
        for row, reason in zip(list(store.rows()), ["no_answer", "tie", "no_answer", "rejected_call"], strict=False):
            store.finish(SetAside(row, reason, ""))
        store.finish(pair(store.row(4)))
        assert store.tally() == {"no_answer": 2, "rejected_call": 1, "tie": 1}
        assert store.reopen({"no_answer"}, limit=0) == 0  # only among the plan's first rows
        assert store.reopen({"no_answer", "unreadable_answer"}, limit=3) == 2
        assert [row.index for row in store.rows()] == [0, 2]
        assert (store.pairs, store.set_aside) == (1, 2)
        assert store.reopen([]) == 0
        assert store.reopen(None) == 3  # asked anew, pairs too
        assert (store.finished, len(list(store.rows())), list(store.outcomes())) == (0, 5, [])
        with pytest.raises(BadInput, match=r"unknown reason 'ties'; did you mean 'tie'"):
            store.reopen({"ties"})


def test_an_outcome_of_another_plan_is_refused(path: Path) -> None:
    with RowStore.open(planned(path, 1)) as store:
        for stranger in (Row(0, prompt(5), ()), Row(1, prompt(0), ())):
            with pytest.raises(ValueError, match=r"is not of this plan"):
                store.finish(pair(stranger))
        assert store.finished == 0


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (pair(ROW, "Same.", "Same."), "unchanged"),
        (pair(ROW, "Same.\n", " Same."), "unchanged"),
        (pair(ROW, "", "b"), "empty_answer"),
        (pair(ROW, "a", " \n"), "empty_answer"),
        (pair(ROW, None, "b"), "empty_answer"),  # type: ignore[arg-type]
        (pair(ROW, "a", "b\udc00"), "unreadable_answer"),
        (pair(ROW, "a", "b", 0.5), "tie"),
        (pair(ROW, "a", "b", float("nan")), "tie"),
        (Pair(ROW, "a", "a ", "candidate.1", "candidate.2", 0.9, "p", "d", "j", (), ()), "equal_candidates"),
    ],
)
def test_what_is_no_pair_is_set_aside_and_counted(path: Path, outcome: Pair, reason: str) -> None:
    with RowStore.create(path) as store:
        store.add(ROW.prompt, ROW.draws)
        kept = store.finish(outcome)
        assert isinstance(kept, SetAside) and kept.reason == reason
        assert kept.drafts == outcome.drafts and kept.votes == outcome.votes
        assert (store.pairs, store.tally()) == (0, {reason: 1})
    assert gate(kept) is kept


def test_the_closing_counts(path: Path) -> None:
    both = (Vote("ab", 0.2, "parsed", None, "B", "k"), Vote("ba", 0.1, "parsed", None, "A", "k"))
    slot = (Vote("ab", 0.9, "parsed", None, "A", "k"), Vote("ba", 0.2, "parsed", None, "A", "k"))
    mute = (Vote("ab", None, "parsed", None, "?", "k"), Vote("ba", 0.7, "parsed", None, "A", "k"))
    first = Draft("response", "aaaa", trimmed=True)
    revised = Draft("revision.1", "bb", "p", "d", "c", stripped=True)
    again = Draft("revision.2", "bbb", "p", "d", "c")
    with RowStore.create(path) as store:
        for number in range(4):
            store.add(prompt(number), [])
        rows = list(store.rows())
        texts = ("better", "e", "tiny")
        store.finish(
            Pair(rows[0], "bbb", "aaaa", "revision.2", "response", 0.85, *texts, both, (first, revised, again))
        )
        store.finish(Pair(rows[1], "aaaa", "bb", "response", "revision.1", 0.65, *texts, slot, (first, revised)))
        store.finish(SetAside(rows[2], "judge_silent", "", (first,), mute))
        store.finish(SetAside(rows[3], "empty_answer", ""))
        quality = store.quality()
    assert quality.pairs == 2 and quality.mean_p == pytest.approx(0.75)
    assert quality.chosen_drafts == {"response": 1, "revision.2": 1} and quality.original_chosen == 1
    assert (quality.chosen_chars, quality.rejected_chars, quality.chosen_longer) == (7, 6, 1)
    assert (quality.drafts, quality.trimmed, quality.revisions, quality.stripped) == (6, 3, 3, 2)
    assert (quality.votes, quality.silent, quality.judged, quality.same_slot) == (6, 1, 2, 1)


def test_the_counts_of_nothing_are_nothing(path: Path) -> None:
    with RowStore.open(planned(path, 1)) as store:
        quality = store.quality()
        assert (quality.pairs, quality.mean_p, quality.drafts, quality.chosen_drafts) == (0, None, 0, {})


# faults

WALK = """
import os, sys
from pathlib import Path
from solon.dataset.store import RowStore
from solon.rows import SetAside
with RowStore.open(Path(sys.argv[1])) as store:
    for count, row in enumerate(store.rows()):
        store.finish(SetAside(row, "tie", "x" * 200))
        if count == 500:
            os.kill(os.getpid(), 9)
"""


def test_kill_9_leaves_whole_rows_and_the_walk_goes_on(path: Path) -> None:
    planned(path, 1000)
    killed = subprocess.run([sys.executable, "-c", WALK, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with RowStore.open(path) as store:
        kept = [outcome.row.index for outcome in store.outcomes()]
        assert kept == list(range(len(kept))) and 501 - 64 <= len(kept) <= 501
        assert store.finished == len(kept)
        for row in store.rows():
            store.finish(SetAside(row, "tie", ""))
        assert store.finished == 1000


def test_a_closed_store_is_one_file_that_can_be_moved(path: Path, tmp_path: Path) -> None:
    planned(path, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.db"]
    path.rename(tmp_path / "moved.db")
    with RowStore.open(tmp_path / "moved.db") as store:
        store.finish(pair(store.row(1)))
    assert [file.name for file in tmp_path.iterdir()] == ["moved.db"]


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(path: Path) -> None:
    planned(path, 300)
    with pytest.raises(StorageError, match=r"rows.db: (the disk is full|cannot be written; is the disk full)"):
        with RowStore.open(path) as store, no_disk_left(1_000_000):
            for row in store.rows():
                store.finish(SetAside(row, "tie", "x" * 5000))
    with RowStore.open(path) as store:
        kept = [outcome.row.index for outcome in store.outcomes()]
        assert kept == list(range(len(kept))) and 0 < len(kept) < 300
        assert [row.index for row in store.rows()] == list(range(len(kept), 300))


def test_a_plan_that_does_not_fit_on_the_disk_is_one_line(path: Path) -> None:
    with pytest.raises(StorageError, match=r"rows.db: "), RowStore.create(path) as store, no_disk_left(100_000):
        for number in range(50_000):
            store.add(prompt(number), [])


def test_a_folder_that_cannot_be_written_is_told_at_once_and_can_still_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others than root
        path = planned(Path(folder) / "rows.db", 3)
        Path(folder).chmod(0o555)
        path.chmod(0o444)
        try:
            with rights_of_nobody():
                with pytest.raises(StorageError, match=r"rows.db: cannot be (written|opened); check the rights"):
                    RowStore.open(path)
                with pytest.raises(StorageError, match=r"cannot be (made|opened|written)"):
                    RowStore.create(Path(folder) / "new" / "rows.db")
                with pytest.raises(StorageError, match=r"cannot be (made|opened|written)"):
                    RowStore.create(Path(folder) / "new.db")
                with RowStore.open(path, read_only=True) as store:
                    assert len(list(store.rows())) == 3
        finally:
            Path(folder).chmod(0o755)


def test_a_run_under_way_can_be_looked_at(path: Path) -> None:
    with RowStore.open(planned(path, 3)) as store:
        store.finish(pair(store.row(0)))
        store.flush()
        with RowStore.open(path, read_only=True) as looking:
            assert looking.pairs == 1
        with pytest.raises(StorageError, match=r"cannot be written"), RowStore.open(path, read_only=True) as looking:
            looking.finish(pair(looking.row(1)))


def test_a_second_writer_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solon.dataset.store_file.BUSY_SECONDS", 0.05)
    planned(path, 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"another process writes it; wait for its end"):
            RowStore.open(path)


def test_files_that_are_no_plan_of_ours_are_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no plan is there; check the folder's name"):
        RowStore.open(path)
    planned(path, 3)
    with pytest.raises(StorageError, match=r"a plan is there already"):
        RowStore.create(path)
    (tmp_path / "text.db").write_text("not a database, whatever its name says, and long enough" * 20)
    with pytest.raises(StorageError, match=r"text.db: damaged; delete this file and run again"):
        RowStore.open(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)")
    with pytest.raises(StorageError, match=r"other.db: not a plan of Solon's"):
        RowStore.open(tmp_path / "other.db")


def test_a_newer_plan_is_refused_with_its_remedy(path: Path) -> None:
    with sqlite3.connect(planned(path, 1)) as connection:
        connection.execute(f"PRAGMA user_version={FORMAT + 1}")
    connection.close()
    with pytest.raises(StorageError, match=r"newer Solon \(format 2, this one reads 1\); update it: pip install"):
        RowStore.open(path)


@pytest.mark.parametrize("junk", [b"{", b"[]", b"null", b'{"kind": "pair"}', b"\xff"])
def test_a_damaged_record_is_one_line(path: Path, junk: bytes) -> None:
    with RowStore.open(planned(path, 2)) as store:
        store.finish(pair(store.row(0)))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE walks SET content = ?", (junk,))
        connection.execute("UPDATE rows SET content = ? WHERE idx = 1", (junk,))
    connection.close()
    with RowStore.open(path) as store:
        with pytest.raises(StorageError, match=r"rows.db: damaged"):
            list(store.outcomes())
        with pytest.raises(StorageError, match=r"rows.db: damaged"):
            store.row(1)


def test_damaged_pages_are_one_line(path: Path) -> None:
    planned(path, 2000)
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"rows.db: damaged"), RowStore.open(path) as store:
        list(store.rows())
