"""Batch jobs against a server that nobody here wrote: aimock's OpenAI Files and Batches (npm, @copilotkit/aimock).

It answers every request with the same canned words, so rows here end as answers of one text; what is looked at is the
life of a job: upload, submission, polling, results, a broken-off job, and a process killed between any two of these.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_kit import Walk, first, walked
from running import aimock, free_port, running

from solon.errors import Parked

CANNED = "Mock batch completion"
ROWS = 4


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Return the address of a fresh aimock, with its /v1."""
    fixtures = tmp_path / "fixtures"
    fixtures.mkdir()
    (fixtures / "any.json").write_text('{"fixtures": []}')
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    with running([*aimock(), "-p", str(port), "-f", str(fixtures)], f"{root}/v1/batches", tmp_path / "log"):
        yield f"{root}/v1"


def shown(url: str, what: str) -> list[dict[str, Any]]:
    """Return what the server lists, asked by no client of ours."""
    with urllib.request.urlopen(f"{url}/{what}") as answer:
        data: list[dict[str, Any]] = json.load(answer)["data"]
    return data


async def test_a_job_goes_from_upload_to_results(url: str, tmp_path: Path) -> None:
    async with Walk("openai", url, tmp_path / "ledger.db") as walk:
        assert await walk.rows(ROWS) == [CANNED] * ROWS
        jobs = walk.jobs.jobs()
        assert [(job.state, job.status, job.answered) for job in jobs] == [("collected", "completed", ROWS)] * 2
        batches = shown(url, "batches")
        assert {batch["metadata"]["solon"] for batch in batches} == {job.intent for job in jobs}
        assert {batch["request_counts"]["completed"] for batch in batches} == {ROWS}


@pytest.mark.parametrize(
    "stage",
    [
        "after the intent",
        "after the upload",
        "after the submission",
        "while polling",
        "amid the results",
        "before the marks",
    ],
)
async def test_a_process_that_is_killed_at_any_stage_submits_nothing_twice(
    url: str, tmp_path: Path, stage: str
) -> None:
    ledger = tmp_path / "ledger.db"
    assert walked("openai", url, ledger, ROWS, die=stage) is None
    assert walked("openai", url, ledger, ROWS) == [CANNED] * ROWS
    assert len(shown(url, "batches")) == 2
    assert len([file for file in shown(url, "files") if file["purpose"] == "batch"]) == 2


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
async def test_a_job_that_was_broken_off_is_asked_again(url: str, tmp_path: Path, outcome: str) -> None:
    """This server finishes nothing of such a job."""
    async with Walk("openai", url, tmp_path / "ledger.db") as walk:
        client: Any = walk.desk.api._client  # type: ignore[attr-defined]
        walk.desk.api._client = client.with_options(default_headers={"X-AIMock-Batch-Outcome": outcome})  # type: ignore[attr-defined]
        call = walk.call(first(0))
        with pytest.raises(Parked):
            await walk.door(call)
        settling = asyncio.create_task(walk.desk.settle())
        while not shown(url, "batches"):  # noqa: ASYNC110, another process is waited for
            await asyncio.sleep(0.01)
        walk.desk.api._client = client  # type: ignore[attr-defined]
        await settling
        assert [job.status for job in walk.jobs.jobs()] == [outcome, "completed"]
        assert (await walk.door(call)).text == CANNED
