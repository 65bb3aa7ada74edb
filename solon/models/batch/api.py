"""What the batch APIs of providers have in common, and what all of them are asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO, Protocol

from solon.calls import Call, Model, Reply
from solon.errors import Halt, SolonError
from solon.jobs import Job
from solon.models.failures import WIRE_ERRORS, meaning_of
from solon.models.server import Server
from solon.models.wire import timeouts

__all__ = ["MARGIN_SECONDS", "BatchAPI", "Batchable", "Found", "Look", "Result", "lines_of"]

MARGIN_SECONDS = 600.0
"""How far a provider's clock may be behind ours: batches made so long before an intent are looked at too."""

SECONDS = 600.0
"""Limit to one step of an upload or download; a whole file may take many."""

NO_SUCH_THING = (404, 405, 501)


class Batchable(Model, Protocol):
    """A live model over a server's protocol: the same code builds and reads its requests, live and in batch jobs."""

    server: Server
    sdk: ModuleType
    sdk_error: type[Exception]

    @property
    def unusable(self) -> str: ...

    def request(self, call: Call) -> dict[str, Any]: ...

    def read(self, body: Mapping[str, Any], call: Call) -> Reply: ...


@dataclass(frozen=True)
class Found:
    """What a search for a job brought: the provider's id, or whether something may still turn out to be it."""

    provider: str | None = None
    maybe: str | None = None


@dataclass(frozen=True)
class Look:
    """How a job stands.

    status:  the provider's own word
    ended:   nothing more will be answered
    refused: (code, words, parameter) of what the provider has against the job as a whole, and nothing of it was done
    done:    how many of its calls have been dealt with
    """

    status: str
    ended: bool
    refused: tuple[tuple[str, str, str | None], ...] = ()
    done: int = 0


@dataclass(frozen=True)
class Result:
    """One line of results: an answer's body, or a status with what the error says; without either it was not asked
    (expired, cancelled), and `word` says why."""

    custom_id: str
    body: Mapping[str, Any] | None = None
    status: int | None = None
    error: Any = None
    word: str = ""


class BatchAPI:
    """One provider's batch jobs, through its SDK's public methods. Raises what `solon.models.failures` says.

    most_calls, most_bytes: of one job
    head, joint, tail:      what stands before, between and after the requests of a job
    """

    most_calls = 0
    most_bytes = 0
    head, joint, tail = b"", b"", b""

    def __init__(self, model: Batchable, client: type[Any]) -> None:
        self.model = model
        self.server = model.server
        # a client of its own: the model's carries single questions, and nothing else
        self._client = client(
            api_key=self.server.key, base_url=self.server.url, timeout=timeouts(SECONDS), max_retries=0
        )
        self._heard = False

    async def close(self) -> None:
        await self._client.close()

    def line(self, custom_id: str, body: dict[str, Any]) -> bytes:
        """Return one request as it stands in a job."""
        raise NotImplementedError

    async def submit(self, job: Job, content: BinaryIO, size: int, *, again: bool) -> str:
        """Submit a job and return the provider's id of it.

        again: it was tried before, and was not found, so that something may be left over
        """
        raise NotImplementedError

    async def find(self, job: Job, others: set[str]) -> Found:
        """Look for a job whose submission may have gone through without our hearing of it.

        others: the provider's ids of other jobs
        """
        raise NotImplementedError

    async def look(self, provider: str) -> Look:
        """Return how a job stands."""
        raise NotImplementedError

    def results(self, provider: str) -> AsyncGenerator[Result]:
        """Yield the results of a job that has ended, in any order, as they come in."""
        raise NotImplementedError

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what the SDK raises into our words."""
        try:
            yield
        except (self.model.sdk_error, *WIRE_ERRORS) as error:
            raise self._meaning(error, what) from None
        self._heard = True

    def _meaning(self, error: Exception, what: str) -> SolonError:
        status = getattr(error, "status_code", None)
        if status in NO_SUCH_THING:
            words = self.server.quote(str(error)) or "no words"
            if what == "submit":
                return Halt(
                    f"{self.server}: takes no batch jobs (status {status}: {words}); take `batch: true` "
                    "out of the recipe"
                )
            return Halt(
                f"{self.server}: does not know the batch job any more (status {status}: {words}); start again with the "
                "key that submitted it, or give it up with `solon batch give-up`"
            )
        meaning = meaning_of(error, self.server, sdk=self.model.sdk, heard=self._heard, sent=())
        # a refusal is an answer to a question, and this was none
        return Halt(f"{self.server}: {meaning.text}") if isinstance(meaning, Reply) else meaning


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a JSONL stream. By line feeds alone: JSON may hold other line separators as they are."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        yield rest
