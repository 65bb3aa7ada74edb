"""A run against a server that misbehaves in every way: nothing is lost, nothing is kept that is no answer, nothing is
paid for twice, and whatever cannot be had is set aside by name.

In small here; `make chaos` runs it in full and prints the tables.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_kit import Load, Outcome, committed, hit, http_desk, run, size, table, view
from manners import FAULTS, evenly
from run_kit import Desk, data_of, started

from solon.errors import FAILED_ROWS

ROWS = size(60, 2000)
HASTE = {"timeout": 1.0, "patience": 120.0}
QUICK = {"retry_after": 0.05, "drip": 0.2}
BAD = ("empty", "length", "refusal", "junk")
PASSING = tuple(kind for kind in FAULTS if kind not in BAD)
NO_REFUSALS = {"429": 0.0, "529": 0.0}
FAILED = {"no_answer", "unreadable_answer", "rejected_call"}


@pytest.fixture(scope="module")
def server() -> Iterator[Load]:
    with Load() as load:
        yield load


@pytest.fixture(scope="module")
def unbroken(server: Load, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The run of a faultless server, which every other is held against."""
    server.change()
    made = http_desk(tmp_path_factory.mktemp("unbroken"), server, rows=ROWS)
    assert run(made).code == 0
    assert server.books.again == 0
    assert server.books.answered == server.books.distinct == len(committed(made))
    return made


def test_where_three_answers_in_ten_fail_every_row_is_finished_or_set_aside_with_its_reason(
    tmp_path: Path, server: Load, unbroken: Desk
) -> None:
    server.change(faults=evenly(0.3), seed=1, **QUICK)
    made = http_desk(tmp_path, server, rows=ROWS, model=HASTE)
    told = run(made)
    books, done, whole = server.books, Outcome.of(made), Outcome.of(unbroken)
    lost = set(whole.rows) - set(done.rows)
    table(
        f"30 % faults of all kinds, {ROWS:,} rows",
        injected=sum(books.faults.values()), finished=len(done.pairs), set_aside=len(done.aside), lost=len(lost),
        duplicated=done.duplicated(), asked_again=books.again,
    )  # fmt: skip
    assert set(books.faults) == set(FAULTS), "every kind of fault was met"
    assert (lost, done.duplicated(), books.again) == (set(), 0, 0)
    # what was answered well is the faultless run's, to the letter
    assert all(row == whole.pairs[name] for name, row in done.pairs.items())
    bad = {name for name, faults in hit(server).items() if set(faults) & set(BAD)}
    assert {name for name, reason in done.aside.items() if name in whole.pairs} <= bad | set(hit(server, lasting=True))
    assert bad <= set(done.aside), "no bad answer became data"
    failed = {name for name, reason in done.aside.items() if reason in FAILED}
    assert told.code == (FAILED_ROWS if failed else 0)

    # the same command, when the trouble is over: failed rows are walked again, and nothing is asked that was answered
    before = {digest: page.asked for digest, page in books.questions.items() if page.answered}
    server.change(books=False)
    assert run(made).code == 0
    assert {digest: server.books.questions[digest].asked for digest in before} == before
    done = Outcome.of(made)
    assert not set(done.aside.values()) & FAILED
    assert all(row == whole.pairs[name] for name, row in done.pairs.items())


@pytest.mark.parametrize("without", [NO_REFUSALS, {}], ids=["no refusals", "refusals too"])
def test_faults_that_pass_cost_no_row_and_change_no_byte(
    tmp_path: Path, server: Load, unbroken: Desk, without: dict[str, float]
) -> None:
    latency = 0.05
    server.change(latency=latency)
    calm = http_desk(tmp_path / "calm", server, rows=ROWS)
    assert run(calm).code == 0
    ideal = server.books.last - server.books.first

    server.change(latency=latency, faults={**evenly(0.12, PASSING), **without}, first=1, seed=2, **QUICK)
    made = http_desk(tmp_path / "made", server, rows=ROWS, model=HASTE)
    assert run(made).code == 0
    books = server.books
    took = books.last - books.first
    waits = HASTE["timeout"] * books.faults["hang"] + QUICK["drip"] * books.faults["drip"]
    table(
        f"12 % faults that pass, {ROWS:,} rows", refusals=books.faults["429"] + books.faults["529"],
        injected=sum(books.faults.values()), rows=len(Outcome.of(made).pairs),
        faultless=f"{ideal:.1f} s", took=f"{took:.1f} s", ratio=f"{took / ideal:.2f}",
        injected_waits=f"{waits:.1f} s in all, {waits / 32:.1f} s a place",
    )  # fmt: skip
    assert data_of(made.latest) == data_of(unbroken.latest) == data_of(calm.latest) != {}
    assert books.again == 0


def test_questions_that_fail_for_ever_set_their_rows_aside_by_name_and_all_others_are_finished(
    tmp_path: Path, server: Load, unbroken: Desk
) -> None:
    lasting = {"500": 0.003, "malformed": 0.003, "reset": 0.002, "503": 0.002}
    server.change(lasting=lasting, seed=3)
    made = http_desk(tmp_path, server, rows=ROWS, model={**HASTE, "patience": 2.0})
    told = run(made)
    done, whole = Outcome.of(made), Outcome.of(unbroken)
    struck = set(hit(server, lasting=True))
    table(
        f"1 % of questions fail for ever, {ROWS:,} rows", struck=len(struck), finished=len(done.pairs),
        set_aside=len(done.aside), lost=len(set(whole.rows) - set(done.rows)), duplicated=done.duplicated(),
        asked_again=server.books.again, exit_code=told.code,
    )  # fmt: skip
    assert struck
    assert told.code == FAILED_ROWS
    assert (set(done.rows), done.duplicated(), server.books.again) == (set(whole.rows), 0, 0)
    assert {name for name, reason in done.aside.items() if reason in FAILED} == struck
    assert set(done.pairs) == set(whole.pairs) - struck
    assert all(row == whole.pairs[name] for name, row in done.pairs.items())


def test_none_of_fifty_bad_answers_of_status_200_is_kept_as_data(tmp_path: Path, server: Load, unbroken: Desk) -> None:
    server.change(faults=evenly(50 / (5 * ROWS), BAD), seed=4)
    made = http_desk(tmp_path, server, rows=ROWS)
    told = run(made)
    done, whole, struck = Outcome.of(made), Outcome.of(unbroken), hit(server)
    table(
        f"bad answers with status 200, {ROWS:,} rows", injected=dict(server.books.faults), rows_struck=len(struck),
        kept=len(set(struck) & set(done.pairs)), finished=len(done.pairs), set_aside=len(done.aside),
        lost=len(set(whole.rows) - set(done.rows)), duplicated=done.duplicated(), asked_again=server.books.again,
    )  # fmt: skip
    assert set(server.books.faults) == set(BAD)
    assert (set(done.rows), done.duplicated(), server.books.again) == (set(whole.rows), 0, 0)
    assert told.code == 0
    assert not set(struck) & set(done.pairs)
    assert set(done.pairs) == set(whole.pairs) - set(struck)
    texts = {str(row) for name in ("preference", "sft", "kto", "reward") for row in view(made, name)}
    assert not [text for text in texts if "and so on and so on" in text or "I will not answer that" in text]
    # a bad answer is remembered as what it is: nobody pays for it again
    server.change(books=False)
    asked = server.books.requests
    assert run(made).code == 0
    assert server.books.requests == asked


# -- killed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latency", "kills"), [(0.2, size(3, 50)), (1.5, size(2, 50))])
def test_killed_at_random_moments_a_run_ends_as_the_unbroken_one_and_pays_for_nothing_twice(
    tmp_path: Path, server: Load, unbroken: Desk, latency: float, kills: int
) -> None:
    """At most what was in flight at a kill is asked again; what the ledger holds never is; the command is the same."""
    flying = 16
    made = http_desk(tmp_path, server, rows=ROWS, model={"concurrency": flying}, window=24)
    dice = random.Random(latency)
    server.change(latency=latency)
    held: list[dict[str, int]] = []
    waste = asked_before = known_before = 0
    for _ in range(kills):
        process = started("run", made.recipe, "-q", cwd=made.path)
        until = time.monotonic() + 120
        enough = server.books.requests + dice.randint(1, 2 * flying)
        while server.books.requests < enough and process.poll() is None:
            assert time.monotonic() < until, "the run hangs"
            time.sleep(0.005)
        time.sleep(dice.random() * latency)
        process.kill()
        process.communicate()
        known = committed(made)
        questions = server.books.questions
        held.append({digest: questions[digest].asked for digest in known})
        unfinished = server.books.requests - asked_before - (len(known) - known_before)
        asked_before, known_before = server.books.requests, len(known)
        assert unfinished <= flying, "more was begun than may be in flight, or something was asked twice"
        waste += unfinished
    server.change(books=False)
    assert run(made, timeout=120).code == 0
    books = server.books
    again = {digest for then in held for digest, asked in then.items() if books.questions[digest].asked != asked}
    table(
        f"kill -9, {kills} times at {latency} s, {ROWS:,} rows", calls=books.distinct,
        asked_again=books.requests - books.distinct, in_flight_at_kills=waste, of_those_committed=len(again),
    )  # fmt: skip
    assert again == set(), "a finished call was asked again"
    assert books.requests - books.distinct <= waste
    assert committed(made) == set(books.questions)
    assert data_of(made.latest) == data_of(unbroken.latest) != {}
