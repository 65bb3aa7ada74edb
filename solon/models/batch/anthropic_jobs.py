"""Anthropic's Message Batches: all requests in one letter, and no room for metadata in it.

So the intent stands in the custom ids, which the provider shows once a batch has ended. A submission that may have
gone through without our hearing of it is looked for among the batches made since: those of another size are not it,
those that have ended show their first result, and while one that could be it has not ended, it counts as in flight.

At most 100,000 requests or 256 MB a batch; it ends within 24 hours; its results stay for 29 days
(platform.claude.com/docs/en/build-with-claude/batch-processing, "Batch limitations").
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, BinaryIO

from solon.errors import Passing
from solon.jobs import Job
from solon.models.batch.api import MARGIN_SECONDS, Batchable, BatchAPI, Found, Look, Result, lines_of
from solon.models.carrier import encode

__all__ = ["AnthropicJobs"]

STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that a live call of the same error has (docs: "Errors"); any other is the server's own, 500."""
CHUNK = 1 << 16


class AnthropicJobs(BatchAPI):
    """`solon.models.batch.api.BatchAPI` over `client.messages.batches`.

    A batch goes out through the client's documented `post`, from disk: `create` wants all its requests in memory,
    several times over. `tests/test_batch_wire.py` holds that both send the same.
    """

    most_calls = 100_000
    most_bytes = 256_000_000
    head, joint, tail = b'{"requests":[', b",", b"]}"

    def __init__(self, model: Batchable) -> None:
        super().__init__(model, model.sdk.AsyncAnthropic)
        self._not_it: set[tuple[str, str]] = set()

    def line(self, custom_id: str, body: dict[str, Any]) -> bytes:
        return encode({"custom_id": custom_id, "params": body}).encode()

    async def submit(self, job: Job, content: BinaryIO, size: int, *, again: bool) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            content.seek(0)
            while chunk := content.read(CHUNK):
                yield chunk

        with self._asking("submit"):
            batch = await self._client.post(
                "/v1/messages/batches",
                cast_to=self.model.sdk.types.messages.MessageBatch,
                content=chunks(),
                options={"headers": {"Content-Length": str(size)}},
            )
        return str(batch.id)

    async def find(self, job: Job, others: set[str]) -> Found:
        maybe = None
        with self._asking("find"):
            async for batch in self._client.messages.batches.list(limit=100):
                if batch.created_at.timestamp() < job.intended_at - MARGIN_SECONDS:
                    break
                counts = batch.request_counts
                size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                if batch.id in others or size != job.calls or (job.intent, batch.id) in self._not_it:
                    continue
                if batch.processing_status != "ended":
                    maybe = batch.id
                elif batch.results_url and await self._first(batch.id) == job.mark:
                    return Found(batch.id)
                else:
                    self._not_it.add((job.intent, batch.id))
        return Found(maybe=maybe)

    async def _first(self, provider: str) -> str:
        """Return what the custom id of a batch's first result begins with."""
        async with aclosing(self.results(provider)) as results:
            async for result in results:
                return result.custom_id.partition("-")[0]
        return ""

    async def look(self, provider: str) -> Look:
        with self._asking("look"):
            batch = await self._client.messages.batches.retrieve(provider)
        counts = batch.request_counts
        done = counts.succeeded + counts.errored + counts.canceled + counts.expired
        return Look(batch.processing_status, batch.processing_status == "ended", done=done)

    async def results(self, provider: str) -> AsyncGenerator[Result]:
        with self._asking("results"):
            streaming = self._client.messages.batches.with_streaming_response
            async with streaming.results(provider) as response:
                async for line in lines_of(response.iter_bytes()):
                    yield _result(line, f"{self.server}: the results of {provider}")


def _result(line: bytes, where: str) -> Result:
    """Return what one line says. Raises Passing where it is not what the protocol promises: they are read again."""
    try:
        said = json.loads(line)
        custom_id, result = said["custom_id"], said["result"]
        if not isinstance(custom_id, str):
            raise TypeError("a custom_id that is no text")
        if result["type"] == "succeeded":
            return Result(custom_id, body=result["message"])
        if result["type"] == "errored":
            kind = result["error"]["error"]["type"]
            return Result(custom_id, status=STATUS.get(kind, 500), error=result["error"])
        return Result(custom_id, word=str(result["type"]))
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise Passing("unreadable_answer", f"{where} hold a line that is none ({type(problem).__name__})") from None
