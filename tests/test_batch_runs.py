"""Whole runs with `batch: true`: the command, its run folder, its dataset, money, kills and several processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_kit import BatchServer, words_for
from run_kit import Desk, Solon, data_of, desk, finished, started


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[BatchServer]:
    with BatchServer(request.param) as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at jobs a hundred times a second."""
    from solon.models.batch import desk as module

    monkeypatch.setattr(module, "PAUSES", (0.01, 0.05))


def judged(body: dict[str, Any]) -> str:
    """Return an answer to anything: a judge's verdict where one is asked for, else words that hang on the question."""
    asked = body["messages"][-1]["content"]
    if "Answer: A" not in asked:
        return words_for(body)
    first, second = (re.search(rf"\[response {letter} \w+\]\n(.*?)\n\[end", asked, re.DOTALL) for letter in "AB")
    assert first and second
    return "Answer: A" if first[1] > second[1] else "Answer: B"


def made(tmp_path: Path, server: BatchServer, **recipe: Any) -> Desk:
    server.answer = judged
    model = {"use": f"{server.provider}:tiny", "base_url": server.url}
    page = {"model": model, "judging": {"verdict": "parsed"}, "cast": {"everyone": {"batch": True}}, **recipe}
    return desk(tmp_path, prompts=5, **page)


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def test_a_run_by_batch_jobs_ends_as_a_live_one_does(tmp_path: Path, server: BatchServer, solon: Solon) -> None:
    """Respond, critique, revise, and the judge in both orders at once: four waves, five calls a row, none of them live."""
    by_batch = made(tmp_path / "batch", server)
    told = solon("run", by_batch.recipe, "-q")
    assert told.code == 0, told.err + told.out
    assert [len(batch.requests) for batch in server.batches.values()] == [5, 5, 5, 10]
    assert server.live == []
    live = made(tmp_path / "live", server, cast={})
    assert solon("run", live.recipe, "-q").code == 0
    assert len(server.live) == 25
    assert data_of(by_batch.latest) == data_of(live.latest) != {}
