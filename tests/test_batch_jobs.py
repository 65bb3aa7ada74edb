"""Batch jobs, provider by provider: calls are parked, submitted, read into the ledger, each for its own question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_kit import BatchServer, Walk, expected


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[BatchServer]:
    with BatchServer(request.param) as running:
        yield running


async def test_parked_rows_are_walked_again_until_each_has_its_own_answers(server: BatchServer, tmp_path: Path) -> None:
    """Two chained questions a row are two jobs, whatever the number of rows; the results come in another order."""
    async with Walk(server.provider, server.url, tmp_path / "ledger.db") as walk:
        assert await walk.rows(20) == expected(server.provider, server.url, 20)
        assert [len(batch.requests) for batch in server.batches.values()] == [20, 20]
        assert set(server.billed.values()) == {1} and len(server.billed) == 40
        assert server.live == []
