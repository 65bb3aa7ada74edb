"""Nothing of the SDKs and their HTTP library leaves the models: every exception that they have is told in our words."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from wire import Answer, Wire, asking

from solon.errors import CallFailed, Passing, SolonError
from solon.models import open_model
from solon.models.failures import meaning_of
from solon.models.server import Server
from solon.models.spec import ModelSpec

REQUEST = httpx2.Request("POST", "http://localhost/v1")
ODD = {
    "LengthFinishReasonError": lambda kind: kind(
        completion=openai.types.chat.ChatCompletion.model_construct(usage=None)
    ),
    "ContentFilterFinishReasonError": lambda kind: kind(),
    "WebSocketConnectionClosedError": lambda kind: kind("x", unsent_messages=[]),
}
"""Exceptions of OpenAI's that are made as no other."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{provider}_API_KEY", "tok_0123456789")
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)


def every_error(sdk: ModuleType, root: type[Exception]) -> list[Exception]:
    """Return one instance of every exception class that the SDK and its HTTP library have."""
    found: list[Exception] = [httpx2.InvalidURL("x"), httpx2.StreamClosed(), httpx2.StreamConsumed()]
    for kind in vars(httpx2).values():
        if inspect.isclass(kind) and issubclass(kind, httpx2.RequestError):
            found.append(kind("broke", request=REQUEST))
    for name in sdk.__all__:
        kind = getattr(sdk, name)
        if not (inspect.isclass(kind) and issubclass(kind, root)):
            continue
        if issubclass(kind, sdk.APIStatusError | sdk.APIResponseValidationError):
            response = httpx2.Response(getattr(kind, "status_code", 418), request=REQUEST)
            given = {"message": "x"} if "message" in inspect.signature(kind).parameters else {}
            found.append(kind(response=response, body=None, **given))
        elif issubclass(kind, sdk.APIConnectionError):
            found.append(kind(request=REQUEST))
        elif issubclass(kind, sdk.APIError):
            found.append(kind("x", REQUEST, body=None))
        else:
            found.append(ODD.get(name, lambda kind: kind("x"))(kind))
    return found


EVERY = [
    pytest.param(use, problem, id=f"{use}-{type(problem).__name__}")
    for use, sdk, root in (
        ("openai", openai, openai.OpenAIError),
        ("anthropic", anthropic, anthropic.AnthropicError),
    )
    for problem in every_error(sdk, root)
]


@pytest.mark.parametrize(("use", "problem"), EVERY)
async def test_no_exception_of_the_libraries_below_leaks(use: str, problem: Exception) -> None:
    model: Any = open_model(ModelSpec(use=f"{use}:tiny", patience=0))

    async def failing(*args: Any, **kwargs: Any) -> Any:
        raise problem

    model._carrier.post = failing
    with pytest.raises(SolonError) as caught:
        await model(asking())
    assert caught.value.__suppress_context__


def test_a_redirect_that_leads_nowhere_is_unreadable() -> None:
    problem = openai.APIStatusError("redirect", response=httpx2.Response(302, request=REQUEST), body=None)
    server = Server("openai", "tiny", "http://localhost/v1", False, "MY_KEY", "none")
    meaning = meaning_of(problem, server, sdk=openai, heard=True, sent=())
    assert isinstance(meaning, Passing)
    assert meaning.reason == "unreadable_answer"


async def test_a_page_that_shows_the_key_is_quoted_without_it_wherever_it_is_cut() -> None:
    """Of a long page only the beginning is read, and white space is joined: no half of a key stays at its end."""
    for blanks in (270, 285, 292, 2392):
        page = Answer(f"<html>{' ' * blanks}tok_0123456789 {'x' * 9000}", content_type="text/html")
        async with Wire(page) as wire:
            spec = ModelSpec(use="openai:tiny", base_url=f"{wire.url}/v1", key_env="OPENAI_API_KEY", patience=0)
            model: Any = open_model(spec)
            with pytest.raises(CallFailed) as caught:
                await model(asking())
            await model.close()
        assert "which begins '<html>" in str(caught.value)
        assert "tok" not in str(caught.value)
