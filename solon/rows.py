"""The rows: Prompt in, Pair or SetAside out. Everything here is frozen, and plain enough for Parquet and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from solon.calls import Message
from solon.digests import tagged

__all__ = ["Asked", "Draft", "Draw", "Pair", "Prompt", "Row", "SetAside", "Vote"]


@dataclass(frozen=True)
class Prompt:
    """What a user might say: one or several turns, the last one the user's. Tags say which principles apply."""

    messages: tuple[Message, ...]
    tags: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """Return 32 hex digits over the messages alone: the same words are the same prompt."""
        return tagged("solon.prompt/1", [[message.role, message.content] for message in self.messages])[:32]


@dataclass(frozen=True, slots=True)
class Draw:
    """The principle that one step of a row met: its id, and the digest of its wording at that time."""

    step: str
    principle: str
    digest: str


@dataclass(frozen=True)
class Row:
    """One prompt with all its dice thrown: all that a story needs to know.

    index: the row's place in the plan, from 0; it decides the order of every export and nothing else.
    """

    index: int
    prompt: Prompt
    draws: tuple[Draw, ...]

    @property
    def id(self) -> str:
        return self.prompt.id

    def drawn(self, step: str) -> Draw:
        """Return what this row met at `step`. Raises KeyError for a step that the story does not have."""
        for draw in self.draws:
            if draw.step == step:
                return draw
        raise KeyError(f"row {self.id} has no step {step!r}; it has {[draw.step for draw in self.draws]}")


@dataclass(frozen=True, slots=True)
class Draft:
    """One text on the way to a pair.

    name:      "response", "revision.1", ..., or "candidate.1", ...
    principle, digest, critique: of the revision's step; empty for a text that nobody revised
    stripped:  a meta-preamble ("Sure, here is a revised response:") was taken off
    trimmed:   an unfinished last sentence was taken off (`cut: sentence`)
    """

    name: str
    text: str
    principle: str = ""
    digest: str = ""
    critique: str = ""
    stripped: bool = False
    trimmed: bool = False


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer of the judge, to one order of the two texts.

    order:   "ab" when the story's first text stood first, "ba" when it stood second
    p_first: P(the story's first text is better) by this vote, in [0, 1]; None where the judge did not say
    source:  "logprobs", "structured" or "parsed"
    mass:    probability that the judge gave to the two labels together; None where unknown
    said:    the judge's words, empty where only log-probabilities were read
    key:     the call that this vote was read from
    """

    order: str
    p_first: float | None
    source: str
    mass: float | None
    said: str
    key: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a row, in the order of asking."""

    step: str
    role: str
    key: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A finished row: a prompt, its chosen and its rejected answer, and everything that explains the label.

    p_chosen:           P(chosen is better) by the judge, over all votes, in (0.5, 1]
    chosen_draft, rejected_draft: names of the drafts that they are
    principle, digest:  what the judge judged by
    """

    row: Row
    chosen: str
    rejected: str
    chosen_draft: str
    rejected_draft: str
    p_chosen: float
    principle: str
    digest: str
    judge: str
    votes: tuple[Vote, ...]
    drafts: tuple[Draft, ...]
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that ended without a pair: why, and what there was of it."""

    row: Row
    reason: str
    detail: str
    drafts: tuple[Draft, ...] = ()
    votes: tuple[Vote, ...] = ()
    asked: tuple[Asked, ...] = ()
