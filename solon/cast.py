"""Who plays: a Player turns what a craft wants to say into a Call, and a Reply into words that may be used.

    said = await cast.critic(messages, step="critique.1")
    said.text          the words, never empty, never silently cut
    said.trimmed       True where `cut: sentence` took off an unfinished last sentence

A Player holds the stated policies for one role: its sampling, its system prompt, how often it asks again after an
answer that is of no use (`again`, by kind), and what a cut answer becomes (`cut`). It never retries a failure: that is
the pace's work, below it.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from bisect import bisect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from solon.calls import Ask, Call, Can, Form, Message, Reply, Sampling
from solon.complaints import short
from solon.errors import Aside, BadInput
from solon.markup import own_turn
from solon.rows import Asked

__all__ = ["ROLES", "Cast", "Kind", "Listener", "Player", "Said", "kind_of", "together"]

T = TypeVar("T")

ROLES = ("responder", "critic", "reviser", "judge")

Kind = Literal["good", "empty", "cut", "repetition", "refused"]
"""What an answer can be."""

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
    anew:   the same by kind, where kinds differ; `again` is then the largest of them. An answer of a kind is asked
            anew while fewer attempts than that were made anew, for whatever kinds they were
    structured: whether a critic is asked for its words by a schema (`generators.critique`)
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
    anew: Mapping[Kind, int] | None = None
    structured: bool = False
    cut: Literal["aside", "sentence", "keep"] = "aside"
    listener: Listener | None = None

    def __post_init__(self) -> None:
        if self.system and self.form == "text":
            raise BadInput(f"{self.role}: a base model (form: text) takes no system prompt; leave `system` out")

    def listening(self, listener: Listener) -> Player:
        """Return the same player, telling `listener` of every question."""
        # once a row and role: `replace` would check again what was checked when the cast was made
        player = object.__new__(Player)
        player.__dict__.update(self.__dict__, listener=listener)
        return player

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
        if self.system:
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
        read: Callable[[str], str] | None = None,
    ) -> Said:
        """Return what the model says. Raises Aside (refused, empty_answer, cut_answer, repetition, ...).

        read: takes the words out of what the model wrote, where `schema` wraps them
        """
        for attempt in range(self.again + 1):
            call = self.call(messages, schema=schema, stop=stop, sample=sample, attempt=attempt)
            reply = await self._asked(call, step)
            # a base model that begins another turn has finished its own, whatever stopped it then: servers take
            # four stop words at most, and the markup has six names
            own = own_turn(reply.text) if self.form == "text" else reply.text
            cut = reply.finish == "length" and own == reply.text
            if read:
                own = read(own)
            kind = kind_of(reply, own)
            if kind == "good" or attempt >= max(self._anew(kind), self._anew("cut") if cut else 0):
                break
        return self._said(call, reply, own.strip(), kind, step)

    def _anew(self, kind: Kind) -> int:
        """Return how often an answer of this kind is asked anew."""
        if self.anew is not None:
            return self.anew.get(kind, 0)
        return self.again if kind in ("empty", "cut") else 0

    def _said(self, call: Call, reply: Reply, text: str, kind: Kind, step: str) -> Said:
        """Return what may be used of the last answer. Raises Aside where nothing may."""
        if kind == "refused":
            raise Aside("refused", f"{self.name} at {step}: {short(reply.text, 80)}".removesuffix(": "))
        if kind == "empty":
            why = ", all of max_tokens went into thinking" if reply.thinking and reply.finish == "length" else ""
            raise Aside("empty_answer", f"{self.name} at {step}{why}")
        if kind == "repetition":
            raise Aside("repetition", f"{self.name} at {step}: {short(text, 80)}")
        if kind == "good" or self.cut == "keep":
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
        return Cast(*[player.listening(listener) for player in self.players()])


async def together(*questions: Awaitable[T]) -> list[T]:
    """Return all answers, asked at once. Where some set the row aside, wait for the rest, then raise the first.

    Waiting makes a row's record the same whichever answer came first, and leaves no paid call without an owner.
    What ends the run (Halt, StorageError) is raised at once, and takes the other questions back.
    """

    async def held(question: Awaitable[T]) -> T | Aside:
        try:
            return await question
        except Aside as problem:
            return problem

    tasks = [asyncio.ensure_future(held(question)) for question in questions]
    try:
        outcomes = await asyncio.gather(*tasks)
    except BaseException:
        # gather leaves the others running when one raises
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    answers = []
    for outcome in outcomes:
        if isinstance(outcome, Aside):
            raise outcome
        answers.append(outcome)
    return answers


def kind_of(reply: Reply, text: str | None = None) -> Kind:
    """Return what kind of answer `reply` is, by its stop reason and its words; the first of these that fits.

        refused     the provider declined or filtered it
        empty       nothing of it can be seen
        repetition  it ends in one stretch, said over and over
        cut         it hit max_tokens
        good        none of these; log-probabilities of labels, too

    text: its words, where they are not all of it: what a schema wraps, or the beginning of a base model's answer, its
    own turn (what stopped it in the next one cut nothing off)
    """
    words = reply.text if text is None else text
    if reply.finish == "refusal":
        return "refused"
    if reply.logprobs is not None:
        return "good"
    if blank(words):
        return "empty"
    if endless(words):
        return "repetition"
    ran_on = len(words) < len(reply.text) and reply.text.startswith(words)
    return "cut" if reply.finish == "length" and not ran_on else "good"


_CLOSING = "[\"'”’»)\\]*_`」』）]*"
_END = re.compile(rf"(?P<latin>[.!?…؟۔।]+{_CLOSING}(?=\s|$))|(?P<wide>[。！？｡]+{_CLOSING})|(?P<fence>```$)|\n")
_NO_END = re.compile(
    r"(?:^|[.!?:;]\s)[ \t>*_(-]*(?:\d{1,3}|[a-zA-Z])$"  # "2." of a list
    r"|\b(?:Drs?|Mr|Mrs|Ms|Mx|Prof|St|Rev|Gen|Sen|Gov|Capt|Lt|Col|vs|e\.g|i\.e|cf|approx|No|Fig|Eq|Vol|pp|[A-Z])$"
)
_MAY_GO_ON = re.compile(r"(?:\d|\.\.|\b(?:etc|Inc|Ltd|Co|Corp|Jr|Sr|al|a\.m|p\.m|U\.S|U\.K))$")
_ITEM = re.compile(r"\s*(?:[-*+•|>]|\(?(?:\d{1,3}|[a-zA-Z])[.)]\s|```|~~~)")
_HEADING = re.compile(r"\s*(?:#|\*\*[^*]*[^*.!?]\*\*\s*$)|.*[:：][*_]*\s*$")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_NEAR = 300  # characters at the end of a text


def whole_sentences(text: str) -> str:
    """Return `text` up to its last whole sentence, line of verse or list item; "" where it has none.

    No end: a list's "2.", "Dr.", an initial, what goes on in small letters, a number or "..." at the very end (more
    digits may follow), a heading or a line ending in ":" (what it introduces is lost), a line inside a code block
    that was not closed. A line break ends something only after a short line, an item, a row, or a sentence: a line
    of 60 characters without a full stop may be wrapped prose.
    """
    fences = [fence.start() for fence in _FENCE.finditer(text)] if "```" in text or "~~~" in text else []
    # the last whole sentence stands near the end: most texts need no look at the rest. No mark holds a blank, so
    # none is torn where the look begins with one
    for start in (max(text.rfind(" ", 0, max(len(text) - _NEAR, 0)), 0), 0):
        for end in reversed(list(_END.finditer(text, start))):
            if bisect(fences, end.end() - 1) % 2 == 0 and _ends(text, end) and (whole := text[: end.end()].rstrip()):
                return whole
    return ""


def _ends(text: str, end: re.Match[str]) -> bool:
    """Return whether the mark at `end` ends something whole. Fences are not its business."""
    if end["wide"] or end["fence"]:
        return True
    line = text[text.rfind("\n", 0, end.start()) + 1 : end.start()]
    if not end["latin"]:
        return bool(line.strip()) and not _HEADING.match(line) and (len(line) < 60 or bool(_ITEM.match(line)))
    mark, last = end["latin"], end.end() == len(text)
    if text[end.end() : end.end() + 20].lstrip(" \t")[:1].islower():
        return False
    if mark[0] != ".":
        return not (last and mark[0] == "…")
    return not _NO_END.search(line) and not (last and (mark.startswith("..") or _MAY_GO_ON.search(line)))


def endless(text: str, *, times: int = 8, least: int = 160) -> bool:
    """Return whether `text` ends in one stretch said at least `times` times over at least `least` characters.

    Looks at the last 4,000 characters alone, and at exact repetition alone: a refrain, a counting list or a table
    whose cells differ is no match. A stretch without letters and digits (a rule of dashes, a table's border) must
    fill 400 characters.
    """
    tail = text.rstrip()[-4000:]
    # whatever repeats itself so often says its last characters once more, one stretch earlier: hardly a text does
    probe = tail[-(least - -(-least // times)) :]
    place = tail.rfind(probe, 0, -1) if len(tail) >= least else -1
    while place >= 0:
        span = len(tail) - len(probe) - place
        enough = max(span * times, least if any(map(str.isalnum, tail[-span:])) else max(least, 400))
        # equal to itself moved by `span`: said over and over, wherever the last one was cut
        if len(tail) >= enough and tail[-enough:-span] == tail[-enough + span :]:
            return True
        place = tail.rfind(probe, 0, place + len(probe) - 1)
    return False


def blank(text: str) -> bool:
    """Return whether nothing of `text` can be seen: white space, zero-width and control characters alone."""
    return all(unicodedata.category(letter)[0] in "CZ" for letter in text)


RULES = tuple(rule.pattern for rule in (_END, _NO_END, _MAY_GO_ON, _ITEM, _HEADING, _FENCE))
"""What `whole_sentences` goes by: a changed rule makes other data, so it is part of every plan's name."""
