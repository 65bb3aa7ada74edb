"""What one result of a job means: the same reading, and the same table of failures, as for a live answer."""

from __future__ import annotations

from collections.abc import Collection

import httpx2

from solon.calls import Call, Reply
from solon.errors import Passing, SolonError
from solon.models.batch.api import Batchable, Result
from solon.models.failures import meaning_of

__all__ = ["refusal_of", "reply_of"]


def reply_of(model: Batchable, result: Result, call: Call) -> Reply | SolonError:
    """Return the reply that a result holds, or what is wrong with it.

    Passing: not asked, or failed in a way that may pass, so that it is asked again in another job. CallFailed: this
    question alone cannot be answered. Halt: no later question would fare better.
    """
    server = model.server
    if result.body is not None:
        try:
            return model.read(result.body, call)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            words = f"{server}: {type(error).__name__} in its answer in a batch job"
            return Passing("unreadable_answer", words, billed=True)
    if result.status is None:
        what = result.word or server.quote(str(result.error))
        return Passing("no_answer", f"{server}: not answered in a batch job ({what})")
    return refusal_of(model, result.status, result.error, sent=model.request(call))


def refusal_of(model: Batchable, status: int, body: object, *, sent: Collection[str] = ()) -> Reply | SolonError:
    """Return what a live call raises whose answer has this status and body."""
    # the SDK's own error, as it makes one of a response
    request = httpx2.Request("POST", model.server.url)
    error = model.sdk.APIStatusError(f"status {status}", response=httpx2.Response(status, request=request), body=body)
    return meaning_of(error, model.server, sdk=model.sdk, heard=True, sent=sent)
