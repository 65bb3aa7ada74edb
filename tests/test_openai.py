"""OpenAI's protocol, through the official SDK, against a real server on loopback."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest
from wire import Answer, Time, Wire, asking, chat, error

from solon.calls import Can, Message, Reply, Sampling, Usage
from solon.errors import BadInput, CallFailed, Halt, Passing, RefusedParameter, SolonError
from solon.models import open_model
from solon.models.openai import OpenAIModel, label_logprobs
from solon.models.spec import ModelSpec

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def model_at(wire: Wire, time: Time | None = None, **given: Any) -> OpenAIModel:
    spec = ModelSpec(use="openai:tiny", base_url=f"{wire.url}/v1", **given)
    return OpenAIModel(spec, **(time or Time()).pacing)


async def reply_to(answer: Answer, call: Any = None, **given: Any) -> Reply:
    async with Wire(answer) as wire:
        model = model_at(wire, **given)
        try:
            return await model(call or asking())
        finally:
            await model.close()


async def body_of(call: Any, **given: Any) -> dict[str, Any]:
    async with Wire(Answer(chat())) as wire:
        model = model_at(wire, **given)
        await model(call)
        await model.close()
        return wire.requests[0].body


# -- who it is -----------------------------------------------------------------------------------------------


def identity(**given: Any) -> str:
    return OpenAIModel(ModelSpec(use="openai:tiny", **given)).identity


def test_at_openai_the_identity_is_provider_and_model() -> None:
    assert identity() == "openai:tiny"
    assert identity(base_url="https://API.openai.com:443/v1/") == "openai:tiny"


@pytest.mark.parametrize(
    "url", ["http://Localhost:80/v1", "HTTP://localhost/v1/", "http://localhost:80/v1//", " http://localhost/v1 "]
)
def test_spellings_of_one_address_are_one_identity(url: str) -> None:
    assert identity(base_url=url) == "openai:tiny@http://localhost/v1"


def test_two_servers_that_call_their_model_the_same_are_two_identities() -> None:
    assert identity(base_url="http://localhost:8001/v1") != identity(base_url="http://localhost:8002/v1")
    assert identity(base_url="http://[::1]:8001/v1") == "openai:tiny@http://[::1]:8001/v1"


def test_an_address_in_the_environment_is_part_of_the_identity_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8001/v1")
    assert identity() == "openai:tiny@http://localhost:8001/v1"
    assert identity(base_url="https://api.openai.com/v1") == "openai:tiny"


def test_the_recipe_may_name_the_identity() -> None:
    assert identity(base_url="http://localhost:8001/v1", identity="tiny-of-march") == "tiny-of-march"


def test_a_model_is_what_the_seam_asks_for() -> None:
    model = open_model(ModelSpec(use="openai:tiny", concurrency=5))
    assert (model.name, model.form, model.can, model.concurrency) == ("tiny", "chat", Can(None, None), 5)
    assert open_model(ModelSpec(use="openai:tiny", form="text")).form == "text"
    assert open_model(ModelSpec(use="openai:tiny")).concurrency == 8, "where nobody says, that is found out"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://localhost/v1", "no http address"),
        ("localhost:8000/v1", "no http address"),
        ("http://", "no http address"),
        ("http://local host/v1", "no http address"),
        ("http://localhost:port/v1", "not an address"),
        ("http://me:secret-word@localhost/v1", "a key or password stands in the address"),
        ("http://localhost/v1?api-key=secret-word", "goes on after '\\?'"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_a_secret(url: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        identity(base_url=url)
    assert "base_url of openai:tiny" in str(caught.value)
    assert "secret-word" not in str(caught.value)


# -- keys ----------------------------------------------------------------------------------------------------


async def test_a_missing_key_stops_the_first_call_and_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model can be opened, named and looked up without its key: a plan needs none."""
    monkeypatch.delenv("OPENAI_API_KEY")
    assert identity() == "openai:tiny"
    for given, words in (
        ({}, "no key in OPENAI_API_KEY; set that environment variable"),
        ({"base_url": "http://localhost/v1", "key_env": "MY_KEY"}, "no key in MY_KEY"),
    ):
        with pytest.raises(Halt, match=words):
            await OpenAIModel(ModelSpec(use="openai:tiny", **given))(asking())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ключ")
    with pytest.raises(Halt, match="holds characters that no key has"):
        await OpenAIModel(ModelSpec(use="openai:tiny"))(asking())


async def test_a_server_of_ones_own_is_sent_no_key_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "my-own-key\n")
    async with Wire(Answer(chat())) as wire:
        for given, sent in (({}, "none"), ({"key_env": "MY_KEY"}, "my-own-key")):
            model = model_at(wire, **given)
            await model(asking())
            assert wire.requests[-1].headers["Authorization"] == f"Bearer {sent}"
        monkeypatch.setenv("OPENAI_BASE_URL", f"{wire.url}/v1")
        await OpenAIModel(ModelSpec(use="openai:tiny"))(asking())
        assert wire.requests[-1].headers["Authorization"] == f"Bearer {KEY}", "the environment names both"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_no_error_shows_the_key_even_where_the_server_does(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "tok_0123456789")
    echoed = error("Incorrect API key provided: tok_0123456789 (sk-proj-********wxyz).")
    with pytest.raises(SolonError) as caught:
        await reply_to(Answer(echoed, status=status), key_env="MY_KEY", patience=0)
    assert "tok_0123456789" not in str(caught.value)
    assert "wxyz" not in str(caught.value)


# -- what goes out -------------------------------------------------------------------------------------------


async def test_only_what_the_call_says_is_sent() -> None:
    plain = await body_of(asking(sampling=Sampling(temperature=None, max_tokens=9)))
    assert plain == {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 9}
    full = await body_of(asking(sampling=Sampling(0.5, 0.9, 9, ("END",)), options='{"seed":3}'))
    assert full == {**plain, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 3}


def test_openai_and_azure_take_the_length_by_its_newer_name() -> None:
    for url, name in (
        (None, "max_completion_tokens"),
        ("https://x.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost/v1", "max_tokens"),
    ):
        model = OpenAIModel(ModelSpec(use="openai:tiny", base_url=url, key_env="OPENAI_API_KEY"))
        assert model.request(asking())[name] == 64


async def test_a_schema_goes_out_as_a_strict_response_format() -> None:
    schema = {"type": "object", "properties": {"better": {"enum": ["A", "B"]}}}
    body = await body_of(asking(schema=json.dumps(schema)))
    assert body["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": schema}


async def test_options_join_a_mapping_that_is_already_there() -> None:
    body = await body_of(asking(schema="{}", options='{"response_format":{"extra":1},"temperature":null}'))
    assert (body["response_format"]["type"], body["response_format"]["extra"]) == ("json_schema", 1)
    assert body["temperature"] is None


async def test_a_base_model_is_given_its_document() -> None:
    body = {"model": "base", "choices": [{"text": " there.\n\n", "finish_reason": "length", "logprobs": None}]}
    async with Wire(Answer(body)) as wire:
        model = model_at(wire, form="text")
        reply = await model(asking("Once", "text", sampling=Sampling(0.0, None, 3, ("\n\nHuman:",))))
        assert wire.requests[0].path == "/v1/completions"
        expected = {"model": "tiny", "prompt": "Once", "max_tokens": 3, "temperature": 0.0, "stop": ["\n\nHuman:"]}
        assert wire.requests[0].body == expected
        assert reply == Reply(" there.\n\n", finish="length", model="base")
        with pytest.raises(ValueError, match="form: chat"):
            await model(asking())
        with pytest.raises(ValueError, match="form: text"):
            await model_at(wire)(asking("Once", "text"))


# -- what comes back -----------------------------------------------------------------------------------------


async def test_an_answer_comes_back_exactly_with_its_usage_and_the_servers_name() -> None:
    body = chat("  Hi.\n")
    body["usage"] |= {
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    }
    reply = await reply_to(Answer(body))
    assert reply == Reply("  Hi.\n", usage=Usage(7, 5, thinking=3, cached=4), model="served-name")
    assert reply.usage.written == 2


async def test_missing_usage_is_counted_as_nothing() -> None:
    for usage in (None, {}, {"prompt_tokens": None}):
        assert (await reply_to(Answer({**chat(), "usage": usage}))).usage == Usage()


@pytest.mark.parametrize(
    ("body", "text", "finish", "thinking"),
    [
        (chat("Half a sen", "length"), "Half a sen", "length", ""),
        (chat(None), "", "stop", ""),
        (chat("Hi.", None), "Hi.", "stop", ""),
        (chat(None, refusal="I can't help."), "I can't help.", "refusal", ""),
        (chat("Part", "content_filter"), "Part", "refusal", ""),
        (chat("<think>\nHm.\n</think>\n\nYes."), "Yes.", "stop", "Hm."),
        (chat("<think>Hm, and then", "length"), "", "length", "Hm, and then"),
        (chat("Yes.", reasoning_content="Hm."), "Yes.", "stop", "Hm."),
        (chat("Yes.", reasoning="Hm."), "Yes.", "stop", "Hm."),
        (chat("Yes.", reasoning=None), "Yes.", "stop", ""),
        (chat("<think>Two.</think>Yes.", reasoning="One."), "Yes.", "stop", "One.\n\nTwo."),
        (chat("lone \ud83d surrogate, whole \ud83d\ude00"), "lone \ufffd surrogate, whole 😀", "stop", ""),
    ],
)
async def test_each_kind_of_ending_is_told_apart(body: Any, text: str, finish: str, thinking: str) -> None:
    reply = await reply_to(Answer(body))
    assert (reply.text, reply.finish, reply.thinking) == (text, finish, thinking)
    assert Reply.from_json(reply.to_json()) == reply
    reply.to_json().encode("utf-8")


async def test_an_answer_of_ten_megabytes_arrives_whole() -> None:
    text = "0123456789" * 2**20
    assert (await reply_to(Answer(chat(text)))).text == text


@pytest.mark.parametrize(
    "answer",
    [
        Answer(json.dumps(chat())[:40]),
        Answer("<html><body>Welcome</body></html>", content_type="text/html"),
        Answer(""),
        Answer("null"),
        Answer("[]"),
        Answer({}),
        Answer(b'{"choices": "\xff\xfe'),
        Answer("[" * 100_000),
        Answer({**chat(), "choices": []}),
        Answer({**chat(), "choices": [{"finish_reason": "stop"}]}),
        Answer({**chat(), "choices": [{"message": None, "finish_reason": "stop"}]}),
        Answer(chat({"parts": ["Hi."]})),
        Answer({**chat(), "usage": {"prompt_tokens": "many"}}),
        Answer({"error": {"message": "upstream failed", "code": 502}}),
    ],
)
async def test_what_the_protocol_does_not_promise_is_unreadable(answer: Answer) -> None:
    with pytest.raises(CallFailed) as caught:
        await reply_to(answer, patience=0)
    assert caught.value.reason == "unreadable_answer"
    assert "openai:tiny at http://127.0.0.1" in str(caught.value)


async def test_an_unreadable_answer_may_be_followed_by_a_good_one() -> None:
    async with Wire(Answer("<html>"), Answer(chat("Yes."))) as wire:
        assert (await model_at(wire)(asking())).text == "Yes."
        assert len(wire.requests) == 2


# -- labels --------------------------------------------------------------------------------------------------


def shown(*positions: tuple[str, dict[str, float]]) -> dict[str, Any]:
    """Return chat log-probabilities out of (token written, {token: probability}) a position."""
    return {
        "content": [
            {
                "token": token,
                "logprob": math.log(tops[token]),
                "top_logprobs": [{"token": top, "logprob": math.log(share)} for top, share in tops.items()],
            }
            for token, tops in positions
        ]
    }


async def weighed(logprobs: Any, labels: tuple[str, ...] = ("A", "B")) -> list[float | None] | None:
    call = asking(labels=labels, sampling=Sampling(None, None, 1))
    reply = await reply_to(Answer(chat("A", "length", logprobs=logprobs)), call)
    if reply.logprobs is None:
        return None
    return [None if log is None else round(math.exp(log), 6) for log in reply.logprobs]


async def test_a_call_with_labels_asks_for_the_likeliest_tokens_greedily() -> None:
    body = await body_of(asking(labels=("A", "B"), sampling=Sampling(None, None, 1)))
    assert (body["logprobs"], body["top_logprobs"], body["temperature"], body["max_tokens"]) == (True, 20, 0, 5)


async def test_a_labels_probability_is_the_sum_over_its_spellings() -> None:
    tops = {"A": 0.5, " A": 0.1, "**A": 0.05, "B": 0.2, "a": 0.01, "An": 0.02}
    assert await weighed(shown(("A", tops))) == [0.65, 0.2]


async def test_decoration_before_the_label_is_looked_through() -> None:
    first = ("(", {"(": 0.8, "A": 0.1, "The": 0.1})
    assert await weighed(shown(first, ("B", {"B": 0.75, "A": 0.25}))) == [0.3, 0.6]


async def test_what_follows_a_word_is_not_read() -> None:
    positions = [("The", {"The": 0.9, "A": 0.05}), ("B", {"B": 1.0})]
    assert await weighed(shown(*positions)) == [0.05, None]


async def test_labels_of_another_case_count_where_none_has_the_right_one() -> None:
    assert await weighed(shown(("a", {"a": 0.7, "b": 0.3}))) == [0.7, 0.3]
    assert await weighed(shown(("Yes", {"Yes": 0.6, "no": 0.3})), ("yes", "No")) == [0.6, 0.3]


async def test_labels_that_are_not_shown_have_no_number() -> None:
    assert await weighed(shown(("Well", {"Well": 1.0}))) == [None, None]


async def test_a_server_that_gives_no_log_probabilities_is_seen_to_give_none() -> None:
    assert await weighed(None) is None
    assert await weighed({"content": None}) is None
    assert await weighed({"content": []}) is None


async def test_no_log_probabilities_are_kept_where_none_were_asked_for() -> None:
    assert (await reply_to(Answer(chat(logprobs=shown(("A", {"A": 1.0})))))).logprobs is None


def test_infinite_log_probabilities_are_left_out() -> None:
    assert label_logprobs([("A", 0.0, [("A", 0.0), ("B", -math.inf)])], ("A", "B")) == (0.0, None)


def test_a_token_that_its_own_list_leaves_out_counts_too() -> None:
    assert label_logprobs([("A", -0.5, [])], ("A", "B")) == (-0.5, None)


async def test_a_base_models_labels_are_read_from_its_continuation() -> None:
    tops = [{" (": math.log(0.9), " A": math.log(0.1)}, {"A": math.log(0.5), "B": math.log(0.25)}]
    logprobs = {"tokens": [" (", "A"], "token_logprobs": [math.log(0.9), math.log(0.5)], "top_logprobs": tops}
    body = {"model": "base", "choices": [{"text": " (A", "finish_reason": "length", "logprobs": logprobs}]}
    async with Wire(Answer(body)) as wire:
        call = asking("Which? Answer:", "text", labels=(" (A)", " (B)"), sampling=Sampling(None, None, 1))
        reply = await model_at(wire, form="text")(call)
        assert wire.requests[0].body["logprobs"] == 20
        assert wire.requests[0].body["max_tokens"] == 5
    assert reply.logprobs is not None
    assert [math.exp(log) for log in reply.logprobs if log is not None] == pytest.approx([0.55, 0.225])


# -- what goes wrong -----------------------------------------------------------------------------------------


async def failure(answer: Answer, call: Any = None, **given: Any) -> SolonError:
    with pytest.raises(SolonError) as caught:
        await reply_to(answer, call, **{"patience": 0, **given})
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, error("bad key"), "wants a key; name the environment variable"),
        (400, error("API key not valid. Please pass a valid API key."), "wants a key"),
        (400, error("No connected db.", kind="no_db_connection"), "wants a key"),
        (403, error("Country not supported"), "may not ask this .Country not supported."),
        (404, error("gone"), "no such model or address .status 404: gone.*end in /v1"),
        (404, "<html>nginx</html>", "no such model or address"),
        (405, {"detail": "Method Not Allowed"}, "no such model or address .status 405: Method Not Allowed"),
        (404, error("The model `tiny` does not exist", code="model_not_found"), "no such model"),
        (400, error("Invalid model name passed in model=tiny"), "no such model .*after 'openai:'"),
        (402, {"error": "pay first"}, "no credit"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "no credit"),
        (400, error("Your credit balance is too low"), "no credit .Your credit balance is too low"),
    ],
)
async def test_what_no_later_call_can_mend_halts_the_run(status: int, body: Any, words: str) -> None:
    problem = await failure(Answer(body, status=status))
    assert type(problem) is Halt
    assert "openai:tiny at http://127.0.0.1" in str(problem)
    with pytest.raises(Halt, match=words):
        raise problem


async def test_a_wrong_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "wrong-key-value")
    problem = await failure(Answer(error("bad"), status=401), key_env="MY_KEY")
    assert "did not accept the key in MY_KEY" in str(problem)


@pytest.mark.parametrize(
    ("status", "body", "parameter"),
    [
        (400, error("Unsupported value: 'temperature'", code="unsupported_value", param="temperature"), "temperature"),
        (400, error("decimal above maximum value", code="decimal_above_max_value", param="temperature"), "temperature"),
        (400, error("bad schema", param="response_format"), "response_format"),
        (400, error("This model does not support logprobs"), None),
        (422, {"detail": [{"loc": ["body", "top_p"], "msg": "too high", "type": "x"}]}, "top_p"),
        (500, error("[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type')}]"), "response_format"),
    ],
)
async def test_a_parameter_that_a_model_refuses_is_named(status: int, body: Any, parameter: str | None) -> None:
    problem = await failure(Answer(body, status=status), asking(schema="{}", sampling=Sampling(2.5, 1.5, 9)))
    assert isinstance(problem, RefusedParameter)
    assert problem.parameter == parameter
    assert "solon models check" in str(problem)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("too big", code="context_length_exceeded", param="messages")),
        (400, error("This model's maximum context length is 512 tokens. However, you requested 600 tokens")),
        (400, error("the request exceeds the available context size, try increasing it")),
        (400, {"object": "error", "message": "The prompt is too long: 9000, model maximum 4096", "code": 400}),
        (413, "Request Entity Too Large"),
    ],
)
async def test_a_prompt_beyond_the_context_is_too_long(status: int, body: Any) -> None:
    problem = await failure(Answer(body, status=status))
    assert isinstance(problem, CallFailed)
    assert problem.reason == "too_long"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("Blocked.", code="content_policy_violation")),
        (400, {"error": {"message": "filtered", "code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, error("Your prompt was flagged as potentially violating our usage policy", code="invalid_prompt")),
        (403, error("Your chosen model requires moderation and your input was flagged")),
    ],
)
async def test_a_prompt_that_the_provider_filters_is_a_refusal(status: int, body: Any) -> None:
    reply = await reply_to(Answer(body, status=status))
    assert reply.finish == "refusal"
    assert reply.text


async def test_any_other_complaint_is_this_calls_own() -> None:
    problem = await failure(Answer(error("messages: roles must alternate", param="messages"), status=400))
    assert isinstance(problem, CallFailed)
    assert problem.reason == "rejected_call"
    assert "roles must alternate" in str(problem)


async def test_the_servers_words_are_quoted_short() -> None:
    problem = await failure(Answer(error("word " * 10_000), status=400))
    assert len(str(problem)) < 500


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
async def test_what_may_pass_is_asked_again(status: int) -> None:
    async with Wire(Answer(error("not now"), status=status), Answer(chat("Yes."))) as wire:
        assert (await model_at(wire)(asking())).text == "Yes."
        assert len(wire.requests) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
    ],
)
async def test_retry_after_is_obeyed(headers: dict[str, str], seconds: float | None) -> None:
    time = Time()
    async with Wire(Answer(error("slow"), status=429, headers=headers), Answer(chat())) as wire:
        await model_at(wire, time)(asking())
    assert time.naps == [seconds] if seconds else time.naps[0] < 1


async def test_retry_after_may_be_a_date() -> None:
    clock = Time()
    headers = {"Retry-After": email.utils.formatdate(time.time() + 40, usegmt=True)}
    async with Wire(Answer("", status=503, headers=headers), Answer(chat())) as wire:
        await model_at(wire, clock)(asking())
    assert 30 < clock.naps[0] <= 40


async def test_patience_bounds_the_retries() -> None:
    problem = await failure(Answer("busy", status=503), patience=5)
    assert isinstance(problem, CallFailed)
    assert not isinstance(problem, Passing)
    assert (problem.reason, "status 503: busy" in str(problem), "attempts" in str(problem)) == ("no_answer", True, True)


@pytest.mark.parametrize("cut", [0, 30])
async def test_a_connection_that_breaks_in_the_middle_is_asked_again(cut: int) -> None:
    async with Wire(Answer(chat("No."), cut=cut), Answer(chat("Yes."))) as wire:
        assert (await model_at(wire)(asking())).text == "Yes."


@pytest.mark.parametrize("slowness", [{"delay": 30}, {"drip": 0.1}])
async def test_an_answer_that_takes_longer_than_timeout_is_given_up(slowness: dict[str, float]) -> None:
    problem = await failure(Answer(chat(), **slowness), timeout=0.3)
    assert isinstance(problem, CallFailed)
    assert problem.reason == "no_answer"


@pytest.mark.parametrize("first", [Answer(chat()), Answer(error("No.", code="content_filter"), status=400)])
async def test_nobody_listening_halts_before_the_first_good_answer_and_may_pass_after_it(first: Answer) -> None:
    wire = Wire(first)
    await wire.__aenter__()
    model, late = model_at(wire, patience=0), model_at(wire)
    await model(asking())
    await wire.__aexit__()
    with pytest.raises(CallFailed, match="the connection broke"):
        await model(asking())
    with pytest.raises(Halt, match=r"nobody answers .*is the server running"):
        await late(asking())
    with pytest.raises(Halt, match="nobody answers"):
        await OpenAIModel(ModelSpec(use="openai:tiny", base_url="http://solon.invalid/v1"))(asking())


async def test_no_more_requests_are_in_flight_than_concurrency_says() -> None:
    async with Wire(Answer(chat(), delay=0.02)) as wire:
        model = model_at(wire, concurrency=2)
        most = 0
        tasks = [asyncio.create_task(model(asking(str(n)))) for n in range(8)]
        served = 0
        while not all(task.done() for task in tasks):
            most = max(most, len(wire.requests) - sum(task.done() for task in tasks))
            await asyncio.sleep(0.002)
            served = len(wire.requests)
    assert served == 8
    assert most <= 3, "two in flight, and one that was answered while we looked"


async def test_cancelling_a_call_ends_it_and_leaves_the_model_usable() -> None:
    async with Wire(Answer(chat(), delay=30), Answer(chat("Yes."))) as wire:
        model = model_at(wire, concurrency=1)
        task = asyncio.create_task(model(asking()))
        await wire.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await model(asking())).text == "Yes."


async def test_a_system_message_and_several_turns_go_out_as_they_are() -> None:
    messages = (Message("system", "Be kind."), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    async with Wire(Answer(chat())) as wire:
        await model_at(wire)(replace(asking(), messages=messages))
    assert [(one["role"], one["content"]) for one in wire.requests[0].body["messages"]] == [
        (message.role, message.content) for message in messages
    ]
