"""Preference data whose labels follow known rules, and a scripted model that proposes and judges by what rules say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from solon.calls import Call, Message
from solon.digests import uniform
from solon.review.infer.inferred import InferSpec
from solon.review.infer.preferences import Preference, Preferences
from solon.rows import Prompt

MODEL = '''
"""Proposes brevity and politeness, and judges by what a rule says. Notes every call."""
import asyncio, os
from pathlib import Path

VERSION = "1"
HERE = Path(__file__).parent


def texts(words):
    code = words.split("[response A ")[1].split("]")[0]
    return [words.split(f"[response {slot} {code}]\\n")[1].split(f"\\n[end {code}]")[0] for slot in "AB"]


def said(call):
    words = call.messages[-1].content
    a, b = texts(words)
    if "Which general rules" in words:
        chosen, other = (a, b) if "preferred response A" in words else (b, a)
        rules = []
        if "please" in chosen and "please" not in other:
            rules.append("Be polite to whoever asks.")
        rules.append("Keep answers short." if len(chosen) < len(other) else "Go into every detail.")
        return "Here are the rules:\\n" + "\\n".join(f"{n}. {rule}" for n, rule in enumerate(rules, 1))
    rule = words.rpartition("[end ")[2]
    score = 0
    if "polite" in rule:
        score += 100 * (("please" in a) - ("please" in b))
    if "short" in rule:
        score += len(b) - len(a)
    if "detail" in rule:
        score += len(a) - len(b)
    return f"Answer: {'A' if score > 0 else 'B'}" if score else "Neither of them."


async def answer(call):
    with (HERE / "asked.txt").open("a") as file:
        file.write(call.key + "\\n")
    await asyncio.sleep(float(os.environ.get("MODEL_DELAY", "0")))
    return said(call)


async def critic(call):
    assert "Which general rules" in call.messages[-1].content
    return await answer(call)


async def judge(call):
    assert "Which general rules" not in call.messages[-1].content
    return await answer(call)
'''
script: dict[str, Any] = {}
exec(MODEL.replace("Path(__file__).parent", "None"), script)
said: Callable[[Call], str] = script["said"]

SPEC = InferSpec(votes=200)


def texts_of(number: int) -> tuple[str, str]:
    """Return two answers whose length and politeness hang on a hash."""
    words = [["word"] * (3 + int(20 * uniform("length", number, side))) for side in "ab"]
    polite = [["please"] if uniform("polite", number, side) < 0.5 else [] for side in "ab"]
    one, two = (" ".join([*words[side], *polite[side], f"{number}{side}"]) for side in (0, 1))
    return one, two


def labelled(number: int, *, random: bool = False) -> Preference:
    """Return a pair in which the polite answer is chosen, or the shorter one where both are as polite."""
    one, two = texts_of(number)
    polite = ("please" in one) - ("please" in two)
    first = polite > 0 if polite else len(one) < len(two)
    if random:
        first = uniform("coin", number) < 0.5
    chosen, rejected = (one, two) if first else (two, one)
    return Preference(f"line {number}", Prompt((Message("user", f"Question {number}?"),)), chosen, rejected)


def dataset(count: int = 240, **given: Any) -> Preferences:
    return Preferences("pairs", tuple(labelled(number, **given) for number in range(count)), count)
