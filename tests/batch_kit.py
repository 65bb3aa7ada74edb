"""Batch servers of our own on loopback, and a process that asks through them.

    with BatchServer("openai") as server:       in a thread of its own: processes may come, be killed, and come again
        server.url, server.billed, server.batches

Every object that a server shows is built by the SDK's own type for it, so that a shape that no provider has fails
here. What a batch makes of its requests is the test's to say:

    server.fates = ["failed", "completed"]      of the batches, in the order in which they are made
    server.verdict = lambda body, number: ...   of one request in batch `number`: None (answered), or an Error
    server.looks = 3                            a batch has ended after so many looks at it
    server.held = True                          no batch ends

    python tests/batch_kit.py PROVIDER URL LEDGER --rows N [--die STAGE]

The process walks rows of two chained questions each, prints each row's last answer, and with --die kills itself (-9)
at that stage.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from solon.calls import Call, Message, Model, Reply, Sampling
from solon.errors import CallFailed, Parked
from solon.jobs import Jobs
from solon.ledger import Ledger
from solon.models import open_model
from solon.models.batch import Desk
from solon.models.spec import ModelSpec

PATIENCE = 60.0
FAST = (0.01, 0.05)


@dataclass(frozen=True)
class Error:
    """What becomes of one request: a status with an error of this type, or "expired" and "canceled" (status 0)."""

    status: int
    kind: str
    words: str = "words"


@dataclass
class Batch:
    """One batch at a server. `requests` are (custom id, body) in the order in which they came in."""

    id: str
    number: int
    requests: list[tuple[str, dict[str, Any]]]
    fate: str
    metadata: dict[str, str]
    created: float
    looks: int = 0
    ended: bool = False
    file: str = ""
    output: str = ""
    errors: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)


def words_for(body: dict[str, Any]) -> str:
    """Return the answer to a request: a function of all that it says."""
    return "Words " + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]


class BatchServer:
    """OpenAI's Files and Batches, or Anthropic's Message Batches, and the live question of each."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, tuple[str, bytes, float]] = {}
        self.billed: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.live: list[dict[str, Any]] = []
        self.fates: list[str] = []
        self.verdict: Callable[[dict[str, Any], int], Error | None] = lambda body, number: None
        self.answer: Callable[[dict[str, Any]], str] = words_for
        self.looks = 1
        self.held = False
        self.refuse: Callable[[web.Request], web.Response | None] = lambda request: None
        self.shuffle = True
        self.strangers: list[dict[str, Any]] = []
        self.url = ""
        self._ready = threading.Event()

    def __enter__(self) -> BatchServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**30, middlewares=[self._count])
        if self.provider == "openai":
            app.router.add_post("/v1/chat/completions", self._live)
            app.router.add_post("/v1/files", self._upload)
            app.router.add_get("/v1/files", self._list_files)
            app.router.add_get("/v1/files/{id}/content", self._content)
            app.router.add_post("/v1/batches", self._create_openai)
            app.router.add_get("/v1/batches", self._list_openai)
            app.router.add_get("/v1/batches/{id}", self._look_openai)
        else:
            app.router.add_post("/v1/messages", self._live)
            app.router.add_post("/v1/messages/batches", self._create_anthropic)
            app.router.add_get("/v1/messages/batches", self._list_anthropic)
            app.router.add_get("/v1/messages/batches/{id}", self._look_anthropic)
            app.router.add_get("/v1/messages/batches/{id}/results", self._results_anthropic)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.url = f"{self.root}/v1" if self.provider == "openai" else self.root
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path = "/".join("*" if any(c.isdigit() for c in part[2:]) else part for part in request.path.split("/"))
        self.seen[f"{request.method} {path}"] += 1
        refused = self.refuse(request)
        if refused is not None:
            await request.read()
            return refused
        answered: web.StreamResponse = await handler(request)
        return answered

    # -- what both do

    def made(self, requests: list[tuple[str, dict[str, Any]]], metadata: dict[str, str], file: str = "") -> Batch:
        number = len(self.batches)
        fate = self.fates.pop(0) if self.fates else "completed"
        batch = Batch(f"batch_{number:06d}", number, requests, fate, metadata, time.time(), file=file)
        self.batches[batch.id] = batch
        return batch

    def looked(self, batch: Batch) -> None:
        """Note a look: a batch whose time has come has ended with it."""
        batch.looks += 1
        if batch.looks >= self.looks and not batch.ended and not self.held:
            self._work(batch)
            batch.ended = True

    def _work(self, batch: Batch) -> None:
        """Answer what the batch's fate and the test's verdict let be answered; that is what is billed."""
        left = {"expired": "expired", "cancelled": "canceled"}.get(batch.fate)
        for place, (custom_id, body) in enumerate(batch.requests):
            # a batch that is broken off has finished some of its requests, whichever
            gone = Error(0, left) if left and place % 3 != 1 else None
            error = gone or self.verdict(body, batch.number)
            if batch.fate == "failed":
                continue
            if error is None:
                self.billed[json.dumps(body, sort_keys=True)] += 1
            batch.results.append(self._result(custom_id, body, error))
        if self.shuffle:
            batch.results.sort(key=lambda line: hashlib.sha256(line["custom_id"].encode()).hexdigest())
        batch.results += self.strangers

    def _result(self, custom_id: str, body: dict[str, Any], error: Error | None) -> dict[str, Any]:
        if self.provider == "anthropic":
            from anthropic.types.messages import MessageBatchIndividualResponse as Line

            if error is None:
                result: dict[str, Any] = {"type": "succeeded", "message": self._said(body)}
            elif not error.status:
                result = {"type": error.kind}
            else:
                told = {"type": "error", "error": {"type": error.kind, "message": error.words}, "request_id": "req_1"}
                result = {"type": "errored", "error": told}
            line = {"custom_id": custom_id, "result": result}
            Line.model_validate(line, strict=True)
            return line
        request = {"id": f"batch_req_{custom_id[-6:]}", "custom_id": custom_id}
        if error is None:
            response = {"status_code": 200, "request_id": "req_1", "body": self._said(body)}
            return {**request, "response": response, "error": None}
        if not error.status:
            code = {"expired": "batch_expired", "canceled": "batch_cancelled"}.get(error.kind, error.kind)
            return {**request, "response": None, "error": {"code": code, "message": error.words}}
        told = {"error": {"message": error.words, "type": error.kind, "code": error.kind, "param": None}}
        return {**request, "response": {"status_code": error.status, "request_id": "r", "body": told}, "error": None}

    def _said(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.answer(body)
        if self.provider == "anthropic":
            from anthropic.types import Message as Said

            message: dict[str, Any] = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": body["model"],
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 7, "output_tokens": 5},
            }
            Said.model_validate(message, strict=True)
            return message
        from openai.types.chat import ChatCompletion

        told: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                    "logprobs": None,
                }
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }
        ChatCompletion.model_validate({**told})
        return told

    async def _live(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.live.append(body)
        return web.json_response(self._said(body))

    # -- OpenAI

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        sent = form["file"]
        assert isinstance(sent, web.FileField)
        number = f"file_{len(self.files):06d}"
        self.files[number] = (sent.filename, sent.file.read(), time.time())
        return web.json_response(self._file(number))

    def _file(self, number: str) -> dict[str, Any]:
        from openai.types import FileObject

        name, content, created = self.files[number]
        told = {
            "id": number, "object": "file", "bytes": len(content), "created_at": int(created), "filename": name,
            "purpose": "batch", "status": "processed",
        }  # fmt: skip
        FileObject.model_validate(told, strict=True)
        return told

    async def _list_files(self, request: web.Request) -> web.Response:
        data = [self._file(number) for number in reversed(self.files)]
        return web.json_response({"object": "list", "data": data, "has_more": False})

    async def _content(self, request: web.Request) -> web.Response:
        _, content, _ = self.files[request.match_info["id"]]
        return web.Response(body=content)

    async def _create_openai(self, request: web.Request) -> web.Response:
        said = await request.json()
        assert said["completion_window"] == "24h"
        _, content, _ = self.files[said["input_file_id"]]
        lines = [json.loads(line) for line in content.split(b"\n") if line]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        assert {line["url"] for line in lines} == {said["endpoint"]}
        assert len({line["body"]["model"] for line in lines}) == 1
        requests = [(line["custom_id"], line["body"]) for line in lines]
        batch = self.made(requests, said.get("metadata") or {}, said["input_file_id"])
        return web.json_response(self._openai(batch))

    def _openai(self, batch: Batch) -> dict[str, Any]:
        from openai.types import Batch as Shown

        ended = batch.ended
        good = [line for line in batch.results if line.get("response") and line["response"]["status_code"] == 200]
        bad = [line for line in batch.results if line not in good]
        told: dict[str, Any] = {
            "id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "input_file_id": batch.file, "created_at": int(batch.created), "metadata": batch.metadata or None,
            "status": batch.fate if ended else ("in_progress" if batch.looks else "validating"),
            "request_counts": {"total": len(batch.requests), "completed": len(good), "failed": len(bad)},
        }  # fmt: skip
        if ended and batch.fate == "failed":
            told["errors"] = {"object": "list", "data": [{"code": "invalid_jsonl", "message": "no", "line": 1}]}
        for kind, name, lines in (("output", "output_file_id", good), ("errors", "error_file_id", bad)):
            if ended and lines:
                number = f"file_{kind}_{batch.number:06d}"
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                self.files[number] = (f"{number}.jsonl", text.encode(), batch.created)
                told[name] = number
        Shown.model_validate(told, strict=True)
        return told

    async def _list_openai(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        after, limit = request.query.get("after"), int(request.query.get("limit", "20"))
        start = next((place + 1 for place, batch in enumerate(newest) if batch.id == after), 0)
        page = newest[start : start + limit]
        more = start + limit < len(newest)
        return web.json_response({"object": "list", "data": [self._openai(one) for one in page], "has_more": more})

    async def _look_openai(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response(
                {"error": {"message": "no such batch", "type": "invalid_request_error"}}, status=404
            )
        self.looked(batch)
        return web.json_response(self._openai(batch))

    # -- Anthropic

    async def _create_anthropic(self, request: web.Request) -> web.Response:
        said = await request.json()
        requests = [(one["custom_id"], one["params"]) for one in said["requests"]]
        assert len({custom_id for custom_id, _ in requests}) == len(requests)
        assert all(0 < len(custom_id) <= 64 for custom_id, _ in requests)
        return web.json_response(self._anthropic(self.made(requests, {})))

    def _anthropic(self, batch: Batch) -> dict[str, Any]:
        from anthropic.types.messages import MessageBatch

        ended = batch.ended
        created = datetime.fromtimestamp(batch.created, UTC)
        counts = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
        for line in batch.results:
            counts[line["result"]["type"]] += 1
        told: dict[str, Any] = {
            "id": batch.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**counts, "processing": len(batch.requests) - sum(counts.values())},
            "created_at": created.isoformat(), "expires_at": (created + timedelta(days=1)).isoformat(),
            "ended_at": created.isoformat() if ended else None, "archived_at": None, "cancel_initiated_at": None,
            "results_url": f"{self.root}/v1/messages/batches/{batch.id}/results" if ended else None,
        }  # fmt: skip
        MessageBatch.model_validate_json(json.dumps(told), strict=True)
        return told

    async def _list_anthropic(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        after, limit = request.query.get("after_id"), int(request.query.get("limit", "20"))
        start = next((place + 1 for place, batch in enumerate(newest) if batch.id == after), 0)
        page = newest[start : start + limit]
        for one in page:
            self.looked(one)
        told = {"data": [self._anthropic(one) for one in page], "has_more": start + limit < len(newest)}
        return web.json_response(
            {**told, "first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        )

    async def _look_anthropic(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            told = {"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}
            return web.json_response(told, status=404)
        self.looked(batch)
        return web.json_response(self._anthropic(batch))

    async def _results_anthropic(self, request: web.Request) -> web.Response:
        lines = self.batches[request.match_info["id"]].results
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return web.Response(body=text.encode(), content_type="application/x-jsonl")


# -- asking through a desk -----------------------------------------------------------------------------------


def model_at(provider: str, url: str, **spec: Any) -> Model:
    return open_model(ModelSpec(use=f"{provider}:tiny", base_url=url, **spec))


def first(row: int) -> tuple[Message, ...]:
    return (Message("user", f"question {row}"),)


def second(row: int, said: str) -> tuple[Message, ...]:
    return (*first(row), Message("assistant", said), Message("user", f"go on with {row}"))


class Walk:
    """Rows of two chained questions, walked as a run walks them: what parks is walked again when it is quiet."""

    def __init__(
        self, provider: str, url: str, ledger: Path, *, run: str = "run", begin: bool = True, **desk: Any
    ) -> None:
        self.model = model_at(provider, url)
        self.ledger = Ledger.open(ledger)
        self.jobs = Jobs(ledger, run)
        if begin:
            self.jobs.begin()
        self.kept: list[str] = []
        self.desk = Desk(
            self.model,  # type: ignore[arg-type]
            self.jobs,
            keep=self.keep,
            known=lambda key: self.ledger.get(key) is not None,
            **{"pauses": FAST, "lag": 0.0, **desk},
        )
        self.door = self.ledger.door(self.desk)

    async def keep(self, run: str, call: Call, reply: Reply, asked_at: float, seconds: float) -> None:
        self.kept.append(call.key)
        await self.ledger.record(call, reply, seconds=seconds, run=run, asked_at=asked_at)

    async def close(self) -> None:
        await self.desk.close()
        self.jobs.close_file()
        await self.ledger.close()
        await self.model.close()

    async def __aenter__(self) -> Walk:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def call(self, messages: tuple[Message, ...]) -> Call:
        return Call(self.model.identity, messages, Sampling(1.0, None, 64))

    async def row(self, number: int) -> str | None:
        """Return the row's last answer, what it failed of, or None: it parks."""
        try:
            said = await self.door(self.call(first(number)))
            return (await self.door(self.call(second(number, said.text)))).text
        except Parked:
            return None
        except CallFailed as problem:
            return f"{problem.reason}: {problem.detail}"

    async def rows(self, count: int) -> list[str | None]:
        """Walk until no row parks any more."""
        while True:
            ended = list(await asyncio.gather(*map(self.row, range(count))))
            if None not in ended:
                return ended
            await self.desk.settle()


def expected(provider: str, url: str, count: int, answer: Callable[[dict[str, Any]], str] = words_for) -> list[str]:
    """Return the rows of a walk that nothing broke: each answer belongs to its own question."""
    model: Any = model_at(provider, url)

    def said(messages: tuple[Message, ...]) -> str:
        return answer(model.request(Call(model.identity, messages, Sampling(1.0, None, 64))))

    return [said(second(row, said(first(row)))) for row in range(count)]


# -- a process that may be killed ----------------------------------------------------------------------------

STAGES = (
    "before the intent",
    "after the intent",
    "after the upload",
    "after the submission",
    "while polling",
    "amid the results",
    "before the marks",
    "before it is closed",
)


def walked(provider: str, url: str, ledger: Path, rows: int, *, die: str = "") -> list[str] | None:
    """Walk in a process of its own; return its rows, or None where it died as it was told to."""
    command = [sys.executable, __file__, provider, url, str(ledger), "--rows", str(rows), "--die", die]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode == -signal.SIGKILL and die:
        return None
    assert done.returncode == 0, done.stderr
    assert not die, f"it never came to the stage {die!r}"
    rows_said: list[str] = json.loads(done.stdout)
    return rows_said


def dies_at(stage: str, walk: Walk) -> None:
    """Let this process kill itself at a stage of a job."""
    jobs: Any = walk.jobs
    api: Any = walk.desk.api

    def die(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def then_die(method: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any, **more: Any) -> Any:
            method(*given, **more)
            die()

        return done

    def later(method: Callable[..., Any]) -> Callable[..., Any]:
        async def done(*given: Any, **more: Any) -> Any:
            await method(*given, **more)
            die()

        return done

    match stage:
        case "before the intent":
            jobs.intend = die
        case "after the intent":
            jobs.intend = then_die(jobs.intend)
        case "after the upload":
            api._client.files.create = later(api._client.files.create)
        case "after the submission":
            api.submit = later(api.submit)
        case "while polling":
            api.look = later(api.look)
        case "amid the results":
            jobs.mark = then_die(jobs.mark)
        case "before the marks":
            jobs.mark = die
        case "before it is closed":
            jobs.close = die


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("provider")
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--die", default="")
    given = parser.parse_args()
    if given.die == "amid the results":
        from solon.models.batch import collecting

        collecting.AT_ONCE = 2
    async with Walk(given.provider, given.url, given.ledger) as walk:
        dies_at(given.die, walk)
        print(json.dumps(await walk.rows(given.rows)))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
