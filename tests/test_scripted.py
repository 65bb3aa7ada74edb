"""A model that says what it was told to say."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from wire import asking

from solon.calls import Call, Can, Reply, Sampling, Usage
from solon.errors import BadInput, CallFailed, Halt, Passing
from solon.models import open_model
from solon.models.scripted import Scripted
from solon.models.spec import ModelSpec


async def test_a_function_of_the_call_answers_sync_or_async() -> None:
    async def later(call: Call) -> str:
        await asyncio.sleep(0)
        return "later"

    assert (await Scripted(lambda call: call.messages[-1].content.upper())(asking("hey"))).text == "HEY"
    assert (await Scripted(later)(asking())).text == "later"
    reply = Reply("cut", finish="length", usage=Usage(1, 2), model="m")
    assert await Scripted(lambda call: reply)(asking()) == reply


async def test_tokens_are_words_the_same_each_time() -> None:
    model = Scripted(lambda call: Reply("two words", thinking="and three more"), name="tiny")
    reply = await model(asking("one two three"))
    assert reply.usage == Usage(input=3, output=5, thinking=3)
    assert reply.model == "tiny"
    assert model.asked == 1


async def test_a_mapping_gives_the_probability_of_each_label() -> None:
    model = Scripted(lambda call: {"A": 0.75, "B": 0.25}, can=Can(logprobs=True))
    reply = await model(asking(labels=("A", "B", "C")))
    assert reply.text == "A"
    assert reply.logprobs == (math.log(0.75), math.log(0.25), None)
    assert (await Scripted(lambda call: {"A": 1.0, "B": 0.0})(asking(labels=("A", "B")))).logprobs == (0.0, None)


async def test_words_for_a_call_with_labels_carry_no_log_probabilities() -> None:
    assert (await Scripted(lambda call: "A")(asking(labels=("A", "B")))).logprobs is None


def test_a_declared_version_is_part_of_the_identity() -> None:
    assert Scripted(str).identity == "scripted:scripted@1"
    assert Scripted(str, name="judge", version="3").identity == "scripted:judge@3"
    model = Scripted(str, form="text", can=Can(True, True), concurrency=3)
    assert (model.form, model.can, model.concurrency) == ("text", Can(True, True), 3)
    assert Scripted(str).can == Can(logprobs=False, schema=False)


async def test_no_more_calls_are_answered_at_once_than_concurrency_says() -> None:
    inside = most = 0

    async def busy(call: Call) -> str:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return "yes"

    model = Scripted(busy, concurrency=3)
    await asyncio.gather(*(model(asking()) for _ in range(12)))
    assert most == 3


async def test_a_delay_lets_others_go_first() -> None:
    order: list[str] = []

    async def say(model: Scripted, name: str) -> None:
        await model(asking())
        order.append(name)

    slow, quick = Scripted(lambda call: "slow", delay=0.05), Scripted(lambda call: "quick")
    await asyncio.gather(say(slow, "slow"), say(quick, "quick"))
    assert order == ["quick", "slow"]


@pytest.mark.parametrize("problem", [CallFailed("no_answer"), Passing("no_answer"), Halt("stop"), KeyError("bug")])
async def test_what_the_function_raises_is_raised_and_never_retried(problem: Exception) -> None:
    def fail(call: Call) -> str:
        raise problem

    model = Scripted(fail)
    with pytest.raises(type(problem)):
        await model(asking())
    assert model.asked == 1


async def test_an_answer_of_another_kind_is_refused() -> None:
    with pytest.raises(Halt, match="not int"):
        await Scripted(lambda call: 3)(asking())  # type: ignore[arg-type,return-value]


# -- a file of replies ---------------------------------------------------------------------------------------


def replies(folder: Path, *lines: Any, **given: Any) -> Any:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "replies.jsonl").write_text(text, encoding="utf-8")
    return open_model(ModelSpec(use="scripted:replies.jsonl", **given), base=folder)


async def test_the_first_line_that_fits_answers(tmp_path: Path) -> None:
    exact = asking("exactly this")
    model = replies(
        tmp_path,
        {"key": exact.key, "reply": "by key"},
        {"when": "wifi", "reply": "Ask your neighbour."},
        "",
        {"when": "think", "reply": "Yes", "thinking": "Hm.", "finish": "length"},
        {"when": "", "reply": "else"},
    )
    assert (await model(exact)).text == "by key"
    assert (await model(asking("into the wifi"))).text == "Ask your neighbour."
    reply = await model(asking("think!"))
    assert (reply.text, reply.thinking, reply.finish) == ("Yes", "Hm.", "length")
    assert (await model(asking("what?"))).text == "else"
    assert model.can == Can(logprobs=False, schema=False)


async def test_a_file_may_give_the_log_probabilities_of_labels(tmp_path: Path) -> None:
    model = replies(tmp_path, {"when": "better", "logprobs": {"A": -2.5, "B": -0.1}})
    assert model.can.logprobs is True
    reply = await model(asking("Which is better?", labels=("A", "B", "C"), sampling=Sampling(None, None, 1)))
    assert (reply.text, reply.logprobs) == ("B", (-2.5, -0.1, None))
    assert (await model(asking("Which is better?"))).logprobs is None


async def test_a_call_that_no_line_fits_has_no_answer(tmp_path: Path) -> None:
    model = replies(tmp_path, {"when": "wifi", "reply": "No."})
    with pytest.raises(CallFailed, match=r"no line of .*replies.jsonl fits 'How .* …'") as caught:
        await model(asking("How " + "very " * 100))
    assert caught.value.reason == "no_answer"


def test_an_edited_file_is_another_model(tmp_path: Path) -> None:
    first = replies(tmp_path, {"when": "", "reply": "one"}).identity
    again = replies(tmp_path, {"when": "", "reply": "one"}).identity
    edited = replies(tmp_path, {"when": "", "reply": "two"}).identity
    assert first == again != edited
    assert first.startswith("scripted:replies.jsonl@")
    named = replies(tmp_path, {"when": "", "reply": "one"}, identity="mine", form="text", concurrency=2)
    assert (named.identity, named.form, named.concurrency) == ("mine", "text", 2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[]", "a list; write an object"),
        ({"whem": "x", "reply": "y"}, "unknown key 'whem'; choose from when"),
        ({"reply": "y"}, "give either when"),
        ({"when": "x", "key": "y", "reply": "z"}, "give either when"),
        ({"when": "x"}, "give reply, or logprobs"),
        ({"when": 3, "reply": "y"}, "when must be text, not 3"),
        ({"when": "x", "reply": None}, "reply must be text, not null"),
        ({"when": "x", "reply": "y", "finish": "end"}, "finish 'end'; choose from"),
        ({"when": "x", "logprobs": {}}, "logprobs must be an object"),
        ({"when": "x", "logprobs": {"A": 0.5}}, "logprobs of 'A' must be a number of at most 0"),
        ({"when": "x", "reply": "y", "logprobs": None}, "give reply, or logprobs"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, line: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        replies(tmp_path, {"when": "", "reply": "fine"}, line)
    assert f"{tmp_path / 'replies.jsonl'}:2: " in str(caught.value)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        replies(tmp_path, "{", {"when": "", "reply": "fine"}, {"reply": "y"})
    assert len(caught.value.problems) == 2
    (tmp_path / "bytes.jsonl").write_bytes(b'{"when": "\xff", "reply": "x"}')
    with pytest.raises(BadInput, match=r"bytes.jsonl:1: not JSON in UTF-8"):
        open_model(ModelSpec(use="scripted:bytes.jsonl"), base=tmp_path)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("scripted:gone.jsonl", "no file .*gone.jsonl"),
        ("scripted:gone.py:answer", "no file .*gone.py"),
        ("scripted:empty.jsonl", "no replies"),
        ("scripted:answers.txt", "a scripted model is scripted:<replies.jsonl>"),
        ("scripted:answers.py", "a scripted model is scripted:<replies.jsonl>"),
    ],
)
def test_a_file_that_cannot_be_used_is_bad_input(tmp_path: Path, use: str, words: str) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match=words):
        open_model(ModelSpec(use=use), base=tmp_path)


# -- a function of a file ------------------------------------------------------------------------------------


def module(folder: Path, text: str, function: str = "answer", **given: Any) -> Any:
    (folder / "answers.py").write_text(text, encoding="utf-8")
    return open_model(ModelSpec(use=f"scripted:answers.py:{function}", **given), base=folder)


async def test_a_function_of_a_file_answers(tmp_path: Path) -> None:
    model = module(tmp_path, "def answer(call):\n    return call.messages[-1].content[::-1]\n", concurrency=7)
    assert (await model(asking("abc"))).text == "cba"
    assert (model.can, model.concurrency) == (Can(False, False), 7)
    assert model.identity.startswith("scripted:answers:answer@")


def test_a_module_declares_its_version_and_what_it_can_do(tmp_path: Path) -> None:
    text = "VERSION = 7\nLOGPROBS = SCHEMA = True\nasync def answer(call):\n    return 'x'\n"
    model = module(tmp_path, text)
    assert model.identity == "scripted:answers:answer@7"
    assert model.can == Can(logprobs=True, schema=True)


def test_an_edited_module_is_another_model_and_is_run_anew(tmp_path: Path) -> None:
    first = module(tmp_path, "def answer(call):\n    return 'one'\n")
    second = module(tmp_path, "def answer(call):\n    return 'two'\n")
    assert first.identity != second.identity
    assert asyncio.run(second(asking())).text == "two"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def answer(call:\n", r"answers\.py:1: SyntaxError"),
        ("x = 1\ny = 1 / 0\n", r"answers\.py:2: ZeroDivisionError"),
        ("def reply(call): ...\n", r"answers\.py: no function 'answer'; it has reply"),
        ("answer = 3\n", r"no function 'answer'; it has none"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        module(tmp_path, text)


async def test_a_mistake_in_the_function_halts_with_its_line(tmp_path: Path) -> None:
    model = module(tmp_path, "def answer(call):\n    return call.nothing\n")
    with pytest.raises(Halt, match=r"answers\.py:2: AttributeError"):
        await model(asking())
    text = "from solon.errors import CallFailed\nasync def answer(call):\n    raise CallFailed('too_long')\n"
    with pytest.raises(CallFailed):
        await module(tmp_path, text)(asking())
