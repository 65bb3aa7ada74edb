"""What goes over the wire in a batch job is what the SDKs' own methods send, and what a live call sends inside it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import anthropic
from batch_kit import BatchServer, Walk, first, model_at
from wire import Answer, Wire

from solon.calls import Call, Sampling
from solon.models.batch.anthropic_jobs import AnthropicJobs
from solon.models.batch.api import lines_of
from solon.spend import Spend

MADE = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress", "results_url": None,
    "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-11-30T10:00:00Z", "expires_at": "2026-12-01T10:00:00Z", "ended_at": None,
    "archived_at": None, "cancel_initiated_at": None,
}  # fmt: skip
VARYING = {"host", "user-agent", "content-length", "date"}


async def test_a_message_batch_that_is_streamed_from_disk_is_what_create_sends(tmp_path: Path) -> None:
    """The same address, headers and JSON as `client.messages.batches.create(requests=[...])`."""
    async with Wire(Answer(MADE)) as wire:
        model: Any = model_at("anthropic", wire.url)
        api = AnthropicJobs(model)
        calls = [Call(model.identity, first(number), Sampling(0.5, None, 9)) for number in range(3)]
        lines = [api.line(f"id-{place}", model.request(call)) for place, call in enumerate(calls)]
        content = api.head + api.joint.join(lines) + api.tail
        assert await api.submit(job(), io.BytesIO(content), len(content), again=False) == "msgbatch_1"
        async with anthropic.AsyncAnthropic(api_key="none", base_url=wire.url, max_retries=0, timeout=600) as client:
            requests: Any = [
                {"custom_id": f"id-{place}", "params": model.request(call)} for place, call in enumerate(calls)
            ]
            await client.messages.batches.create(requests=requests)
        ours, theirs = wire.requests
        assert ours.path == theirs.path == "/v1/messages/batches"
        assert ours.body == theirs.body
        headers = [{name.lower(): value for name, value in one.headers.items()} for one in (ours, theirs)]
        told = [{name: one[name] for name in one if name not in VARYING and "timeout" not in name} for one in headers]
        assert told[0] == told[1]
        assert "transfer-encoding" not in headers[0]
        await api.close()
        await model.close()


def job() -> Any:
    from solon.jobs import Job

    return Job(1, "0" * 32, "", "", "", "intended", None, "", "", 3, 0, 0, 0, 0.0, None, None, Spend())


async def test_each_request_of_a_job_is_what_the_live_call_sends(tmp_path: Path) -> None:
    """One code builds both: the body in the job is the body that a live model posts."""
    for provider in ("openai", "anthropic"):
        with BatchServer(provider) as server:
            async with Walk(provider, server.url, tmp_path / f"{provider}.db") as walk:
                assert await walk.row(0) is None
                await walk.desk.settle()
                call = walk.call(first(0))
                await walk.model(call)
                assert [body for _, body in server.batches["batch_000000"].requests] == server.live


async def test_answers_may_hold_any_character(tmp_path: Path) -> None:
    """Line separators of Unicode stand in JSON as they are: a result is a line by its line feed alone."""
    odd = "one\u2028two\x85three\x0cfour \u2029 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
    for provider in ("openai", "anthropic"):
        with BatchServer(provider) as server:
            server.answer = lambda body: odd
            async with Walk(provider, server.url, tmp_path / f"{provider}.db") as walk:
                assert await walk.rows(2) == [odd, odd]


async def test_lines_are_cut_by_line_feeds_wherever_the_chunks_end() -> None:
    async def chunks(size: int) -> Any:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    said = [{"a": "x\u2028y"}, {"b": 2}, {"c": "\x0b"}]
    content = b"\n\n".join(json.dumps(one, ensure_ascii=False).encode() for one in said)
    for size in (1, 3, 7, 1000):
        assert [json.loads(line) async for line in lines_of(chunks(size))] == said
