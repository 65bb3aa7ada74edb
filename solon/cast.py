"""Who plays: a Player turns what a craft wants to say into a Call, and a Reply into words that may be used.

    said = await cast.critic(messages, step="critique.1")
    said.text          the words, never empty, never silently cut
    said.trimmed       True where `cut: sentence` took off an unfinished last sentence

A Player holds the stated policies for one role: its sampling, its system prompt, how often it asks again after an
empty or cut answer (`again`), and what a cut answer becomes (`cut`). It never retries a failure: that is the
pace's work, below it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from solon.calls import Ask, Call, Can, Form, Message, Reply, Sampling
from solon.errors import Aside
from solon.rows import Asked

__all__ = ["ROLES", "Cast", "Listener", "Player", "Said", "together"]

T = TypeVar("T")

ROLES = ("responder", "critic", "reviser", "judge")

Listener = Callable[[Asked, Call, Reply | None], None]
"""Told of every question twice: with None when it is asked, with the reply when that has come."""


@dataclass(frozen=True, slots=True)
class Said:
    """Words that may be used, and the reply that they come from."""

    text: str
    reply: Reply
    key: str
    trimmed: bool = False


@dataclass(frozen=True)
class Player:
    """One role of a cast: `await player(messages, step=...)`.

    again:  how often an empty or cut answer is asked anew (each time as another `attempt`); 0 by default
    cut:    what an answer that hit max_tokens becomes after that: "aside" sets the row aside, "sentence" keeps
            its whole sentences and says so, "keep" keeps it as it is
    """

    role: str
    ask: Ask
    model: str
    name: str
    form: Form = "chat"
    can: Can = Can()
    sampling: Sampling = Sampling()
    system: str | None = None
    options: str = "{}"
    again: int = 0
    cut: Literal["aside", "sentence", "keep"] = "aside"
    listener: Listener | None = None

    def call(
        self,
        messages: Sequence[Message],
        *,
        labels: tuple[str, ...] = (),
        schema: str | None = None,
        stop: tuple[str, ...] = (),
        sample: int = 0,
        attempt: int = 0,
    ) -> Call:
        """Return the Call that these messages make for this player; throws no dice, asks nobody."""
        if self.system and self.form == "chat":
            # one system message: chat templates accept no second one
            first = messages[0]
            own = self.system if first.role != "system" else f"{self.system}\n\n{first.content}"
            messages = [Message("system", own), *(messages[1:] if first.role == "system" else messages)]
        sampling = self.sampling if not stop else replace(self.sampling, stop=self.sampling.stop + stop)
        if labels:
            # log-probabilities are read, not sampled: one key for every temperature
            sampling = Sampling(temperature=None, max_tokens=1)
        return Call(self.model, tuple(messages), sampling, labels, schema, self.options, sample=sample, attempt=attempt)

    async def _asked(self, call: Call, step: str) -> Reply:
        asked = Asked(step, self.role, call.key)
        if self.listener:
            self.listener(asked, call, None)
        reply = await self.ask(call)
        if self.listener:
            self.listener(asked, call, reply)
        return reply

    async def weigh(self, messages: Sequence[Message], labels: tuple[str, ...], *, step: str) -> tuple[Reply, str]:
        """Return the reply with the log-probability of each label as the answer, and the call's key."""
        call = self.call(messages, labels=labels)
        return await self._asked(call, step), call.key

    async def __call__(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        sample: int = 0,
        schema: str | None = None,
        stop: tuple[str, ...] = (),
    ) -> Said:
        """Return what the model says. Raises Aside (refused, empty_answer, cut_answer, repetition, ...)."""
        for attempt in range(self.again + 1):
            call = self.call(messages, schema=schema, stop=stop, sample=sample, attempt=attempt)
            reply = await self._asked(call, step)
            if reply.finish == "refusal":
                raise Aside("refused", f"{self.name} at {step}: {short(reply.text)}".removesuffix(": "))
            if reply.text.strip() and reply.finish != "length":
                break
        text = reply.text.strip()
        if not text:
            why = ", all of max_tokens went into thinking" if reply.thinking and reply.finish == "length" else ""
            raise Aside("empty_answer", f"{self.name} at {step}{why}")
        if endless(text):
            raise Aside("repetition", f"{self.name} at {step}: {short(text)}")
        if reply.finish != "length" or self.cut == "keep":
            return Said(text, reply, call.key)
        whole = whole_sentences(text) if self.cut == "sentence" else ""
        if not whole:
            raise Aside("cut_answer", f"{self.name} at {step}, max_tokens {call.sampling.max_tokens}")
        return Said(whole, reply, call.key, trimmed=whole != text)


@dataclass(frozen=True)
class Cast:
    """Who plays responder, critic, reviser and judge in a story."""

    responder: Player
    critic: Player
    reviser: Player
    judge: Player

    def players(self) -> tuple[Player, ...]:
        return (self.responder, self.critic, self.reviser, self.judge)

    def listening(self, listener: Listener) -> Cast:
        """Return the same cast, telling `listener` of every question."""
        return Cast(*(replace(player, listener=listener) for player in self.players()))


async def together(*questions: Awaitable[T]) -> list[T]:
    """Return all answers, asked at once. Where some set the row aside, wait for the rest, then raise the first.

    Waiting makes a row's record the same whichever answer came first, and leaves no paid call without an owner.
    What ends the run (Halt, StorageError) is raised at once.
    """

    async def held(question: Awaitable[T]) -> T | Aside:
        try:
            return await question
        except Aside as problem:
            return problem

    answers = []
    for answer in await asyncio.gather(*(held(question) for question in questions)):
        if isinstance(answer, Aside):
            raise answer
        answers.append(answer)
    return answers


_SENTENCE_END = re.compile(r"[.!?…](?:[\"'”’)\]*_]+)?(?=\s|$)|\n")
_LIST_MARK = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[a-zA-Z])\.$")


def whole_sentences(text: str) -> str:
    """Return `text` up to its last whole sentence, or "" where it has none. A list's "2." ends no sentence."""
    for end in reversed(list(_SENTENCE_END.finditer(text))):
        whole = text[: end.end()].rstrip()
        if whole and not _LIST_MARK.search(whole):
            return whole
    return ""


def endless(text: str, *, times: int = 8, least: int = 160) -> bool:
    """Return whether `text` ends in one stretch said at least `times` times over at least `least` characters.

    Looks at the tail alone, for stretches of up to a quarter of 4,000 characters: a poem's refrain is no match.
    """
    tail = text.rstrip()[-4000:]
    if len(tail) < least:
        return False
    return any(
        span * times >= least and tail[-span * times :] == tail[-span:] * times
        for span in range(1, len(tail) // times + 1)
        if tail[-span:] == tail[-2 * span : -span]
    ) or any(
        # short stretches must fill `least` characters, so they are said more often
        tail[-least:] == (tail[-span:] * (least // span + 1))[-least:]
        for span in range(1, least // times)
        if tail[-span:] == tail[-2 * span : -span]
    )


def short(text: str, most: int = 80) -> str:
    """Return `text` on one line, at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
