"""Anthropic's cache is written where it is read again, once, and never for a beginning that is used once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from raw import Raw, http
from wire import asking, claude

from solon.calls import Message
from solon.models.anthropic import AnthropicModel
from solon.models.prefixes import MOST_PREFIXES, Prefixes
from solon.models.spec import ModelSpec

LONG = "Be kind. " * 200
MARK = {"cache_control": {"type": "ephemeral"}}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def body(*turns: str, system: str = "") -> dict[str, Any]:
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": words} for n, words in enumerate(turns)]
    return {"messages": messages, **({"system": system} if system else {})}


def marked(asked: dict[str, Any]) -> list[str]:
    """Return the first words of every marked block."""
    blocks = [asked.get("system"), *(turn["content"] for turn in asked["messages"])]
    found = [block for content in blocks if isinstance(content, list) for block in content if "cache_control" in block]
    assert all(block["type"] == "text" and block["cache_control"] == MARK["cache_control"] for block in found)
    return [block["text"][:8] for block in found]


def put(prefixes: Prefixes, asked: dict[str, Any], read: int | None = None) -> list[str]:
    """Ask, and be answered at once; `read` tokens came from the cache."""
    prefix = prefixes.mark(asked)
    if prefix and read is not None:
        prefixes.answered(prefix, read)
    return marked(asked)


def test_a_system_prompt_is_marked_from_its_third_question_on() -> None:
    prefixes = Prefixes()
    asked = [put(prefixes, body(f"Question {n}", system=LONG), read=900 * (n > 2)) for n in range(5)]
    assert asked == [[], [], ["Be kind."], ["Be kind."], ["Be kind."]]


def test_the_marked_text_is_word_for_word_the_same() -> None:
    prefixes = Prefixes()
    for n in range(3):
        last = body(f"Question {n}", system=LONG)
        prefixes.mark(last)
    assert last["system"] == [{"type": "text", "text": LONG, **MARK}]
    assert last["messages"] == [{"role": "user", "content": "Question 2"}]


def test_what_is_short_or_used_once_is_never_marked() -> None:
    prefixes = Prefixes()
    for n in range(20):
        assert put(prefixes, body("Question", system="Be kind.")) == []
        assert put(prefixes, body(f"{LONG}{n}")) == [], "the question itself is no beginning"
        assert put(prefixes, body(f"{n}{LONG}", "An answer.", "And now?")) == []


def test_worked_examples_are_marked_at_their_last_turn_with_the_system_prompt_before_them() -> None:
    prefixes = Prefixes()
    for n in range(4):
        asked = body("Example?", LONG, "Again?", f"Question {n}", system="Be brief.")
        found = put(prefixes, asked, read=0 if n == 2 else 500)
    assert found == ["Again?"]
    assert [turn["role"] for turn in asked["messages"]] == ["user", "assistant", "user", "assistant"]


def test_the_longest_beginning_that_is_shared_is_marked() -> None:
    prefixes = Prefixes()
    for n in range(6):
        for topic in ("A", "B"):
            found = put(prefixes, body(f"Examples of {topic}", LONG, f"Question {n}", system=LONG), read=500)
    assert found == [LONG[:8]]
    asked = body("Examples of C", LONG, "Question", system=LONG)
    prefixes.mark(asked)
    assert isinstance(asked["system"], list)


def test_of_many_questions_at_once_one_writes_and_the_others_read_when_it_is_answered() -> None:
    prefixes = Prefixes()
    asked = [body(f"Question {n}", system=LONG) for n in range(20)]
    writers = [prefix for one in asked if (prefix := prefixes.mark(one))]
    assert [marked(one) for one in asked].count(["Be kind."]) == len(writers) == 1
    prefixes.answered(writers[0], read=0)
    assert [put(prefixes, body(f"Later {n}", system=LONG), read=900) for n in range(3)] == [["Be kind."]] * 3


def test_when_the_one_that_writes_fails_another_does() -> None:
    prefixes = Prefixes()
    for n in range(3):
        prefix = prefixes.mark(body(f"Question {n}", system=LONG))
    assert prefix
    assert put(prefixes, body("Meanwhile", system=LONG)) == []
    prefixes.failed(prefix)
    assert put(prefixes, body("Afterwards", system=LONG)) == ["Be kind."]


def test_a_beginning_that_the_model_does_not_keep_is_marked_no_more() -> None:
    """It is too short for this model: nothing is read from the cache although it was written."""
    prefixes = Prefixes()
    asked = [put(prefixes, body(f"Question {n}", system=LONG), read=0) for n in range(6)]
    assert asked == [[], [], ["Be kind."], ["Be kind."], [], []]


def test_after_five_quiet_minutes_a_beginning_begins_anew() -> None:
    clock = Clock()
    prefixes = Prefixes(clock)
    for n in range(4):
        clock.now += 100
        found = put(prefixes, body(f"Question {n}", system=LONG), read=900 * (n > 2))
    assert found == ["Be kind."]
    clock.now += 301
    assert put(prefixes, body("Much later", system=LONG)) == []


def test_a_million_different_beginnings_take_no_more_room_than_a_few_thousand() -> None:
    prefixes = Prefixes()
    for n in range(3):
        put(prefixes, body(f"Question {n}", system=LONG), read=0)
    for n in range(2 * MOST_PREFIXES):
        put(prefixes, body("Question", system=f"{n} {LONG}"))
        if n % 1000 == 0:
            assert put(prefixes, body("Question", system=LONG), read=900) == ["Be kind."], "in use, it stays known"
    assert len(prefixes._known) == MOST_PREFIXES


def test_marks_of_the_recipes_own_stay_alone() -> None:
    prefixes = Prefixes()
    for n in range(4):
        asked = {**body(f"Question {n}", system=LONG), "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        assert put(prefixes, asked) == []


@pytest.mark.parametrize(("cache", "marks"), [("auto", False), ("on", True), ("off", False)])
async def test_elsewhere_than_at_anthropic_only_the_recipe_switches_marks_on(cache: Any, marks: bool) -> None:
    call = replace(asking(), messages=(Message("system", LONG), Message("user", "Hello?")))
    async with Raw(http(claude(cache_read_input_tokens=500))) as raw:
        model = AnthropicModel(ModelSpec(use="anthropic:tiny", base_url=raw.url, cache=cache))
        replies = [await model(call) for _ in range(4)]
        await model.close()
    assert [isinstance(heard.json["system"], list) for heard in raw.heard] == [False, False, marks, marks]
    assert replies[3].usage.cached == 500


async def test_at_anthropic_marks_are_set_unless_the_recipe_says_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    assert AnthropicModel(ModelSpec(use="anthropic:tiny"))._prefixes is not None
    assert AnthropicModel(ModelSpec(use="anthropic:tiny", cache="off"))._prefixes is None


async def test_a_failed_or_refused_question_lets_another_write() -> None:
    call = replace(asking(), messages=(Message("system", LONG), Message("user", "Hello?")))
    blocked = http({"error": {"type": "invalid_request_error", "message": "Output blocked by content policy"}}, 400)
    good = http(claude())
    async with Raw(good, good, blocked, http("{}"), good) as raw:
        model = AnthropicModel(ModelSpec(use="anthropic:tiny", base_url=raw.url, cache="on"))
        for _ in range(5):
            await asyncio.gather(model._ask(call), return_exceptions=True)
        await model.close()
    assert [isinstance(heard.json["system"], list) for heard in raw.heard] == [False, False, True, True, True]
