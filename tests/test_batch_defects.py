"""Three defects of others that this must never have, each as a test that would fail there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_kit import BatchServer, Walk, expected, walked

ROWS = 12


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[BatchServer]:
    with BatchServer(request.param) as running:
        yield running


async def test_where_one_of_several_jobs_fails_every_answer_still_belongs_to_its_own_question(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """distilabel's offline batches (its `openai.py`): the ids of a job that failed are skipped, the shorter list of
    outputs is handed on by position, and every row behind it gets another row's answer.

    Here the second of three jobs fails as a whole; its four questions are asked again, and no row is shifted.
    """
    async with Walk(server.provider, server.url, tmp_path / "ledger.db") as walk:
        monkeypatch.setattr(walk.desk.api, "most_calls", 4)
        server.fates = ["completed", "failed" if server.provider == "openai" else "expired", "completed"]
        assert await walk.rows(ROWS) == expected(server.provider, server.url, ROWS)
    assert set(server.billed.values()) == {1}
    assert len(server.billed) == 2 * ROWS


@pytest.mark.parametrize("stage", ["after the submission", "after the intent"])
async def test_a_job_whose_id_was_never_written_down_is_neither_lost_nor_paid_for_twice(
    server: BatchServer, tmp_path: Path, stage: str
) -> None:
    """Curator (its `request_processor/batch`): a batch's id is saved after the submission, by rewriting one JSON file;
    a kill in that window loses the id, and the batch is paid for, forgotten, and submitted again.

    Here the intent is written down before, so whoever starts next looks for the batch that bears it.
    """
    ledger = tmp_path / "ledger.db"
    assert walked(server.provider, server.url, ledger, ROWS, die=stage) is None
    submitted = len(server.batches)
    assert submitted == (stage == "after the submission")
    async with Walk(server.provider, server.url, ledger) as walk:
        job = walk.jobs.jobs()[0]
        assert (job.state, job.provider) == ("intended", None)
        assert await walk.rows(ROWS) == expected(server.provider, server.url, ROWS)
    assert [len(batch.requests) for batch in server.batches.values()] == [ROWS, ROWS]
    assert set(server.billed.values()) == {1}


async def test_results_that_were_read_before_a_kill_are_kept_and_their_job_is_found_again(
    server: BatchServer, tmp_path: Path
) -> None:
    """safety-tooling (its `BatchInferenceAPI`): ids of Anthropic's batches are written nowhere, and results are cached
    when all chunks have returned, so that a kill amid the results loses them all.

    Here each handful is in the ledger before the next is read, and the rest is read by whoever starts next.
    """
    ledger = tmp_path / "ledger.db"
    assert walked(server.provider, server.url, ledger, ROWS, die="amid the results") is None
    async with Walk(server.provider, server.url, ledger) as walk:
        assert len(walk.ledger) == 2
        assert walk.jobs.jobs()[0].provider == "batch_000000"
        assert await walk.rows(ROWS) == expected(server.provider, server.url, ROWS)
        assert len(walk.kept) == 2 * ROWS - 2
    assert set(server.billed.values()) == {1}
