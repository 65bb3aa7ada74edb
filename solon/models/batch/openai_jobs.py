"""OpenAI's batch jobs: a file of requests, uploaded, and a batch made of it.

A batch carries metadata, so an intent that was written down before is found again by it, however the submission
ended. A file that was uploaded and never made a batch of costs nothing; it is found by its name and used.

At most 50,000 requests and 200 MB a file (the SDK's own words on `input_file_id`), for one model and one endpoint;
batch files are deleted by OpenAI after 30 days.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, BinaryIO

from solon.errors import Passing
from solon.jobs import Job
from solon.models.batch.api import MARGIN_SECONDS, NO_SUCH_THING, Batchable, BatchAPI, Found, Look, Result, lines_of
from solon.models.carrier import encode

__all__ = ["OpenAIJobs"]

ENDED = ("completed", "failed", "expired", "cancelled")
NOT_ASKED = ("batch_expired", "batch_cancelled", "batch_canceled")


class OpenAIJobs(BatchAPI):
    """`solon.models.batch.api.BatchAPI` over `client.files` and `client.batches`."""

    most_calls = 50_000
    most_bytes = 200_000_000
    joint = b"\n"

    def __init__(self, model: Batchable) -> None:
        super().__init__(model, model.sdk.AsyncOpenAI)
        self.endpoint = "/v1/completions" if model.form == "text" else "/v1/chat/completions"

    def line(self, custom_id: str, body: dict[str, Any]) -> bytes:
        return encode({"custom_id": custom_id, "method": "POST", "url": self.endpoint, "body": body}).encode()

    async def submit(self, job: Job, content: BinaryIO, size: int, *, again: bool) -> str:
        with self._asking("submit"):
            name = f"solon-{job.intent}.jsonl"
            file = await self._uploaded(name, size, job.intended_at) if again else None
            if file is None:
                sent = await self._client.files.create(file=(name, content, "application/jsonl"), purpose="batch")
                file = sent.id
            batch = await self._client.batches.create(
                input_file_id=file, endpoint=self.endpoint, completion_window="24h", metadata={"solon": job.intent}
            )
        return str(batch.id)

    async def _uploaded(self, name: str, size: int, since: float) -> str | None:
        """Return the id of a file of this name and size that an earlier attempt left behind, or None."""
        try:
            async for file in self._client.files.list(purpose="batch", order="desc"):
                if file.created_at < since - MARGIN_SECONDS:
                    return None
                if file.filename == name and file.bytes == size:
                    return str(file.id)
        except self.model.sdk.APIStatusError as error:
            if error.status_code not in NO_SUCH_THING:
                raise
        return None  # a server that lists no files

    async def find(self, job: Job, others: set[str]) -> Found:
        with self._asking("find"):
            async for batch in self._client.batches.list(limit=100):
                if batch.created_at < job.intended_at - MARGIN_SECONDS:
                    break
                if (batch.metadata or {}).get("solon") == job.intent:
                    return Found(batch.id)
        return Found()

    async def look(self, provider: str) -> Look:
        with self._asking("look"):
            batch = await self._client.batches.retrieve(provider)
        counts = batch.request_counts
        told = (batch.errors.data if batch.errors else None) or []
        whole = batch.status == "failed" and not (batch.output_file_id or batch.error_file_id)
        refused = tuple((str(one.code or ""), str(one.message or ""), one.param) for one in told)
        return Look(
            batch.status,
            batch.status in ENDED,
            (refused or (("", "no reason given", None),)) if whole else (),
            counts.completed + counts.failed if counts else 0,
        )

    async def results(self, provider: str) -> AsyncGenerator[Result]:
        with self._asking("results"):
            batch = await self._client.batches.retrieve(provider)
        # answers and errors lie in a file each; expired and cancelled batches have what they finished in the first
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self._asking("results"):
                async with self._client.files.with_streaming_response.content(file) as response:
                    async for line in lines_of(response.iter_bytes()):
                        yield _result(line, f"{self.server}: the results of {provider}")


def _result(line: bytes, where: str) -> Result:
    """Return what one line says. Raises Passing where it is not what the protocol promises: the file is read again."""
    try:
        said = json.loads(line)
        custom_id, response, error = said["custom_id"], said.get("response"), said.get("error")
        if not isinstance(custom_id, str):
            raise TypeError("a custom_id that is no text")
        if response is None:
            code = str((error or {}).get("code") or "no reason given")
            return Result(custom_id, error=error, word="" if error and code not in NOT_ASKED else code)
        if response["status_code"] == 200:
            return Result(custom_id, body=response["body"])
        return Result(custom_id, status=int(response["status_code"]), error=response.get("body"))
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise Passing("unreadable_answer", f"{where} hold a line that is none ({type(problem).__name__})") from None
