"""The providers against servers that nobody here wrote."""

from __future__ import annotations

import json
import math
import urllib.request
from typing import Any

import pytest
from running import LITELLM_KEY, NAME

from solon.calls import Call, Message, Model, Sampling
from solon.errors import CallFailed, Halt, RefusedParameter
from solon.models import open_model
from solon.models.spec import ModelSpec

QUESTION = (Message("system", "Answer in one word."), Message("user", "What is the capital of France?"))
WHICH = (Message("user", "Which is warmer, (A) fire or (B) ice? Answer with the letter only."),)


def openai_at(url: str, **given: Any) -> Model:
    return open_model(ModelSpec(use=f"openai:{NAME}", base_url=url, patience=30, **given))


@pytest.fixture
def anthropic_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_KEY", LITELLM_KEY)

    def opened(url: str, **given: Any) -> Model:
        spec = ModelSpec(use=f"anthropic:{NAME}", base_url=url, key_env="LITELLM_KEY", patience=30, **given)
        return open_model(spec)

    return opened


def asking(model: Model, messages: tuple[Message, ...] = QUESTION, *, most: int = 12, **given: Any) -> Call:
    return Call(model.identity, messages, Sampling(temperature=0.0, max_tokens=most), **given)


def weighing(model: Model, messages: tuple[Message, ...] = WHICH, labels: tuple[str, ...] = ("A", "B")) -> Call:
    return Call(model.identity, messages, Sampling(None, None, 1), labels=labels)


def raw(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


async def answers(model: Model) -> None:
    """Assert that a short answer comes whole, a cut one is told, and both are counted."""
    try:
        reply = await model(asking(model))
        assert "Paris" in reply.text
        assert reply.finish == "stop"
        assert 15 < reply.usage.input < 60
        assert 0 < reply.usage.output <= 12
        assert reply.model
        cut = await model(asking(model, (Message("user", "Tell me a long story."),), most=4))
        assert (cut.finish, cut.usage.output) == ("length", 4)
    finally:
        await model.close()


async def test_llama_cpp_answers(llama_url: str) -> None:
    await answers(openai_at(llama_url))


async def test_transformers_serve_answers(transformers_url: str) -> None:
    await answers(openai_at(transformers_url))


async def test_litellm_answers_in_anthropics_protocol(litellm_url: str, anthropic_at: Any) -> None:
    await answers(anthropic_at(litellm_url))


async def test_three_servers_that_call_their_model_the_same_are_three_identities(
    llama_url: str, transformers_url: str, litellm_url: str, anthropic_at: Any
) -> None:
    models = [openai_at(llama_url), openai_at(transformers_url), anthropic_at(litellm_url)]
    assert {model.name for model in models} == {NAME}
    assert len({model.identity for model in models}) == 3
    assert len({asking(model).key for model in models}) == 3


async def test_llama_cpps_label_log_probabilities_are_those_of_its_raw_answer(llama_url: str) -> None:
    model = openai_at(llama_url)
    await model(weighing(model))  # llama.cpp's numbers change in the second digit once it has read the prompt before
    reply = await model(weighing(model))
    body = {
        "model": NAME,
        "messages": [{"role": message.role, "content": message.content} for message in WHICH],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 100,
    }
    first = raw(f"{llama_url}/chat/completions", body)["choices"][0]["logprobs"]["content"][0]
    shown = {top["token"]: top["logprob"] for top in first["top_logprobs"][:20]}
    assert reply.logprobs is not None
    assert first["token"].strip(" \n()*") == "A", "no decoration to look through here"
    for label, ours in zip("AB", reply.logprobs, strict=True):
        spellings = [log for token, log in shown.items() if token.strip(" \n()*") == label]
        assert ours == (pytest.approx(math.log(sum(map(math.exp, spellings))), abs=1e-3) if spellings else None)
    assert any(log is not None for log in reply.logprobs)


async def test_a_base_models_labels_are_read_from_llama_cpps_completions(llama_url: str) -> None:
    model = openai_at(llama_url, form="text")
    document = (Message("text", "Q: Which is warmer, (A) fire or (B) ice?\nA: The answer is"),)
    await model(weighing(model, document, (" (A)", " (B)")))
    reply = await model(weighing(model, document, (" (A)", " (B)")))
    body = {"model": NAME, "prompt": document[0].content, "max_tokens": 5, "temperature": 0, "logprobs": 20}
    shown = raw(f"{llama_url}/completions", body)["choices"][0]["logprobs"]
    assert reply.logprobs is not None
    assert shown["tokens"][0] == " ("
    for label, ours in zip("AB", reply.logprobs, strict=True):
        direct = math.exp(shown["top_logprobs"][0].get(f" {label}", -math.inf))
        opened = math.exp(shown["token_logprobs"][0] + shown["top_logprobs"][1][label])
        assert ours is not None
        assert math.exp(ours) == pytest.approx(direct + opened, rel=1e-3)
    continued = await model(Call(model.identity, document, Sampling(0.0, None, 8, ("\n",))))
    assert continued.text
    assert "\n" not in continued.text


async def test_transformers_serve_ignores_log_probabilities_and_is_seen_to(transformers_url: str) -> None:
    model = openai_at(transformers_url)
    reply = await model(weighing(model))
    assert reply.text
    assert reply.logprobs is None


async def test_anthropics_protocol_gives_no_log_probabilities(litellm_url: str, anthropic_at: Any) -> None:
    model = anthropic_at(litellm_url)
    assert model.can.logprobs is False
    assert (await model(weighing(model))).logprobs is None


async def test_a_prompt_beyond_llama_cpps_context_is_too_long(llama_url: str) -> None:
    model = openai_at(llama_url)
    with pytest.raises(CallFailed) as caught:
        await model(asking(model, (Message("user", "word " * 4000),)))
    assert caught.value.reason == "too_long"


async def test_a_schema_that_llama_cpp_does_not_take_is_named(llama_url: str) -> None:
    model = openai_at(llama_url)
    with pytest.raises(RefusedParameter) as caught:
        await model(asking(model, schema='{"type":"object"}'))
    assert caught.value.parameter == "response_format"


async def test_litellm_refuses_a_wrong_key_and_an_unknown_model(
    litellm_url: str, anthropic_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = open_model(ModelSpec(use="anthropic:nobody", base_url=litellm_url, key_env="LITELLM_KEY"))
    with pytest.raises(Halt, match="no such model"):
        await stranger(asking(stranger))
    wrong = "sk-wrong-0123456789abcdef"
    monkeypatch.setenv("LITELLM_KEY", wrong)
    model = anthropic_at(litellm_url)
    with pytest.raises(Halt, match="LITELLM_KEY") as caught:
        await model(asking(model))
    assert wrong[-8:] not in str(caught.value)
