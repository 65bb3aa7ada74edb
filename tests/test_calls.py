"""A Call's name says who is asked what, and nothing else; a Reply is kept as it was given."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solon.calls import Call, Message, Reply, Sampling, Usage, key_of, options_text
from solon.digests import canonical
from solon.errors import Passing

TEXT = st.text(st.characters())  # half characters (lone surrogates) too
LOG = st.none() | st.floats(max_value=0.0, allow_nan=False, allow_infinity=False)
SHARE = st.none() | st.floats(0, 2) | st.integers(0, 2)

CALLS = st.builds(
    Call,
    model=TEXT,
    messages=st.lists(st.builds(Message, TEXT, TEXT), max_size=3).map(tuple),
    sampling=st.builds(Sampling, SHARE, SHARE, st.integers(1, 9999), st.lists(TEXT, max_size=2).map(tuple)),
    labels=st.lists(TEXT, max_size=2).map(tuple),
    schema=st.none() | st.dictionaries(TEXT, TEXT | st.integers(), max_size=2).map(canonical),
    options=st.dictionaries(TEXT, TEXT | st.floats(-9, 9) | st.none(), max_size=2).map(canonical),
    sample=st.integers(0, 9),
    attempt=st.integers(0, 9),
)
COUNT = st.integers(0, 10**9)
REPLIES = st.builds(
    Reply,
    text=TEXT,
    finish=st.sampled_from(["stop", "length", "refusal"]),
    thinking=TEXT,
    logprobs=st.none() | st.lists(LOG, max_size=3).map(tuple),
    usage=st.builds(Usage, COUNT, COUNT, COUNT, COUNT),
    model=TEXT,
)


def asked(text: str = "Hello", **more: object) -> Call:
    return Call("openai:gpt-4o", (Message("user", text),), **more)  # type: ignore[arg-type]


SCHEMA = '{"type":"object","properties":{"answer":{"enum":["A","B"]}}}'
PINNED = [
    # printf '%s' '["solon.call/1",{"attempt":0,"max_tokens":1024,"messages":[["user","Hello"]],
    # "model":"openai:gpt-4o","sample":0,"temperature":1.0}]' | sha256sum       (on one line)
    (asked(), "c1:aeb01f4d22ffc1be1d1fce66c66e24072571dcc196c619507eac1cab0e313394"),
    (
        asked(sampling=Sampling(temperature=0, top_p=1, max_tokens=16)),
        "c1:4c5ac0c1bb14d513fee6991642aaea22d62ed92ead13ff9c7a3d8a7c1b842fd5",
    ),
    (
        Call(
            "anthropic:claude",
            (
                Message("system", "Be kind."),
                Message("user", "Hi"),
                Message("assistant", "Hello."),
                Message("user", "And?"),
            ),
        ),
        "c1:a8c766019eab01d729ed37b04c6ca6cda64f282963059bbf08290466606f531d",
    ),
    (
        Call(
            "local:tiny",
            (Message("text", "\n\nHuman: Hi\n\nAssistant:"),),
            Sampling(1.0, None, 256, ("\n\nHuman:",)),
        ),
        "c1:5f5b95cc1eca565249a716b939ef55d8e8ad0eea19c1c4b3e8c813042807a317",
    ),
    (
        asked("A or B?", sampling=Sampling(None, None, 1), labels=("A", "B")),
        "c1:e79294354326f3d3a0816a8e4ea15e8402d6ddf29bf13ee20a0f2e0b23c002db",
    ),
    (asked("A or B?", schema=SCHEMA), "c1:f97999bf40c42d37d429231f5325c3c01e52a3060e78ce436257e67fa2fe5a42"),
    (
        asked(options=options_text({"seed": 7, "logit_bias": {50256: -100}})),
        "c1:4814562d1e6603e4247659484b4fbf0b7fe6f6ad5ba145064c57ba18dbbad5c6",
    ),
    (asked(sample=1), "c1:3f1a3de05588e0019c6314cf75e459d06585f439b807fd2a8fb16e135499d1be"),
    (asked(attempt=2), "c1:688c2fe289cfff1da7a6cd465993a31e1fbf89f94d29338165ab4b7c36e9f503"),
    (
        asked('Grüße, 世界 😀 \u2028 \x00 "quoted" \\ tab\t'),
        "c1:21da735e7442ae5b336838bd8e82b3682a76b18bf5bc36c776723ca24ba499f1",
    ),
    (asked("half \ud83d of a character"), "c1:ed7c9905fc1d40dbedfd89733d1f1c16d5c82d9c9be598adc0be14b52e1ac95a"),
]


@pytest.mark.parametrize(("call", "key"), PINNED, ids=lambda value: value[:9] if isinstance(value, str) else "")
def test_a_calls_key_is_pinned(call: Call, key: str) -> None:
    assert call.key == key


def test_the_canonical_form_of_a_call_is_pinned() -> None:
    assert asked().to_json() == (
        '{"attempt":0,"max_tokens":1024,"messages":[["user","Hello"]],"model":"openai:gpt-4o","sample":0,'
        '"temperature":1.0}'
    )
    full = replace(
        asked("A?"), sampling=Sampling(0, 0.9, 5, ("\n",)), labels=("A",), schema=SCHEMA, options='{"seed":1}'
    )
    assert full.to_json() == (
        '{"attempt":0,"labels":["A"],"max_tokens":5,"messages":[["user","A?"]],"model":"openai:gpt-4o",'
        '"options":{"seed":1},"sample":0,"schema":{"properties":{"answer":{"enum":["A","B"]}},"type":"object"},'
        '"stop":["\\n"],"temperature":0.0,"top_p":0.9}'
    )


def test_a_field_at_its_empty_value_is_left_out() -> None:
    bare = asked(sampling=Sampling(temperature=None), labels=(), schema=None, options="{}")
    assert set(bare.content()) == {"model", "messages", "max_tokens", "sample", "attempt"}
    assert asked(options=" { } ").key == asked().key


def test_numbers_that_are_equal_make_one_key() -> None:
    assert asked(sampling=Sampling(temperature=1)).key == asked(sampling=Sampling(temperature=1.0)).key
    assert asked(sampling=Sampling(top_p=1)).key == asked(sampling=Sampling(top_p=1.0)).key
    assert asked(sampling=Sampling(temperature=-0.0)).key == asked(sampling=Sampling(temperature=0)).key


def test_every_field_that_changes_the_answer_changes_the_key() -> None:
    """A field that is added to Call or Sampling makes this fail until somebody has thought of its place in the key."""
    other: dict[str, object] = {
        "model": "openai:gpt-4o@http://localhost:8000/v1",
        "messages": (Message("system", "Hello"),),
        "sampling": Sampling(max_tokens=7),
        "labels": ("A",),
        "schema": "{}",
        "options": '{"seed":1}',
        "sample": 1,
        "attempt": 1,
    }
    assert set(other) == {field.name for field in fields(Call)}
    sampling = {"temperature": 0.5, "top_p": 0.5, "max_tokens": 7, "stop": ("x",)}
    assert set(sampling) == {field.name for field in fields(Sampling)}
    changed = [replace(asked(), **{name: value}) for name, value in other.items()]
    changed += [asked(sampling=replace(Sampling(), **{name: value})) for name, value in sampling.items()]
    assert len({asked().key, *(call.key for call in changed)}) == len(changed)  # max_tokens=7 stands in both lists


def test_sample_and_attempt_are_not_each_other() -> None:
    assert asked(sample=1).key != asked(attempt=1).key


def test_where_one_message_ends_matters() -> None:
    one = Call("m", (Message("user", "a"), Message("user", "b")))
    other = Call("m", (Message("user", 'a"],["user","b'),))
    assert one.key != other.key


def test_the_order_of_a_schemas_properties_is_brought_into_one_form() -> None:
    """A provider writes properties in the schema's order, so two calls of one key must be asked alike."""
    one = asked(schema='{"b": 1, "a": 2}', options='{"y": 1, "x": 2}')
    other = asked(schema='{"a":2,"b":1}', options='{"x":2,"y":1}')
    assert one == other
    assert one.schema == '{"a":2,"b":1}'
    assert one.key == other.key


def test_options_of_a_yaml_page_may_have_numbers_as_keys() -> None:
    text = options_text({"logit_bias": {9: 1, 10: 2}})
    assert text == '{"logit_bias":{"10":2,"9":1}}'
    assert options_text(None) == options_text({}) == "{}"
    call = asked(options=text)
    assert Call.from_json(call.to_json()) == call


@pytest.mark.parametrize("field", ["schema", "options"])
def test_what_is_no_json_is_refused_where_the_call_is_made(field: str) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        asked(**{field: "{"})


def test_a_key_is_the_same_in_every_process() -> None:
    script = (
        "from solon.calls import Call, Message; "
        "print(Call('openai:gpt-4o', (Message('user', 'Hello'),), options='{\"b\":1,\"a\":{\"d\":1,\"c\":2}}').key)"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert keys == {(asked(options='{"a":{"c":2,"d":1},"b":1}').key + "\n").encode()}


@given(CALLS)
def test_a_call_comes_back_from_json_with_its_key(call: Call) -> None:
    back = Call.from_json(call.to_json())
    assert back == call
    assert back.key == call.key
    assert key_of(call.content()) == call.key
    assert hash(back) == hash(call)


@given(REPLIES)
def test_a_reply_comes_back_from_json_as_it_was(reply: Reply) -> None:
    back = Reply.from_json(reply.to_json())
    assert back == reply
    assert not back.known
    assert back.to_json() == reply.to_json()


def test_known_is_told_and_not_stored() -> None:
    known = Reply("yes").from_memory()
    assert known.known
    assert known == Reply("yes")
    assert known.to_json() == Reply("yes").to_json()


def test_a_log_probability_that_json_cannot_say_is_none_from_the_start() -> None:
    """What is handed on first must equal what memory gives later, and a paid reply must not be lost over it."""
    reply = Reply("A", logprobs=(-math.inf, math.inf, None, -1, -0.5))
    assert reply.logprobs == (None, None, None, -1.0, -0.5)
    assert Reply.from_json(reply.to_json()) == reply


def test_one_log_probability_that_is_no_number_takes_the_others_with_it() -> None:
    """Beside it a label would look certain that was not."""
    reply = Reply("A", logprobs=(math.nan, -1.0))
    assert reply.logprobs is None
    assert Reply.from_json(reply.to_json()) == reply


def test_log_probabilities_may_come_as_any_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    reply = Reply("A", logprobs=list(numpy.array([-0.5, -numpy.inf], dtype="float32")))  # type: ignore[arg-type]
    assert reply.logprobs == (-0.5, None)
    assert Reply.from_json(reply.to_json()) == reply


def test_usage_adds_up_kind_by_kind() -> None:
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)


def test_a_failure_keeps_what_it_knows_when_it_is_copied() -> None:
    problem = Passing("no_answer", "status 429", retry_after=7.5, throttled=True)
    copied = pickle.loads(pickle.dumps(problem))
    assert (type(copied), copied.reason, copied.detail) == (Passing, "no_answer", "status 429")
    assert (copied.retry_after, copied.throttled, str(copied)) == (7.5, True, str(problem))
