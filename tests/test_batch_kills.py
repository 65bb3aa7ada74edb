"""Killed at every stage of a batch job (-9, a real process): what can be found again is not paid for again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_kit import STAGES, BatchServer, Walk, expected, walked

ROWS = 6


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[BatchServer]:
    with BatchServer(request.param) as running:
        yield running


@pytest.mark.parametrize("stage", STAGES)
async def test_a_killed_walk_ends_as_an_unbroken_one_and_no_question_is_billed_twice(
    server: BatchServer, tmp_path: Path, stage: str
) -> None:
    """Two waves are two batches, killed or not: none is submitted again, at whatever moment its process died."""
    if stage == "after the upload" and server.provider == "anthropic":
        pytest.skip("Anthropic's batches have no file of their own")
    server.looks = 2
    ledger = tmp_path / "ledger.db"
    assert walked(server.provider, server.url, ledger, ROWS, die=stage) is None
    async with Walk(server.provider, server.url, ledger) as walk:
        assert await walk.rows(ROWS) == expected(server.provider, server.url, ROWS)
        assert [job.state for job in walk.jobs.jobs()] == ["collected"] * 2
    assert [len(batch.requests) for batch in server.batches.values()] == [ROWS, ROWS]
    assert set(server.billed.values()) == {1}
    if server.provider == "openai":
        assert server.seen["POST /v1/files"] == 2, "a file that was uploaded is used"


async def test_killed_again_and_again_it_still_pays_for_nothing_twice(server: BatchServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    for stage in ("after the submission", "while polling", "amid the results", "before the marks"):
        assert walked(server.provider, server.url, ledger, ROWS, die=stage) is None
    assert walked(server.provider, server.url, ledger, ROWS) == expected(server.provider, server.url, ROWS)
    assert len(server.batches) == 2
    assert set(server.billed.values()) == {1}


async def test_a_batch_that_is_not_listed_yet_is_waited_for(server: BatchServer, tmp_path: Path) -> None:
    """A provider's list may lag behind: within that time an intended job is only looked for, not sent again."""
    ledger = tmp_path / "ledger.db"
    assert walked(server.provider, server.url, ledger, ROWS, die="after the submission") is None
    hidden = dict(server.batches)
    server.batches.clear()
    async with Walk(server.provider, server.url, ledger, lag=3600.0) as walk:
        assert await walk.row(0) is None
        listings = 0

        def shown(_: object) -> None:
            nonlocal listings
            listings += 1
            if listings == 3:
                server.batches.update(hidden)

        await walk.desk.settle(tell=shown)
        assert listings >= 3
        assert len(server.batches) == 1
        assert len(walk.kept) == ROWS


async def test_an_anthropic_batch_that_may_be_the_lost_one_counts_as_in_flight_until_it_has_ended(
    tmp_path: Path,
) -> None:
    """Nobody else can tell: not its size, which is the same, nor metadata, which there is none."""
    with BatchServer("anthropic") as server:
        ledger = tmp_path / "ledger.db"
        assert walked("anthropic", server.url, ledger, ROWS, die="after the intent") is None
        server.looks = 6
        stranger = server.made([(f"somebody-elses-{number}", {"model": "m"}) for number in range(ROWS)], {})
        other = server.made([("of-another-size", {"model": "m"})], {})
        said: list[str] = []
        async with Walk("anthropic", server.url, ledger) as walk:
            assert await walk.row(0) is None
            await walk.desk.settle(tell=lambda facts: said.extend(job.status for job in facts.jobs))
            assert f"looked for; it may be {stranger.id}" in said
            assert not any(other.id in status for status in said)
            assert len(server.batches) == 3, "it was sent when the stranger had turned out to be one"
            assert server.batches["batch_000002"].requests[0][0].split("-")[0] == walk.jobs.jobs()[0].mark


async def test_a_job_that_is_given_up_is_asked_again(tmp_path: Path) -> None:
    with BatchServer("anthropic") as server:
        ledger = tmp_path / "ledger.db"
        assert walked("anthropic", server.url, ledger, ROWS, die="after the submission") is None
        server.held = True
        async with Walk("anthropic", server.url, ledger) as walk:
            assert await walk.row(0) is None

            def given_up(facts: object) -> None:
                for job in walk.jobs.jobs(states=["intended"]):
                    walk.jobs.close(job, "given up")
                    server.held = False

            await walk.desk.settle(tell=given_up)
            assert [job.state for job in walk.jobs.jobs()] == ["given up", "collected"]
            assert await walk.row(0) is None, "its first question is answered, its second waits"
