"""Batch jobs, provider by provider: calls are parked, submitted, read into the ledger, each for its own question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_kit import BatchServer, Error, Walk, expected, first, walked
from ledger_kit import until

from solon.calls import Call
from solon.errors import Halt, OverBudget, Parked
from solon.models.batch import BatchFacts
from solon.models.batch.parcel import Parcel
from solon.spend import Spend


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[BatchServer]:
    with BatchServer(request.param) as running:
        yield running


@pytest.fixture
def openai() -> Iterator[BatchServer]:
    with BatchServer("openai") as running:
        yield running


def walk_at(server: BatchServer, tmp_path: Path, **desk: Any) -> Walk:
    return Walk(server.provider, server.url, tmp_path / "ledger.db", **desk)


def right(server: BatchServer, rows: int) -> list[str]:
    return expected(server.provider, server.url, rows)


def sizes(server: BatchServer) -> list[int]:
    return [len(batch.requests) for batch in server.batches.values()]


# -- parking -------------------------------------------------------------------------------------------------


async def test_parked_rows_are_walked_again_until_each_has_its_own_answers(server: BatchServer, tmp_path: Path) -> None:
    """Two chained questions a row are two jobs, whatever the number of rows; the results come in another order."""
    async with walk_at(server, tmp_path) as walk:
        assert await walk.rows(20) == right(server, 20)
        assert sizes(server) == [20, 20]
        assert set(server.billed.values()) == {1}
        assert len(server.billed) == 40
        assert server.live == []
        assert (walk.desk.answered, walk.desk.failed, walk.desk.usage.output) == (40, 0, 200)
        assert walk.desk.identity == walk.model.identity


async def test_rows_that_ask_the_same_park_one_call(server: BatchServer, tmp_path: Path) -> None:
    async with walk_at(server, tmp_path) as walk:
        call = walk.call(first(0))
        for _ in range(3):
            outcomes = await asyncio.gather(*(walk.door(call) for _ in range(5)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {Parked}
        await walk.desk.settle()
        assert sizes(server) == [1]
        assert (await walk.door(call)).known


async def test_known_answers_are_never_submitted(server: BatchServer, tmp_path: Path) -> None:
    """Neither what the ledger knows when it is asked, nor what another process wrote there since."""
    async with walk_at(server, tmp_path) as walk:
        assert await walk.rows(4) == right(server, 4)
        before = sizes(server)
        assert await walk.rows(4) == right(server, 4)
        assert sizes(server) == before
        parked = [walk.call(first(number)) for number in (7, 8)]
        for call in parked:
            with pytest.raises(Parked):
                await walk.door(call)
        await walk.ledger.record(parked[0], await walk.model(parked[0]))
        await walk.desk.settle()
        assert sizes(server) == [*before, 1]


async def test_what_a_run_left_waiting_is_forgotten_when_it_starts_again(server: BatchServer, tmp_path: Path) -> None:
    """An edited recipe must not pay for what its former self wanted."""
    async with walk_at(server, tmp_path) as walk:
        assert await walk.row(0) is None
    async with walk_at(server, tmp_path) as walk:
        assert await walk.row(1) is None
        await walk.desk.settle()
        assert sizes(server) == [1]
        assert "question 1" in str(server.batches["batch_000000"].requests)


# -- what becomes of jobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["expired", "cancelled"])
async def test_a_job_that_was_broken_off_keeps_what_it_finished(server: BatchServer, tmp_path: Path, fate: str) -> None:
    """A third was answered; the rest alone is asked again, and nothing twice."""
    server.fates = [fate]
    async with walk_at(server, tmp_path) as walk:
        assert await walk.rows(9) == right(server, 9)
    assert sizes(server) == [9, 6, 9]
    assert set(server.billed.values()) == {1}


async def test_calls_that_failed_for_now_are_asked_again_and_those_that_cannot_be_answered_set_their_rows_aside(
    server: BatchServer, tmp_path: Path
) -> None:
    """By the table that live calls go by: too many requests passes, a prompt beyond the context does not."""

    def verdict(body: dict[str, Any], number: int) -> Error | None:
        words = str(body["messages"][0])
        if "question 3" in words:
            return Error(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum")
        return Error(529, "overloaded_error") if number == 0 and "question 5" in words else None

    server.verdict = verdict
    async with walk_at(server, tmp_path) as walk:
        rows = await walk.rows(8)
        assert [row for place, row in enumerate(rows) if place != 3] == [
            row for place, row in enumerate(right(server, 8)) if place != 3
        ]
        assert str(rows[3]).startswith("too_long: ")
        assert sizes(server) == [8, 1, 7]
        assert walk.desk.failed == 1
        assert await walk.row(3) == rows[3], "it is not asked again in this run"
    async with walk_at(server, tmp_path) as walk:
        assert await walk.row(3) is None, "the next start asks it again"


async def test_a_call_that_three_jobs_did_not_answer_has_failed(server: BatchServer, tmp_path: Path) -> None:
    server.verdict = lambda body, number: Error(500, "api_error") if "question 0" in str(body) else None
    async with walk_at(server, tmp_path) as walk:
        rows = await walk.rows(2)
        assert str(rows[0]).startswith("no_answer: ")
        assert str(rows[0]).endswith("(in 3 batch jobs)")
        assert rows[1] == right(server, 2)[1]


async def test_results_that_are_missing_are_asked_again_and_strange_ones_are_counted(
    server: BatchServer, tmp_path: Path
) -> None:
    stranger = server._result("abcdefabcdef-" + "0" * 48, {"model": "m", "messages": []}, None)
    server.strangers = [stranger, stranger]
    async with walk_at(server, tmp_path) as walk:
        assert await walk.row(0) is None
        assert await walk.row(1) is None

        def lose(facts: BatchFacts) -> None:
            for batch in server.batches.values():
                if batch.number == 0:
                    batch.results[:] = [line for line in batch.results if line["custom_id"] != batch.requests[0][0]]

        server.looks = 2
        server._work = lambda batch: (BatchServer._work(server, batch), lose(BatchFacts("")))  # type: ignore[assignment]
        await walk.desk.settle()
        assert sizes(server) == [2, 1]
        assert [job.unknown for job in walk.jobs.jobs()] == [2, 2]
        assert [job.answered for job in walk.jobs.jobs()] == [1, 1]


async def test_a_refusal_is_an_answer_and_an_answer_that_is_none_is_asked_again(
    openai: BatchServer, tmp_path: Path
) -> None:
    openai.verdict = lambda body, number: (
        Error(400, "content_policy_violation", "flagged") if "question 0" in str(body) else None
    )
    bad = openai._said
    openai._said = lambda body: {"choices": []} if len(openai.batches) == 1 else bad(body)  # type: ignore[method-assign]
    async with walk_at(openai, tmp_path) as walk:
        for number in range(2):
            assert await walk.row(number) is None
        await walk.desk.settle()
        assert (await walk.door(walk.call(first(0)))).finish == "refusal"
        assert (await walk.door(walk.call(first(1)))).finish == "stop"
        assert sizes(openai) == [2, 1]


# -- what ends the run ---------------------------------------------------------------------------------------


async def test_what_no_later_call_survives_ends_the_run_and_keeps_what_came_back(
    server: BatchServer, tmp_path: Path
) -> None:
    """Credit that ran out amid a job: its answers are kept, its other calls wait as if nothing had been."""

    def broke(body: dict[str, Any], number: int) -> Error | None:
        poor = Error(402, "billing_error", "Your credit balance is too low")
        return poor if "question 1" in str(body) and number == 0 else None

    server.verdict = broke
    async with walk_at(server, tmp_path) as walk:
        with pytest.raises(Halt, match="no credit"):
            await walk.rows(4)
        assert len(walk.kept) == 3
    async with walk_at(server, tmp_path) as walk:
        assert await walk.rows(4) == right(server, 4)
    assert set(server.billed.values()) == {1}


async def test_a_job_that_fails_for_one_reason_from_end_to_end_ends_the_run(
    server: BatchServer, tmp_path: Path
) -> None:
    """Nine rows are not set aside for what is wrong with the recipe."""
    server.verdict = lambda body, number: Error(422, "invalid_request_error", "the moon is in the wrong house")
    async with walk_at(server, tmp_path) as walk:
        with pytest.raises(Halt, match=r"moon.*all 9 calls of a batch job: none was set aside"):
            await walk.rows(9)
        assert walk.jobs.waiting(walk.desk.identity) == (9, 0)


async def test_a_wrong_key_is_told_in_one_line_and_nothing_stays_intended(server: BatchServer, tmp_path: Path) -> None:
    server.refuse = lambda request: web.json_response({"error": {"message": "no", "type": "x"}}, status=401)
    async with walk_at(server, tmp_path) as walk:
        with pytest.raises(Halt, match="wants a key"):
            await walk.rows(1)
        assert [job.state for job in walk.jobs.jobs()] == ["refused"]


async def test_a_server_that_takes_no_batch_jobs_is_told(openai: BatchServer, tmp_path: Path) -> None:
    openai.refuse = lambda request: web.Response(status=404) if "files" in request.path else None
    async with walk_at(openai, tmp_path) as walk:
        with pytest.raises(Halt, match=r"takes no batch jobs .* take `batch: true` out of the recipe"):
            await walk.rows(1)


# -- sizes ---------------------------------------------------------------------------------------------------


async def test_jobs_are_split_by_the_providers_limits(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with walk_at(server, tmp_path) as walk:
        monkeypatch.setattr(walk.desk.api, "most_calls", 4)
        assert await walk.rows(10) == right(server, 10)
        assert sizes(server) == [4, 4, 2] * 2
        line = walk.desk.api.line("x" * 61, walk.model.request(walk.call(first(10))))  # type: ignore[attr-defined]
        monkeypatch.setattr(
            walk.desk.api, "most_bytes", 3 * len(line) + 2 + len(walk.desk.api.head + walk.desk.api.tail)
        )
        for number in range(10, 15):
            assert await walk.row(number) is None
        await walk.desk.settle()
        assert sizes(server)[6:] == [3, 2]


async def test_limits_are_those_that_the_providers_state(tmp_path: Path) -> None:
    for provider, most in (("openai", (50_000, 200_000_000)), ("anthropic", (100_000, 256_000_000))):
        async with Walk(provider, "http://127.0.0.1:9/v1", tmp_path / f"{provider}.db") as walk:
            assert (walk.desk.api.most_calls, walk.desk.api.most_bytes) == most


async def test_a_call_that_no_job_holds_sets_its_row_aside(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with walk_at(server, tmp_path) as walk:
        monkeypatch.setattr(walk.desk.api, "most_bytes", 400)
        large = walk.call((*first(0), *(first(1) * 30)))
        with pytest.raises(Parked):
            await walk.door(large)
        assert await walk.row(1) is None
        await walk.desk.settle()
        with pytest.raises(Exception, match="larger than a whole batch job"):
            await walk.door(large)
        assert sizes(server) == [1]


async def test_one_bad_call_among_many_is_found_by_halving(openai: BatchServer, tmp_path: Path) -> None:
    """A batch that its provider refuses as a whole says little of why; nothing of it is billed."""
    made = openai.made

    def fails(requests: Any, metadata: Any, file: str = "") -> Any:
        bad = any("question 5" in str(body) for _, body in requests)
        openai.fates = ["failed" if bad else "completed"]
        return made(requests, metadata, file)

    openai.made = fails  # type: ignore[method-assign]
    async with walk_at(openai, tmp_path) as walk:
        rows = await walk.rows(16)
        assert str(rows[5]).startswith("rejected_call: ")
        assert [row for place, row in enumerate(rows) if place != 5] == [
            row for place, row in enumerate(right(openai, 16)) if place != 5
        ]
    assert set(openai.billed.values()) == {1}


async def test_where_every_job_is_refused_the_run_ends(openai: BatchServer, tmp_path: Path) -> None:
    openai.fates = ["failed"] * 100
    async with walk_at(openai, tmp_path) as walk:
        with pytest.raises(Halt, match="refused 8 batch jobs in a row"):
            await walk.rows(300)
        assert len(openai.batches) <= 16


async def test_where_too_much_waits_at_the_provider_less_is_sent_later(openai: BatchServer, tmp_path: Path) -> None:
    shown = openai._openai

    def crowded(batch: Any) -> dict[str, Any]:
        told = shown(batch)
        if told["status"] == "failed":
            told["errors"]["data"][0]["code"] = "token_limit_exceeded"
        return told

    openai._openai = crowded  # type: ignore[method-assign]
    openai.fates = ["failed"]
    async with walk_at(openai, tmp_path) as walk:
        assert await walk.rows(8) == right(openai, 8)
        assert sizes(openai) == [8, 4, 4, 8]


# -- money ---------------------------------------------------------------------------------------------------


class Purse:
    """Holds so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.reserved: list[int] = []

    async def reserve(self, spend: Spend) -> bool:
        if spend.calls > self.left:
            return False
        self.left -= spend.calls
        self.reserved.append(spend.calls)
        return True

    async def release(self, run: str, reserved: Spend, lost: Spend) -> None:
        self.reserved.append(-reserved.calls)


async def test_as_many_calls_as_the_budget_holds_are_submitted_and_then_it_is_used_up(
    server: BatchServer, tmp_path: Path
) -> None:
    purse = Purse(7)
    async with walk_at(server, tmp_path, reserve=purse.reserve, release=purse.release) as walk:
        with pytest.raises(OverBudget, match="raise `budget`"):
            await walk.rows(10)
        assert sizes(server) == [7]
        assert sum(purse.reserved) == 0
        assert len(walk.kept) == 7
    more = Purse(100)
    async with walk_at(server, tmp_path, reserve=more.reserve, release=more.release) as walk:
        assert await walk.rows(10) == right(server, 10)
    assert set(server.billed.values()) == {1}


@pytest.mark.parametrize("room", range(12))
async def test_the_largest_part_that_a_budget_holds_is_found(tmp_path: Path, room: int) -> None:
    async with Walk("openai", "http://127.0.0.1:9/v1", tmp_path / "ledger.db") as walk:
        calls = [walk.call(first(number)) for number in range(10)]
        walk.jobs.park("m", calls)
        with Parcel(walk.desk.api, tmp_path) as parcel:
            parcel.fill("0" * 32, walk.jobs.free("m"), lambda call: Spend(1, 2, 3), 10)
            held = await parcel.afford(Purse(room).reserve)
            assert held == Spend(min(room, 10), 2 * min(room, 10), 3 * min(room, 10))
            assert len(parcel.ids) == min(room, 10)
            parcel.seal()
            assert len([line for line in parcel.content.read().split(b"\n") if line]) == min(room, 10)


# -- several processes, stopping -----------------------------------------------------------------------------


async def test_a_job_that_another_process_drives_is_left_to_it_and_its_answers_are_shared(
    server: BatchServer, tmp_path: Path
) -> None:
    server.looks = 4
    async with walk_at(server, tmp_path, run="one") as one, walk_at(server, tmp_path, run="other") as other:
        assert await one.row(0) is None
        assert await other.row(0) is None
        driving = asyncio.create_task(one.desk.settle())
        await until(lambda: bool(server.batches))
        await asyncio.gather(driving, other.desk.settle())
        assert sizes(server) == [1]
        assert (len(one.kept), len(other.kept)) == (1, 0)
        assert (await other.door(other.call(first(0)))).known


async def test_a_stop_returns_at_once_and_the_next_process_takes_the_job_up(
    server: BatchServer, tmp_path: Path
) -> None:
    server.held = True
    stop = asyncio.Event()
    async with walk_at(server, tmp_path) as walk:
        assert await walk.row(0) is None

        def tell(facts: BatchFacts) -> None:
            assert (facts.waiting, facts.in_jobs, len(facts.jobs)) == (0, 1, 1)
            stop.set()

        await asyncio.wait_for(walk.desk.settle(stop, tell), 10)
        assert [job.state for job in walk.jobs.jobs()] == ["submitted"]
    server.held = False
    assert walked(server.provider, server.url, tmp_path / "ledger.db", 1) == right(server, 1)
    assert set(server.billed.values()) == {1}
    assert len(server.batches) == 2


async def test_a_network_that_comes_and_goes_is_waited_for(server: BatchServer, tmp_path: Path) -> None:
    """About two of five requests fail with 503, submissions too: nothing is submitted twice for that."""
    count = 0

    def flaky(request: web.Request) -> web.Response | None:
        nonlocal count
        count += 1
        later = {"error": {"message": "later", "type": "api_error"}}
        return web.json_response(later, status=503) if sha256(str(count).encode()).digest()[0] < 100 else None

    server.refuse = flaky
    troubles: list[str] = []
    async with walk_at(server, tmp_path) as walk:
        for number in range(3):
            assert await walk.row(number) is None
        await walk.desk.settle(tell=lambda facts: troubles.append(facts.trouble))
        assert sizes(server) == [3]
        assert any("503" in trouble for trouble in troubles)


async def test_what_waits_is_told(server: BatchServer, tmp_path: Path) -> None:
    server.looks = 3
    seen: list[BatchFacts] = []
    async with walk_at(server, tmp_path) as walk:
        assert await walk.row(0) is None
        await walk.desk.settle(tell=seen.append)
    assert [facts.in_jobs for facts in seen[:2]] == [1, 1]
    assert (seen[-1].in_jobs, seen[-1].waiting, seen[-1].answered) == (0, 0, 1)
    assert all(facts.next_look >= 0 for facts in seen)


async def test_only_texts_on_disk_grow_with_what_is_parked(tmp_path: Path) -> None:
    """Ten thousand parked calls leave less than five megabytes in this process."""
    import tracemalloc

    async with Walk("openai", "http://127.0.0.1:9/v1", tmp_path / "ledger.db") as walk:

        async def park(start: int) -> None:
            for number in range(start, start + 10_000):
                call = Call(walk.model.identity, first(number) * 4)
                with pytest.raises(Parked):
                    await walk.desk(call)

        await park(0)
        tracemalloc.start()
        await park(10_000)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 5_000_000
        await walk.desk.close()
        assert walk.jobs.waiting(walk.desk.identity) == (20_000, 0)


async def test_a_result_finds_its_call_without_looking_through_the_job(tmp_path: Path) -> None:
    """Measured in steps of SQLite's machine: a thousand of them are a handful of rows, not three thousand."""
    async with Walk("openai", "http://127.0.0.1:9/v1", tmp_path / "ledger.db") as walk:
        calls = [walk.call(first(number)) for number in range(3000)]
        walk.jobs.park("m", calls)
        job = walk.jobs.intend("0" * 32, "m", "tiny", [one.id for one in walk.jobs.free("m")], Spend())
        assert job is not None
        steps = 0

        def thousand() -> None:
            nonlocal steps
            steps += 1

        assert walk.jobs._db is not None
        walk.jobs._db.set_progress_handler(thousand, 1000)
        for call in calls[::300]:
            found = walk.jobs.meant(job, job.custom_id(call.key))
            assert found is not None
            assert found.call == call
        assert steps <= 1


async def test_two_specs_of_one_model_share_a_desk(tmp_path: Path) -> None:
    """Else both would drive the same jobs, and give back twice what was put by for them."""
    from batch_kit import model_at

    from solon.ledger import Ledger
    from solon.models.batch import Desks
    from solon.prices import PriceMeter

    ledger = Ledger.open(tmp_path / "ledger.db")
    desks = Desks(ledger, tmp_path / "ledger.db")
    url, meter = "http://127.0.0.1:9/v1", PriceMeter(None)
    models = [model_at("openai", url), model_at("openai", url, timeout=5.0), model_at("openai", url, form="text")]
    one, other, text = (desks.desk(str(place), model, meter) for place, model in enumerate(models))
    assert one is other
    assert text is not one
    for model in models:
        await model.close()
    await desks.close()
    await ledger.close()
