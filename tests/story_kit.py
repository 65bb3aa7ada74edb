"""Players, casts and rows out of plain functions, for tests of the crafts and the stories."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from solon.calls import Call, Can, Message, Reply
from solon.cast import Cast, Player
from solon.constitution import Constitution, parse
from solon.models.scripted import Scripted
from solon.pipelines.story import Story
from solon.rows import Draw, Prompt, Row

Answer = str | Reply | Mapping[str, float]

SHARED = Path(__file__).parents[2] / "shared" / "data"

needs_paper = pytest.mark.skipif(
    not (SHARED / "cai2022").is_dir(), reason="the paper's released files are not beside the repository"
)


@dataclass
class Asker:
    """A seam that answers by a function of the Call, and keeps every Call that it was asked."""

    answer: Callable[[Call], Answer | Awaitable[Answer]]
    calls: list[Call] = field(default_factory=list)

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        said = self.answer(call)
        if inspect.isawaitable(said):
            said = await said
        return Scripted(str)._as_reply(said, call)

    @property
    def keys(self) -> list[str]:
        return [call.key for call in self.calls]

    def words(self) -> list[str]:
        """Return the last message of every call."""
        return [call.messages[-1].content for call in self.calls]


def player(answer: Callable[[Call], Any] | Answer | list[Answer], **given: Any) -> Player:
    """Return a player who answers by a function, always the same, or the answers of a list in turn."""
    if isinstance(answer, list):
        turns = iter(answer)
        asker = Asker(lambda call: next(turns))
    else:
        asker = Asker(answer if callable(answer) else lambda call: answer)
    return Player(**{"role": "critic", "ask": asker, "model": "m", "name": "tiny", **given})


def asked(who: Player) -> list[Call]:
    """Return every call that a player of `player()` was asked."""
    assert isinstance(who.ask, Asker)
    return who.ask.calls


def user(*turns: str) -> tuple[Message, ...]:
    """Return a conversation; the turns are the user's and the assistant's by turns."""
    return tuple(Message("assistant" if place % 2 else "user", words) for place, words in enumerate(turns))


def cast_of(
    responder: Callable[[Call], Any] | Answer | list[Answer] = "An answer.",
    critic: Callable[[Call], Any] | Answer | list[Answer] = "A critique.",
    reviser: Callable[[Call], Any] | Answer | list[Answer] = "A revision.",
    judge: Callable[[Call], Any] | Answer | list[Answer] = "Answer: A",
    *,
    can: Can = Can(False, False),  # noqa: B008, it is frozen
    **given: Any,
) -> Cast:
    return Cast(
        player(responder, role="responder", **given),
        player(critic, role="critic", **given),
        player(reviser, role="reviser", **given),
        player(judge, role="judge", can=can, **given),
    )


def row_of(story: Story, *turns: str, constitution: Constitution | None = None, system: str = "") -> Row:
    """Return a row of this story; every step draws the constitution's principles in their order."""
    constitution = constitution or story.constitution  # type: ignore[attr-defined]
    principles = constitution.principles
    draws = tuple(
        Draw(step, principles[place % len(principles)].id, f"digest-{place}")
        for place, (step, _) in enumerate(story.draws())
    )
    before = (Message("system", system),) if system else ()
    return Row(0, Prompt((*before, *user(*(turns or ("Hello?",))))), draws)


def constitution_of(text: str) -> Constitution:
    return parse(text)


FIRST = parse("""\
name: first
principles:
  - id: kind
    critique: Say what is unkind.
    revision: Make it kind.
    preference: Which one is kinder?
    exemplars:
      - {prompt: What is up?, response: Nothing., critique: It is curt., revision: "Not much, and you?"}
  - id: honest
    critique: Say what is untrue.
    revision: Make it true.
    preference: Which one is truer?
    exemplars:
      - prompt:
          - {role: system, content: You are a parrot.}
          - {role: user, content: Is the sky green?}
        response: "Yes."
        critique: It is blue.
        revision: "No, it is blue."
""")


def slots(text_wins: Callable[[str, str], float]) -> Callable[[Call], Mapping[str, float]]:
    """Return a judge by log-probabilities that reads both candidates: P(A is better) = text_wins(a, b)."""

    def judge(call: Call) -> Mapping[str, float]:
        a, b = candidates(call)
        p = text_wins(a, b)
        return dict(zip(call.labels, (p, 1 - p), strict=True))

    return judge


def candidates(call: Call) -> tuple[str, str]:
    """Return the texts in a comparison's two places."""
    words = call.messages[0].content
    if "[response A " in words:
        code = words.split("[response A ")[1].split("]")[0]
        end = f"\n[end {code}]"
        a, b = (words.split(f"[response {slot} {code}]\n")[1].split(end)[0] for slot in "AB")
    else:
        a = words.rpartition(" (A) ")[2].partition("[[[")[2].partition("]]]")[0]
        b = words.rpartition(" (B) ")[2].partition("[[[")[2].partition("]]]")[0]
    return a, b


def with_player(cast: Cast, role: str, **changes: Any) -> Cast:
    """Return the cast with one player changed."""
    return replace(cast, **{role: replace(getattr(cast, role), **changes)})
