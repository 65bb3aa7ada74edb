"""Anthropic's protocol, through the official SDK, against a real server on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from wire import Answer, Time, Wire, asking, claude

from solon.calls import Can, Message, Reply, Sampling, Usage
from solon.errors import BadInput, CallFailed, Halt, RefusedParameter, SolonError
from solon.models import open_model
from solon.models.anthropic import AnthropicModel
from solon.models.spec import ModelSpec

KEY = "sk-ant-test-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)


def model_at(wire: Wire, time: Time | None = None, **given: Any) -> AnthropicModel:
    spec = ModelSpec(use="anthropic:tiny", base_url=wire.url, **given)
    return AnthropicModel(spec, **(time or Time()).pacing)


async def asked(answer: Answer, call: Any = None, **given: Any) -> tuple[Reply, dict[str, Any]]:
    async with Wire(answer) as wire:
        model = model_at(wire, **given)
        try:
            return await model(call or asking()), wire.requests[0].body
        finally:
            await model.close()


def fault(message: str, kind: str = "invalid_request_error") -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r-1"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_at_anthropic_the_identity_is_provider_and_model_elsewhere_the_address_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def identity(**given: Any) -> str:
        return open_model(ModelSpec(use="anthropic:tiny", **given)).identity

    assert identity() == "anthropic:tiny"
    assert identity(base_url="https://api.anthropic.com/v1/", key_env="ANTHROPIC_API_KEY") == "anthropic:tiny"
    assert identity(base_url="http://LOCALHOST:4000/") == "anthropic:tiny@http://localhost:4000"
    assert identity(base_url="http://localhost:4000/v1") == "anthropic:tiny@http://localhost:4000"
    assert identity(identity="mine") == "mine"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://localhost:4000")
    assert identity() == "anthropic:tiny@http://localhost:4000"


def test_a_model_says_what_the_protocol_can_do() -> None:
    assert open_model(ModelSpec(use="anthropic:tiny")).can == Can(logprobs=False, schema=True)
    assert open_model(ModelSpec(use="anthropic:tiny", base_url="http://localhost")).can == Can(logprobs=False)
    with pytest.raises(BadInput, match="chat only"):
        open_model(ModelSpec(use="anthropic:tiny", form="text"))


async def test_a_missing_key_stops_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(Halt, match="no key in ANTHROPIC_API_KEY"):
        await open_model(ModelSpec(use="anthropic:tiny"))(asking())


async def test_only_what_the_call_says_is_sent() -> None:
    _, plain = await asked(Answer(claude()), asking(sampling=Sampling(temperature=None, max_tokens=9)))
    assert plain == {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 9}
    call = asking(sampling=Sampling(0.5, 0.9, 9, ("END",)), options='{"thinking":{"type":"disabled"}}')
    _, full = await asked(Answer(claude()), call)
    more = {"temperature": 0.5, "top_p": 0.9, "stop_sequences": ["END"], "thinking": {"type": "disabled"}}
    assert full == {**plain, **more}


async def test_an_answer_of_any_length_may_be_asked_for() -> None:
    _, body = await asked(Answer(claude()), asking(sampling=Sampling(max_tokens=100_000)))
    assert body["max_tokens"] == 100_000


async def test_system_messages_at_the_start_go_out_apart() -> None:
    messages = (Message("system", "Be kind."), Message("system", "Be brief."), Message("user", "Hello?"))
    _, body = await asked(Answer(claude()), replace(asking(), messages=messages))
    assert body["system"] == "Be kind.\n\nBe brief."
    assert body["messages"] == [{"role": "user", "content": "Hello?"}]


async def test_a_schema_goes_out_as_the_output_format_beside_the_recipes_own_options() -> None:
    schema = {"type": "object"}
    call = asking(schema=json.dumps(schema), options='{"output_config":{"effort":"low"}}')
    _, body = await asked(Answer(claude()), call)
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}


@pytest.mark.parametrize(
    ("body", "words", "finish", "thinking"),
    [
        (claude(text(" Hi.\n")), " Hi.\n", "stop", ""),
        (claude(text("Hi. "), text("There.")), "Hi. There.", "stop", ""),
        (claude({"type": "thinking", "thinking": "Hm.", "signature": "x"}, text("Yes.")), "Yes.", "stop", "Hm."),
        (claude({"type": "redacted_thinking", "data": "x"}, text("Yes.")), "Yes.", "stop", ""),
        (claude(text("<think>Hm.</think>Yes.")), "Yes.", "stop", "Hm."),
        (claude(text("Half a"), stop="max_tokens"), "Half a", "length", ""),
        (claude(text("Half a"), stop="model_context_window_exceeded"), "Half a", "length", ""),
        (claude(text("I"), stop="refusal"), "I", "refusal", ""),
        (claude(text("lone \ud83d")), "lone \ufffd", "stop", ""),
        ({**claude(), "content": []}, "", "stop", ""),
    ],
)
async def test_each_kind_of_ending_is_told_apart(body: Any, words: str, finish: str, thinking: str) -> None:
    reply, _ = await asked(Answer(body))
    assert (reply.text, reply.finish, reply.thinking, reply.model) == (words, finish, thinking, "served-name")
    assert Reply.from_json(reply.to_json()) == reply


async def test_the_input_is_counted_with_what_the_cache_took_and_gave() -> None:
    usage = {"cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000}
    body = claude(**usage)
    body["usage"]["output_tokens_details"] = {"thinking_tokens": 3}
    reply, _ = await asked(Answer(body))
    assert reply.usage == Usage(input=1107, output=5, thinking=3, cached=1000)
    assert reply.usage.written == 100
    assert (await asked(Answer({**claude(), "usage": None})))[0].usage == Usage()


async def test_a_call_with_labels_comes_back_without_log_probabilities() -> None:
    reply, _ = await asked(Answer(claude(text("A"))), asking(labels=("A", "B")))
    assert (reply.text, reply.logprobs) == ("A", None)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(json.dumps(claude())[:50]),
        Answer("<html>", content_type="text/html"),
        Answer({"type": "message", "role": "assistant"}),
        Answer({**claude(), "content": "Hi."}),
        Answer({**claude(), "content": [{"type": "text"}]}),
        Answer({**claude(), "content": None}),
        Answer(claude(), cut=20),
    ],
)
async def test_an_answer_that_cannot_be_read_is_asked_again(answer: Answer) -> None:
    async with Wire(answer, Answer(claude())) as wire:
        assert (await model_at(wire)(asking())).text == "Hi."
        assert len(wire.requests) == 2


async def failure(answer: Answer, **given: Any) -> SolonError:
    with pytest.raises(SolonError) as caught:
        await asked(answer, **{"patience": 0, **given})
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, fault("invalid x-api-key", "authentication_error"), "did not accept the key in ANTHROPIC_API_KEY"),
        (403, fault("not for you", "permission_error"), "may not ask this .not for you."),
        (404, fault("model: tiny", "not_found_error"), "no such model or address .status 404: model: tiny"),
        (402, fault("pay", "billing_error"), "no credit"),
        (400, fault("Your credit balance is too low to access the Anthropic API."), "no credit"),
        (400, fault("You have reached your specified API usage limits."), "no credit"),
    ],
)
async def test_what_no_later_call_can_mend_halts_the_run(status: int, body: Any, words: str) -> None:
    problem = await failure(Answer(body, status=status), key_env="ANTHROPIC_API_KEY")
    assert type(problem) is Halt
    assert KEY not in str(problem)
    with pytest.raises(Halt, match=words):
        raise problem


@pytest.mark.parametrize(
    "message",
    [
        "temperature: Extra inputs are not permitted",
        "`temperature` is deprecated for this model.",
        "This model does not support the effort parameter.",
    ],
)
async def test_a_parameter_that_a_model_refuses_halts_with_the_remedy(message: str) -> None:
    problem = await failure(Answer(fault(message), status=400))
    assert isinstance(problem, RefusedParameter)
    assert message in str(problem)
    assert "solon models check" in str(problem)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, fault("prompt is too long: 210000 tokens > 200000 maximum"), "too_long"),
        (413, fault("Request exceeds the maximum size", "request_too_large"), "too_long"),
        (400, fault("messages: roles must alternate"), "rejected_call"),
        (529, fault("Overloaded", "overloaded_error"), "no_answer"),
        (500, fault("Internal server error", "api_error"), "no_answer"),
    ],
)
async def test_one_calls_own_failure_is_named(status: int, body: Any, reason: str) -> None:
    problem = await failure(Answer(body, status=status))
    assert isinstance(problem, CallFailed)
    assert problem.reason == reason


async def test_a_filtered_answer_is_a_refusal() -> None:
    reply, _ = await asked(Answer(fault("Output blocked by content filtering policy"), status=400))
    assert reply.finish == "refusal"


async def test_overload_makes_everybody_wait_as_long_as_the_server_says() -> None:
    time = Time()
    overloaded = Answer(fault("Overloaded", "overloaded_error"), status=529, headers={"Retry-After": "13"})
    async with Wire(overloaded, Answer(claude())) as wire:
        model = model_at(wire, time, concurrency=8)
        await model(asking())
        assert time.naps == [13.0]
        assert model._pace.limit == 4, "half as many go in afterwards"


async def test_nobody_listening_halts_before_the_first_good_answer() -> None:
    with pytest.raises(Halt, match="nobody answers"):
        await AnthropicModel(ModelSpec(use="anthropic:tiny", base_url="http://solon.invalid"))(asking())
